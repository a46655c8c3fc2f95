//! Detached events: those of a deleted channel. They are taken from the channel in one transaction
//! and freed afterwards, a bounded number in each hold of the lock. They are in one list, linked as
//! they were on their channels, so that any process that needs blocks finds them, even if the
//! process that detached them has died.
//!
//! Until it is freed, a detached event keeps its position, and its channel keeps its record:
//! detached events are freed before any record. A detached event is older than the oldest event of
//! its channel, because positions rise along a channel.

use crate::hub::log::ring::Descriptor;
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::alloc::{blocks_for_event, free_chain};
use crate::hub::memory::atomic::{fence, Ordering};
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::{channel, event, header, high, low, pair};
use crate::hub::memory::redo::Transaction;
use crate::hub::Hub;

/// How often a reader tries to see a channel's oldest event while events are evicted.
const ATTEMPTS: usize = 8;

impl Hub {
    /// Returns whether there are detached events.
    pub fn has_detached(&self) -> bool {
        self.region.get(header::DETACHED) != 0
    }

    /// Frees some detached events. Returns whether there are more.
    pub fn free_detached(&self) -> Result<bool, Locked> {
        if self.has_detached() {
            let guard = self.lock()?;
            let mut budget = Budget::for_hold();
            while !budget.is_spent() && guard.free_oldest_detached(&mut budget) {}
        }
        Ok(self.has_detached())
    }

    /// Returns whether an event is detached. The caller checks before and after the call that the
    /// event has its position. Does not need the lock. Also returns true if events are evicted so
    /// fast that it cannot be determined.
    pub(in crate::hub) fn is_forgotten(&self, event: Descriptor) -> bool {
        let forgotten = self.has_detached() && !self.is_behind_oldest(event);
        // If the event was detached and freed before this call, its stamp, which the caller reads
        // next, shows it.
        fence(Ordering::Acquire);
        forgotten
    }

    /// Returns whether an event is not older than the oldest of its channel.
    fn is_behind_oldest(&self, event: Descriptor) -> bool {
        let ends = self.layout.block(event.channel, channel::EVENTS);
        for _ in 0..ATTEMPTS {
            let oldest = high(self.region.get(ends));
            fence(Ordering::Acquire);
            // If the record is in use for something else, it may be any value.
            if oldest == 0 || oldest as usize >= self.layout.blocks {
                return false;
            }
            // If the block is in use for something else, it is above every position that was read
            // before.
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
    /// Detaches all events of a channel. Returns how many.
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
        self.evict_run(change, record);
        self.resize(change, record, -i64::from(count), -i64::from(blocks));
        count
    }

    /// Frees the event that was detached first. Returns false if there is none.
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
        // The stamp is cleared first, as with every event that is removed.
        change.set(layout.stamp(first), 0);
        free_chain(&mut change, first, blocks);
        change.set(header::DETACHED, if later == 0 { 0 } else { pair(later, low(detached)) });
        change.commit();
        budget.spend_on_freeing(blocks);
        true
    }

    /// Returns whether the event that was in a block still exists at its position and is not
    /// detached.
    pub(in crate::hub) fn is_retained(&self, record: u32, block: u32, position: u64) -> bool {
        let oldest = high(self.word(record, channel::EVENTS));
        self.get(self.hub.layout.stamp(block)) == position
            && oldest != 0
            && self.get(self.hub.layout.stamp(oldest)) <= position
    }
}
