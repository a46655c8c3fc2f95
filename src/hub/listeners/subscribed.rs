//! Since when a pattern is subscribed to in Redis. What happened before on channels that nobody joined has
//! never come here, and Redis does not say which channels had something. So the pattern's record says it
//! itself, with its floor: a stream in progress that has not come so far is told a gap, and so is one that
//! resumes with an id from before.

use crate::hub::budget::Budget;
use crate::hub::listeners::control::ControlEntry;
use crate::hub::log::position::{Kind, LogOrder};
use crate::hub::memory::access::Guard;
use crate::hub::replication::lease::{FencingToken, LeaseError};
use crate::hub::{Hub, Membership};
use crate::sse::id::EntryId;

impl Hub {
    /// Patterns are subscribed to anew; `clock` is the highest number that Redis had given by then, as far
    /// as is known. To be called before anything arrives that this subscription has brought, so that a
    /// process which dies between the two leaves no hole of which nobody knows. What one hold of the lock
    /// enters is one gap to a stream, however many of the patterns it has.
    pub fn patterns_subscribed(
        &self,
        token: FencingToken,
        members: &[Membership],
        clock: EntryId,
    ) -> Result<(), LeaseError> {
        let mut rest = members.iter();
        while !rest.as_slice().is_empty() {
            let guard = self.lock_fenced(token)?;
            let mut budget = Budget::for_hold();
            while budget.step() {
                let Some(member) = rest.next() else { break };
                guard.pattern_subscribed(member.record, clock);
            }
        }
        Ok(())
    }
}

impl Guard<'_> {
    fn pattern_subscribed(&self, record: u32, clock: EntryId) {
        let entry_id = self.high_watermark().max(clock);
        let mut change = self.change();
        let position = self.signal(&mut change, record, ControlEntry::Lost);
        let low_watermark =
            self.low_watermark(record).raised(LogOrder { entry_id, position }, Kind::Placed);
        self.set_low_watermark(&mut change, record, low_watermark);
        change.commit();
    }
}
