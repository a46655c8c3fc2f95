//! The state of channels with regard to Redis: which channels the holder has to subscribe to, and
//! which of them have all that Redis delivered.
//!
//! A channel's SYNC is the epoch in which it last was in sync. The holder has a pair in the record
//! of each channel that it subscribes to, like a worker without streams, so that the record stays.

use crate::hub::listeners::control::ControlEntry;
use crate::hub::listeners::subscribe::slot_of;
use crate::hub::log::position::{Kind, LogOrder, LostKinds, LowWatermark};
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::{channel, header, high, low};
use crate::hub::memory::redo::Transaction;
use crate::hub::replication::lease::{FencingToken, LeaseError, RedisState, Source};
use crate::hub::replication::reported::ReportedId;
use crate::hub::{Hub, Membership};
use crate::sse::channel::is_own;
use crate::sse::id::EntryId;

/// SYNC of a channel that was in sync in an epoch before the first one that can be compared.
const EARLIER_EPOCH: u32 = 1;
/// SYNC of a channel that lost its sync while its streams stayed open.
const INTERRUPTED: u32 = u32::MAX - 1;
/// SYNC of a channel whose events were received only through patterns: there may be others between
/// them.
const PARTIAL: u32 = u32::MAX;
/// The epoch before the first connection.
pub(in crate::hub) const FIRST_EPOCH: u64 = 2;

/// What the hub has of a channel when the holder subscribes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncState {
    /// Nothing: all that Redis retains is new.
    Nothing,
    /// Everything up to this id, but the channel was left then.
    Left(ReportedId),
    /// Everything up to this id, and its streams have stayed open since.
    Interrupted(ReportedId),
}

impl SyncState {
    /// Returns the state for a channel that was in sync before but had no listener when the
    /// connection was established: no stream stayed open, and fetched events keep their ids.
    pub fn for_newcomer(self) -> SyncState {
        match self {
            SyncState::Interrupted(had) => SyncState::Left(had),
            other => other,
        }
    }
}

/// What Redis had lost when a channel caught up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing that this hub does not have.
    Nothing,
    /// Everything up to this id.
    UpTo(EntryId),
    /// The stream started over, or its ids do not say what was lost.
    Everything,
}

impl Hub {
    /// Returns whether all of these channels have what Redis delivered. In a hub without Redis they
    /// always have.
    pub fn in_sync(&self, channels: &[Membership]) -> bool {
        self.source() == Source::Alone
            || channels.iter().all(|member| self.is_in_sync(member.record))
    }

    /// Returns whether a stream of channels that are not in sync should wait for that.
    pub fn may_sync_soon(&self) -> bool {
        matches!(self.link(), RedisState::Connecting | RedisState::Up)
    }

    fn is_in_sync(&self, record: u32) -> bool {
        let step = low(self.region.get(self.layout.block(record, channel::SYNC)));
        (FIRST_EPOCH..u64::from(INTERRUPTED)).contains(&u64::from(step))
            && self.is_current_epoch(step)
            && self.link() == RedisState::Up
            || self.is_own_record(record)
    }

    /// Returns whether a SYNC is the current epoch.
    fn is_current_epoch(&self, step: u32) -> bool {
        step == low(self.region.get(header::EPOCH))
    }

    fn is_own_record(&self, record: u32) -> bool {
        // "sse." and its length: no own channel has a longer name than the record holds.
        let mut name = Vec::with_capacity(8);
        self.region.read_bytes(self.layout.block(record, channel::NAME), 5, &mut name);
        name.get(1..).is_some_and(is_own)
    }

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

    /// Removes the events of a channel that were received only through patterns, before the channel
    /// is joined: Redis has them, and those between them. The plain messages among them are
    /// reported as lost.
    pub fn forget_partial(
        &self,
        token: FencingToken,
        member: Membership,
    ) -> Result<(), LeaseError> {
        let guard = loop {
            let guard = self.lock_fenced(token)?;
            if guard.sync_epoch(member.record) != PARTIAL {
                return Ok(());
            }
            let mut budget = Budget::for_hold();
            while guard.events(member.record) > 0 && !budget.is_spent() {
                guard.evict(member.record, &mut budget);
            }
            // As long as one is left, SYNC says what they are, so another process can continue.
            if guard.events(member.record) == 0 {
                break guard;
            }
        };
        let mut change = guard.change();
        change.set_low(self.layout.block(member.record, channel::SYNC), 0);
        guard.set_cursor(&mut change, member.record, ReportedId::default());
        change.commit();
        Ok(())
    }

    /// Returns what the hub has of a channel that the holder has joined.
    pub fn sync_state(&self, member: Membership) -> Result<SyncState, Locked> {
        let guard = self.lock()?;
        Ok(guard.sync_state(member.record))
    }

    /// Records that Redis no longer has some of a channel's events. Call this before appending the
    /// events that follow the gap: if the process died in between, the gap would otherwise go
    /// unnoticed. Streams that are open receive the gap event first.
    pub fn record_loss(
        &self,
        token: FencingToken,
        member: Membership,
        missing: Loss,
    ) -> Result<(), LeaseError> {
        if missing == Loss::Everything {
            return self.restart_stream(token, member);
        }
        self.lock_and_record_loss(token, member, missing).map(drop)
    }

