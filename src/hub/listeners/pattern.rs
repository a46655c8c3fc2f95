//! Patterns: what streams listen to that name channels by a glob instead of by their names.
//!
//! A pattern has a record like a channel's, in a namespace of its own: its name is a NUL, which no
//! channel's name can begin with, and the pattern. So processes join and leave it, its streams are
//! counted, and what a dead process leaves is found, all as with a channel; it never has an event.
//! All such records are linked, so every process, a thread for Redis among them, can see which
//! patterns are wanted, and a publisher finds those that match.

use std::sync::atomic::{fence, Ordering};

use crate::hub::budget::Budget;
use crate::hub::listeners::matching::Matches;
use crate::hub::listeners::pattern_name::shown;
use crate::hub::log::channels::PATTERNS;
use crate::hub::log::ring::Descriptor;
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::layout::{header, high, low};
use crate::hub::Hub;

/// Who listens to patterns reads the whole log, and is woken at every so manieth event even if
/// nothing matches: else the ring might overtake it.
const WAKE_EVERY: u64 = 256;

impl Hub {
    /// The name of the channel that an event is of. False: the event is gone, and it cannot be told;
    /// as long as it is there its channel is.
    pub fn channel_of(&self, event: Descriptor, name: &mut Vec<u8>) -> bool {
        let entry_id = self.layout.stamp(event.block);
        if self.region.get(entry_id) != event.position {
            return false;
        }
        fence(Ordering::Acquire);
        self.read_name(event.channel, name);
        fence(Ordering::Acquire);
        self.region.get(entry_id) == event.position
    }

    /// Streams on this nginx that get what is published to a channel: its own, and those of patterns
    /// that match.
    pub fn subscribers_with_patterns(&self, channel: &[u8]) -> Result<u64, Locked> {
        let guard = self.lock_for(channel)?;
        let (mut streams, mut slots) = match guard.find(channel) {
            Some(record) => guard.listeners(record),
            None => (0, Vec::new()),
        };
        guard.add_pattern_listeners(channel, 0, &mut streams, &mut slots);
        Ok(streams)
    }

    /// The patterns that streams on this nginx listen to, whatever process they are in.
    pub fn patterns(&self) -> Result<Vec<Vec<u8>>, Locked> {
        let (mut found, mut last, mut removed) = (Vec::new(), 0, 0);
        loop {
            let guard = self.lock()?;
            if last == 0 || removed != guard.get(header::REMOVED) {
                // The record that was looked at last may be something else by now: from the beginning.
                (found, last, removed) = (Vec::new(), 0, guard.get(header::REMOVED));
            }
            let mut budget = Budget::for_hold();
            let mut next = guard.pattern_behind(last);
            while next != 0 && budget.step() {
                budget.spend(guard.cost_of(next));
                if !guard.listeners(next).1.is_empty() {
                    found.push(shown(&guard.name(next)).to_vec());
                }
                last = next;
                next = guard.pattern_behind(last);
            }
            if next == 0 {
                return Ok(found);
            }
        }
    }
}

impl Guard<'_> {
    /// Streams that get what was published to a channel, and the slots to be woken: those of the
    /// channel and those of patterns that match. A stream of several such patterns counts once for
    /// each. `events` have just been appended.
    pub(in crate::hub) fn listeners_of_event(
        &self,
        record: u32,
        channel: &[u8],
        events: usize,
    ) -> (u64, Vec<usize>) {
        let (mut streams, mut slots) = self.listeners(record);
        if self.get(PATTERNS.ends) != 0 {
            self.add_pattern_listeners(channel, events as u64, &mut streams, &mut slots);
        }
        (streams, slots)
    }

    fn add_pattern_listeners(
        &self,
        channel: &[u8],
        events: u64,
        streams: &mut u64,
        slots: &mut Vec<usize>,
    ) {
        let head = self.get(header::HEAD);
        let in_turn = head / WAKE_EVERY != head.saturating_sub(events) / WAKE_EVERY;
        let (matching, wake_all) = match self.matches(channel) {
            // There are so few that all can be looked at.
            Matches::All(matching) => (matching, false),
            Matches::Some(matching) => (matching, true),
        };
        let mut reach = |record| {
            let (of_pattern, its_slots) = self.listeners(record);
            for slot in its_slots {
                if !slots.contains(&slot) {
                    slots.push(slot);
                }
            }
            of_pattern
        };
        for record in matching {
            *streams += reach(record);
        }
        if in_turn && !wake_all {
            self.pattern_records().for_each(|record| {
                reach(record);
            });
        }
        if wake_all {
            // Ringing a bell that nobody listens to is no harm.
            *slots = (0..self.hub.slots()).collect();
        }
    }

    /// The records of all patterns, the oldest first.
    pub(in crate::hub) fn pattern_records(&self) -> impl Iterator<Item = u32> + '_ {
        let mut last = 0;
        std::iter::from_fn(move || {
            last = self.pattern_behind(last);
            (last != 0).then_some(last)
        })
    }

    /// The record of the pattern that comes behind another in the list, or of the first (0); 0 for none.
    pub(in crate::hub) fn pattern_behind(&self, record: u32) -> u32 {
        match record {
            0 => high(self.get(PATTERNS.ends)),
            record => low(self.word(record, PATTERNS.link)),
        }
    }
}
