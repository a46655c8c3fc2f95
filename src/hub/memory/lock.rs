//! A process-shared, robust mutex in words of the region (pthread_mutexattr_setrobust(3)).
//!
//! The kernel frees it when its owning thread dies, however it dies, and the next owner is told.
//! It is owned by a thread, so a helper thread of a worker may hold it as well as nginx's own.
//!
//! Whoever takes a mutex says what has to be done if its former owner has died while holding it:
//! `recover` is an argument of every attempt, and runs before the attempt returns, so that no
//! caller can take over a dead owner's mutex and leave the rest of its inheritance untouched.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// First and longest pause between two attempts of a wait.
const SHORTEST_PAUSE: Duration = Duration::from_micros(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

/// Words that one mutex takes at most (glibc: 40 bytes on x86-64, 48 on AArch64).
pub const WORDS: usize = 6;

/// How an attempt to take the mutex ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It is ours; if its former owner had died while holding it, that has been recovered from.
    Taken,
    /// Somebody else holds it.
    Busy,
}

/// A mutex in shared memory, named by its words.
#[derive(Clone, Copy)]
pub struct RobustLock {
    words: &'static [AtomicU64],
}

impl RobustLock {
    /// The mutex that lies in `words` (at least [`WORDS`] of them).
    pub fn at(words: &'static [AtomicU64]) -> RobustLock {
        debug_assert!(words.len() >= WORDS);
        RobustLock { words }
    }
}

impl RobustLock {
    /// Takes the mutex, waiting for at most `longest`. The time is CLOCK_MONOTONIC's, which nobody
    /// can set: pthread_mutex_timedlock(3) would wait by the clock of the day, and its counterpart
    /// for other clocks is not in every libc.
    pub fn lock_within(&self, longest: Duration, recover: impl Fn()) -> Attempt {
        let since = Instant::now();
        let mut pause = SHORTEST_PAUSE;
        loop {
            let attempt = self.try_lock(&recover);
            let left = longest.saturating_sub(since.elapsed());
            if attempt == Attempt::Taken || left.is_zero() {
                return attempt;
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

#[cfg(not(miri))]
#[allow(unsafe_code)]
impl RobustLock {
    fn mutex(&self) -> *mut libc::pthread_mutex_t {
        const { assert!(std::mem::size_of::<libc::pthread_mutex_t>() <= WORDS * 8) };
        self.words.as_ptr() as *mut libc::pthread_mutex_t
    }

    /// Makes a fresh mutex of the words. Nobody else may know of them yet.
    pub fn init(&self) -> std::io::Result<()> {
        let check = |rc| match rc {
            0 => Ok(()),
            errno => Err(std::io::Error::from_raw_os_error(errno)),
        };
        let mut attr = std::mem::MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        // SAFETY: attr is memory for an attribute object; it is used only after this succeeded.
        check(unsafe { libc::pthread_mutexattr_init(attr.as_mut_ptr()) })?;
        // SAFETY: attr was initialised above.
        check(unsafe {
            libc::pthread_mutexattr_setpshared(attr.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED)
        })?;
        // SAFETY: as above.
        check(unsafe {
            libc::pthread_mutexattr_setrobust(attr.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST)
        })?;
        // SAFETY: the words are writable, aligned and large enough (asserted in `mutex`).
        check(unsafe { libc::pthread_mutex_init(self.mutex(), attr.as_ptr()) })
    }

    /// Takes the mutex if it is free. `recover` runs if its former owner died while holding it.
    pub fn try_lock(&self, recover: impl FnOnce()) -> Attempt {
        // SAFETY: the words hold a mutex that `init` made before the region was published.
        match unsafe { libc::pthread_mutex_trylock(self.mutex()) } {
            0 => Attempt::Taken,
            libc::EOWNERDEAD => {
                // SAFETY: we own the mutex (EOWNERDEAD says so); it must be marked consistent or
                // it would be unusable once it is unlocked. Should this process die from here on,
                // the next owner gets EOWNERDEAD again.
                unsafe { libc::pthread_mutex_consistent(self.mutex()) };
                recover();
                Attempt::Taken
            }
            _ => Attempt::Busy,
        }
    }

    /// Gives the mutex back. Only the thread that took it may call this.
    pub fn unlock(&self) {
        // SAFETY: as in `try_lock`; unlocking what is not ours fails with EPERM, nothing worse.
        unsafe { libc::pthread_mutex_unlock(self.mutex()) };
    }
}

/// Miri knows no robust mutexes: a spinning word, enough for tests of one process.
#[cfg(miri)]
impl RobustLock {
    pub fn init(&self) -> std::io::Result<()> {
        self.words[0].store(0, std::sync::atomic::Ordering::SeqCst);
        Ok(())
    }

    pub fn try_lock(&self, _recover: impl FnOnce()) -> Attempt {
        match self.words[0].swap(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Attempt::Taken,
            _ => Attempt::Busy,
        }
    }

    pub fn unlock(&self) {
        self.words[0].store(0, std::sync::atomic::Ordering::SeqCst);
    }
}
