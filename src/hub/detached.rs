//! Events that were forgotten with all others of their channel: taken from it in one change, and freed
//! afterwards, a bounded number in each hold of the lock. They stand in one list, linked as they were
//! linked on their channels, so that whoever wants blocks finds them, also when the process that
//! took them has died.
//!
//! Until it is freed such an event still has its position. Under the lock it shows that it is no event
//! of its channel: positions rise there, and it is older than the oldest. Who reads without the lock
//! leaves everything up to DETACHED_UNTIL to a look under the lock.

use super::blocks::{give_back, of_event};
use super::budget::Budget;
use super::change::Change;
use super::guard::{Guard, Locked};
use super::layout::{channel, event, header, high, low, pair};
use super::Hub;

impl Hub {
    /// Whether events of forgotten channels wait to be freed.
    pub fn has_detached(&self) -> bool {
        self.region.get(header::DETACHED) != 0
    }

    /// Frees some events of forgotten channels. True if there are more.
    pub fn free_detached(&self) -> Result<bool, Locked> {
        if self.has_detached() {
            let guard = self.lock()?;
            let mut budget = Budget::of_hold();
            while !budget.is_spent() && guard.free_oldest_detached(&mut budget) {}
        }
        Ok(self.has_detached())
    }
}

impl Guard<'_> {
    /// Takes all events from a channel. Returns how many.
    pub(super) fn detach_all(&self, change: &mut Change<'_>, record: u32) -> u32 {
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
        change.set(header::DETACHED_UNTIL, self.get(header::HEAD));
        change.set(layout.block(record, channel::EVENTS), 0);
        change.add(header::RETAINED, -i64::from(count));
        let blocks = low(self.word(record, channel::SIZE));
        self.resize(change, record, -i64::from(count), -i64::from(blocks));
        count
    }

    /// Frees the event that was detached first. False if there is none.
    pub(super) fn free_oldest_detached(&self, budget: &mut Budget) -> bool {
        let (region, layout) = (&self.hub.region, &self.hub.layout);
        let detached = region.get(header::DETACHED);
        let first = high(detached);
        if first == 0 {
            return false;
        }
        let later = low(self.word(first, event::LINKS));
        let blocks = of_event(low(self.word(first, event::OWNER)) as usize);
        let mut change = self.change();
        // The stamp goes first, as with every event that leaves.
        change.set(layout.stamp(first), 0);
        give_back(&mut change, first, blocks);
        change.set(header::DETACHED, if later == 0 { 0 } else { pair(later, low(detached)) });
        change.commit();
        budget.spend_on_freeing(blocks);
        true
    }

    /// Whether the event at a position, which once was in this block, still is an event of a channel
    /// that nobody has forgotten meanwhile.
    pub(super) fn is_retained(&self, record: u32, block: u32, position: u64) -> bool {
        let oldest = high(self.word(record, channel::EVENTS));
        self.get(self.hub.layout.stamp(block)) == position
            && oldest != 0
            && self.get(self.hub.layout.stamp(oldest)) <= position
    }
}
