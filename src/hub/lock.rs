//! A process-shared, robust mutex in words of the region (pthread_mutexattr_setrobust(3)).
//!
//! The kernel frees it when its owning thread dies, however it dies, and the next owner is told.
//! It is owned by a thread, so a helper thread of a worker may hold it as well as nginx's own.

use std::sync::atomic::AtomicU64;

/// Words that one mutex takes at most (glibc: 40 bytes on x86-64, 48 on AArch64).
pub const WORDS: usize = 6;

/// How an attempt to take the mutex ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It is ours.
    Taken,
    /// It is ours, and its former owner died while holding it.
    TakenFromDead,
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

    fn taken(&self, rc: libc::c_int) -> Attempt {
        match rc {
            0 => Attempt::Taken,
            libc::EOWNERDEAD => {
                // SAFETY: we own the mutex (EOWNERDEAD says so); it must be marked consistent or
                // it would be unusable once it is unlocked.
                unsafe { libc::pthread_mutex_consistent(self.mutex()) };
                Attempt::TakenFromDead
            }
            _ => Attempt::Busy,
        }
    }

    /// Takes the mutex if it is free.
    pub fn try_lock(&self) -> Attempt {
        // SAFETY: the words hold a mutex that `init` made before the region was published.
        let rc = unsafe { libc::pthread_mutex_trylock(self.mutex()) };
        self.taken(rc)
    }

    /// Takes the mutex, waiting for at most `ms` milliseconds.
    pub fn lock_within(&self, ms: u64) -> Attempt {
        let mut until = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `until` is a valid timespec to write to.
        unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut until) };
        let nanos = until.tv_nsec + (ms % 1000) as i64 * 1_000_000;
        until.tv_sec += (ms / 1000) as i64 + nanos / 1_000_000_000;
        until.tv_nsec = nanos % 1_000_000_000;
        // SAFETY: as in `try_lock`; the time is absolute on CLOCK_REALTIME as POSIX wants it.
        let rc = unsafe { libc::pthread_mutex_timedlock(self.mutex(), &until) };
        self.taken(rc)
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

    pub fn try_lock(&self) -> Attempt {
        match self.words[0].swap(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Attempt::Taken,
            _ => Attempt::Busy,
        }
    }

    pub fn lock_within(&self, ms: u64) -> Attempt {
        for _ in 0..ms {
            if self.try_lock() == Attempt::Taken {
                return Attempt::Taken;
            }
            std::thread::yield_now();
        }
        Attempt::Busy
    }

    pub fn unlock(&self) {
        self.words[0].store(0, std::sync::atomic::Ordering::SeqCst);
    }
}
