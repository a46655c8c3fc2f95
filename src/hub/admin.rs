//! What an administrator does with channels: listing them, ending their streams, forgetting them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::budget::Budget;
use super::stats::Counter;
use super::{Hub, Membership, Now};
use crate::hub::listeners::control::ControlEntry;
use crate::hub::log::position::{Kind, LogOrder};
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::layout::{channel, event, header, low};
use crate::hub::memory::redo::Transaction;
use crate::hub::replication::lease::{FencingToken, LeaseError, Source};
use crate::sse::channel::is_own;
use crate::sse::id::Id;

/// Buckets that a page of a listing looks at.
const AT_MOST: u64 = 1 << 16;

/// A channel, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its name.
    pub name: Vec<u8>,
    /// Streams on this nginx.
    pub subscribers: u64,
    /// Events retained.
    pub events: u64,
    /// The id of the newest of them.
    pub last_id: Option<Id>,
}

/// A part of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListingPage {
    /// Channels, in no order that means anything.
    pub channels: Vec<ChannelInfo>,
    /// Where the next part begins; `None` if this was the last.
    pub next: Option<u64>,
}

/// A page of a listing that is being made.
#[derive(Debug)]
pub struct Listing {
    prefix: Vec<u8>,
    from: u64,
    limit: usize,
    bucket: u64,
    page: ListingPage,
}

impl Listing {
    /// Channels whose names begin with `prefix`, from where another page ended (0: the beginning),
    /// until there are `limit` or a bounded part of the table was looked at. A page ends with a whole
    /// bucket, so it may have some more than `limit`. The module's own channels and patterns are
    /// left out.
    pub fn new(prefix: Vec<u8>, from: u64, limit: usize) -> Listing {
        Listing { prefix, from, limit, bucket: from, page: ListingPage::default() }
    }
}

/// What was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// Events that the channel had.
    pub events: u64,
}

impl Hub {
    /// Goes on with a listing for one hold of the lock. The page, once it is complete.
    pub fn list(&self, listing: &mut Listing) -> Result<Option<ListingPage>, Locked> {
        let buckets = self.layout.buckets as u64;
        let stop = buckets.min(listing.from.saturating_add(AT_MOST));
        let guard = self.lock()?;
        let mut budget = Budget::for_hold();
        while listing.bucket < stop && listing.page.channels.len() < listing.limit {
            if !budget.step() {
                return Ok(None);
            }
            guard.list_bucket(listing, &mut budget);
            listing.bucket += 1;
        }
        listing.page.next = (listing.bucket < buckets).then_some(listing.bucket);
        Ok(Some(std::mem::take(&mut listing.page)))
    }

    /// One channel; `None` if there is no such.
    pub fn channel(&self, name: &[u8]) -> Result<Option<ChannelInfo>, Locked> {
        let guard = self.lock()?;
        Ok(guard.find(name).map(|record| guard.info(record)))
    }

    /// Tells all streams of a channel to end. Returns how many there are, and the slots that have
    /// them; `None` if there is no such channel.
    pub fn end_streams(&self, name: &[u8]) -> Result<Option<(u64, Vec<usize>)>, Locked> {
        let guard = self.lock()?;
        let Some(record) = guard.find(name) else { return Ok(None) };
        let mut change = guard.change();
        let position = guard.signal(&mut change, record, ControlEntry::End);
        change.set(self.layout.block(record, channel::ENDED), position);
        change.commit();
        Ok(Some(guard.listeners(record)))
    }

    /// Drops all events of a channel. Who returns with an older id is told a gap. `None` if there is
    /// no such channel.
    pub fn forget_channel(&self, name: &[u8], now: Now) -> Result<Option<Forgotten>, Locked> {
        let guard = self.lock()?;
        Ok(guard.find(name).map(|record| guard.forget_events(record, now)))
    }

