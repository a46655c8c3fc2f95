//! Patterns: glob expressions that streams listen to instead of channel names.
//!
//! A pattern has a record like a channel's, but never has events. Processes join and leave it, its
//! streams are counted, and subscriptions of dead processes are found, all as with a channel. The
//! records of patterns are linked, so that every process can see which patterns are in use, and a
//! publisher finds those that match.

use crate::hub::listeners::matching::Matches;
use crate::hub::listeners::pattern_name::shown;
use crate::hub::log::channels::PATTERNS;
use crate::hub::log::ring::Descriptor;
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::atomic::{fence, Ordering};
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::{header, high, low};
use crate::hub::Hub;

/// A process that listens to patterns reads the whole log. It is woken at least once in this many
/// events, even if none matches, so that the ring does not overtake it.
const WAKE_EVERY: u64 = 256;

impl Hub {
    /// Writes the name of an event's channel into `name`. Returns false if the event is gone,
    /// because then its channel may be gone as well.
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

    /// Returns how many streams on this nginx receive what is published to a channel: its own, and
    /// those of matching patterns.
    pub fn subscribers_with_patterns(&self, channel: &[u8]) -> Result<u64, Locked> {
        let guard = self.lock_for(channel)?;
        let (mut streams, mut slots) = match guard.find(channel) {
            Some(record) => guard.listeners(record),
            None => (0, Vec::new()),
        };
        guard.add_pattern_listeners(channel, 0, &mut streams, &mut slots);
        Ok(streams)
    }

    /// Returns the patterns that streams on this nginx listen to, in any process.
    pub fn patterns(&self) -> Result<Vec<Vec<u8>>, Locked> {
        let (mut found, mut last, mut removed) = (Vec::new(), 0, 0);
        loop {
            let guard = self.lock()?;
            if last == 0 || removed != guard.get(header::REMOVED) {
                // The record that was looked at last may be something else by now, so start again.
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
    /// Returns how many streams receive what was published to a channel, and the slots to wake:
    /// those of the channel and those of matching patterns. A stream with several matching patterns
    /// counts once for each. `events` is the number of events that were just appended.
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
            // There are so few that all can be visited.
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
            // Waking a process that does not listen is harmless.
            *slots = (0..self.hub.slots()).collect();
        }
    }

    /// Iterates over the records of all patterns, the oldest first.
    pub(in crate::hub) fn pattern_records(&self) -> impl Iterator<Item = u32> + '_ {
        let mut last = 0;
        std::iter::from_fn(move || {
            last = self.pattern_behind(last);
            (last != 0).then_some(last)
        })
    }

    /// Returns the record of the pattern that follows `record` in the list, or of the first one if
    /// that is 0. Returns 0 at the end.
    pub(in crate::hub) fn pattern_behind(&self, record: u32) -> u32 {
        match record {
            0 => high(self.get(PATTERNS.ends)),
            record => low(self.word(record, PATTERNS.link)),
        }
    }
}
