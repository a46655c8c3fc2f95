//! What Redis has lost of a channel, and how the channel's low watermark records it.

use crate::hub::listeners::control::ControlEntry;
use crate::hub::log::position::{Kind, LogOrder, LostKinds, LowWatermark};
use crate::hub::memory::access::Guard;
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::{channel, header, high};
use crate::hub::memory::redo::Transaction;
use crate::hub::replication::lease::{FencingToken, LeaseError};
use crate::hub::replication::sync::SyncState;
use crate::hub::{Hub, Membership};
use crate::sse::id::EntryId;

/// What Redis had lost when a channel caught up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing, or only what this hub still has.
    Nothing,
    /// Everything up to this id.
    UpTo(EntryId),
    /// The stream started over, or its ids do not say what was lost.
    Everything,
}

impl Hub {
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

    /// Takes the lock and records a loss. If nothing was known about the channel, that is where it
    /// starts. If it was in sync, it loses its earlier events, because there is a gap after them;
    /// if there is much to evict, the lock is released in between. Does nothing if the low
    /// watermark says it already: events from before the loss that have come back from Redis since
    /// then stay.
    pub(super) fn lock_and_record_loss(
        &self,
        token: FencingToken,
        member: Membership,
        missing: Loss,
    ) -> Result<Guard<'_>, LeaseError> {
        let mut guard = self.lock_fenced(token)?;
        let Loss::UpTo(entry_id) = missing else { return Ok(guard) };
        // If a plain message was lost later, the low watermark covers this loss.
        if guard.low_watermark(member.record).place.entry_id >= entry_id {
            return Ok(guard);
        }
        if guard.precedes_streams(member.record, entry_id) {
            guard.record_earlier_loss(member.record, entry_id);
            return Ok(guard);
        }
        while !guard.evict_up_to(member.record, entry_id, &mut Budget::for_hold()) {
            drop(guard);
            guard = self.lock_fenced(token)?;
        }
        guard.record_loss(member.record, entry_id);
        Ok(guard)
    }
}

impl Guard<'_> {
    /// Evicts a channel's events up to an id. Returns false if there are more.
    fn evict_up_to(&self, record: u32, entry_id: EntryId, budget: &mut Budget) -> bool {
        while self.events(record) > 0 && self.oldest_place(record).entry_id <= entry_id {
            if budget.is_spent() {
                return false;
            }
            self.evict(record, budget);
        }
        true
    }

    /// Records that everything up to an id is lost.
    fn record_loss(&self, record: u32, entry_id: EntryId) {
        let before = self.low_watermark(record);
        // An event at this id was evicted now.
        let is_reached = before.place.entry_id >= entry_id;
        if is_reached && self.events(record) > 0 {
            return;
        }
        let kind = if is_reached { before.kind() } else { Kind::Durable };
        let mut change = self.change();
        let position = self.signal(&mut change, record, ControlEntry::Lost);
        let low_watermark = before.raised(LogOrder { entry_id, position }, kind);
        self.reopen_run(&mut change, record, Some(entry_id.into()));
        self.set_low_watermark(&mut change, record, low_watermark);
        change.commit();
    }

    /// Returns whether the events of a channel up to an id were lost before its open streams
    /// started: the channel has been in sync, and received everything up to this id, but there was
    /// nothing. Such a loss concerns only clients that return.
    fn precedes_streams(&self, record: u32, entry_id: EntryId) -> bool {
        let received =
            EntryId { ms: self.get(header::RECEIVED_MS), seq: self.get(header::RECEIVED_SEQ) };
        entry_id <= received
            && self.events(record) == 0
            && self.cursor(record).is_none()
            && self.was_in_sync_until_lost(record)
    }

    /// Records that everything up to an id is lost, but nothing that an open stream lacks.
    fn record_earlier_loss(&self, record: u32, entry_id: EntryId) {
        let before = self.low_watermark(record);
        let place = LogOrder { entry_id, ..before.place };
        let mut change = self.change();
        self.set_low_watermark(&mut change, record, before.raised(place, Kind::Durable));
        change.commit();
    }

    /// Adjusts the low watermark in the transaction with which a channel has caught up. What was
    /// evicted and has come back from Redis is not lost any more; what was evicted while it came
    /// back is.
    pub(super) fn adjust_low_watermark(
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
}
