//! Appends events to a channel, in one transaction: all of them or none.

use crate::hub::listeners::control::ControlEntry;
use crate::hub::log::channels::record_blocks;
use crate::hub::log::delivery::{born_word, Delivery, UNORDERED};
use crate::hub::log::eviction::SpaceError;
use crate::hub::log::idempotency::KeyHash;
use crate::hub::log::monotonic_time::MonotonicTime;
use crate::hub::log::position::{Kind, LogOrder};
use crate::hub::log::prepared_event::Prepared;
use crate::hub::log::run::{as_last_of_run, RunEnd};
use crate::hub::log::run_start::RunPlace;
use crate::hub::memory::access::Guard;
use crate::hub::memory::alloc::{write_event, BlockAllocator};
use crate::hub::memory::atomic::{fence, Ordering};
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::{channel, event, header, high, low, pair};
use crate::hub::memory::redo::{EventRange, Transaction};
use crate::hub::replication::reported::ReportedId;
use crate::hub::Now;
use crate::sse::id::{EntryId, Id};

/// Steps that a publish spends on expired events of its channel.
const EXPIRING: usize = 32;

/// What is appended to a channel in one transaction.
pub(in crate::hub) struct Addition<'a> {
    pub events: &'a [Prepared<'a>],
    pub numbering: Numbering,
    /// What becomes of the run after the events.
    pub run: RunEnd,
    pub key: Option<KeyHash>,
}

/// The ids that appended events get.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) struct Numbering {
    /// The first event's id. If the hub assigns the ids, the others follow it.
    pub entry_id: EntryId,
    pub kind: Kind,
    pub delivery: Delivery,
    /// When the events arrived.
    pub born: MonotonicTime,
    /// The id of the entry in Redis that the event was read from.
    pub entry: Option<ReportedId>,
    /// What is known of the place of the first event in its run.
    pub run_place: RunPlace,
}