    /// Takes the lock and records a loss. If there is much to evict, the lock is released in
    /// between.
    fn lock_and_record_loss(
        &self,
        token: FencingToken,
        member: Membership,
        missing: Loss,
    ) -> Result<Guard<'_>, LeaseError> {
        loop {
            let guard = self.lock_fenced(token)?;
            if guard.record_loss(member.record, missing, &mut Budget::for_hold()) {
                return Ok(guard);
            }
        }
    }

    /// Returns the id of the newest entry that is known to have been in a channel's stream.
    pub fn newest_entry(&self, channel: &[u8]) -> Result<Option<ReportedId>, Locked> {
        let guard = self.lock()?;
        Ok(guard.find(channel).and_then(|record| guard.newest_entry(record)))
    }

    /// Records that a channel has all that Redis delivered. Returns the slots to wake.
    pub fn caught_up(
        &self,
        token: FencingToken,
        member: Membership,
        known: SyncState,
        missing: Loss,
    ) -> Result<Vec<usize>, LeaseError> {
        let guard = self.lock_and_record_loss(token, member, missing)?;
        let mut change = guard.change();
        guard.adjust_low_watermark(&mut change, member.record, known, missing);
        if let Loss::UpTo(entry_id) = missing {
            // A stream that starts now has missed none of that, and its first id shows it.
            guard.raise_high_watermark(&mut change, entry_id);
        }
        let step = self.layout.block(member.record, channel::SYNC);
        // Before the control entry, because its readers look at this.
        change.set_low(step, low(guard.get(header::EPOCH)));
        guard.signal(&mut change, member.record, ControlEntry::Step);
        change.commit();
        Ok(guard.listeners(member.record).1)
    }

    /// Records that a channel is not in sync any more, because messages were missed or it is not
    /// available, while its streams stay open.
    pub fn set_out_of_sync(
        &self,
        token: FencingToken,
        member: Membership,
    ) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        let mut change = guard.change();
        change.set_low(self.layout.block(member.record, channel::SYNC), INTERRUPTED);
        change.commit();
        Ok(())
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

    /// Records that an event of a channel that is not in sync was received through a pattern.
    pub(in crate::hub) fn mark_partial(&self, record: u32) {
        let at = self.hub.layout.block(record, channel::SYNC);
        if self.sync_epoch(record) != PARTIAL {
            let mut change = self.change();
            change.set_low(at, PARTIAL);
            change.commit();
        }
    }

    fn sync_state(&self, record: u32) -> SyncState {
        let (step, cursor) = (self.sync_epoch(record), self.cursor(record));
        if step == PARTIAL {
            return SyncState::Nothing;
        }
        let has_read = cursor.is_some_and(|cursor| cursor != ReportedId::default());
        let is_empty = self.events(record) == 0 && !has_read;
        let had = cursor.unwrap_or_else(|| self.newest_place(record).entry_id.into());
        let settled = step > EARLIER_EPOCH && u64::from(step) >= self.get(header::SETTLED);
        match settled || step == INTERRUPTED {
            true => SyncState::Interrupted(had),
            // Of a record that is new or was left, only the events are known, if it has any.
            false if is_empty => SyncState::Nothing,
            false => SyncState::Left(had),
        }
    }

    fn sync_epoch(&self, record: u32) -> u32 {
        low(self.word(record, channel::SYNC))
    }

    /// Records what Redis has lost. If nothing was known about the channel, that is where it
    /// starts. If it was in sync, it loses its earlier events, because there is a gap after them.
    /// Does nothing if the low watermark says it already. Returns false if there is more to do.
    fn record_loss(&self, record: u32, missing: Loss, budget: &mut Budget) -> bool {
        let Loss::UpTo(entry_id) = missing else { return true };
        while self.events(record) > 0 && self.oldest_place(record).entry_id <= entry_id {
            if budget.is_spent() {
                return false;
            }
            self.evict(record, budget);
        }
        // If a plain message was lost later, the low watermark covers this loss.
        if self.low_watermark(record).place.entry_id >= entry_id {
            return true;
        }
        let mut change = self.change();
        let position = self.signal(&mut change, record, ControlEntry::Lost);
        let low_watermark =
            self.low_watermark(record).raised(LogOrder { entry_id, position }, Kind::Durable);
        self.set_low_watermark(&mut change, record, low_watermark);
        change.commit();
        true
    }

    /// Adjusts the low watermark in the transaction with which a channel has caught up. What was
    /// evicted and has come back from Redis is not lost any more; what was evicted while it came
    /// back is.
    fn adjust_low_watermark(
        &self,
        change: &mut Transaction<'_>,
        record: u32,
        known: SyncState,
        gone: Loss,
    ) {
        let old = self.low_watermark(record);
        let came_back = known == SyncState::Nothing
            && old.left == LostKinds::Durable
            && self.events(record) > 0
            && self.oldest_place(record).entry_id <= old.place.entry_id;
        if !came_back {
            return;
        }
        let low_watermark = match gone {
            Loss::Nothing | Loss::Everything => LowWatermark::default(),
            Loss::UpTo(entry_id) => {
                LowWatermark { place: LogOrder { entry_id, ..old.place }, ..old }
            }
        };
        self.set_low_watermark(change, record, low_watermark);
    }

    pub(in crate::hub) fn set_low_watermark(
        &self,
        change: &mut Transaction<'_>,
        record: u32,
        low_watermark: LowWatermark,
    ) {
        low_watermark.write(|word, value| {
            change.set(self.hub.layout.block(record, channel::LOW_WATERMARK + word), value);
        });
    }

    fn oldest_place(&self, record: u32) -> LogOrder {
        self.place(high(self.word(record, channel::EVENTS)))
    }

    /// Returns the name of a record, if the block is a channel's record.
    fn safe_name(&self, record: u32) -> Option<Vec<u8>> {
        self.is_record(record).then(|| self.name(record))
    }
}
