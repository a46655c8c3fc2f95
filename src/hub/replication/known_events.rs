//! Which durable events a channel has already.

use crate::hub::log::position::{Kind, LostKinds};
use crate::hub::log::run::as_last_of_run;
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::{channel, event, high, low};
use crate::hub::replication::reported::ReportedId;
use crate::hub::{Hub, Membership};
use crate::sse::id::EntryId;

/// How many of a channel's events are searched for an id.
const LOOK_BACK: u32 = 4096;

impl Hub {
    /// Returns whether a channel has the durable event with this id, or its newest entry, which can
    /// be a finish, has this id. An older event that was evicted, or that has an id of this hub, is
    /// not found.
    pub fn has_event(&self, member: Membership, id: ReportedId) -> Result<bool, Locked> {
        let guard = self.lock()?;
        let newest = guard.newest_up_to(member.record, id.0, &mut Budget::for_hold());
        Ok(newest == Some(id.0) || guard.newest_entry(member.record) == Some(id))
    }
}

impl Guard<'_> {
    /// Returns whether a channel has, or had, the durable event with this id.
    pub(super) fn has(&self, record: u32, entry_id: EntryId, budget: &mut Budget) -> bool {
        if let Some(newest) = self.newest_up_to(record, entry_id, budget) {
            return newest == entry_id;
        }
        // If nothing was known about the channel, its low watermark says nothing yet.
        let low_watermark = self.low_watermark(record);
        let known = low(self.word(record, channel::SYNC)) != 0 && self.events(record) > 0;
        known
            && matches!(low_watermark.left, LostKinds::Durable | LostKinds::Mixed)
            && entry_id <= low_watermark.place.entry_id
    }

    /// Records that a run was finished before this id: its last event is the newest durable event
    /// below the id, if that is among the channel's newest [`LOOK_BACK`] events. The newest run of
    /// the channel may begin after that event.
    pub(super) fn flag_last_before(&self, record: u32, id: ReportedId, budget: &mut Budget) {
        let found = self.newest_block_up_to(record, id.before().0, budget);
        let Some((last, newer)) = found.filter(|(last, _)| !self.ends_run(*last)) else { return };
        let at = self.hub.layout.block(last, event::BORN);
        let mut change = self.change();
        change.set(at, as_last_of_run(self.get(at)));
        if newer > 0 && newer < self.events_of_run(record) {
            let before = self.events(record) - newer;
            self.begin_run_at(&mut change, record, self.later(last), before);
            self.resize(&mut change, record, 0, 0);
        }
        change.commit();
    }

    /// Returns the id of a channel's newest durable event up to this id, if that is among its
    /// newest [`LOOK_BACK`] events.
    fn newest_up_to(&self, record: u32, entry_id: EntryId, budget: &mut Budget) -> Option<EntryId> {
        let (block, _) = self.newest_block_up_to(record, entry_id, budget)?;
        Some(self.place(block).entry_id)
    }

    /// Returns the block of that event, and how many events of the channel are newer.
    fn newest_block_up_to(
        &self,
        record: u32,
        entry_id: EntryId,
        budget: &mut Budget,
    ) -> Option<(u32, u32)> {
        let mut block = low(self.word(record, channel::EVENTS));
        for newer in 0..LOOK_BACK {
            if block == 0 {
                break;
            }
            budget.spend(1);
            let place = self.place(block);
            if self.kind(block) == Kind::Durable && place.entry_id <= entry_id {
                return Some((block, newer));
            }
            block = high(self.word(block, event::LINKS));
        }
        None
    }
}
