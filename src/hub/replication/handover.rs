//! The planned takeover of the subscription: what the two processes tell each other through the
//! region. The steps are the bridge's (`redis::takeover`), the words are here.
//!
//! ```text
//! holder                                        successor
//! RETIRING := its fence
//!                                               takes SUCCESSOR; HEIR := a random number
//! changes its subscription no more;
//! FROZEN := HEIR
//!                                               subscribes to the same; publishes HEIR as a marker
//! reads the marker: MARKER := HEIR, and         reads the marker: keeps what follows
//! counts plain messages from then on
//!                                               MARKER = HEIR: takes the fence and the count,
//! is fenced off; lets the lease go              passes over so many, appends the rest
//! ```
//!
//! The count is part of the change that appends each message, so it is exact whenever the holder dies.

use crate::hub::memory::access::Locked;
use crate::hub::memory::layout::header;
use crate::hub::replication::lease::{FencingToken, LeaseError};
use crate::hub::{Hub, Now, SlotClaim};

/// How the fence was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenOver {
    /// The holder had read the marker, and appended so many plain messages behind it.
    Behind(u64),
    /// It had not: nothing behind the marker was appended, and of what came before it nobody knows.
    Unmarked,
}

impl Hub {
    /// The holder wants to leave.
    pub fn retire(&self, token: FencingToken) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        let mut change = guard.change();
        change.set(header::RETIRING, token.0);
        change.commit();
        Ok(())
    }

    /// Whether the one who holds the subscription wants to leave.
    pub fn is_retiring(&self) -> bool {
        let retiring = self.region.get(header::RETIRING);
        retiring != 0 && retiring == self.region.get(header::FENCING_TOKEN)
    }

    /// The successor, who holds that lock, makes itself known. `number` is not 0.
    pub fn announce_successor(&self, number: u64) -> Result<(), Locked> {
        let guard = self.lock()?;
        let mut change = guard.change();
        change.set(header::SUCCESSOR_NUMBER, number);
        change.set(header::FROZEN, 0);
        change.set(header::MARKER, 0);
        change.commit();
        Ok(())
    }

    /// The successor that the holder has been told of, if there is one.
    pub fn successor(&self) -> Option<u64> {
        let successor = self.region.get(header::SUCCESSOR_NUMBER);
        (successor != 0).then_some(successor)
    }

    /// The holder changes its subscription no more.
    pub fn freeze(&self, token: FencingToken, successor: u64) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        let mut change = guard.change();
        change.set(header::FROZEN, successor);
        change.commit();
        Ok(())
    }

    /// Whether the holder has answered this successor.
    pub fn is_frozen(&self, successor: u64) -> bool {
        self.region.get(header::FROZEN) == successor
    }

    /// The successor is gone before it took over: the holder goes on. `_held` is the lock that says so.
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

    /// The holder has read the successor's marker. One of another is none of its business.
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

    /// Whether the holder has read this marker.
    pub fn has_read_marker(&self, number: u64) -> bool {
        self.region.get(header::MARKER) == number
    }

    /// The successor takes the fence: from now on the holder appends nothing.
    pub fn take_over(
        &self,
        claim: SlotClaim,
        number: u64,
        now: Now,
    ) -> Result<(FencingToken, TakenOver), Locked> {
        let guard = self.lock()?;
        let taken = match guard.get(header::MARKER) == number {
            true => TakenOver::Behind(guard.get(header::BEHIND_MARKER)),
            false => TakenOver::Unmarked,
        };
        Ok((guard.take_fencing_token(claim, now), taken))
    }
}
