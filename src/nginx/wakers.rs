//! Wakes the threads of all processes. Each thread has one eventfd, regardless of the number of
//! hubs.
//!
//! The master creates the eventfds once, before it forks, and keeps them across reloads, so that
//! workers of all generations have all of them and can wake each other. A thread claims a waker and
//! writes its number into its slot in each hub. A claim is a robust mutex in memory that all
//! processes share, so the kernel releases it when the thread ends, however that happens.

use crate::hub::{self, Attempt, RobustLock};
use crate::redis::context::SharedWakers;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::FromRawFd;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

/// The maximum number of wakers, each of which takes a descriptor in every process. A thread
/// without a waker polls the log every 50 ms.
const MOST: usize = 256;
/// The number of words that one claim takes.
const CLAIM: usize = hub::LOCK_WORDS;

/// The wakers of this nginx.
pub struct EventfdWakers {
    eventfds: Vec<File>,
    /// One robust mutex per eventfd, in memory that all processes share.
    claims: &'static [AtomicU64],
}

static WAKERS: Mutex<Option<&'static EventfdWakers>> = Mutex::new(None);

thread_local! {
    /// The waker that this thread has claimed.
    static CLAIMED: Cell<Option<usize>> = const { Cell::new(None) };
}

impl EventfdWakers {
    /// Returns the wakers of this nginx. The first call creates enough of them for two generations
    /// of `workers` processes, each with a Redis thread, and some more. They exist until the master
    /// exits.
    pub fn for_workers(workers: usize) -> io::Result<&'static EventfdWakers> {
        let mut wakers = WAKERS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wakers) = *wakers {
            return Ok(wakers);
        }
        let count = (4 * workers + 32).min(MOST);
        let new: &'static EventfdWakers = Box::leak(Box::new(EventfdWakers::new(count)?));
        *wakers = Some(new);
        Ok(new)
    }

    fn new(count: usize) -> io::Result<EventfdWakers> {
        let eventfds = (0..count).map(|_| eventfd()).collect::<io::Result<Vec<_>>>()?;
        let claims = shared_words(count * CLAIM)?;
        for claim in claims.chunks_exact(CLAIM) {
            RobustLock::at(claim).init()?;
        }
        Ok(EventfdWakers { eventfds, claims })
    }

    fn try_claim(&self, number: usize) -> bool {
        let claim = self.claims.get(number * CLAIM..(number + 1) * CLAIM);
        // There is nothing to repair after a dead owner: its eventfd may be readable, which is
        // harmless.
        claim.is_some_and(|claim| RobustLock::at(claim).try_lock(|| {}) == Attempt::Taken)
    }
}

impl SharedWakers for EventfdWakers {
    fn claim(&self) -> io::Result<(usize, File)> {
        let number = CLAIMED
            .get()
            .or_else(|| (0..self.eventfds.len()).find(|number| self.try_claim(*number)))
            .ok_or_else(|| io::Error::other("all wakers are taken"))?;
        CLAIMED.set(Some(number));
        let eventfd = self.eventfds.get(number).ok_or(io::ErrorKind::NotFound)?;
        Ok((number, eventfd.try_clone()?))
    }
}

impl hub::Wakers for EventfdWakers {
    fn wake(&self, waker: usize) {
        // If the counter is full, the eventfd is readable already.
        let _ = self.eventfds.get(waker).map(|mut eventfd| eventfd.write(&1u64.to_ne_bytes()));
    }
}

/// Maps zeroed memory that this process shares with the processes that it forks. It is never
/// unmapped.
fn shared_words(count: usize) -> io::Result<&'static [AtomicU64]> {
    let (access, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    let length = count * size_of::<AtomicU64>();
    // SAFETY: new memory at an address that the kernel chooses.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), length, access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: page-aligned memory of that length, which is never unmapped and holds only such
    // words.
    Ok(unsafe { std::slice::from_raw_parts(start.cast(), count) })
}

/// Creates a non-blocking eventfd that is closed on exec.
pub fn eventfd() -> io::Result<File> {
    // SAFETY: no pointers are involved.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and has no other owner.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}
