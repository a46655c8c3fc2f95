//! Which channels the holder has to subscribe to: a worker requests it when a stream is opened, and
//! the holder lists the channels that have listeners.

use crate::hub::listeners::control::ControlEntry;
use crate::hub::listeners::subscribe::slot_of;
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::{channel, low};
use crate::hub::replication::lease::{FencingToken, LeaseError, Source};
use crate::hub::replication::sync::EARLIER_EPOCH;
use crate::hub::{Hub, Membership};
use crate::sse::channel::is_own;

impl Hub {
    /// Asks the holder to bring a channel in sync, unless it has joined it already. Returns the
    /// slot to wake.
    pub fn request_sync(&self, member: Membership) -> Result<Option<usize>, Locked> {
        if self.source() == Source::Alone || self.is_in_sync(member.record) {
            return Ok(None);
        }
        let guard = self.lock()?;
        let holder = self.holder_slot();
        // Many clients that return at once would fill the ring, and the channel is catching up
        // already.
        if holder.is_some() && guard.live_slots(member.record).any(|slot| Some(slot) == holder) {
            return Ok(None);
        }
        let mut change = guard.change();
        guard.signal(&mut change, member.record, ControlEntry::Wanted);
        change.commit();
        Ok(holder)
    }

    /// Returns the name of a channel whose sync was requested, if it still exists.
    pub fn requested_name(&self, record: u32) -> Result<Option<Vec<u8>>, Locked> {
        let guard = self.lock()?;
        Ok(guard.safe_name(record).filter(|name| !is_own(name)))
    }

    /// Returns channels from bucket `from` on that some process other than the holder has joined,
    /// and the bucket to continue with (`None` at the end).
    pub fn subscribed_channels(
        &self,
        from: usize,
    ) -> Result<(Vec<Vec<u8>>, Option<usize>), Locked> {
        self.walk(from, |guard, record| guard.is_subscribed(record))
    }

    /// Returns channels from bucket `from` on that the process in this slot has joined, and the
    /// bucket to continue with (`None` at the end).
    pub fn joined_by(
        &self,
        slot: usize,
        from: usize,
    ) -> Result<(Vec<Vec<u8>>, Option<usize>), Locked> {
        self.walk(from, |guard, record| guard.live_slots(record).any(|other| other == slot))
    }

    fn walk(
        &self,
        from: usize,
        keep: impl Fn(&Guard<'_>, u32) -> bool,
    ) -> Result<(Vec<Vec<u8>>, Option<usize>), Locked> {
        let guard = self.lock()?;
        let mut budget = Budget::for_hold();
        let mut names = Vec::new();
        let mut bucket = from;
        while bucket < self.layout.buckets && budget.step() {
            let mut record = guard.get(self.layout.bucket(bucket as u32)) as u32;
            while record != 0 {
                budget.spend(guard.cost_of(record));
                if keep(&guard, record) && !self.is_own_record(record) {
                    names.push(guard.name(record));
                }
                record = low(guard.word(record, channel::HASH));
            }
            bucket += 1;
        }
        Ok((names, (bucket < self.layout.buckets).then_some(bucket)))
    }

    /// Leaves a channel that no other process has joined. Returns false if one has, and stays.
    pub fn leave_unsubscribed(
        &self,
        token: FencingToken,
        member: Membership,
    ) -> Result<bool, LeaseError> {
        let guard = self.lock_fenced(token)?;
        if guard.is_subscribed(member.record) {
            return Ok(false);
        }
        let mut change = guard.change();
        change.set_low(self.layout.block(member.record, channel::SYNC), EARLIER_EPOCH);
        change.commit();
        guard.leave(member);
        Ok(true)
    }

    /// Returns whether any process but the holder has joined a channel.
    pub fn is_subscribed(&self, member: Membership) -> Result<bool, Locked> {
        Ok(self.lock()?.is_subscribed(member.record))
    }
}

impl Guard<'_> {
    fn is_subscribed(&self, record: u32) -> bool {
        let holder = self.hub.holder_slot();
        self.live_slots(record).any(|slot| Some(slot) != holder)
    }

    fn live_slots(&self, record: u32) -> impl Iterator<Item = usize> + '_ {
        self.pair_words(record)
            .map(|at| self.get(at))
            .filter(|word| self.hub.is_live(*word))
            .map(slot_of)
    }

    /// Returns the name of a record, if the block is a channel's record.
    fn safe_name(&self, record: u32) -> Option<Vec<u8>> {
        self.is_record(record).then(|| self.name(record))
    }
}
