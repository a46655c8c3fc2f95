//! Remembers, per process, which patterns match a channel. A channel is compared with a pattern
//! outside of the lock, and once, not with every event.
//!
//! A process has a copy of the patterns in the order of their list. New patterns are appended to
//! it. If a pattern is removed, REMOVED changes, and the copy is built again. Under the lock, the
//! copy can be compared with the list. If it is outdated, or if not all patterns were compared, all
//! processes are woken, which is always safe, and the streams of patterns are not counted.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use rustc_hash::FxBuildHasher;

use crate::hub::listeners::pattern_name::reaches;
use crate::hub::log::channels::PATTERNS;
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::{header, high, low};
use crate::hub::Hub;
use crate::sse::pattern::{cost, Subject};

/// How many patterns of a hub are compared, the oldest first. If there are more, every process is
/// woken, and the streams of the rest are not counted.
const COMPARED: usize = 1000;
/// For how many channels the matching patterns are remembered.
const REMEMBERED: usize = 10_000;
/// How often a process tries to catch up with a list that keeps changing.
const ATTEMPTS: usize = 8;

/// What a process remembers. A clone starts empty, because it belongs to another thread.
#[derive(Debug, Default)]
pub(in crate::hub) struct Matching(Mutex<Copy>);

impl Clone for Matching {
    fn clone(&self) -> Matching {
        Matching::default()
    }
}

impl Matching {
    fn copy(&self) -> MutexGuard<'_, Copy> {
        // A thread that panicked leaves the copy intact, because entries are added as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The copy of the list.
#[derive(Debug, Default)]
struct Copy {
    /// The value of REMOVED when the copy was started.
    removed: u64,
    /// The records of the patterns, and where their names end in `names`.
    patterns: Vec<(u32, usize)>,
    names: Vec<u8>,
    channels: HashMap<Box<[u8]>, ComparedChannel, FxBuildHasher>,
}

/// What is known about a channel.
#[derive(Debug, Default)]
struct ComparedChannel {
    /// How many patterns have been compared.
    compared: usize,
    /// The records of the patterns that match.
    matching: Vec<u32>,
}

/// The patterns that match a channel.
pub(in crate::hub) enum Matches {
    /// The records of all of them.
    All(Vec<u32>),
    /// The records of some of them; there may be others.
    Some(Vec<u32>),
}

impl Copy {
    /// Compares a channel with the patterns that it has not been compared with yet. Returns whether
    /// it is done.
    fn compare(&mut self, channel: &[u8], budget: &mut Budget) -> bool {
        if self.channels.len() >= REMEMBERED && !self.channels.contains_key(channel) {
            self.channels.clear();
        }
        if !self.channels.contains_key(channel) {
            self.channels.insert(channel.into(), ComparedChannel::default());
        }
        let Some(known) = self.channels.get_mut(channel) else { return false };
        let subject = Subject::new(channel);
        let mut from = known.compared.checked_sub(1).map_or(0, |last| self.patterns[last].1);
        for &(record, end) in &self.patterns[known.compared..] {
            let name = &self.names[from..end];
            if budget.is_spent() {
                return false;
            }
            budget.spend(cost(name));
            if reaches(name, &subject) {
                known.matching.push(record);
            }
            known.compared += 1;
            from = end;
        }
        true
    }

    /// Returns whether the copy contains all patterns that are compared.
    fn is_current(&self, guard: &Guard<'_>) -> bool {
        let newest = self.patterns.last().map_or(0, |(record, _)| *record);
        self.removed == guard.get(header::REMOVED)
            && (newest == low(guard.get(PATTERNS.ends)) || self.patterns.len() == COMPARED)
    }

    /// Copies the patterns that were added to the list. Returns whether it is done.
    fn read(&mut self, guard: &Guard<'_>, budget: &mut Budget) -> bool {
        if self.removed != guard.get(header::REMOVED) {
            // The copy has to be built again, which is done without the lock.
            return false;
        }
        let mut name = Vec::new();
        let mut next = match self.patterns.last() {
            Some((last, _)) => low(guard.word(*last, PATTERNS.link)),
            None => high(guard.get(PATTERNS.ends)),
        };
        while next != 0 && self.patterns.len() < COMPARED {
            if !budget.step() {
                return false;
            }
            guard.name_into(next, &mut name);
            budget.spend(cost(&name));
            self.names.extend_from_slice(&name);
            self.patterns.push((next, self.names.len()));
            next = low(guard.word(next, PATTERNS.link));
        }
        true
    }
}

impl Hub {
    /// Takes the lock, after finding out which patterns match a channel as far as the budget of a
    /// turn allows.
    pub(in crate::hub) fn lock_for(&self, channel: &[u8]) -> Result<Guard<'_>, Locked> {
        if self.region.get(PATTERNS.ends) == 0 {
            return self.lock();
        }
        let mut turn = Budget::for_turn();
        let mut copy = self.matching.copy();
        for _ in 0..ATTEMPTS {
            let removed = self.region.get(header::REMOVED);
            if copy.removed != removed {
                *copy = Copy { removed, ..Copy::default() };
            }
            let done = copy.compare(channel, &mut turn);
            let guard = self.lock()?;
            if !done || copy.is_current(&guard) {
                return Ok(guard);
            }
            copy.read(&guard, &mut Budget::for_hold());
        }
        self.lock()
    }

    /// Finds out which patterns match a channel, before a hold of the lock that appends to several
    /// channels.
    pub(in crate::hub) fn compare(&self, channel: &[u8]) -> Result<(), Locked> {
        self.lock_for(channel).map(drop)
    }
}

impl Guard<'_> {
    /// Returns the patterns that match a channel.
    pub(in crate::hub) fn matches(&self, channel: &[u8]) -> Matches {
        // Another thread with the same handle may hold it while it waits for the lock that is held
        // here.
        let copy = match self.hub.matching.0.try_lock() {
            Ok(copy) => copy,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Matches::Some(Vec::new()),
        };
        let known = copy.channels.get(channel);
        let matching = known.map(|known| known.matching.clone()).unwrap_or_default();
        let all = copy.is_current(self)
            && known.is_some_and(|known| known.compared == copy.patterns.len())
            && low(self.get(PATTERNS.ends)) == copy.patterns.last().map_or(0, |last| last.0);
        if all {
            Matches::All(matching)
        } else if copy.removed == self.get(header::REMOVED) {
            Matches::Some(matching)
        } else {
            // The block of a removed pattern may be in use for something else.
            Matches::Some(Vec::new())
        }
    }
}
