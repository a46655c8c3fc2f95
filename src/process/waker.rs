//! The eventfd that wakes this process, for all of its hubs.

use super::turn::{on_quit, on_wake};
use crate::nginx::eventfd::EventfdWatch;
use crate::nginx::wakers::{eventfd, EventfdWakers};
use crate::redis::context::SharedWakers;
use std::cell::RefCell;
use std::io;

thread_local! {
    /// The waker of this process.
    static WAKER: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// An eventfd in the event loop, which other processes may be able to write to.
struct Waker {
    /// Its number among the wakers of all processes; `None` if none was free.
    number: Option<usize>,
    _watch: EventfdWatch,
}

impl Waker {
    /// Claims a waker and watches it. If none is free, watches an eventfd that no other process can
    /// write to, because the watch also reports that the process is shutting down.
    fn claim(wakers: &EventfdWakers) -> io::Result<Waker> {
        let (number, eventfd) = match wakers.claim() {
            Ok((number, eventfd)) => (Some(number), eventfd),
            Err(_) => (None, eventfd()?),
        };
        Ok(Waker { number, _watch: EventfdWatch::new(eventfd, on_wake, on_quit, 0)? })
    }
}

/// Claims a waker for this process.
pub(super) fn claim(wakers: &EventfdWakers) -> io::Result<()> {
    WAKER.set(Some(Waker::claim(wakers)?));
    Ok(())
}

/// Returns the number of this process's waker. If it has none, tries again to claim one.
pub(super) fn claim_again(wakers: &EventfdWakers) -> Option<usize> {
    if number().is_none() {
        if let Ok(waker @ Waker { number: Some(_), .. }) = Waker::claim(wakers) {
            WAKER.set(Some(waker));
        }
    }
    number()
}

/// Returns the number of the waker that this process has claimed.
pub(super) fn number() -> Option<usize> {
    WAKER.with_borrow(|waker| waker.as_ref().and_then(|waker| waker.number))
}

/// Stops watching. Called when the process exits.
pub(super) fn stop() {
    WAKER.set(None);
}
