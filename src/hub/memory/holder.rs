//! The holder of the hub's lock: a word in the region that identifies each hold, and a process's
//! memory of the hold for which it has waited in vain.
//!
//! The lower half of the word counts holds. The upper half is the holder's process id while the
//! lock is held, and 0 otherwise. A process that has waited its time for one hold does not wait for
//! the same hold again, it only tries. It waits for every other hold, so that a busy lock starves
//! no process. The word does not show whether the lock is free: only an attempt does.

use std::sync::{Arc, Mutex, PoisonError};

use crate::hub::memory::atomic::{AtomicU64, Ordering};
use crate::hub::memory::layout::{header, high, low, pair};
use crate::hub::Hub;

/// The lock could not be taken in time. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Locked {
    /// The holder runs, as far as is known.
    #[error("the hub's lock has been held by another process for longer than 100 ms")]
    Held,
    /// The holder was stopped, by a signal or a debugger.
    #[error("the hub's lock is held by a stopped process")]
    Stopped,
}

impl Locked {
    /// Returns why the lock is not available. `process` holds it; 0 if that is unknown.
    fn by(process: u32) -> Locked {
        if is_stopped(process) {
            Locked::Stopped
        } else {
            Locked::Held
        }
    }
}

/// The hold for which this process, or this thread, has given up waiting.
#[derive(Clone, Debug, Default)]
pub(in crate::hub) struct GivenUp(Arc<Mutex<Option<(u64, Locked)>>>);

impl Hub {
    /// Records that the lock has just been taken.
    pub(in crate::hub) fn begin_hold(&self) {
        let word = self.hold_word();
        let count = low(word.load(Ordering::Relaxed)).wrapping_add(1);
        word.store(pair(self.process, count), Ordering::Relaxed);
    }

    /// Records that the lock is about to be released.
    pub(in crate::hub) fn end_hold(&self) {
        let word = self.hold_word();
        word.store(pair(0, low(word.load(Ordering::Relaxed))), Ordering::Relaxed);
    }

    /// Returns why the lock is not waited for: it is still the hold for which this process has
    /// given up waiting. A holder that was slow then may have been stopped since.
    pub(in crate::hub) fn given_up(&self) -> Option<Locked> {
        let mut given_up = self.given_up.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (hold, locked) = given_up.as_mut()?;
        if *hold != self.hold_word().load(Ordering::Relaxed) {
            return None;
        }
        if *locked == Locked::Held {
            *locked = Locked::by(high(*hold));
        }
        Some(*locked)
    }

    /// Returns whether this process has given up waiting for the lock, and it is still held.
    pub fn is_stuck(&self) -> bool {
        // If the holder has died, or was stopped just after it took the lock or just before it
        // releases it, the word does not show whether the lock is free.
        self.given_up().is_some() && self.lock().is_err()
    }

    /// Records that this process has given up waiting for the current hold.
    pub(in crate::hub) fn give_up(&self) -> Locked {
        let hold = self.hold_word().load(Ordering::Relaxed);
        let locked = Locked::by(high(hold));
        let mut given_up = self.given_up.0.lock().unwrap_or_else(PoisonError::into_inner);
        *given_up = Some((hold, locked));
        locked
    }

    /// Forgets the hold for which this process has given up waiting; for tests.
    #[cfg(all(test, not(miri)))]
    pub fn forget_given_up(&self) {
        *self.given_up.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    // Not through `Region::set`, so that a test cannot kill the process between the lock and its
    // release.
    fn hold_word(&self) -> &'static AtomicU64 {
        self.region.word(header::HOLD)
    }
}

/// Returns whether a process is stopped. In proc_pid_stat(5), the state follows the name, which may
/// contain any bytes, but is the last thing in parentheses.
fn is_stopped(process: u32) -> bool {
    if process == 0 {
        return false;
    }
    let stat = std::fs::read(format!("/proc/{process}/stat")).unwrap_or_default();
    let end = stat.iter().rposition(|byte| *byte == b')');
    matches!(end.and_then(|end| stat.get(end + 2)), Some(b'T' | b't'))
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_stopped_or_not() {
        assert!(!is_stopped(0));
        assert!(!is_stopped(std::process::id()));
        // A shell that stops itself.
        let mut child = Command::new("sh")
            .args(["-c", "kill -STOP $$; read line"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        while !is_stopped(child.id()) {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_stopped(child.id()));
    }
}
