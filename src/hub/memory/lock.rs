//! A process-shared, robust mutex in words of the region (pthread_mutexattr_setrobust(3)).
//!
//! The kernel releases it when its owning thread dies, however it dies, and notifies the next
//! owner. It is owned by a thread, so a helper thread of a worker may hold it as well as nginx's
//! own.
//!
//! Every attempt to take a mutex has an argument `recover`, which runs if the former owner died
//! while holding it, before the attempt returns. So no caller can take a dead owner's mutex without
//! cleaning up after it.

use std::time::{Duration, Instant};

use crate::hub::memory::atomic::AtomicU64;

/// The first and the longest pause between two attempts of a wait.
const SHORTEST_PAUSE: Duration = Duration::from_micros(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

/// The maximum number of words of one mutex (glibc: 40 bytes on x86-64, 48 on AArch64).
pub const WORDS: usize = 6;

/// The result of an attempt to take the mutex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The mutex was taken. If its former owner died while holding it, `recover` has run.
    Taken,
    /// Another thread holds it.
    Busy,
}

/// A mutex in shared memory.
#[derive(Clone, Copy)]
pub struct RobustLock {
    words: &'static [AtomicU64],
}

impl RobustLock {
    /// Returns the mutex in `words` (at least [`WORDS`] of them).
    pub fn at(words: &'static [AtomicU64]) -> RobustLock {
        debug_assert!(words.len() >= WORDS);
        RobustLock { words }
    }
}

impl RobustLock {
    /// Takes the mutex, waiting for at most `longest` by CLOCK_MONOTONIC.
    /// pthread_mutex_timedlock(3) would wait by CLOCK_REALTIME, which can be set, and its
    /// counterpart for other clocks is not in every libc.
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

#[cfg(not(any(miri, loom)))]
#[allow(unsafe_code)]
impl RobustLock {
    fn mutex(&self) -> *mut libc::pthread_mutex_t {
        const { assert!(std::mem::size_of::<libc::pthread_mutex_t>() <= WORDS * 8) };
        self.words.as_ptr() as *mut libc::pthread_mutex_t
    }

    /// Initializes the mutex. No other thread may use it yet.
    pub fn init(&self) -> std::io::Result<()> {
        let check = |rc| match rc {
            0 => Ok(()),
            errno => Err(std::io::Error::from_raw_os_error(errno)),
        };
        let mut attr = std::mem::MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        // SAFETY: attr is memory for an attribute object; it is used only after this succeeded.
        check(unsafe { libc::pthread_mutexattr_init(attr.as_mut_ptr()) })?;
        // SAFETY: attr was initialized above.
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

    /// Releases the mutex. Only the thread that took it may call this.
    pub fn unlock(&self) {
        // SAFETY: as in `try_lock`; unlocking what is not ours fails with EPERM, nothing worse.
        unsafe { libc::pthread_mutex_unlock(self.mutex()) };
    }
}

/// Miri does not support robust mutexes. A spinning word is enough for tests of one process.
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

/// Loom does not know mutexes in memory. A word that has the owner's death, too, has the same
/// meaning; a model calls `die_with` in place of the kernel.
#[cfg(loom)]
impl RobustLock {
    const FREE: u64 = 0;
    const HELD: u64 = 1;
    const OWNER_DIED: u64 = 2;

    pub fn init(&self) -> std::io::Result<()> {
        Ok(())
    }

    pub fn try_lock(&self, recover: impl FnOnce()) -> Attempt {
        use crate::hub::memory::atomic::Ordering;
        for from in [Self::FREE, Self::OWNER_DIED] {
            let (to, word) = (Self::HELD, &self.words[0]);
            if word.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                if from == Self::OWNER_DIED {
                    recover();
                }
                return Attempt::Taken;
            }
        }
        loom::thread::yield_now();
        Attempt::Busy
    }

    pub fn unlock(&self) {
        self.words[0].store(Self::FREE, crate::hub::memory::atomic::Ordering::Release);
    }

    /// Releases the mutex as the kernel does when its owner dies.
    pub fn die_with(&self) {
        self.words[0].store(Self::OWNER_DIED, crate::hub::memory::atomic::Ordering::Release);
    }
}
