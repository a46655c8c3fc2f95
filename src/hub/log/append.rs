//! Appends events to the log: one or a batch, all of it or none.

use crate::hub::listeners::control::ControlEntry;
use crate::hub::log::channels::record_blocks;
use crate::hub::log::delivery::{born_word, Delivery, UNORDERED};
use crate::hub::log::eviction::SpaceError;
use crate::hub::log::idempotency::{KeyHash, KnownPublish};
use crate::hub::log::monotonic_time::MonotonicTime;
use crate::hub::log::position::{Kind, LogOrder};
use crate::hub::log::run::{as_last_of_run, RunEnd};
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::alloc::{blocks_for_event, write_event, BlockAllocator};
use crate::hub::memory::atomic::{fence, Ordering};
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::{channel, event, header, high, low, pair};
use crate::hub::memory::redo::{EventRange, Transaction};
use crate::hub::replication::reported::ReportedId;
use crate::hub::stats::Counter;
use crate::hub::{Hub, Now};
use crate::sse::data;
use crate::sse::id::{EntryId, Id};

/// An event as a publisher provides it.
#[derive(Clone, Copy, Debug)]
pub struct NewEvent<'a> {
    /// The type; empty for none.
    pub event_type: &'a [u8],
    /// The data, not yet encoded.
    pub data: &'a [u8],
}

/// The result of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The ids of the events, in their order.
    pub ids: Vec<Id>,
    /// The number of the channel's streams on this nginx.
    pub subscribers: u64,
    /// The slots of the processes that listen to the channel, for [`Hub::wake`].
    pub listeners: Vec<usize>,
    /// Whether the publish, or the one that it repeats, finished the channel's run.
    pub finished: bool,
}

/// Why a publish was rejected. Nothing was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The lock could not be taken in time.
    #[error(transparent)]
    Busy(#[from] Locked),
    /// An encoded event is larger than max_event_size.
    #[error("the event is larger than max_event_size")]
    TooLarge,
    /// More memory has to be freed than one publish may wait for.
    #[error("the zone is being cleared, try again")]
    Crowded,
    /// The events would not fit even into an empty zone.
    #[error("the zone is too small for this event")]
    NoRoom,
}

/// An event that is encoded and ready to be copied under the lock.
pub(in crate::hub) struct Prepared<'a> {
    event_type: &'a [u8],
    data: Vec<u8>,
}

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
}

/// Holds of the lock that one publish takes to free memory.
const HOLDS: usize = 8;
/// Steps that a publish spends on expired events of its channel.
const EXPIRING: usize = 32;

