//! The bridge: the one process that holds the subscription in Redis, and what all others see of it.
//!
//! Who holds the lease, a robust mutex, subscribes; who bears the fence may append. A bridge that was
//! stopped and goes on after another has taken over finds that the fence is not its own any more, and
//! can write nothing. Each new connection begins an epoch: a channel whose STEP is the epoch has
//! everything that Redis gave it, see `step`.

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
    /// From this nginx only; the hub numbers them itself.
    #[default]
    Alone,
    /// From Redis' pub/sub and the streams beside it.
    PubSub,
    /// From streams in Redis that applications write.
    Streams,
}

/// What becomes of the connection to Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedisState {
    /// There is none to be had: the hub is not joined.
    #[default]
    Off,
    /// It is being made for the first time, or has just been lost.
    Connecting,
    /// It is there.
    Up,
    /// Redis cannot be reached.
    Down,
}

/// What a bridge may not, or cannot, do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The lock could not be taken in time.
    #[error(transparent)]
    Busy(#[from] Locked),
    /// Another process has taken over.
    #[error("another process has taken over the subscription")]
    Fenced,
}

/// How long a bridge may be silent before another process takes its place, in ms: it is stopped.
const SILENCE: u64 = 2_000;

/// The number that a bridge has to bear to append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FencingToken(pub(in crate::hub) u64);

impl FencingToken {
    /// One that stands for nobody: nothing can be appended with it.
    pub fn none() -> FencingToken {
        FencingToken(0)
    }
}

/// A held robust mutex of the bridge. It belongs to the thread that took it.
pub struct LeaseGuard {
    lock: RobustLock,
    // A mutex is given back by the thread that has it.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.lock.unlock();
    }
}

impl RedisState {
    /// The word that the status has for it.
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
    /// Where its events come from.
    pub fn source(&self) -> Source {
        match self.region.get(header::SOURCE) {
            1 => Source::PubSub,
            2 => Source::Streams,
            _ => Source::Alone,
        }
    }

    /// How ids are written of what the hub itself puts on channels.
    pub fn own_kind(&self) -> Kind {
        match self.source() {
            Source::Alone => Kind::Local,
            Source::PubSub | Source::Streams => Kind::Placed,
        }
    }

    /// Takes the lease: whoever has it holds the subscription. `None`: another process does.
    pub fn try_lease(&self) -> Option<LeaseGuard> {
        self.try_hold(header::LEASE)
    }

    /// Takes the place of the one who is to take the subscription over. `None`: another has it.
    pub fn try_succeed(&self) -> Option<LeaseGuard> {
        self.try_hold(header::SUCCESSOR_LOCK)
    }

    fn try_hold(&self, at: usize) -> Option<LeaseGuard> {
        let lock = RobustLock::at(self.region.words(at, WORDS));
        // Nothing hangs on the lock itself: what a dead holder leaves is in words of the region, which
        // the next one sets anew under the hub's lock (`take_fencing_token`, `forget_successor`).
        match lock.try_lock(|| {}) {
            Attempt::Busy => None,
            Attempt::Taken => Some(LeaseGuard { lock, _not_send: std::marker::PhantomData }),
        }
    }

    /// Takes the fence for the process in this seat, and whatever a former bridge has begun is void.
    pub fn take_fencing_token(&self, claim: SlotClaim, now: Now) -> Result<FencingToken, Locked> {
        let guard = self.lock()?;
        Ok(guard.take_fencing_token(claim, now))
    }

    /// The number of the newest subscription in Redis.
    pub fn epoch(&self) -> u64 {
        self.region.get(header::EPOCH)
    }

    /// Says that the process which holds the subscription lives.
    pub fn beat(&self, token: FencingToken, now: Now) {
        if self.holds_token(token) {
            self.region.set(header::HEARTBEAT, now.mono);
        }
    }

    /// Whether the process that holds the subscription has not said for a while that it lives.
    pub fn is_silent(&self, now: Now) -> bool {
        self.holder_slot().is_some()
            && now.mono.saturating_sub(self.region.get(header::HEARTBEAT)) > SILENCE
    }

    /// Raises the mark: everything that Redis numbered up to this is in the log, of the channels that
    /// are in step.
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

    /// Whether the fence still is this one.
    pub fn holds_token(&self, token: FencingToken) -> bool {
        self.region.get(header::FENCING_TOKEN) == token.0
    }

    /// A new connection begins: no channel is in step any more.
    pub fn new_epoch(&self, token: FencingToken) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        let mut change = guard.change();
        change.add(header::EPOCH, 1);
        change.commit();
        Ok(())
    }

    /// The newest connection has brought everything in step that was heard.
    pub fn settled(&self, token: FencingToken) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        let mut change = guard.change();
        change.set(header::SETTLED, guard.get(header::EPOCH));
        change.commit();
        Ok(())
    }

    /// Says what became of the connection.
    pub fn set_link(&self, token: FencingToken, link: RedisState) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        let mut change = guard.change();
        change.set(header::LINK, link as u64);
        change.commit();
        Ok(())
    }

    /// What became of the connection to Redis.
    pub fn link(&self) -> RedisState {
        match (self.source(), self.region.get(header::LINK)) {
            (Source::Alone, _) => RedisState::Off,
            (_, 2) => RedisState::Up,
            (_, 3) => RedisState::Down,
            _ => RedisState::Connecting,
        }
    }

    /// The slot of the process that holds the subscription.
    pub fn holder_slot(&self) -> Option<usize> {
        (self.region.get(header::HOLDER_SLOT) as usize).checked_sub(1)
    }

    /// The highest number that Redis gave to an event of this hub, in a hub that is joined.
    pub fn high_watermark(&self) -> Result<EntryId, Locked> {
        let guard = self.lock()?;
        Ok(guard.high_watermark())
    }

    /// The lock, for the bridge whose fence still stands.
    #[cfg_attr(feature = "trace-blocking", track_caller)]
    pub(in crate::hub) fn lock_fenced(&self, token: FencingToken) -> Result<Guard<'_>, LeaseError> {
        let guard = self.lock()?;
        match token.0 != 0 && guard.get(header::FENCING_TOKEN) == token.0 {
            true => Ok(guard),
            false => Err(LeaseError::Fenced),
        }
    }

    /// Tells the others that this process is about to quit: it is no successor of anybody.
    pub fn set_quitting(&self, claim: SlotClaim) {
        self.region.set(self.layout.slot(claim.slot, slot::QUITTING), 1);
    }

    /// Whether a process other than these has a seat and does not quit: one that could take over.
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
