//! Access to the hub while its lock is held. Everything that changes metadata, or reads metadata
//! that may change, goes through here.

use std::time::Duration;

pub use crate::hub::memory::holder::Locked;
use crate::hub::memory::layout::header;
use crate::hub::memory::lock::{Attempt, RobustLock};
use crate::hub::memory::redo::{redo, Transaction};
use crate::hub::stats::Counter;
use crate::hub::Hub;

/// How long a process waits for one hold of the lock to end. Only a holder that is stopped or not
/// scheduled takes that long.
const PATIENCE: Duration = Duration::from_millis(100);
/// Attempts before the first pause. A hold usually takes well under a microsecond.
const SPINS: u32 = 50;

/// The held lock.
pub struct Guard<'a> {
    pub(in crate::hub) hub: &'a Hub,
    #[cfg(feature = "trace-blocking")]
    _span: crate::blocking::Span,
    #[cfg(any(test, fuzzing))]
    _hold: crate::hub::memory::meter::Hold,
}

impl Hub {
    /// Takes the lock, and completes the transaction that a former owner left unfinished.
    #[cfg_attr(feature = "trace-blocking", track_caller)]
    pub(in crate::hub) fn lock(&self) -> Result<Guard<'_>, Locked> {
        let mutex =
            RobustLock::at(self.region.words(header::LOCK, crate::hub::memory::lock::WORDS));
        // The redo log, below, shows what a dead owner left.
        let from_dead = std::cell::Cell::new(false);
        let died = || from_dead.set(true);
        let mut attempt = mutex.try_lock(died);
        if attempt == Attempt::Busy {
            for _ in 0..SPINS {
                if attempt == Attempt::Taken {
                    break;
                }
                std::hint::spin_loop();
                attempt = mutex.try_lock(died);
            }
        }
        if attempt == Attempt::Busy {
            // Asked only now: by now a new holder has stored which hold it is, if it runs.
            if let Some(locked) = self.given_up() {
                return Err(locked);
            }
            attempt = mutex.lock_within(PATIENCE, died);
        }
        if attempt == Attempt::Busy {
            return Err(self.give_up());
        }
        self.begin_hold();
        let guard = Guard {
            hub: self,
            #[cfg(feature = "trace-blocking")]
            _span: crate::blocking::Span::hold(std::panic::Location::caller()),
            #[cfg(any(test, fuzzing))]
            _hold: crate::hub::memory::meter::Hold::begin(),
        };
        if redo(&self.region, &self.layout) || from_dead.get() {
            self.count(Counter::Repairs, 1);
        }
        Ok(guard)
    }
}

impl<'a> Guard<'a> {
    /// Starts a transaction.
    pub(in crate::hub) fn change(&self) -> Transaction<'a> {
        Transaction::new(&self.hub.region, &self.hub.layout)
    }

    /// Returns a word of the region.
    pub(in crate::hub) fn get(&self, at: usize) -> u64 {
        self.hub.region.get(at)
    }

    /// Adds to a counter that is only changed under the lock, which is cheaper.
    pub(in crate::hub) fn count(&self, counter: Counter, by: u64) {
        let at = header::COUNTERS + counter as usize;
        self.hub.region.set(at, self.get(at).wrapping_add(by));
    }

    /// Returns a word of a block.
    pub(in crate::hub) fn word(&self, block: u32, word: usize) -> u64 {
        self.hub.region.get(self.hub.layout.block(block, word))
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.hub.end_hold();
        RobustLock::at(self.hub.region.words(header::LOCK, crate::hub::memory::lock::WORDS))
            .unlock();
    }
}
