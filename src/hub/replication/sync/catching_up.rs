//! Channels whose events are being fetched from Redis, and those that are not available there.

use crate::hub::listeners::control::ControlEntry;
use crate::hub::log::position::{end, LogOrder};
use crate::hub::memory::access::Guard;
use crate::hub::memory::layout::{channel, low};
use crate::hub::replication::lease::{FencingToken, LeaseError, RedisState, Source};
use crate::hub::replication::sync::{
    is_interrupted, SyncState, DISCONNECTED, INTERRUPTED, UNAVAILABLE,
};
use crate::hub::{Hub, Membership};

impl Hub {
    /// Returns whether events of one of these channels are being fetched from Redis, or are to be
    /// fetched before others arrive: a stream of several channels has to wait for that.
    pub fn are_catching_up(&self, channels: &[Membership]) -> bool {
        channels.iter().any(|member| self.is_catching_up(member.record))
    }

    pub(in crate::hub) fn is_catching_up(&self, record: u32) -> bool {
        let step = self.sync_word(record);
        let is_expected = is_interrupted(step) || self.link() == RedisState::Up;
        self.source() != Source::Alone
            && step & UNAVAILABLE == 0
            && is_expected
            && !self.is_in_sync(record)
    }

    /// Records that a channel is not in sync any more, because events were missed while its streams
    /// stayed open. Returns the slots to wake.
    pub fn interrupt(
        &self,
        token: FencingToken,
        member: Membership,
    ) -> Result<Vec<usize>, LeaseError> {
        let guard = self.lock_fenced(token)?;
        let at = self.layout.block(member.record, channel::SYNC);
        if is_interrupted(self.sync_word(member.record)) {
            return Ok(Vec::new());
        }
        let is_in_epoch = self.is_current_epoch(guard.sync_epoch(member.record));
        let was_in_sync = guard.was_in_sync(member.record) && !is_in_epoch;
        let mut change = guard.change();
        change.set_low(at, if was_in_sync { DISCONNECTED } else { INTERRUPTED });
        guard.signal(&mut change, member.record, ControlEntry::CatchingUp);
        change.commit();
        Ok(guard.listeners(member.record).1)
    }

    /// Records that a channel that was not in sync is about to catch up, before events of other
    /// channels are appended. Returns the slots to wake.
    pub fn begin_catching_up(
        &self,
        token: FencingToken,
        member: Membership,
    ) -> Result<Vec<usize>, LeaseError> {
        let guard = self.lock_fenced(token)?;
        if self.sync_word(member.record) & UNAVAILABLE != 0 {
            // Other channels have gone on without it.
            return Ok(Vec::new());
        }
        let mut change = guard.change();
        guard.signal(&mut change, member.record, ControlEntry::CatchingUp);
        change.commit();
        Ok(guard.listeners(member.record).1)
    }

    /// Records that a channel cannot be subscribed to or read at present, so that streams of
    /// several channels do not wait for it. Returns the slots to wake.
    pub fn set_unavailable(
        &self,
        token: FencingToken,
        name: &[u8],
    ) -> Result<Vec<usize>, LeaseError> {
        let guard = self.lock_fenced(token)?;
        let Some(record) = guard.find(name) else { return Ok(Vec::new()) };
        let at = self.layout.block(record, channel::SYNC);
        let step = match guard.sync_state(record) {
            // Its streams have stayed open.
            SyncState::Interrupted(_) => INTERRUPTED,
            SyncState::Nothing | SyncState::Left(_) => low(guard.get(at)),
        };
        let mut change = guard.change();
        change.set_low(at, step | UNAVAILABLE);
        guard.signal(&mut change, record, ControlEntry::Step);
        change.commit();
        Ok(guard.listeners(record).1)
    }
}

impl Hub {
    /// Returns the end of the log, unless events of one of the channels or patterns with these
    /// names are being fetched, or the lock is not available.
    pub fn end_unless_catching_up(&self, names: &[Box<[u8]>]) -> Option<LogOrder> {
        let guard = self.lock().ok()?;
        (!guard.are_catching_up(names)).then(|| end(&self.region))
    }
}

impl Guard<'_> {
    /// Returns whether events of one of the channels with these names are being fetched.
    pub(in crate::hub) fn are_catching_up(&self, names: &[Box<[u8]>]) -> bool {
        let mut records = names.iter().filter_map(|name| self.find(name));
        records.any(|record| self.hub.is_catching_up(record))
    }
}
