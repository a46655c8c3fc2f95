//! The handover of the subscription: how the two processes communicate through words of the region.
//! `redis::session` takes the steps.
//!
//! ```text
//! holder                                        successor
//! reads channels that are catching up;
//! RETIRING := its fencing token
//!                                               takes SUCCESSOR_LOCK;
//!                                               SUCCESSOR_NUMBER := a random number
//! stops changing its subscription;
//! FROZEN := SUCCESSOR_NUMBER
//!                                               subscribes to the same channels;
//!                                               publishes SUCCESSOR_NUMBER as a marker
//! reads the marker: MARKER := the number;       reads the marker: keeps what follows
//! counts plain messages from then on
//!                                               MARKER is the number: takes a fencing token and
//! cannot append any more; releases the lease    the count, skips that many, appends the rest
//! ```
//!
//! The count is part of the transaction that appends each message, so it is exact even if the
//! holder dies.

use crate::hub::memory::access::Locked;
use crate::hub::memory::layout::header;
use crate::hub::replication::lease::{FencingToken, LeaseError};
use crate::hub::{Hub, Now, SlotClaim};

/// How the subscription was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenOver {
    /// The holder had read the marker, and had appended this many plain messages after it.
    Behind(u64),
    /// The holder had not read the marker. Nothing after it was appended, and how much was appended
    /// before it is unknown.
    Unmarked,
}

impl Hub {
    /// Announces that the holder wants to leave.
    pub fn retire(&self, token: FencingToken) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        let mut change = guard.change();
        change.set(header::RETIRING, token.0);
        change.commit();
        Ok(())
    }

    /// Returns whether the holder of the subscription wants to leave.
    pub fn is_retiring(&self) -> bool {
        let retiring = self.region.get(header::RETIRING);
        retiring != 0 && retiring == self.region.get(header::FENCING_TOKEN)
    }

    /// Announces a successor, which holds the lock SUCCESSOR_LOCK. `number` is not 0.
    pub fn announce_successor(&self, number: u64) -> Result<(), Locked> {
        let guard = self.lock()?;
        let mut change = guard.change();
        change.set(header::SUCCESSOR_NUMBER, number);
        change.set(header::FROZEN, 0);
        change.set(header::MARKER, 0);
        change.commit();
        Ok(())
    }

    /// Returns the number of the announced successor, if there is one.
    pub fn successor(&self) -> Option<u64> {
        let successor = self.region.get(header::SUCCESSOR_NUMBER);
        (successor != 0).then_some(successor)
    }

    /// Answers a successor: the holder does not change its subscription any more.
    pub fn freeze(&self, token: FencingToken, successor: u64) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        let mut change = guard.change();
        change.set(header::FROZEN, successor);
        change.commit();
        Ok(())
    }

    /// Returns whether the holder has answered this successor.
    pub fn is_frozen(&self, successor: u64) -> bool {
        self.region.get(header::FROZEN) == successor
    }

    /// Removes a successor that ended before it took over, so that the holder continues. `_held` is
    /// the lock that proves it.
    pub fn forget_successor(
        &self,
        token: FencingToken,
        _held: &crate::hub::LeaseGuard,
    ) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        let mut change = guard.change();
        for word in
            [header::SUCCESSOR_NUMBER, header::FROZEN, header::MARKER, header::BEHIND_MARKER]
        {
            change.set(word, 0);
        }
        change.commit();
        Ok(())
    }

    /// Records that the holder has read the successor's marker. Markers of others are ignored.
    pub fn marker_was_read(&self, token: FencingToken, number: u64) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        if guard.get(header::SUCCESSOR_NUMBER) != number || guard.get(header::MARKER) == number {
            return Ok(());
        }
        let mut change = guard.change();
        change.set(header::MARKER, number);
        change.set(header::BEHIND_MARKER, 0);
        change.commit();
        Ok(())
    }

    /// Returns whether the holder has read this marker.
    pub fn has_read_marker(&self, number: u64) -> bool {
        self.region.get(header::MARKER) == number
    }

    /// Takes the subscription over: from now on, the former holder cannot append.
    pub fn take_over(
        &self,
        claim: SlotClaim,
        number: u64,
        now: Now,
    ) -> Result<(FencingToken, TakenOver), Locked> {
        let guard = self.lock()?;
        let taken = if guard.get(header::MARKER) == number {
            TakenOver::Behind(guard.get(header::BEHIND_MARKER))
        } else {
            TakenOver::Unmarked
        };
        Ok((guard.take_fencing_token(claim, now), taken))
    }
}
