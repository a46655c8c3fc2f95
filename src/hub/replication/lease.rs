//! The lease: which process holds the subscription in Redis, and what all others see of it.
//!
//! The process that holds the lease, a robust mutex, subscribes. The process with the current
//! fencing token may append. If a holder is stopped and continues after another process has taken
//! over, its token is outdated, and it cannot write. Each new connection starts an epoch: a channel
//! whose SYNC is the epoch has everything that Redis delivered; see `sync`.

use crate::hub::log::position::Kind;
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::layout::{header, slot};
use crate::hub::memory::lock::{Attempt, RobustLock, WORDS};
use crate::hub::memory::redo::Transaction;
use crate::hub::{Hub, Now, SlotClaim};
use crate::sse::id::EntryId;

/// Where a hub's events come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Only from this nginx; the hub assigns the ids.
    #[default]
    Alone,
    /// From Redis' pub/sub, and the streams beside it.
    PubSub,
    /// From streams in Redis that applications write.
    Streams,
}

/// The state of the connection to Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedisState {
    /// There is no connection, because the hub does not use Redis.
    #[default]
    Off,
    /// It is being established for the first time, or was just lost.
    Connecting,
    /// It is established.
    Up,
    /// Redis cannot be reached.
    Down,
}

/// Why the holder of the subscription could not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The lock could not be taken in time.
    #[error(transparent)]
    Busy(#[from] Locked),
    /// Another process has taken over.
    #[error("another process has taken over the subscription")]
    Fenced,
}

/// If the holder has not reported for this many milliseconds that it is alive, another process
/// takes over.
const SILENCE: u64 = 2_000;

/// A fencing token, which a process needs to ingest events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FencingToken(pub(in crate::hub) u64);

impl FencingToken {
    /// Returns a token that is never current.
    pub fn none() -> FencingToken {
        FencingToken(0)
    }
}

/// A held robust mutex of the lease. It belongs to the thread that took it.
pub struct LeaseGuard {
    lock: RobustLock,
    // A mutex is released by the thread that holds it.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.lock.unlock();
    }
}

impl RedisState {
    /// Returns the word for the state in the status report.
    pub fn as_str(self) -> &'static str {
        match self {
            RedisState::Off => "off",
            RedisState::Connecting => "connecting",
            RedisState::Up => "up",
            RedisState::Down => "down",
        }
    }
}

impl Source {
    pub(in crate::hub) fn word(self) -> u64 {
        match self {
            Source::Alone => 0,
            Source::PubSub => 1,
            Source::Streams => 2,
        }
    }
}

impl Hub {
    /// Returns where the hub's events come from.
    pub fn source(&self) -> Source {
        match self.region.get(header::SOURCE) {
            1 => Source::PubSub,
            2 => Source::Streams,
            _ => Source::Alone,
        }
    }

    /// Returns the form of the ids of events that the hub itself publishes.
    pub fn own_kind(&self) -> Kind {
        match self.source() {
            Source::Alone => Kind::Local,
            Source::PubSub | Source::Streams => Kind::Placed,
        }
    }

    /// Takes the lease. The process that has it holds the subscription. Returns `None` if another
    /// process has it.
    pub fn try_lease(&self) -> Option<LeaseGuard> {
        self.try_hold(header::LEASE)
    }

    /// Becomes the process that is to take over the subscription. Returns `None` if another process
    /// is.
    pub fn try_succeed(&self) -> Option<LeaseGuard> {
        self.try_hold(header::SUCCESSOR_LOCK)
    }

    fn try_hold(&self, at: usize) -> Option<LeaseGuard> {
        let lock = RobustLock::at(self.region.words(at, WORDS));
        // Nothing depends on the lock itself: what a dead holder leaves is in words of the region,
        // which the next one sets under the hub's lock (`take_fencing_token`, `forget_successor`).
        match lock.try_lock(|| {}) {
            Attempt::Busy => None,
            Attempt::Taken => Some(LeaseGuard { lock, _not_send: std::marker::PhantomData }),
        }
    }

    /// Issues a new fencing token for the process in this slot. Everything that a former holder has
    /// started is void.
    pub fn take_fencing_token(&self, claim: SlotClaim, now: Now) -> Result<FencingToken, Locked> {
        let guard = self.lock()?;
        Ok(guard.take_fencing_token(claim, now))
    }

    /// Returns the number of the newest subscription in Redis.
    pub fn epoch(&self) -> u64 {
        self.region.get(header::EPOCH)
    }

    /// Reports that the holder of the subscription is alive.
    pub fn beat(&self, token: FencingToken, now: Now) {
        if self.holds_token(token) {
            self.region.set(header::HEARTBEAT, now.mono);
        }
    }

    /// Returns whether the holder of the subscription has not reported for a while that it is
    /// alive.
    pub fn is_silent(&self, now: Now) -> bool {
        self.holder_slot().is_some()
            && now.mono.saturating_sub(self.region.get(header::HEARTBEAT)) > SILENCE
    }

