//! Eviction: which events and channels are removed if memory is needed, and what expires by age.

use crate::hub::log::channels::{class, IDLE, IN_SURPLUS, SURPLUS};
use crate::hub::log::delivery::born_at;
use crate::hub::log::position::{Kind, LogOrder, LowWatermark};
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::alloc::{available, blocks_for_event, free_chain};
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::{channel, event, header, high, low, pair};
use crate::hub::memory::redo::Transaction;
use crate::hub::stats::Counter;
use crate::hub::{Hub, Now};

/// Why blocks could not be freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum SpaceError {
    /// Nothing is left that could be evicted.
    NoRoom,
    /// More has to be freed than one hold of the lock may free. Some of it is done.
    Unfinished,
}

impl Guard<'_> {
    /// Evicts until `blocks` blocks are free. The channel `keep` (0 for none) is never removed. The
    /// order is: detached events; the oldest event of a channel that has more than it is owed; the
    /// channel that is idle longest; the oldest event of the channels that hold most; the oldest
    /// idempotency key. If the request could not fit into an empty zone, nothing is evicted.
    pub(in crate::hub) fn free_blocks(
        &self,
        blocks: usize,
        keep: u32,
        now: Now,
        budget: &mut Budget,
    ) -> Result<(), SpaceError> {
        let is_there = || available(&self.hub.region, &self.hub.layout) >= blocks;
        if is_there() {
            return Ok(());
        }
        if !self.could_fit(blocks, keep) {
            if !self.clear_all_void_pairs(budget) {
                return Err(SpaceError::Unfinished);
            }
            if !self.could_fit(blocks, keep) {
                return Err(SpaceError::NoRoom);
            }
        }
        while !is_there() {
            if !budget.step() {
                return Err(SpaceError::Unfinished);
            }
            let given = self.free_oldest_detached(budget)
                || self.evict_surplus(now, budget)
                || self.remove_idle(keep, budget)
                || self.evict_from_largest(now, budget)
                || self.drop_oldest_key();
            if !given {
                return Err(SpaceError::NoRoom);
            }
        }
        Ok(())
    }

    /// Returns whether `blocks` blocks would be free if everything were evicted that can be.
    fn could_fit(&self, blocks: usize, keep: u32) -> bool {
        let mut fixed = 1 + self.get(header::PINNED) as usize;
        if keep != 0 && self.has_no_listeners(keep) {
            fixed += self.record_size(keep);
        }
        fixed + blocks <= self.hub.layout.blocks
    }

    fn evict_surplus(&self, now: Now, budget: &mut Budget) -> bool {
        let record = high(self.get(SURPLUS.ends));
        if record == 0 {
            return false;
        }
        if u64::from(self.events(record)) > self.owed(record, self.events(record)) {
            // Its turn is over: `resize` moves it behind the others if it still has surplus.
            self.evict_or_expire(record, now, budget);
        } else {
            // History or runs were raised meanwhile, so this is owed now.
            self.reclassify(record);
        }
        true
    }

    fn remove_idle(&self, keep: u32, budget: &mut Budget) -> bool {
        let mut record = high(self.get(IDLE.ends));
        if record == keep && record != 0 {
            record = low(self.word(record, IDLE.link));
        }
        if record == 0 {
            return false;
        }
        self.remove_record(record);
        budget.spend_on_freeing(1);
        true
    }

    fn evict_from_largest(&self, now: Now, budget: &mut Budget) -> bool {
        let classes = (0..header::CLASS_COUNT).rev();
        let mut largest = classes.map(|power| high(self.get(class(1 << power).ends)));
        let Some(record) = largest.find(|record| *record != 0) else { return false };
        self.evict_or_expire(record, now, budget);
        true
    }

    fn evict_or_expire(&self, record: u32, now: Now, budget: &mut Budget) {
        if !self.has_expired(record, now) {
            self.evict(record, budget);
            self.count(Counter::Evicted, 1);
            return;
        }
        self.expire(record, now, budget);
    }

    fn has_expired(&self, record: u32, now: Now) -> bool {
        let first = high(self.word(record, channel::EVENTS));
        first != 0 && self.has_oldest_expired(record, first, now)
    }

    /// Evicts the events of a channel that have expired. Returns false if there are more.
    pub(in crate::hub) fn expire(&self, record: u32, now: Now, budget: &mut Budget) -> bool {
        while self.has_expired(record, now) {
            if budget.is_spent() {
                return false;
            }
            self.evict(record, budget);
            self.count(Counter::Expired, 1);
        }
        true
    }

    /// Returns when an event arrived, in milliseconds of the monotonic clock.
    pub(in crate::hub) fn born(&self, event: u32) -> u64 {
        born_at(self.word(event, event::BORN)).ms()
    }

    /// Evicts the oldest event of a channel that has one.
    pub(in crate::hub) fn evict(&self, record: u32, budget: &mut Budget) {
        let layout = &self.hub.layout;
        let events = self.word(record, channel::EVENTS);
        let first = high(events);
        let later = low(self.word(first, event::LINKS));
        let blocks = blocks_for_event(low(self.word(first, event::OWNER)) as usize);

        let mut change = self.change();
        // The stamp is cleared first: a reader without the lock must see that before the blocks are
        // reused.
        change.set(layout.stamp(first), 0);
        free_chain(&mut change, first, blocks);
        self.without(record, first).write(|word, value| {
            change.set(layout.block(record, channel::LOW_WATERMARK + word), value)
        });
        change.set(
            layout.block(record, channel::EVENTS),
            if later == 0 { 0 } else { pair(later, low(events)) },
        );
        if later != 0 {
            change.set_high(layout.block(later, event::LINKS), 0);
        }
        change.add(header::RETAINED, -1);
        self.evict_from_run(&mut change, record, first);
        self.resize(&mut change, record, -1, -(blocks as i64));
        change.commit();
        budget.spend_on_freeing(blocks);
    }

    /// Returns the low watermark of a channel without one of its events. Events that came back from
    /// Redis may be below a loss, which stays known without them.
    fn without(&self, record: u32, event: u32) -> LowWatermark {
        let (before, kind) = (self.low_watermark(record), self.kind(event));
        let mut place = LogOrder::from_event(&self.hub.region, &self.hub.layout, event);
        if kind == Kind::Durable {
            place.entry_id = place.entry_id.max(before.place.entry_id);
        }
        before.raised(place, kind)
    }

    /// Changes a channel's size, and moves its record to the lists in which it then belongs. The
    /// transaction has the state of the channel's runs already.
    pub(in crate::hub) fn resize(
        &self,
        change: &mut Transaction<'_>,
        record: u32,
        events: i64,
        blocks: i64,
    ) {
        let at = self.hub.layout.block(record, channel::SIZE);
        let size = change.get(at);
        let (was_surplus, was_events) = (high(size) & IN_SURPLUS != 0, high(size) & !IN_SURPLUS);
        let was_blocks = low(size);
        let now_events = (i64::from(was_events) + events) as u32;
        let now_blocks = (i64::from(was_blocks) + blocks) as u32;

        let surplus = u64::from(now_events) > self.owed_after(change, record, now_events);
        // A channel that loses an event moves behind the others. One that gets an event keeps its
        // turn.
        let is_last = || low(self.get(SURPLUS.ends)) == record;
        let keeps_turn = was_surplus && surplus && (events >= 0 || is_last());
        if was_surplus && !keeps_turn {
            SURPLUS.remove(change, record);
        }
        if surplus && !keeps_turn {
            SURPLUS.push(change, record);
        }
        let flag = if surplus { IN_SURPLUS } else { 0 };
        change.set(at, pair(now_events | flag, now_blocks));

        let was = (was_events > 0).then(|| class(was_blocks).ends);
        let is = (now_events > 0).then(|| class(now_blocks).ends);
        if was == is {
            return;
        }
        match was {
            Some(_) => class(was_blocks).remove(change, record),
            None if self.has_no_listeners(record) => IDLE.remove(change, record),
            None => {}
        }
        match is {
            Some(_) => class(now_blocks).push(change, record),
            None if self.has_no_listeners(record) => IDLE.push(change, record),
            None => {}
        }
    }
}

