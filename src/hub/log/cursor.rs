//! How far a channel's stream in Redis was read, if the channel's newest event does not say it.
//!
//! Nearly always, the newest event has the id of its entry. It does not if that id is below the
//! high watermark or implausible. Then the event gets the high watermark as its id, and the record
//! gets a block for the id of the entry. From then on, the transaction that appends an event
//! updates the block, so that nothing is read twice or skipped, however the process ends.

use crate::hub::listeners::control::ControlEntry;
use crate::hub::log::position::{Kind, LogOrder, LostKinds};
use crate::hub::memory::access::Guard;
use crate::hub::memory::alloc::BlockAllocator;
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::{channel, event, header, high, low, Layout};
use crate::hub::memory::redo::Transaction;
use crate::hub::replication::lease::{FencingToken, LeaseError};
use crate::hub::replication::reported::ReportedId;
use crate::hub::{Hub, Membership};
use crate::sse::id::EntryId;

/// The words of the block.
const MS: usize = 0;
const SEQ: usize = 1;
/// How many plain messages may be newer than the entry that is looked for.
const LOOK_BACK: usize = 1024;

/// Returns the word of a record whose upper half is the number of the cursor's block.
fn link(layout: &Layout, record: u32) -> usize {
    layout.block(record, channel::SYNC)
}

impl Hub {
    /// Records that a channel's stream started over: the hub's events of it end somewhere, and the
    /// following ones come after a gap. Open streams receive a gap event before them. Call this
    /// before ingesting the new entries.
    pub(in crate::hub) fn restart_stream(
        &self,
        token: FencingToken,
        member: Membership,
    ) -> Result<(), LeaseError> {
        loop {
            let guard = self.lock_fenced(token)?;
            let mut budget = Budget::for_hold();
            while !budget.is_spent() {
                if guard.events(member.record) == 0 {
                    guard.record_restart(member.record);
                    return Ok(());
                }
                guard.evict(member.record, &mut budget);
            }
        }
    }
}

impl Guard<'_> {
    /// Returns the block of a record's cursor, or 0 if there is none.
    pub(in crate::hub) fn cursor_block(&self, record: u32) -> u32 {
        high(self.get(link(&self.hub.layout, record)))
    }

    /// Returns how far the stream was read, if the newest event does not say it.
    pub(in crate::hub) fn cursor(&self, record: u32) -> Option<ReportedId> {
        let block = self.cursor_block(record);
        let word = |word| self.word(block, word);
        (block != 0).then(|| EntryId { ms: word(MS), seq: word(SEQ) }.into())
    }

    /// Returns the id of the newest entry that is known to have been in the stream.
    pub(in crate::hub) fn newest_entry(&self, record: u32) -> Option<ReportedId> {
        if let Some(cursor) = self.cursor(record) {
            return Some(cursor).filter(|cursor| *cursor != ReportedId::default());
        }
        let mut block = low(self.word(record, channel::EVENTS));
        for _ in 0..LOOK_BACK {
            if block == 0 {
                break;
            }
            if self.kind(block) == Kind::Durable {
                return Some(self.place(block).entry_id.into());
            }
            block = high(self.word(block, event::LINKS));
        }
        let low_watermark = self.low_watermark(record);
        let is_own = low(self.word(record, channel::SYNC)) != 0;
        (is_own && low_watermark.left == LostKinds::Durable)
            .then(|| low_watermark.place.entry_id.into())
    }

    /// Creates the cursor of a record that has none. The caller has freed a block.
    pub(in crate::hub) fn give_cursor(&self, record: u32, at: ReportedId) {
        let (region, layout) = (&self.hub.region, &self.hub.layout);
        let mut allocator = BlockAllocator::new(region, layout);
        let block = allocator.take();
        region.set(layout.block(block, MS), at.0.ms);
        region.set(layout.block(block, SEQ), at.0.seq);
        let mut change = self.change();
        allocator.finish(&mut change);
        change.set_high(link(layout, record), block);
        if !self.has_no_listeners(record) {
            change.add(header::PINNED, 1);
        }
        change.commit();
    }

    /// Moves the cursor of a record, if it has one.
    pub(in crate::hub) fn set_cursor(
        &self,
        change: &mut Transaction<'_>,
        record: u32,
        at: ReportedId,
    ) {
        let block = self.cursor_block(record);
        if block != 0 {
            change.set(self.hub.layout.block(block, MS), at.0.ms);
            change.set(self.hub.layout.block(block, SEQ), at.0.seq);
        }
    }

    /// Records that everything on a channel without events comes before a gap.
    fn record_restart(&self, record: u32) {
        let mut change = self.change();
        let position = self.signal(&mut change, record, ControlEntry::Lost);
        let place = LogOrder { entry_id: self.high_watermark(), position };
        self.low_watermark(record).raised(place, Kind::Placed).write(|word, value| {
            change.set(self.hub.layout.block(record, channel::LOW_WATERMARK + word), value);
        });
        self.reopen_run(&mut change, record, None);
        self.set_cursor(&mut change, record, ReportedId::default());
        change.commit();
    }
}
