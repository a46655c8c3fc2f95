//! Ingests events from Redis: plain messages, durable events as they are published, and those that
//! are fetched when a channel catches up. Only the process with the current fencing token may do
//! this.

use crate::hub::log::append::{Addition, Numbering};
use crate::hub::log::channels::record_blocks;
use crate::hub::log::delivery::Delivery;
use crate::hub::log::eviction::SpaceError;
use crate::hub::log::position::Kind;
use crate::hub::log::prepared_event::{EventTooLarge, Prepared};
use crate::hub::log::run::RunEnd;
use crate::hub::memory::access::Guard;
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::header;
use crate::hub::memory::redo::Transaction;
use crate::hub::replication::incoming::{IncomingEvent, Provenance};
use crate::hub::replication::lease::{FencingToken, LeaseError, Source};
use crate::hub::replication::reported::ReportedId;
use crate::hub::stats::Counter;
use crate::hub::{Hub, Now};
use crate::sse::id::EntryId;

/// The result of ingesting events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ingested {
    /// How many events were processed. The others are left for another hold of the lock.
    pub dealt: usize,
    /// How many events were appended.
    pub appended: u64,
    /// How many events are larger than max_event_size, or than the zone.
    pub too_large: u64,
    /// The slots to wake.
    pub listeners: Vec<usize>,
}

impl Hub {
    /// Appends events from Redis in their order, as far as one hold of the lock allows, and at
    /// least one. Events that a channel has already are skipped.
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
            self.ingest_in_a_hold(token, arrivals, &prepared, now, &mut ingested)?;
        }
        ingested.listeners.sort_unstable();
        ingested.listeners.dedup();
        Ok(ingested)
    }

    /// Appends as many events as one hold of the lock allows. Appends none if others have used the
    /// memory that was freed for them.
    fn ingest_in_a_hold(
        &self,
        token: FencingToken,
        arrivals: &[IncomingEvent<'_>],
        prepared: &[Result<Prepared<'_>, EventTooLarge>],
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
            let became = new.map(|new| {
                if incoming.is_finish() {
                    guard.ingest_finish(record, incoming, now, &mut budget)
                } else {
                    guard.ingest(record, incoming, new, now, &mut budget)
                }
            });
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
                Some(Became::Finish(of)) => ingested.listeners.extend(guard.listeners(of).1),
                Some(Became::Known) => {}
                Some(Became::TooLarge) | None => {
                    ingested.too_large += 1;
                    guard.skip_in_run(record);
                }
            }
            if incoming.provenance.is_plain() {
                guard.skip_plain_message();
            }
            // The next event of this channel may be the first that wakes a process.
            record = None;
        }
        Ok(())
    }
}

impl Hub {
    /// Frees memory for all events, in as many holds of the lock as that takes.
    fn reserve_space_for_all(
        &self,
        token: FencingToken,
        arrivals: &[IncomingEvent<'_>],
        prepared: &[Result<Prepared<'_>, EventTooLarge>],
        now: Now,
    ) -> Result<(), LeaseError> {
        let events: usize = prepared.iter().flatten().map(Prepared::blocks).sum();
        let records: usize = arrivals.iter().map(|a| record_blocks(a.channel.len())).sum();
        loop {
            let guard = self.lock_fenced(token)?;
            // Including a block for the cursor of each channel.
            let blocks = events + records + arrivals.len();
            let made = guard.free_blocks(blocks, 0, now, &mut Budget::for_hold());
            if made != Err(SpaceError::Unfinished) {
                return Ok(());
            }
        }
    }
}

impl Hub {
    /// Records that a message of Redis was skipped unread. It counts as a plain message that was
    /// processed.
    pub fn skip_message(&self, token: FencingToken) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        guard.skip_plain_message();
        Ok(())
    }

    /// Records that an event of a channel was skipped unread, as [`Hub::skip_message`].
    pub fn skip_event(&self, token: FencingToken, channel: &[u8]) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        guard.skip_plain_message();
        guard.skip_in_run(guard.find(channel));
        Ok(())
    }
}

/// The result of ingesting one event.
enum Became {
    /// The event was appended to the channel with this record.
    Event(u32),
    /// The run of the channel with this record was finished.
    Finish(u32),
    /// The channel has the event already.
    Known,
    /// There is no memory for the event.
    TooLarge,
}

