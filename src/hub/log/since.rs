//! Resuming by time: a client without an id receives what was published at or after a time.
//!
//! Events with an id of Redis were published at the time in that id. The others were published when
//! they arrived, by the clock of Redis too if the hub is connected to it. Their ids say nothing
//! about that: all plain messages between two durable events have the same entry id, and ids of
//! this hub do not fall if the clock is set back.
//!
//! On most channels events are in the order of their times, so a search backwards ends at the first
//! event that is too old. They are not where plain messages and durable events alternate, because
//! the one are dated here and the others by Redis, or where Redis delivered something late. Events
//! of such a channel have a flag, and the search does not rely on their order.

use crate::hub::log::backward::Sought;
use crate::hub::log::delivery::{born_at, is_late, is_unordered, Delivery, EventFacts};
use crate::hub::log::monotonic_time::MonotonicTime;
use crate::hub::log::position::{Kind, LogOrder, LostKinds, LowWatermark};
use crate::hub::memory::access::Guard;
use crate::hub::memory::layout::{channel, event, header, high, low};
use crate::hub::replication::lease::FencingToken;
use crate::hub::{Hub, Now};

/// How much two clocks that are read in whole milliseconds may differ from what they show. An event
/// of the millisecond in question is sent in any case, and perhaps one of the two before.
const ROUNDING: u64 = 2;
/// If the time in Redis seems to be this much earlier than before (ms), its clock was set back.
/// Otherwise, the reply took longer.
const SET_BACK: u64 = 3_000;

/// The time from which a client receives what was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// In milliseconds since 1970.
    pub(in crate::hub) ms: u64,
    /// In milliseconds of the monotonic clock.
    pub(in crate::hub) born: u64,
    /// The end of the log when the stream started. What is appended later, and not late, was
    /// published since.
    pub(in crate::hub) end: u64,
}

impl Since {
    /// Returns whether an event was published before.
    pub(in crate::hub) fn excludes(&self, event: &EventFacts) -> bool {
        let is_new = event.place.position > self.end && !event.is_late;
        !is_new && self.is_after_time(event.place, event.kind, event.born)
    }

    /// Returns whether everything that a channel has lost was published before, as far as its low
    /// watermark says. When lost plain messages were published is unknown.
    pub(in crate::hub) fn excludes_lost(&self, lost: LowWatermark) -> bool {
        let has_time = matches!(lost.left, LostKinds::Local | LostKinds::Durable);
        lost.place.position == 0 || has_time && lost.place.entry_id.ms < self.ms
    }

    fn is_after_time(&self, place: LogOrder, kind: Kind, born: u64) -> bool {
        match kind {
            Kind::Durable => place.entry_id.ms < self.ms,
            Kind::Local | Kind::Placed => born < self.born,
        }
    }
}

impl Hub {
    /// Returns the time by which events are dated, in milliseconds since 1970: that of Redis if the
    /// hub has been connected to it.
    pub fn clock(&self, now: Now) -> u64 {
        match self.region.get(header::REDIS_EPOCH) {
            0 => now.wall,
            epoch => now.mono.saturating_add(epoch),
        }
    }

    /// Records the time in Redis at which this machine's monotonic clock was 0, in milliseconds
    /// since 1970. Of several replies, that with the shortest delay says it best.
    pub fn set_clock(&self, token: FencingToken, epoch: u64) {
        let known = self.region.get(header::REDIS_EPOCH);
        if self.holds_token(token) && (epoch > known || known - epoch > SET_BACK) {
            self.region.set(header::REDIS_EPOCH, epoch);
        }
    }

    /// Returns the time `ms`, in milliseconds since 1970, for a stream that starts at this end of
    /// the log.
    pub(in crate::hub) fn since(&self, ms: u64, end: LogOrder, now: Now) -> Since {
        let ago = self.clock(now).saturating_sub(ms);
        let born = now.mono.saturating_sub(ago).saturating_sub(ROUNDING);
        Since { ms, born, end: end.position }
    }
}

impl Guard<'_> {
    /// Returns whether a client that resumes from a time receives an event, or any older one.
    pub(in crate::hub) fn sought_since(&self, since: &Since, block: u32) -> Sought {
        let (word, kind) = (self.word(block, event::BORN), self.kind(block));
        let born = born_at(word).ms();
        if !since.is_after_time(self.place(block), kind, born) {
            Sought::Wanted
        } else if !is_unordered(word) || self.was_live_before(since, block) {
            Sought::AllOlderUnwanted
        } else {
            Sought::Unwanted
        }
    }

    /// Returns whether a durable event arrived before a time: all older plain messages have arrived
    /// before, too.
    fn was_live_before(&self, since: &Since, block: u32) -> bool {
        let word = self.word(block, event::BORN);
        self.kind(block) == Kind::Durable && !is_late(word) && born_at(word).ms() < since.born
    }

    /// Returns whether a channel may have lost an event that was published at or after a time.
    pub(in crate::hub) fn may_lack_since(&self, record: u32, since: &Since) -> bool {
        let lost = self.low_watermark(record);
        if since.excludes_lost(lost) {
            return false;
        }
        let oldest = high(self.word(record, channel::EVENTS));
        if oldest == 0 {
            return true;
        }
        let is_before = match lost.left {
            LostKinds::Durable => false,
            LostKinds::Local => self.sought_since(since, oldest) == Sought::AllOlderUnwanted,
            // The mark of a lost message is not below the ids of lost durable events.
            LostKinds::Mixed | LostKinds::Placed => {
                let is_plain = self.kind(oldest) != Kind::Durable
                    && self.sought_since(since, oldest) == Sought::AllOlderUnwanted;
                lost.place.entry_id.ms < since.ms
                    && (is_plain || self.was_live_before(since, oldest))
            }
        };
        !is_before
    }

    /// Returns the time of an event that is about to be appended to a channel: not before that of
    /// the newest event, if both have just arrived. A process may have been interrupted between
    /// reading the clock and taking the lock.
    pub(in crate::hub) fn arrival_time(
        &self,
        record: u32,
        born: MonotonicTime,
        delivery: Delivery,
    ) -> MonotonicTime {
        let newest = low(self.word(record, channel::EVENTS));
        match delivery {
            Delivery::Late | Delivery::Earlier => born,
            Delivery::Here | Delivery::Plain | Delivery::Live if newest != 0 => {
                born.max(born_at(self.word(newest, event::BORN)))
            }
            Delivery::Here | Delivery::Plain | Delivery::Live => born,
        }
    }

    /// Returns whether an event that is about to be appended may have been published before an
    /// older one of its channel.
    pub(in crate::hub) fn is_out_of_order(
        &self,
        record: u32,
        kind: Kind,
        born: MonotonicTime,
        delivery: Delivery,
    ) -> bool {
        let newest = low(self.word(record, channel::EVENTS));
        let is_durable = kind == Kind::Durable;
        if newest != 0 {
            let word = self.word(newest, event::BORN);
            return is_unordered(word)
                || is_durable != (self.kind(newest) == Kind::Durable)
                || !is_durable && born < born_at(word);
        }
        let lost = self.low_watermark(record);
        let has_lost = lost.place.position != 0;
        match kind {
            Kind::Local => false,
            Kind::Durable => has_lost && lost.left != LostKinds::Durable,
            Kind::Placed => has_lost && !matches!(delivery, Delivery::Here | Delivery::Plain),
        }
    }
}