    /// Drops all events of a channel, for the bridge whose fence stands. A successor has to pass the
    /// message that asked for it over.
    pub fn forget_for_all(
        &self,
        token: FencingToken,
        name: &[u8],
        now: Now,
    ) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        let record = guard.find(name);
        let mut change = guard.change();
        let events = record.map_or(0, |record| guard.drop_events(&mut change, record, now));
        guard.count_behind_marker(&mut change);
        change.commit();
        self.count(Counter::Forgotten, events);
        Ok(())
    }

    /// Drops all events of a channel, if none has come behind a position.
    pub fn forget_up_to(&self, name: &[u8], position: u64, now: Now) -> Result<(), Locked> {
        let guard = self.lock()?;
        let Some(record) = guard.find(name) else { return Ok(()) };
        let newest = low(guard.word(record, channel::EVENTS));
        if newest != 0 && guard.place(newest).position <= position {
            guard.forget_events(record, now);
        }
        Ok(())
    }

    /// The position at which the streams of a channel were last told to end.
    pub fn ended_at(&self, membership: Membership) -> u64 {
        self.region.get(self.layout.block(membership.record, channel::ENDED))
    }

    /// Whether this process is the one that publishes the figures now: true for one of all
    /// processes in `interval` ms.
    pub fn feed_is_due(&self, interval: u64, now: Now) -> bool {
        let last: &AtomicU64 = self.region.word(header::FEED);
        let fed = last.load(Ordering::Relaxed);
        fed.saturating_add(interval) <= now.mono
            && last.compare_exchange(fed, now.mono, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Guard<'_> {
    /// Drops all events of a channel.
    fn forget_events(&self, record: u32, now: Now) -> Forgotten {
        let mut change = self.change();
        let events = self.drop_events(&mut change, record, now);
        change.commit();
        self.hub.count(Counter::Forgotten, events);
        Forgotten { events }
    }

    /// Takes all events from a channel, as a part of a change. Returns how many.
    fn drop_events(&self, change: &mut Transaction<'_>, record: u32, now: Now) -> u64 {
        // A place of its own, above every id that a client can have.
        let kind = self.hub.own_kind();
        let entry_id = self.own_stamp(kind, now);
        let newest = low(self.word(record, channel::EVENTS));
        // Streams that applications write have no common order: how far this one was read is its own.
        let of_floor = match self.hub.source() {
            Source::Streams if newest != 0 => self.place(newest).entry_id,
            _ => entry_id,
        };
        let place = LogOrder { entry_id: of_floor, position: self.get(header::HEAD) };
        let events = u64::from(self.detach_all(change, record));
        self.low_watermark(record).raised(place, kind).write(|word, value| {
            change.set(self.hub.layout.block(record, channel::LOW_WATERMARK + word), value);
        });
        change.set(header::LAST_MS, entry_id.ms);
        change.set(header::LAST_SEQ, entry_id.seq);
        events
    }

    fn list_bucket(&self, listing: &mut Listing, budget: &mut Budget) {
        let mut record = self.get(self.hub.layout.bucket(listing.bucket as u32)) as u32;
        let mut name = Vec::new();
        while record != 0 {
            budget.spend(self.cost_of(record));
            self.name_into(record, &mut name);
            let hidden = is_own(&name) || self.is_pattern(record);
            if name.starts_with(&listing.prefix) && !hidden {
                listing.page.channels.push(self.info(record));
            }
            record = low(self.word(record, channel::HASH));
        }
    }

    fn info(&self, record: u32) -> ChannelInfo {
        let newest = low(self.word(record, channel::EVENTS));
        let last_id = (newest != 0).then(|| {
            let place = LogOrder::from_event(&self.hub.region, &self.hub.layout, newest);
            place.id(self.kind(newest), self.hub.tag())
        });
        ChannelInfo {
            name: self.name(record),
            subscribers: self.listeners(record).0,
            events: u64::from(self.events(record)),
            last_id,
        }
    }

    pub(super) fn kind(&self, event: u32) -> Kind {
        Kind::from_flags((self.word(event, event::BORN) >> 8) as u8)
    }
}
