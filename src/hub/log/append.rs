//! Appending to the log: one event or a batch, all of it or none.

use crate::hub::budget::Budget;
use crate::hub::log::channels::record_blocks;
use crate::hub::log::delivery::Delivery;
use crate::hub::log::eviction::SpaceError;
use crate::hub::log::idempotency::KeyHash;
use crate::hub::log::position::{Kind, LogOrder};
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::alloc::{blocks_for_event, write_event, BlockAllocator};
use crate::hub::memory::layout::{channel, event, header, high, low, pair};
use crate::hub::memory::redo::{EventRange, Transaction};
use crate::hub::replication::reported::ReportedId;
use crate::hub::stats::Counter;
use crate::hub::{Hub, Now};
use crate::sse::data;
use crate::sse::id::{EntryId, Id};

/// An event as a publisher gives it.
#[derive(Clone, Copy, Debug)]
pub struct NewEvent<'a> {
    /// Its type; empty for none.
    pub event_type: &'a [u8],
    /// Its data, not yet encoded.
    pub data: &'a [u8],
}

/// What a publish has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The events' ids, in the order given.
    pub ids: Vec<Id>,
    /// Streams of the channel on this nginx.
    pub subscribers: u64,
    /// Slots whose processes listen to the channel: [`Hub::needs_wakeup`] tells which to wake.
    pub listeners: Vec<usize>,
}

/// Why a publish was refused. Nothing was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The lock could not be taken in time.
    #[error(transparent)]
    Busy(#[from] Locked),
    /// An encoded event is larger than max_event_size.
    #[error("event is larger than max_event_size")]
    TooLarge,
    /// More has to leave first than one publish may wait for.
    #[error("zone is being cleared, try again")]
    Crowded,
    /// It would not fit even into an emptied zone.
    #[error("zone is too small for this event")]
    NoRoom,
}

/// Events that are encoded and measured, ready to be copied under the lock.
pub(in crate::hub) struct Prepared<'a> {
    event_type: &'a [u8],
    data: Vec<u8>,
}

/// How events that are appended get their numbers.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) struct Numbering {
    /// The first one's; in a hub that numbers by itself the others count on from it.
    pub entry_id: EntryId,
    pub kind: Kind,
    pub delivery: Delivery,
    /// When they came (ms of the monotonic clock).
    pub born: u64,
    /// The number of the entry in Redis that the event was read from.
    pub entry: Option<ReportedId>,
}

/// Holds of the lock that one publish takes to make room.
const HOLDS: usize = 8;
/// Steps that a publish spends on events of its channel that are too old.
const EXPIRING: usize = 32;

impl Hub {
    /// Appends events to a channel; they get ids of this hub. With a key that was used on this
    /// channel in the last two minutes nothing is appended, and the ids are those of the first time.
    /// No events: nothing happens, not even to the key.
    pub fn publish(
        &self,
        channel: &[u8],
        events: &[NewEvent<'_>],
        key: Option<&[u8]>,
        now: Now,
    ) -> Result<Published, PublishError> {
        let prepared = self.prepare(events)?;
        let mut holds = Budget::with_steps(HOLDS);
        let (guard, key, record) = loop {
            let guard = self.lock_for(channel)?;
            let key = key.map(|key| guard.key_hash(channel, key));
            if let Some(ids) = key.and_then(|hash| guard.ids_of(hash, now)) {
                self.count(Counter::Deduplicated, 1);
                let (subscribers, listeners) = guard
                    .find(channel)
                    .map_or((0, Vec::new()), |found| guard.listeners_of_event(found, channel, 0));
                return Ok(Published { ids, subscribers, listeners });
            }
            if prepared.is_empty() {
                return Ok(Published { ids: Vec::new(), subscribers: 0, listeners: Vec::new() });
            }
            match guard.reserve_space(channel, &prepared, key.is_some(), now) {
                Ok(record) => break (guard, key, record),
                Err(SpaceError::Unfinished) if holds.step() => {}
                Err(SpaceError::Unfinished) => return Err(PublishError::Crowded),
                Err(SpaceError::NoRoom) => return Err(PublishError::NoRoom),
            }
        };
        let ids = guard.append(record, &prepared, guard.own_numbering(now), key, now);
        let (subscribers, listeners) = guard.listeners_of_event(record, channel, ids.len());
        guard.count(Counter::EventsIn, prepared.len() as u64);
        guard.count(Counter::BytesIn, events.iter().map(|event| event.data.len() as u64).sum());
        Ok(Published { ids, subscribers, listeners })
    }

    /// Appends to one of the module's own channels: it counts for nothing, and the publishers'
    /// counters are theirs.
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
        let ids = guard.append(record, &prepared, guard.own_numbering(now), None, now);
        let (subscribers, listeners) = guard.listeners(record);
        Ok(Published { ids, subscribers, listeners })
    }