impl Hub {
    /// Appends events to a channel, with ids of this hub. If the key was used on this channel in
    /// the last two minutes, appends nothing and returns the ids of the first time. Without events,
    /// does nothing, not even with the key.
    pub fn publish(
        &self,
        channel: &[u8],
        events: &[NewEvent<'_>],
        key: Option<&[u8]>,
        now: Now,
    ) -> Result<Published, PublishError> {
        self.publish_in_run(channel, events, RunEnd::Open, key, now)
    }

    /// Appends events to a channel and finishes its run, as one change. Without events, finishes
    /// the run, and creates the channel if it does not exist. The key is as in [`Hub::publish`].
    pub fn publish_and_finish(
        &self,
        channel: &[u8],
        events: &[NewEvent<'_>],
        key: Option<&[u8]>,
        now: Now,
    ) -> Result<Published, PublishError> {
        self.publish_in_run(channel, events, RunEnd::Finished, key, now)
    }

    fn publish_in_run(
        &self,
        channel: &[u8],
        events: &[NewEvent<'_>],
        run: RunEnd,
        key: Option<&[u8]>,
        now: Now,
    ) -> Result<Published, PublishError> {
        let prepared = self.prepare(events)?;
        let mut holds = Budget::with_steps(HOLDS);
        let (guard, key, record) = loop {
            let guard = self.lock_for(channel)?;
            let key = key.map(|key| guard.key_hash(channel, key));
            if let Some(known) = key.and_then(|hash| guard.known_publish(hash, now)) {
                self.count(Counter::Deduplicated, 1);
                let (subscribers, listeners) = guard
                    .find(channel)
                    .map_or((0, Vec::new()), |found| guard.listeners_of_event(found, channel, 0));
                let KnownPublish { ids, finished } = known;
                return Ok(Published { ids, subscribers, listeners, finished });
            }
            if prepared.is_empty() && run == RunEnd::Open {
                let (ids, listeners) = (Vec::new(), Vec::new());
                return Ok(Published { ids, subscribers: 0, listeners, finished: false });
            }
            match guard.reserve_space(channel, &prepared, key.is_some(), now) {
                Ok(record) => break (guard, key, record),
                Err(SpaceError::Unfinished) if holds.step() => {}
                Err(SpaceError::Unfinished) => return Err(PublishError::Crowded),
                Err(SpaceError::NoRoom) => return Err(PublishError::NoRoom),
            }
        };
        let (numbering, head) = (guard.own_numbering(now), self.head());
        let ids = guard.append(record, &Addition { events: &prepared, numbering, run, key }, now);
        let entries = (self.head() - head) as usize;
        let (subscribers, listeners) = guard.listeners_of_event(record, channel, entries);
        guard.count(Counter::EventsIn, prepared.len() as u64);
        guard.count(Counter::BytesIn, events.iter().map(|event| event.data.len() as u64).sum());
        Ok(Published { ids, subscribers, listeners, finished: run == RunEnd::Finished })
    }

    /// Appends an event to one of the module's own channels. It does not count as a publish.
    pub fn publish_own(
        &self,
        channel: &[u8],
        event: NewEvent<'_>,
        now: Now,
    ) -> Result<Published, PublishError> {
        let prepared = self.prepare(&[event])?;
        let mut holds = Budget::with_steps(HOLDS);
        let (guard, record) = loop {
            let guard = self.lock()?;
            match guard.reserve_space(channel, &prepared, false, now) {
                Ok(record) => break (guard, record),
                Err(SpaceError::Unfinished) if holds.step() => {}
                Err(SpaceError::Unfinished) => return Err(PublishError::Crowded),
                Err(SpaceError::NoRoom) => return Err(PublishError::NoRoom),
            }
        };
        let (numbering, run) = (guard.own_numbering(now), RunEnd::Open);
        let ids =
            guard.append(record, &Addition { events: &prepared, numbering, run, key: None }, now);
        let (subscribers, listeners) = guard.listeners(record);
        Ok(Published { ids, subscribers, listeners, finished: false })
    }

    /// Appends an event to one of the module's own channels, and removes the channel's other
    /// events.
    pub fn publish_latest(
        &self,
        channel: &[u8],
        event: NewEvent<'_>,
        now: Now,
    ) -> Result<Published, PublishError> {
        let published = self.publish_own(channel, event, now)?;
        let guard = self.lock()?;
        if let Some(record) = guard.find(channel) {
            // What one hold does not free, the next call does.
            let mut budget = Budget::for_hold();
            while guard.events(record) > 1 && !budget.is_spent() {
                guard.evict(record, &mut budget);
            }
        }
        Ok(published)
    }

    fn prepare<'a>(&self, events: &[NewEvent<'a>]) -> Result<Vec<Prepared<'a>>, PublishError> {
        events.iter().map(|new| self.prepare_one(*new)).collect()
    }

    /// Returns whether an event is within max_event_size.
    pub fn fits(&self, new: NewEvent<'_>) -> bool {
        data::encoded_len(new.data) + new.event_type.len() <= self.max_event()
    }

    pub(in crate::hub) fn prepare_one<'a>(
        &self,
        new: NewEvent<'a>,
    ) -> Result<Prepared<'a>, PublishError> {
        if !self.fits(new) {
            return Err(PublishError::TooLarge);
        }
        let mut encoded = Vec::with_capacity(data::encoded_len(new.data));
        data::encode(new.data, &mut encoded);
        Ok(Prepared { event_type: new.event_type, data: encoded })
    }
}

impl Prepared<'_> {
    fn len(&self) -> usize {
        self.event_type.len() + self.data.len()
    }

    /// Returns how many blocks the event takes.
    pub(in crate::hub) fn blocks(&self) -> usize {
        blocks_for_event(self.len())
    }
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
        let record = found.unwrap_or_else(|| self.create_record(channel));
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
            self.link(&mut change, record, &chain, events.len());
            self.continue_run(&mut change, record);
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
    fn own_numbering(&self, now: Now) -> Numbering {
        let kind = self.hub.own_kind();
        let entry_id = self.own_entry_id(kind, now);
        Numbering { entry_id, kind, delivery: Delivery::Here, born: now.time(), entry: None }
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

    /// Links a chain of events after those of the channel.
    fn link(&self, change: &mut Transaction<'_>, record: u32, chain: &Chain, count: usize) {
        let layout = &self.hub.layout;
        let at = layout.block(record, channel::EVENTS);
        let (first, last) = (high(change.get(at)), low(change.get(at)));
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
