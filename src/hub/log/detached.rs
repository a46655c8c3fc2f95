//! Events that were forgotten with all others of their channel: taken from it in one change, and freed
//! afterwards, a bounded number in each hold of the lock. They stand in one list, linked as they were
//! linked on their channels, so that whoever wants blocks finds them, also when the process that
//! took them has died.
//!
//! Until it is freed such an event still has its position, and its channel keeps its record: detached
//! events are freed before any record is. It differs from an event of its channel in being older than
//! the oldest one there, because positions rise along a channel.

use std::sync::atomic::{fence, Ordering};

use crate::hub::budget::Budget;
use crate::hub::log::ring::Descriptor;
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::alloc::{blocks_for_event, free_chain};
use crate::hub::memory::layout::{channel, event, header, high, low, pair};
use crate::hub::memory::redo::Transaction;
use crate::hub::Hub;

/// Attempts to see a channel's oldest event while events leave the channel.
const ATTEMPTS: usize = 8;

impl Hub {
    /// Whether events of forgotten channels wait to be freed.
    pub fn has_detached(&self) -> bool {
        self.region.get(header::DETACHED) != 0
    }

    /// Frees some events of forgotten channels. True if there are more.
    pub fn free_detached(&self) -> Result<bool, Locked> {
        if self.has_detached() {
            let guard = self.lock()?;
            let mut budget = Budget::for_hold();
            while !budget.is_spent() && guard.free_oldest_detached(&mut budget) {}
        }
        Ok(self.has_detached())
    }

    /// Whether an event was forgotten with its channel, of which the caller sees before and after this
    /// call that it has its position. Without the lock; true also if events leave the channel so fast
    /// that nothing can be said.
    pub(in crate::hub) fn is_forgotten(&self, event: Descriptor) -> bool {
        let forgotten = self.has_detached() && !self.is_behind_oldest(event);
        // What was detached and freed before this call shows in the stamp that the caller reads next.
        fence(Ordering::Acquire);
        forgotten
    }

    /// Whether an event is not older than the oldest of its channel.
    fn is_behind_oldest(&self, event: Descriptor) -> bool {
        let ends = self.layout.block(event.channel, channel::EVENTS);
        for _ in 0..ATTEMPTS {
            let oldest = high(self.region.get(ends));
            fence(Ordering::Acquire);
            // Of a record that is in use again it may be anything.
            if oldest == 0 || oldest as usize >= self.layout.blocks {
                return false;
            }
            // Of a block that is in use again it is above every position that was ever read before.
            let first = self.region.get(self.layout.stamp(oldest));
            if first != 0 && first <= event.position {
                return true;
            }
            fence(Ordering::Acquire);
            if first != 0 && high(self.region.get(ends)) == oldest {
                return false;
            }
        }
        false
    }
}

impl Guard<'_> {
    /// Takes all events from a channel. Returns how many.
    pub(in crate::hub) fn detach_all(&self, change: &mut Transaction<'_>, record: u32) -> u32 {
        let layout = &self.hub.layout;
        let events = self.word(record, channel::EVENTS);
        let count = self.events(record);
        if events == 0 {
            return 0;
        }
        let (first, last) = (high(events), low(events));
        match self.get(header::DETACHED) {
            0 => change.set(header::DETACHED, events),
            detached => {
                change.set_low(layout.block(low(detached), event::LINKS), first);
                change.set(header::DETACHED, pair(high(detached), last));
            }
        }
        change.set(layout.block(record, channel::EVENTS), 0);
        change.add(header::RETAINED, -i64::from(count));
        let blocks = low(self.word(record, channel::SIZE));
        self.resize(change, record, -i64::from(count), -i64::from(blocks));
        count
    }

    /// Frees the event that was detached first. False if there is none.
    pub(in crate::hub) fn free_oldest_detached(&self, budget: &mut Budget) -> bool {
        let (region, layout) = (&self.hub.region, &self.hub.layout);
        let detached = region.get(header::DETACHED);
        let first = high(detached);
        if first == 0 {
            return false;
        }
        let later = low(self.word(first, event::LINKS));
        let blocks = blocks_for_event(low(self.word(first, event::OWNER)) as usize);
        let mut change = self.change();
        // The stamp goes first, as with every event that leaves.
        change.set(layout.stamp(first), 0);
        free_chain(&mut change, first, blocks);
        change.set(header::DETACHED, if later == 0 { 0 } else { pair(later, low(detached)) });
        change.commit();
        budget.spend_on_freeing(blocks);
        true
    }

    /// Whether the event at a position, which once was in this block, still is an event of a channel
    /// that nobody has forgotten meanwhile.
    pub(in crate::hub) fn is_retained(&self, record: u32, block: u32, position: u64) -> bool {
        let oldest = high(self.word(record, channel::EVENTS));
        self.get(self.hub.layout.stamp(block)) == position
            && oldest != 0
            && self.get(self.hub.layout.stamp(oldest)) <= position
    }
}