    /// The same, and the event becomes all that the channel retains.
    pub fn publish_latest(
        &self,
        channel: &[u8],
        event: NewEvent<'_>,
        now: Now,
    ) -> Result<Published, PublishError> {
        let published = self.publish_own(channel, event, now)?;
        let guard = self.lock()?;
        if let Some(record) = guard.find(channel) {
            // What one hold does not free the next figures do.
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

    /// Whether an event is within max_event_size.
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

    /// Blocks that it takes.
    pub(in crate::hub) fn blocks(&self) -> usize {
        blocks_for_event(self.len())
    }
}

impl Guard<'_> {
    /// Makes room for everything that the publish takes, and finds or makes the channel.
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
        // A little more than comes, so that a channel does not grow by what is too old.
        self.expire(record, now, &mut Budget::with_steps(EXPIRING));
        Ok(record)
    }

    /// Appends to a channel for which there is room.
    pub(in crate::hub) fn append(
        &self,
        record: u32,
        events: &[Prepared<'_>],
        numbering: Numbering,
        key: Option<KeyHash>,
        now: Now,
    ) -> Vec<Id> {
        let hub = self.hub;
        let Numbering { entry_id, kind, .. } = numbering;
        let position = self.get(header::HEAD) + 1;
        let mut taker = BlockAllocator::new(&hub.region, &hub.layout);
        let mut chain =
            Chain { earlier: low(self.word(record, channel::EVENTS)), ..Chain::default() };
        let mut ids = Vec::with_capacity(events.len());
        for (event, i) in events.iter().zip(0..) {
            let place = LogOrder { entry_id: numbering.stamp_of(i), position: position + i };
            let own = Numbering { entry_id: place.entry_id, ..numbering };
            self.write(&mut taker, &mut chain, record, event, own);
            ids.push(place.id(kind, hub.tag()));
        }
        let batch = EventRange { first: chain.first, count: events.len() as u32, position };
        let end = position + events.len() as u64 - 1;
        // Before any entry of the ring is touched: a reader whose entry is about to be overwritten
        // must see that.
        hub.region.set(header::RESERVED, end);
        std::sync::atomic::fence(std::sync::atomic::Ordering::Release);

        let mut change = self.change();
        if let Some(hash) = key {
            self.remember(&mut taker, &mut change, hash, (batch, entry_id), now);
        }
        taker.finish(&mut change);
        self.link(&mut change, record, &chain, events.len());
        let last = numbering.stamp_of(events.len() as u64 - 1);
        if last > self.high_watermark() {
            change.set(header::LAST_MS, last.ms);
            change.set(header::LAST_SEQ, last.seq);
        }
        if numbering.delivery == Delivery::Plain && self.get(header::MARKER) != 0 {
            // A successor is about to pass over what has been appended behind its marker.
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

    /// The numbers of what is published on this nginx itself.
    fn own_numbering(&self, now: Now) -> Numbering {
        let kind = self.hub.own_kind();
        let entry_id = self.own_stamp(kind, now);
        Numbering { entry_id, kind, delivery: Delivery::Here, born: now.mono, entry: None }
    }

    /// The number that this hub gives next: never below one that it has given, whatever the clock does.
    /// Where Redis gives them it is the mark, and the position tells the rest.
    pub(in crate::hub) fn own_stamp(&self, kind: Kind, now: Now) -> EntryId {
        let EntryId { ms, seq } = self.high_watermark();
        match kind {
            Kind::Durable | Kind::Placed => EntryId { ms, seq },
            Kind::Local if now.wall > ms => EntryId { ms: now.wall, seq: 0 },
            Kind::Local => EntryId { ms, seq: seq + 1 },
        }
    }

    /// Writes one event into blocks that nobody can reach yet, linked behind the one before.
    fn write(
        &self,
        taker: &mut BlockAllocator<'_>,
        chain: &mut Chain,
        record: u32,
        new: &Prepared<'_>,
        numbering: Numbering,
    ) {
        let (region, layout) = (&self.hub.region, &self.hub.layout);
        let block = write_event(taker, new.event_type, &new.data);
        let flags = u64::from(numbering.kind.flags() | numbering.delivery.flags());
        region.set(layout.block(block, event::OWNER), pair(record, new.len() as u32));
        region.set(layout.block(block, event::LINKS), pair(chain.earlier, 0));
        let born = numbering.born << 16 | flags << 8 | new.event_type.len() as u64;
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

    /// Hangs a chain of events behind those of the channel.
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
    /// The number of the event that follows `i` others.
    fn stamp_of(&self, i: u64) -> EntryId {
        match self.kind {
            Kind::Local => EntryId { ms: self.entry_id.ms, seq: self.entry_id.seq + i },
            Kind::Durable | Kind::Placed => self.entry_id,
        }
    }
}

/// Events that are written and linked to each other, not yet to their channel.
#[derive(Default)]
struct Chain {
    first: u32,
    /// The newest of them, or of the channel while there is none.
    earlier: u32,
    blocks: usize,
}
