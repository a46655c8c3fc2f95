//! Records since when a pattern is subscribed to in Redis. Earlier events on channels without
//! listeners were not received here, and Redis does not report which channels had events. So the
//! low watermark of the pattern's record is raised: an open stream that is before it receives a gap
//! event, and so does a client that resumes from an earlier id.

use crate::hub::listeners::control::ControlEntry;
use crate::hub::log::position::{Kind, LogOrder};
use crate::hub::memory::access::Guard;
use crate::hub::memory::budget::Budget;
use crate::hub::replication::lease::{FencingToken, LeaseError};
use crate::hub::{Hub, Membership};
use crate::sse::id::EntryId;

impl Hub {
    /// Records that patterns were subscribed to again. `newest` is the highest id that Redis had
    /// assigned by then, as far as is known. Request it after the subscription was confirmed: what
    /// is published before that is not received. Call this before ingesting anything from this
    /// subscription: if the process died in between, the loss would go unnoticed. The entries of
    /// one hold of the lock cause one gap event per stream, however many of the patterns it has.
    pub fn patterns_subscribed(
        &self,
        token: FencingToken,
        members: &[Membership],
        newest: EntryId,
    ) -> Result<(), LeaseError> {
        let mut rest = members.iter();
        while !rest.as_slice().is_empty() {
            let guard = self.lock_fenced(token)?;
            let mut budget = Budget::for_hold();
            while budget.step() {
                let Some(member) = rest.next() else { break };
                guard.pattern_subscribed(member.record, newest);
            }
        }
        Ok(())
    }
}

impl Guard<'_> {
    fn pattern_subscribed(&self, record: u32, newest: EntryId) {
        let entry_id = self.high_watermark().max(newest);
        let mut change = self.change();
        let position = self.signal(&mut change, record, ControlEntry::Lost);
        let low_watermark =
            self.low_watermark(record).raised(LogOrder { entry_id, position }, Kind::Placed);
        self.set_low_watermark(&mut change, record, low_watermark);
        change.commit();
    }
}