/// More has to be freed for an event than one hold of the lock may free. Some of it is done, and
/// the event was not appended.
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
        let (events, run) = (prepared, RunEnd::Open);
        self.append(record, &Addition { events, numbering, run, key: None }, now);
        self.count(Counter::EventsIn, 1);
        self.count(Counter::BytesIn, incoming.event.data.len() as u64);
        Ok(Became::Event(record))
    }

    /// Finishes a channel's run, in the order of the ids of Redis: a finish that comes late, after
    /// events of the next run, marks the event before it, and does not end that run. From then on,
    /// the record has a cursor, because no event has the id of the newest entry.
    fn ingest_finish(
        &self,
        record: Option<u32>,
        incoming: &IncomingEvent<'_>,
        now: Now,
        budget: &mut Budget,
    ) -> Result<Became, Unfinished> {
        budget.spend(2);
        // Streams of patterns pass over finishes, and a channel that is joined reads them.
        let Some(entry) = incoming.provenance.entry() else { return Ok(Became::Known) };
        let newest = record.and_then(|record| self.newest_entry(record));
        if let Some(record) = record.filter(|_| newest.is_some_and(|newest| entry <= newest)) {
            self.flag_last_before(record, entry, budget);
            return Ok(Became::Known);
        }
        let Some(mut numbering) = self.numbering(record, incoming, budget) else {
            return Ok(Became::Known);
        };
        let (record, blocks) = match self.reserve_space(incoming.channel, &[], false, now) {
            Ok(record) => (record, usize::from(self.cursor_block(record) == 0)),
            Err(SpaceError::NoRoom) => return Ok(Became::TooLarge),
            Err(SpaceError::Unfinished) => return Err(Unfinished),
        };
        if blocks > 0 {
            match self.free_blocks(blocks, record, now, &mut Budget::for_hold()) {
                Ok(()) => self.give_cursor(record, entry.before()),
                Err(SpaceError::NoRoom) => return Ok(Became::TooLarge),
                Err(SpaceError::Unfinished) => return Err(Unfinished),
            }
        }
        numbering.entry = Some(entry);
        let (events, run) = (&[][..], RunEnd::Finished);
        self.append(record, &Addition { events, numbering, run, key: None }, now);
        Ok(Became::Finish(record))
    }

    /// Records that a plain message was processed, but is not in the log. A successor has to skip
    /// it as well.
    fn skip_plain_message(&self) {
        let mut change = self.change();
        self.count_behind_marker(&mut change);
        change.commit();
    }

    /// Records that an event of a channel was skipped. The next one does not begin a run.
    fn skip_in_run(&self, record: Option<u32>) {
        let Some(record) = record else { return };
        let state = self.run_state(record);
        if state.is_finished || !state.is_known {
            let mut change = self.change();
            self.open_cut_run(&mut change, record);
            change.commit();
        }
    }

    /// Counts a message that a successor has to skip, as part of the transaction that processes it.
    pub(in crate::hub) fn count_behind_marker(&self, change: &mut Transaction<'_>) {
        if self.get(header::MARKER) != 0 {
            change.add(header::BEHIND_MARKER, 1);
        }
    }

    /// Returns the numbering of an event, or `None` if the channel has it already.
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
            run_place: incoming.run_place,
        };
        let placed = |delivery| numbered(high_watermark, Kind::Placed, delivery);
        let id = match incoming.provenance {
            Provenance::PlainBefore(id) => {
                let newest = record.map(|record| self.newest_place(record).entry_id);
                let id = id.max(newest.unwrap_or_default()).min(high_watermark);
                return Some(numbered(id, Kind::Placed, Delivery::Plain));
            }
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
        // An implausible id does not say where the event belongs.
        let Some(entry_id) = id.entry_id() else { return Some(placed(delivery)) };
        match incoming.provenance {
            Provenance::Missed(_) if entry_id > high_watermark => {
                Some(numbered(entry_id, Kind::Durable, Delivery::Late))
            }
            _ if entry_id > high_watermark => Some(numbered(entry_id, Kind::Durable, delivery)),
            // Other channels have gone on while this one was read. Several streams in Redis have no
            // common order, so there its id does not say where it belongs.
            Provenance::Missed(_)
                if self.hub.source() == Source::PubSub && self.is_newest(record, entry_id) =>
            {
                Some(numbered(entry_id, Kind::Durable, Delivery::Late))
            }
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
            // The id is below one that was assigned, so only this hub can place the event.
            _ => Some(placed(delivery)),
        }
    }

    /// Returns whether an id is above those of all events that a channel has had.
    fn is_newest(&self, record: Option<u32>, entry_id: EntryId) -> bool {
        record.is_none_or(|record| entry_id > self.newest_place(record).entry_id)
    }

    /// Returns whether an id is above all that a channel has had. Without a cursor it is, since the
    /// channel would have the event otherwise.
    fn comes_last(
        &self,
        record: Option<u32>,
        cursor: Option<ReportedId>,
        entry_id: EntryId,
    ) -> bool {
        cursor.is_none() || self.is_newest(record, entry_id)
    }
}