    /// Raises the high watermark: everything with an id of Redis up to this is in the log, for the
    /// channels that are in sync.
    pub fn raise_high_watermark(
        &self,
        token: FencingToken,
        entry_id: EntryId,
    ) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        let mut change = guard.change();
        guard.raise_high_watermark(&mut change, entry_id);
        change.commit();
        Ok(())
    }

    /// Returns whether this fencing token is the current one.
    pub fn holds_token(&self, token: FencingToken) -> bool {
        self.region.get(header::FENCING_TOKEN) == token.0
    }

    /// Starts the epoch of a new connection: no channel is in sync any more. `received` is the id
    /// up to which channels that were in sync have received everything; zero if ids may be issued
    /// that are lower.
    pub fn new_epoch(&self, token: FencingToken, received: EntryId) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        let mut change = guard.change();
        if guard.get(header::SETTLED) == guard.get(header::EPOCH) {
            change.set(header::RECEIVED_MS, received.ms);
            change.set(header::RECEIVED_SEQ, received.seq);
        }
        change.add(header::EPOCH, 1);
        change.commit();
        Ok(())
    }

    /// Records that all channels that were joined are in sync in the current epoch.
    pub fn settled(&self, token: FencingToken) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        let mut change = guard.change();
        change.set(header::SETTLED, guard.get(header::EPOCH));
        change.commit();
        Ok(())
    }

    /// Sets the state of the connection.
    pub fn set_link(&self, token: FencingToken, link: RedisState) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        let mut change = guard.change();
        change.set(header::LINK, link as u64);
        change.commit();
        Ok(())
    }

    /// Returns the state of the connection to Redis.
    pub fn link(&self) -> RedisState {
        match (self.source(), self.region.get(header::LINK)) {
            (Source::Alone, _) => RedisState::Off,
            (_, 2) => RedisState::Up,
            (_, 3) => RedisState::Down,
            _ => RedisState::Connecting,
        }
    }

    /// Returns the slot of the process that holds the subscription.
    pub fn holder_slot(&self) -> Option<usize> {
        (self.region.get(header::HOLDER_SLOT) as usize).checked_sub(1)
    }

    /// Returns the high watermark: the highest id that Redis assigned to an event of this hub.
    pub fn high_watermark(&self) -> Result<EntryId, Locked> {
        let guard = self.lock()?;
        Ok(guard.high_watermark())
    }

    /// Takes the lock, if the fencing token is the current one.
    #[cfg_attr(feature = "trace-blocking", track_caller)]
    pub(in crate::hub) fn lock_fenced(&self, token: FencingToken) -> Result<Guard<'_>, LeaseError> {
        let guard = self.lock()?;
        if token.0 == 0 || guard.get(header::FENCING_TOKEN) != token.0 {
            return Err(LeaseError::Fenced);
        }
        Ok(guard)
    }

    /// Announces that this process is about to quit, so that it cannot be a successor.
    pub fn set_quitting(&self, claim: SlotClaim) {
        self.region.set(self.layout.slot(claim.slot, slot::QUITTING), 1);
    }

    /// Returns whether another process than these has a slot and is not about to quit, so that it
    /// could take over.
    pub fn has_others(&self, mine: &[SlotClaim]) -> bool {
        (0..self.layout.slots)
            .filter(|number| !mine.iter().any(|claim| claim.slot == *number))
            .filter(|number| self.region.get(self.layout.slot(*number, slot::QUITTING)) == 0)
            .any(|number| self.has_live_process(number))
    }
}

impl Guard<'_> {
    pub(in crate::hub) fn take_fencing_token(&self, claim: SlotClaim, now: Now) -> FencingToken {
        let number = self.get(header::FENCING_TOKEN) + 1;
        let mut change = self.change();
        change.set(header::FENCING_TOKEN, number);
        change.set(header::HOLDER_SLOT, claim.slot as u64 + 1);
        change.set(header::HEARTBEAT, now.mono);
        for word in [
            header::RETIRING,
            header::SUCCESSOR_NUMBER,
            header::FROZEN,
            header::MARKER,
            header::BEHIND_MARKER,
        ] {
            change.set(word, 0);
        }
        change.commit();
        FencingToken(number)
    }

    pub(in crate::hub) fn raise_high_watermark(
        &self,
        change: &mut Transaction<'_>,
        entry_id: EntryId,
    ) {
        if entry_id > self.high_watermark() {
            change.set(header::LAST_MS, entry_id.ms);
            change.set(header::LAST_SEQ, entry_id.seq);
        }
    }

    pub(in crate::hub) fn high_watermark(&self) -> EntryId {
        EntryId { ms: self.get(header::LAST_MS), seq: self.get(header::LAST_SEQ) }
    }
}
