//! What Redis brings enters the log: plain messages, durable events as they happen, and those that are
//! fetched when a channel is caught up. Only the bridge whose fence stands may do this.

use crate::hub::budget::Budget;
use crate::hub::log::append::{NewEvent, Numbering, Prepared, PublishError};
use crate::hub::log::channels::record_blocks;
use crate::hub::log::delivery::Delivery;
use crate::hub::log::eviction::SpaceError;
use crate::hub::log::position::{Kind, LostKinds};
use crate::hub::memory::access::Guard;
use crate::hub::memory::layout::{channel, event, header, high, low};
use crate::hub::memory::redo::Transaction;
use crate::hub::replication::lease::{FencingToken, LeaseError};
use crate::hub::replication::reported::{JudgedId, ReportedId};
use crate::hub::stats::Counter;
use crate::hub::{Hub, Now};
use crate::sse::id::EntryId;

/// An event that Redis brought.
#[derive(Clone, Copy, Debug)]
pub struct IncomingEvent<'a> {
    /// Its channel.
    pub channel: &'a [u8],
    /// How it came.
    pub provenance: Provenance,
    /// Type and data.
    pub event: NewEvent<'a>,
    /// When it came into the world (ms of the monotonic clock of this machine).
    pub born: u64,
}

/// How Redis brought an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// As a plain message, without a number.
    Plain,
    /// As it happened, with its number.
    Live(JudgedId),
    /// When the connection came back: it happened meanwhile.
    Missed(JudgedId),
    /// When its channel was joined: it happened before, and if a pattern was subscribed to that matches
    /// the channel, the pattern brought it then.
    Earlier(JudgedId),
    /// While its channel was being joined: it is subscribed to, and no pattern brings its events any more.
    Joining(JudgedId),
    /// Because a pattern matches its channel, which nobody named: with a number, or plain.
    Strayed(Option<JudgedId>),
}

impl Provenance {
    /// Its number, if it has one that is believed.
    pub fn entry_id(self) -> Option<EntryId> {
        match self {
            Provenance::Live(id)
            | Provenance::Missed(id)
            | Provenance::Earlier(id)
            | Provenance::Joining(id) => id.entry_id(),
            Provenance::Strayed(id) => id.and_then(JudgedId::entry_id),
            Provenance::Plain => None,
        }
    }

    /// The number of its entry in the channel's stream, if that is read.
    fn entry(self) -> Option<ReportedId> {
        match self {
            Provenance::Live(id)
            | Provenance::Missed(id)
            | Provenance::Earlier(id)
            | Provenance::Joining(id) => Some(id.reported()),
            Provenance::Strayed(_) | Provenance::Plain => None,
        }
    }

    /// The same of an event that happened after its channel was subscribed to.
    pub fn since_subscribed(self) -> Provenance {
        match self {
            Provenance::Earlier(id) | Provenance::Live(id) => Provenance::Joining(id),
            other => other,
        }
    }

    /// The same of a message that only a pattern brought.
    pub fn strayed(self) -> Provenance {
        match self {
            Provenance::Live(id) => Provenance::Strayed(Some(id)),
            Provenance::Plain => Provenance::Strayed(None),
            other => other,
        }
    }
}

/// What became of arrivals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ingested {
    /// So many of the arrivals were dealt with: the others are for another hold of the lock.
    pub dealt: usize,
    /// Events that are in the log now.
    pub appended: u64,
    /// Events that are larger than max_event_size, or than the zone.
    pub too_large: u64,
    /// Slots to be woken.
    pub listeners: Vec<usize>,
}

/// How far back a doubtful number is looked for among a channel's events.
const LOOK_BACK: usize = 4096;

