//! What wakes the threads of all processes: one eventfd for each thread, however many hubs there are.
//!
//! The master makes them once, before it forks, and keeps them over reloads, so that workers of every
//! generation hold all of them and can wake one another. Each thread that wants to be woken claims a
//! waker of its own and enters its number in its slot of each hub. A claim is a robust mutex in memory
//! that all processes share: it ends with its thread, however that ends.

use crate::hub::{self, Attempt, RobustLock};
use crate::redis::context::SharedWakers;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::FromRawFd;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

/// Most threads that can have a waker, which is a descriptor in each process. A thread without one looks
/// at the log every 50 ms.
const MOST: usize = 256;
/// Words of one claim.
const CLAIM: usize = hub::LOCK_WORDS;

/// The wakers of this nginx.
pub struct EventfdWakers {
    eventfds: Vec<File>,
    /// A mutex for each, in memory that all processes share.
    claims: &'static [AtomicU64],
}

static WAKERS: Mutex<Option<&'static EventfdWakers>> = Mutex::new(None);

thread_local! {
    /// The waker that this thread has claimed.
    static CLAIMED: Cell<Option<usize>> = const { Cell::new(None) };
}

impl EventfdWakers {
    /// The wakers of this nginx, made on the first call for so many worker processes, each of which may
    /// have a thread for Redis. There are enough for two generations of them and some more; they stay
    /// until the master ends.
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
        // A dead owner leaves nothing but an eventfd that may be readable.
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
        // An eventfd that cannot take one more is readable already.
        let _ = self.eventfds.get(waker).map(|mut eventfd| eventfd.write(&1u64.to_ne_bytes()));
    }
}

/// Memory that this process shares with those that it forks, filled with zeros. It is never given back.
fn shared_words(count: usize) -> io::Result<&'static [AtomicU64]> {
    let (access, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    let length = count * size_of::<AtomicU64>();
    // SAFETY: new memory at an address that the kernel chooses.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), length, access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: page-aligned memory of that length, which is never unmapped and holds only such words.
    Ok(unsafe { std::slice::from_raw_parts(start.cast(), count) })
}

/// A new eventfd that never blocks and is not handed on to other programs.
pub fn eventfd() -> io::Result<File> {
    // SAFETY: no pointers are involved.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}