impl Guard<'_> {
    /// Frees memory for everything that a publish takes, and finds or creates the channel's record.
    pub(in crate::hub) fn reserve_space(
        &self,
        channel: &[u8],
        events: &[Prepared<'_>],
        with_key: bool,
        now: Now,
    ) -> Result<u32, SpaceError> {
        let mut budget = Budget::for_hold();
        if with_key {
            self.bound_keys(now);
        }
        let mut blocks: usize = events.iter().map(Prepared::blocks).sum();
        blocks += usize::from(with_key);
        let found = self.find(channel);
        if found.is_none() {
            blocks += record_blocks(channel.len());
        }
        self.free_blocks(blocks, found.unwrap_or(0), now, &mut budget)?;
        let record = found.unwrap_or_else(|| self.create_record(channel, now));
        // Slightly more than is appended, so that a channel does not grow by expired events.
        self.expire(record, now, &mut Budget::with_steps(EXPIRING));
        Ok(record)
    }

    /// Appends to a channel. The caller has reserved space.
    pub(in crate::hub) fn append(&self, record: u32, addition: &Addition<'_>, now: Now) -> Vec<Id> {
        let hub = self.hub;
        let Addition { events, numbering, run, key } = *addition;
        let Numbering { entry_id, kind, delivery, .. } = numbering;
        let born = self.arrival_time(record, numbering.born, delivery);
        let finishes = run == RunEnd::Finished && self.can_finish(record, events.len());
        let position = self.get(header::HEAD) + 1;
        let mut allocator = BlockAllocator::new(&hub.region, &hub.layout);
        let mut chain =
            Chain { earlier: low(self.word(record, channel::EVENTS)), ..Chain::default() };
        chain.flags = kind.flags() | delivery.flags();
        if self.is_out_of_order(record, kind, born, delivery) {
            chain.flags |= UNORDERED;
        }
        let mut ids = Vec::with_capacity(events.len());
        for (event, i) in events.iter().zip(0..) {
            let place = LogOrder { entry_id: numbering.entry_id_of(i), position: position + i };
            let own = Numbering { entry_id: place.entry_id, born, ..numbering };
            self.write(&mut allocator, &mut chain, record, event, own);
            ids.push(place.id(kind, hub.tag()));
        }
        let batch = EventRange { first: chain.first, count: events.len() as u32, position };
        if finishes && chain.first != 0 {
            let at = hub.layout.block(chain.earlier, event::BORN);
            hub.region.set(at, as_last_of_run(hub.region.get(at)));
        }
        let end = position + events.len() as u64 + u64::from(finishes) - 1;
        // Set before any entry of the ring is touched: a reader must see that its entry may be
        // overwritten.
        hub.region.set(header::RESERVED, end);
        fence(Ordering::Release);

        let mut change = self.change();
        if let Some(hash) = key {
            self.remember(&mut allocator, &mut change, hash, (batch, entry_id, run), now);
        }
        allocator.finish(&mut change);
        if let Some(others) = events.len().checked_sub(1) {
            // Before they are linked: what the channel is owed depends on its run.
            self.continue_run(&mut change, record, chain.first, numbering.run_place);
            self.raise_high_watermark(&mut change, numbering.entry_id_of(others as u64));
        }
        if events.is_empty() && kind == Kind::Durable {
            self.raise_high_watermark(&mut change, entry_id);
        }
        if finishes {
            if events.is_empty() {
                self.flag_newest(&mut change, record);
            }
            self.enter_control(&mut change, (record, end), ControlEntry::Finished);
            self.finish_run(&mut change, record, end);
        }
        self.link(&mut change, record, &chain, events.len());
        if numbering.delivery == Delivery::Plain && self.get(header::MARKER) != 0 {
            // A successor skips what was appended after its marker.
            change.add(header::BEHIND_MARKER, 1);
        }
        if let Some(entry) = numbering.entry {
            self.set_cursor(&mut change, record, entry);
        }
        change.enter(batch);
        change.set(header::HEAD, end);
        change.commit();
        ids
    }

    /// Returns the numbering of events that are published on this nginx.
    pub(in crate::hub) fn own_numbering(&self, now: Now) -> Numbering {
        let kind = self.hub.own_kind();
        let entry_id = self.own_entry_id(kind, now);
        let (delivery, born) = (Delivery::Here, now.time());
        Numbering { entry_id, kind, delivery, born, entry: None, run_place: RunPlace::Unknown }
    }

    /// Returns the id that this hub assigns next. It is never below one that was assigned, whatever
    /// the clock does. If Redis assigns the ids, it is the high watermark, and the position
    /// determines the order.
    pub(in crate::hub) fn own_entry_id(&self, kind: Kind, now: Now) -> EntryId {
        let EntryId { ms, seq } = self.high_watermark();
        match kind {
            Kind::Durable | Kind::Placed => EntryId { ms, seq },
            Kind::Local if now.wall > ms => EntryId { ms: now.wall, seq: 0 },
            Kind::Local => EntryId { ms, seq: seq + 1 },
        }
    }

    /// Writes one event into blocks that are not reachable yet, linked after the previous one.
    fn write(
        &self,
        allocator: &mut BlockAllocator<'_>,
        chain: &mut Chain,
        record: u32,
        new: &Prepared<'_>,
        numbering: Numbering,
    ) {
        let (region, layout) = (&self.hub.region, &self.hub.layout);
        let block = write_event(allocator, new.event_type, &new.data);
        region.set(layout.block(block, event::OWNER), pair(record, new.len() as u32));
        region.set(layout.block(block, event::LINKS), pair(chain.earlier, 0));
        let born = born_word(numbering.born, chain.flags, new.event_type.len());
        region.set(layout.block(block, event::BORN), born);
        region.set(layout.block(block, event::MS), numbering.entry_id.ms);
        region.set(layout.block(block, event::SEQ), numbering.entry_id.seq);
        if chain.first == 0 {
            chain.first = block;
        } else {
            let links = layout.block(chain.earlier, event::LINKS);
            region.set(links, pair(high(region.get(links)), block));
        }
        chain.earlier = block;
        chain.blocks += new.blocks();
    }

    /// Links a chain of events after those of the channel, which may be none, and moves the channel
    /// to the lists in which it then belongs.
    fn link(&self, change: &mut Transaction<'_>, record: u32, chain: &Chain, count: usize) {
        let layout = &self.hub.layout;
        let at = layout.block(record, channel::EVENTS);
        let (first, last) = (high(change.get(at)), low(change.get(at)));
        if count == 0 {
            return self.resize(change, record, 0, 0);
        }
        if last == 0 {
            change.set(at, pair(chain.first, chain.earlier));
        } else {
            change.set_low(layout.block(last, event::LINKS), chain.first);
            change.set(at, pair(first, chain.earlier));
        }
        change.add(header::RETAINED, count as i64);
        self.resize(change, record, count as i64, chain.blocks as i64);
    }
}

impl Numbering {
    /// Returns the id of the event that follows `i` others.
    fn entry_id_of(&self, i: u64) -> EntryId {
        match self.kind {
            Kind::Local => EntryId { ms: self.entry_id.ms, seq: self.entry_id.seq + i },
            Kind::Durable | Kind::Placed => self.entry_id,
        }
    }
}

/// Events that are written and linked to each other, but not yet to their channel.
#[derive(Default)]
struct Chain {
    first: u32,
    /// The newest of them, or of the channel while there is none.
    earlier: u32,
    blocks: usize,
    /// The flags of each of them.
    flags: u8,
}