impl Hub {
    /// Appends what Redis brought, in this order, as far as one hold of the lock allows; at least one of
    /// them is dealt with. What a channel has already is passed over.
    pub fn ingest(
        &self,
        token: FencingToken,
        arrivals: &[IncomingEvent<'_>],
        now: Now,
    ) -> Result<Ingested, LeaseError> {
        let prepared: Vec<_> =
            arrivals.iter().map(|incoming| self.prepare_one(incoming.event)).collect();
        let mut ingested = Ingested::default();
        let mut compared = &b""[..];
        for incoming in arrivals {
            if compared != incoming.channel {
                compared = incoming.channel;
                self.compare(compared)?;
            }
        }
        while ingested.dealt == 0 && !arrivals.is_empty() {
            self.reserve_space_for_all(token, arrivals, &prepared, now)?;
            self.arrive_in_a_hold(token, arrivals, &prepared, now, &mut ingested)?;
        }
        ingested.listeners.sort_unstable();
        ingested.listeners.dedup();
        Ok(ingested)
    }

    /// Appends as many of the arrivals as one hold of the lock allows: none, if others have taken the room
    /// that was made for them.
    fn arrive_in_a_hold(
        &self,
        token: FencingToken,
        arrivals: &[IncomingEvent<'_>],
        prepared: &[Result<Prepared<'_>, PublishError>],
        now: Now,
        ingested: &mut Ingested,
    ) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        let (mut last, mut record) = (&b""[..], None);
        let mut budget = Budget::for_hold();
        for (incoming, prepared) in arrivals.iter().zip(prepared) {
            if budget.is_spent() {
                break;
            }
            let is_other = last != incoming.channel || record.is_none();
            if is_other {
                (last, record) = (incoming.channel, guard.find(incoming.channel));
            }
            let new = prepared.as_ref().ok();
            let became = new.map(|new| guard.ingest(record, incoming, new, now, &mut budget));
            let became = match became.transpose() {
                Ok(became) => became,
                Err(Unfinished) => break,
            };
            ingested.dealt += 1;
            match became {
                Some(Became::Event(of)) => {
                    record = Some(of);
                    ingested.appended += 1;
                    if is_other {
                        let listeners_of_event = guard.listeners_of_event(of, incoming.channel, 1);
                        ingested.listeners.extend(listeners_of_event.1);
                    }
                    continue;
                }
                Some(Became::Known) => {}
                Some(Became::TooLarge) | None => ingested.too_large += 1,
            }
            if matches!(incoming.provenance, Provenance::Plain | Provenance::Strayed(None)) {
                guard.leave_out_plain();
            }
            // The next of this channel may be the first that wakes somebody.
            record = None;
        }
        Ok(())
    }
}

impl Hub {
    /// Makes room for all that arrived, in as many holds of the lock as that takes.
    fn reserve_space_for_all(
        &self,
        token: FencingToken,
        arrivals: &[IncomingEvent<'_>],
        prepared: &[Result<Prepared<'_>, PublishError>],
        now: Now,
    ) -> Result<(), LeaseError> {
        let events: usize = prepared.iter().flatten().map(Prepared::blocks).sum();
        let records: usize = arrivals.iter().map(|a| record_blocks(a.channel.len())).sum();
        loop {
            let guard = self.lock_fenced(token)?;
            // With a block for the cursor of each channel.
            let blocks = events + records + arrivals.len();
            let made = guard.free_blocks(blocks, 0, now, &mut Budget::for_hold());
            if made != Err(SpaceError::Unfinished) {
                return Ok(());
            }
        }
    }
}

impl Hub {
    /// A message of Redis was passed over before anybody read it: it counts as a plain one that was
    /// dealt with.
    pub fn skip_message(&self, token: FencingToken) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        guard.leave_out_plain();
        Ok(())
    }
}

/// What became of an arrival.
enum Became {
    /// An event of the channel that has this record.
    Event(u32),
    /// It was there already.
    Known,
    /// There is no room for it.
    TooLarge,
}

/// There is more to free for an arrival than one hold of the lock may: some of it is done, and nothing
/// has come of the arrival yet.
struct Unfinished;

impl Guard<'_> {
    fn ingest(
        &self,
        record: Option<u32>,
        incoming: &IncomingEvent<'_>,
        prepared: &Prepared<'_>,
        now: Now,
        budget: &mut Budget,
    ) -> Result<Became, Unfinished> {
        budget.spend(1 + prepared.blocks());
        let Some(mut numbering) = self.numbering(record, incoming, budget) else {
            return Ok(Became::Known);
        };
        let prepared = std::slice::from_ref(prepared);
        let record = match self.reserve_space(incoming.channel, prepared, false, now) {
            Ok(record) => record,
            Err(SpaceError::NoRoom) => return Ok(Became::TooLarge),
            Err(SpaceError::Unfinished) => return Err(Unfinished),
        };
        if let Some(entry) = incoming.provenance.entry() {
            if numbering.kind == Kind::Placed && self.cursor_block(record) == 0 {
                let blocks = 1 + prepared[0].blocks();
                match self.free_blocks(blocks, record, now, &mut Budget::for_hold()) {
                    Ok(()) => {}
                    Err(SpaceError::NoRoom) => return Ok(Became::TooLarge),
                    Err(SpaceError::Unfinished) => return Err(Unfinished),
                }
                self.give_cursor(record, entry.before());
            }
            numbering.entry = Some(entry);
        }
        if matches!(incoming.provenance, Provenance::Strayed(_)) {
            self.mark_partial(record);
        }
        self.append(record, prepared, numbering, None, now);
        self.count(Counter::EventsIn, 1);
        self.count(Counter::BytesIn, incoming.event.data.len() as u64);
        Ok(Became::Event(record))
    }

    /// A plain message was dealt with, and is not in the log: a successor has to pass it over as well.
    fn leave_out_plain(&self) {
        let mut change = self.change();
        self.count_behind_marker(&mut change);
        change.commit();
    }

    /// Counts a message that a successor has to pass over, in the change that deals with it.
    pub(in crate::hub) fn count_behind_marker(&self, change: &mut Transaction<'_>) {
        if self.get(header::MARKER) != 0 {
            change.add(header::BEHIND_MARKER, 1);
        }
    }

    /// The number under which an arrival enters the log; `None` if it is there.
    fn numbering(
        &self,
        record: Option<u32>,
        incoming: &IncomingEvent<'_>,
        budget: &mut Budget,
    ) -> Option<Numbering> {
        let high_watermark = self.high_watermark();
        let numbered = |entry_id, kind, delivery| Numbering {
            entry_id,
            kind,
            delivery,
            born: incoming.born,
            entry: None,
        };
        let placed = |delivery| numbered(high_watermark, Kind::Placed, delivery);
        let id = match incoming.provenance {
            Provenance::Plain | Provenance::Strayed(None) => return Some(placed(Delivery::Plain)),
            Provenance::Live(id)
            | Provenance::Missed(id)
            | Provenance::Earlier(id)
            | Provenance::Joining(id)
            | Provenance::Strayed(Some(id)) => id,
        };
        let cursor = incoming.provenance.entry().and(record).and_then(|record| self.cursor(record));
        if cursor.is_some_and(|cursor| id.reported() <= cursor) {
            return None;
        }
        let delivery = match incoming.provenance {
            Provenance::Earlier(_) => Delivery::Earlier,
            Provenance::Joining(_) => Delivery::Late,
            _ => Delivery::Live,
        };
        // A number that nobody believes says nothing of where the event stands.
        let Some(entry_id) = id.entry_id() else { return Some(placed(delivery)) };
        match incoming.provenance {
            Provenance::Missed(_) if entry_id > high_watermark => {
                Some(numbered(entry_id, Kind::Durable, Delivery::Late))
            }
            _ if entry_id > high_watermark => Some(numbered(entry_id, Kind::Durable, delivery)),
            _ if cursor.is_none()
                && record.is_some_and(|record| self.has(record, entry_id, budget)) =>
            {
                None
            }
            Provenance::Earlier(_) | Provenance::Joining(_)
                if self.comes_last(record, cursor, entry_id) =>
            {
                Some(numbered(entry_id, Kind::Durable, delivery))
            }
            // A number below one that was given: only this hub can say where it stands.
            _ => Some(placed(delivery)),
        }
    }

    /// Whether a number is above all that a channel has had. Without a cursor it is, or the channel would
    /// not lack it.
    fn comes_last(
        &self,
        record: Option<u32>,
        cursor: Option<ReportedId>,
        entry_id: EntryId,
    ) -> bool {
        cursor.is_none()
            || record.is_none_or(|record| entry_id > self.newest_place(record).entry_id)
    }

    /// Whether a channel has, or had, the durable event of this number.
    fn has(&self, record: u32, entry_id: EntryId, budget: &mut Budget) -> bool {
        let mut block = low(self.word(record, channel::EVENTS));
        for _ in 0..LOOK_BACK {
            if block == 0 {
                break;
            }
            budget.spend(1);
            if self.kind(block) == Kind::Durable && self.place(block).entry_id <= entry_id {
                return self.place(block).entry_id == entry_id;
            }
            block = high(self.word(block, event::LINKS));
        }
        // Of a channel of which nothing was known the floor says nothing yet.
        let low_watermark = self.low_watermark(record);
        let known = low(self.word(record, channel::SYNC)) != 0 && self.events(record) > 0;
        known
            && matches!(low_watermark.left, LostKinds::Durable | LostKinds::Mixed)
            && entry_id <= low_watermark.place.entry_id
    }
}