impl Hub {
    /// Visits a part of the channels: evicts expired events, removes the streams of processes that
    /// are gone, and moves channels to the lists that a changed history requires.
    pub fn sweep(&self, now: Now) -> Result<Reaped, Locked> {
        let guard = self.lock()?;
        guard.expire_keys(now, 64);
        let mut lost = Vec::new();
        let mut budget = Budget::for_hold();
        let start = guard.get(header::SWEEP) as usize;
        let mut bucket = start.min(self.layout.buckets);
        while bucket < self.layout.buckets && budget.step() {
            let mut record = guard.get(self.layout.bucket(bucket as u32)) as u32;
            let mut done = true;
            while record != 0 {
                budget.spend(guard.cost_of(record));
                done &= guard.expire(record, now, &mut budget);
                let streams = guard.clear_void_pairs(record, &mut budget);
                if streams > 0 {
                    lost.push((guard.name(record), streams));
                }
                guard.reclassify(record);
                record = low(guard.word(record, channel::HASH));
            }
            if !done {
                // Again, for the other expired events.
                break;
            }
            bucket += 1;
        }
        let round = bucket == self.layout.buckets;
        self.region.set(header::SWEEP, if round { 0 } else { bucket as u64 });
        Ok(Reaped { round, buckets: bucket - start, lost })
    }

    /// Returns the number of buckets of the channel table. Sweeps over this many complete a round.
    pub fn buckets(&self) -> usize {
        self.layout.buckets
    }

    /// Moves all channels to the lists that a changed history requires.
    pub(in crate::hub) fn reclassify_all(&self) -> Result<(), Locked> {
        let mut bucket = 0;
        while bucket < self.layout.buckets {
            let guard = self.lock()?;
            let mut budget = Budget::for_hold();
            while bucket < self.layout.buckets && budget.step() {
                let mut record = guard.get(self.layout.bucket(bucket as u32)) as u32;
                while record != 0 {
                    budget.spend(guard.cost_of(record));
                    guard.reclassify(record);
                    record = low(guard.word(record, channel::HASH));
                }
                bucket += 1;
            }
        }
        Ok(())
    }
}

/// The result of a sweep.
#[derive(Debug, Default)]
pub struct Reaped {
    /// Whether the end of the table was reached.
    pub round: bool,
    /// How many buckets of the table were completed.
    pub buckets: usize,
    /// Channels that lost streams because their processes are gone, and how many.
    pub lost: Vec<(Vec<u8>, u64)>,
}

impl Guard<'_> {
    fn reclassify(&self, record: u32) {
        let in_surplus = high(self.word(record, channel::SIZE)) & IN_SURPLUS != 0;
        let events = self.events(record);
        let surplus = u64::from(events) > self.owed(record, events);
        if surplus != in_surplus {
            let mut change = self.change();
            self.resize(&mut change, record, 0, 0);
            change.commit();
        }
    }
}
