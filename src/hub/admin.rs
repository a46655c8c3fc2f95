//! Administration: lists channels, ends their streams, and deletes their events.

use crate::hub::memory::atomic::{AtomicU64, Ordering};

use crate::hub::listeners::control::ControlEntry;
use crate::hub::log::position::{Kind, LogOrder};
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::{channel, event, header, low};
use crate::hub::memory::redo::Transaction;
use crate::hub::replication::lease::{FencingToken, LeaseError, Source};
use crate::hub::stats::Counter;
use crate::hub::{Hub, Membership, Now};
use crate::sse::channel::is_own;
use crate::sse::id::Id;

/// The maximum number of buckets that one page of a listing covers.
const AT_MOST: u64 = 1 << 16;

/// A channel in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelInfo {
    /// The channel's name.
    pub name: Vec<u8>,
    /// The number of its streams on this nginx.
    pub subscribers: u64,
    /// The number of its retained events.
    pub events: u64,
    /// The id of the newest retained event.
    pub last_id: Option<Id>,
}

/// One page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListingPage {
    /// The channels, in arbitrary order.
    pub channels: Vec<ChannelInfo>,
    /// The cursor of the next page; `None` if this is the last.
    pub next: Option<u64>,
}

/// A page of a listing that is being built.
#[derive(Debug)]
pub struct Listing {
    prefix: Vec<u8>,
    from: u64,
    limit: usize,
    bucket: u64,
    page: ListingPage,
}

impl Listing {
    /// Starts a page of the channels whose names begin with `prefix`, at the cursor `from` (0 for
    /// the first page). A page ends when it has `limit` channels or has covered a bounded part of
    /// the table. It contains whole buckets, so it may have a few channels more than `limit`. The
    /// module's own channels and patterns are left out.
    pub fn new(prefix: Vec<u8>, from: u64, limit: usize) -> Listing {
        Listing { prefix, from, limit, bucket: from, page: ListingPage::default() }
    }
}

/// The result of deleting a channel's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// How many events were deleted.
    pub events: u64,
}

impl Hub {
    /// Continues a listing for one hold of the lock. Returns the page when it is complete.
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

    /// Returns one channel, or `None` if it does not exist.
    pub fn channel(&self, name: &[u8]) -> Result<Option<ChannelInfo>, Locked> {
        let guard = self.lock()?;
        Ok(guard.find(name).map(|record| guard.info(record)))
    }

    /// Ends all streams of a channel. Returns how many there are and the slots that have them, or
    /// `None` if the channel does not exist.
    pub fn end_streams(&self, name: &[u8]) -> Result<Option<(u64, Vec<usize>)>, Locked> {
        let guard = self.lock()?;
        let Some(record) = guard.find(name) else { return Ok(None) };
        let mut change = guard.change();
        let position = guard.signal(&mut change, record, ControlEntry::End);
        change.set(self.layout.block(record, channel::ENDED), position);
        change.commit();
        Ok(Some(guard.listeners(record)))
    }

    /// Deletes all events of a channel, or returns `None` if the channel does not exist. A client
    /// that resumes from an older id receives a gap event.
    pub fn forget_channel(&self, name: &[u8], now: Now) -> Result<Option<Forgotten>, Locked> {
        let guard = self.lock()?;
        Ok(guard.find(name).map(|record| guard.forget_events(record, now)))
    }

    /// Deletes all events of a channel because a message from Redis asks for it. The successor in a
    /// handover has to skip that message.
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

    /// Deletes all events of a channel, unless there is one after `position`.
    pub fn forget_up_to(&self, name: &[u8], position: u64, now: Now) -> Result<(), Locked> {
        let guard = self.lock()?;
        let Some(record) = guard.find(name) else { return Ok(()) };
        let newest = low(guard.word(record, channel::EVENTS));
        if newest != 0 && guard.place(newest).position <= position {
            guard.forget_events(record, now);
        }
        Ok(())
    }

    /// Returns the position at which the streams of a channel were last ended.
    pub fn ended_at(&self, membership: Membership) -> u64 {
        self.region.get(self.layout.block(membership.record, channel::ENDED))
    }

    /// Returns whether this process has to publish the figures now: true for one process once per
    /// `interval` milliseconds.
    pub fn feed_is_due(&self, interval: u64, now: Now) -> bool {
        let last: &AtomicU64 = self.region.word(header::FEED);
        let fed = last.load(Ordering::Relaxed);
        fed.saturating_add(interval) <= now.mono
            && last.compare_exchange(fed, now.mono, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Guard<'_> {
    /// Deletes all events of a channel.
    fn forget_events(&self, record: u32, now: Now) -> Forgotten {
        let mut change = self.change();
        let events = self.drop_events(&mut change, record, now);
        change.commit();
        self.hub.count(Counter::Forgotten, events);
        Forgotten { events }
    }

    /// Deletes all events of a channel as part of a transaction. Returns how many there were.
    fn drop_events(&self, change: &mut Transaction<'_>, record: u32, now: Now) -> u64 {
        // A position of its own, above every id that a client can have.
        let kind = self.hub.own_kind();
        let entry_id = self.own_entry_id(kind, now);
        let newest = low(self.word(record, channel::EVENTS));
        // Streams that applications write have no common order, so the low watermark is this
        // stream's own.
        let lost_id = match self.hub.source() {
            Source::Streams if newest != 0 => self.place(newest).entry_id,
            _ => entry_id,
        };
        let place = LogOrder { entry_id: lost_id, position: self.get(header::HEAD) };
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
