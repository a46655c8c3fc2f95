//! The state of channels with regard to Redis: which of them have all that Redis delivered.
//! `requests` is about the channels that the holder has to subscribe to, `loss` about events that
//! Redis does not have any more.
//!
//! A channel's SYNC is the epoch in which it last was in sync. The holder has a pair in the record
//! of each channel that it subscribes to, like a worker without streams, so that the record stays.
//!
//! While a channel is catching up, its events may follow events of other channels with higher ids.
//! The id of a client's last event says what the client has received of all its channels. So a
//! stream of several channels has to wait until they have caught up, and then receives the events
//! in the order of their ids. Control entries show where in the log that begins and ends.

use crate::hub::listeners::control::ControlEntry;
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::{channel, header, low};
use crate::hub::replication::lease::{FencingToken, LeaseError, RedisState, Source};
use crate::hub::replication::reported::ReportedId;
use crate::hub::{Hub, Membership};
use crate::sse::channel::is_own;

mod catching_up;
mod loss;
mod requests;

pub use crate::hub::replication::sync::loss::Loss;

/// SYNC of a channel that was in sync in an epoch before the first one that can be compared.
const EARLIER_EPOCH: u32 = 1;
/// SYNC of a channel that lost its sync while its streams stayed open.
const INTERRUPTED: u32 = UNAVAILABLE - 2;
/// SYNC of a channel that was in sync until the connection was lost, while its streams stayed open.
const DISCONNECTED: u32 = UNAVAILABLE - 3;
/// SYNC of a channel whose events were received only through patterns: there may be others between
/// them.
const PARTIAL: u32 = UNAVAILABLE - 1;
/// The bit of SYNC that is set while a channel cannot be subscribed to or read.
const UNAVAILABLE: u32 = 1 << 31;
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
    /// Returns the id up to which the hub has everything.
    pub fn had(self) -> ReportedId {
        match self {
            SyncState::Nothing => ReportedId::default(),
            SyncState::Left(had) | SyncState::Interrupted(had) => had,
        }
    }

    /// Returns the state for a channel that was in sync before but had no listener when the
    /// connection was established: no stream stayed open, and fetched events keep their ids.
    pub fn for_newcomer(self) -> SyncState {
        match self {
            SyncState::Interrupted(had) => SyncState::Left(had),
            other => other,
        }
    }
}

impl Hub {
    /// Returns whether all of these channels have what Redis delivered. In a hub without Redis they
    /// always have.
    pub fn in_sync(&self, channels: &[Membership]) -> bool {
        self.source() == Source::Alone
            || channels.iter().all(|member| self.is_in_sync(member.record))
    }

    /// Returns whether all of these channels, which this process may not have joined, have what
    /// Redis delivered.
    pub fn in_sync_by_name(&self, channels: &[Box<[u8]>]) -> Result<bool, Locked> {
        if self.source() == Source::Alone {
            return Ok(true);
        }
        let guard = self.lock()?;
        let mut records = channels.iter().map(|name| guard.find(name));
        Ok(records.all(|record| record.is_some_and(|record| self.is_in_sync(record))))
    }

    /// Returns whether the channels with these records have what Redis delivered.
    pub(in crate::hub) fn are_in_sync(&self, records: &[u32]) -> bool {
        self.source() == Source::Alone || records.iter().all(|record| self.is_in_sync(*record))
    }

    /// Returns whether a stream of channels that are not in sync should wait for that.
    pub fn may_sync_soon(&self) -> bool {
        matches!(self.link(), RedisState::Connecting | RedisState::Up)
    }

    fn is_in_sync(&self, record: u32) -> bool {
        let step = self.sync_word(record);
        (FIRST_EPOCH..u64::from(DISCONNECTED)).contains(&u64::from(step))
            && self.is_current_epoch(step)
            && self.link() == RedisState::Up
            || self.is_own_record(record)
    }

    fn sync_word(&self, record: u32) -> u32 {
        low(self.region.get(self.layout.block(record, channel::SYNC)))
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
}

impl Guard<'_> {
    /// Records that an event of a channel that is not in sync was received through a pattern.
    pub(in crate::hub) fn mark_partial(&self, record: u32) {
        let at = self.hub.layout.block(record, channel::SYNC);
        if self.sync_epoch(record) != PARTIAL {
            let mut change = self.change();
            change.set_low(at, PARTIAL | low(change.get(at)) & UNAVAILABLE);
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
        if self.was_in_sync(record) || is_interrupted(step) {
            SyncState::Interrupted(had)
        } else if is_empty {
            // Of a record that is new or was left, only the events are known, if it has any.
            SyncState::Nothing
        } else {
            SyncState::Left(had)
        }
    }

    /// Returns whether a channel was in sync when all channels were for the last time, or later.
    fn was_in_sync(&self, record: u32) -> bool {
        let step = self.sync_epoch(record);
        (EARLIER_EPOCH + 1..DISCONNECTED).contains(&step)
            && u64::from(step) >= self.get(header::SETTLED)
    }

    /// Returns whether a channel was in sync until the connection was lost, or is in sync.
    fn was_in_sync_until_lost(&self, record: u32) -> bool {
        self.sync_epoch(record) == DISCONNECTED || self.was_in_sync(record)
    }

    fn sync_epoch(&self, record: u32) -> u32 {
        low(self.word(record, channel::SYNC)) & !UNAVAILABLE
    }
}

/// Returns whether a SYNC is that of a channel that lost its sync while its streams stayed open.
fn is_interrupted(step: u32) -> bool {
    matches!(step, INTERRUPTED | DISCONNECTED)
}
