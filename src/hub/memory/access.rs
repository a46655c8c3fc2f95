//! The hub while its lock is held: all that changes metadata, or reads what may be changed
//! meanwhile, goes through here.

use std::time::Duration;

pub use crate::hub::memory::holder::Locked;
use crate::hub::memory::layout::header;
use crate::hub::memory::lock::{Attempt, RobustLock};
use crate::hub::memory::redo::{redo, Transaction};
use crate::hub::stats::Counter;
use crate::hub::Hub;

/// How long a process waits for one hold of the lock to end. Only a holder that is stopped, or does
/// not get to run, keeps it that long.
const PATIENCE: Duration = Duration::from_millis(100);
/// Attempts before the first pause: a holder needs well under a microsecond.
const SPINS: u32 = 50;

/// The held lock.
pub struct Guard<'a> {
    pub(in crate::hub) hub: &'a Hub,
    #[cfg(feature = "trace-blocking")]
    _span: crate::blocking::Span,
    #[cfg(test)]
    _hold: crate::hub::meter::Hold,
}

impl Hub {
    /// Takes the lock, and first of all finishes the change that a former owner left half way.
    #[cfg_attr(feature = "trace-blocking", track_caller)]
    pub(in crate::hub) fn lock(&self) -> Result<Guard<'_>, Locked> {
        let mutex =
            RobustLock::at(self.region.words(header::LOCK, crate::hub::memory::lock::WORDS));
        // What a dead owner leaves is found below, by the redo log.
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
            // Asked only now: a new holder has said by now which hold it is, if it runs.
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
            #[cfg(test)]
            _hold: crate::hub::meter::Hold::begin(),
        };
        if redo(&self.region, &self.layout) || from_dead.get() {
            self.count(Counter::Repairs, 1);
        }
        Ok(guard)
    }
}

impl<'a> Guard<'a> {
    /// A change of the metadata.
    pub(in crate::hub) fn change(&self) -> Transaction<'a> {
        Transaction::new(&self.hub.region, &self.hub.layout)
    }

    /// A word of the region.
    pub(in crate::hub) fn get(&self, at: usize) -> u64 {
        self.hub.region.get(at)
    }

    /// Adds to a counter that is counted under the lock only, which is cheaper.
    pub(in crate::hub) fn count(&self, counter: Counter, by: u64) {
        let at = header::COUNTERS + counter as usize;
        self.hub.region.set(at, self.get(at).wrapping_add(by));
    }

    /// A word of a block.
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
