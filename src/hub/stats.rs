//! The hub's counters and figures.

pub(in crate::hub) mod delivery_times;

use crate::hub::memory::alloc::available;
use crate::hub::memory::atomic::Ordering;
use crate::hub::memory::layout::{header, BLOCK};
use crate::hub::memory::region::WORD;
use crate::hub::{Hub, RedisState};
use delivery_times::DeliveryTimes;

/// The counters in the region, of all processes, since the hub was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Events appended.
    EventsIn,
    /// Bytes of the data of these events.
    BytesIn,
    /// Events sent to clients.
    EventsOut,
    /// Bytes of the frames sent to clients.
    BytesOut,
    /// Events evicted because memory was needed.
    Evicted,
    /// Events evicted because of their age.
    Expired,
    /// Events deleted by an administrator.
    Forgotten,
    /// Streams opened.
    Opened,
    /// Streams opened with an id to resume from.
    Resumed,
    /// Clients that were overtaken by the history.
    SlowClients,
    /// Gap events sent.
    Gaps,
    /// Streams that were turned away temporarily.
    TurnedAway,
    /// Publishes that repeated a known idempotency key.
    Deduplicated,
    /// Publishes rejected: malformed.
    RefusedBad,
    /// Publishes rejected: from another site.
    RefusedForbidden,
    /// Publishes rejected: too large.
    RefusedTooLarge,
    /// Publishes rejected: the lock was not available.
    RefusedBusy,
    /// Publishes rejected: larger than the zone.
    RefusedNoRoom,
    /// Transactions that another process completed for one that died.
    Repairs,
    /// Streams ended because the client disconnected.
    EndedClient,
    /// Streams ended because of their age.
    EndedAge,
    /// Streams ended because their process had to quit.
    EndedDrain,
    /// Streams ended because the client accepted no data for send_timeout.
    EndedTimeout,
    /// Streams ended because the history had overtaken the client.
    EndedSlow,
    /// Streams ended by an administrator.
    EndedAdmin,
    /// Streams ended by an error.
    EndedError,
    /// Streams that ended with their process, which was killed or did not drain.
    EndedExit,
    /// Streams whose request was freed.
    Lean,
    /// Streams whose request could not be freed, though the location allows it.
    NotLean,
    /// Connections to Redis that were established again.
    Reconnects,
    /// Publishes rejected: Redis could not be reached.
    RefusedUnreachable,
    /// Publishes that Redis did not answer.
    RefusedUnanswered,
    /// Publishes that Redis rejected.
    RefusedByRedis,
    /// Streams ended because the runs of their channels were finished.
    EndedFinished,
    /// Requests that were not answered with a stream because a part of the run had left.
    IncompleteRuns,
    /// Requests that were answered with 204, because nothing was to come of their channels.
    NothingToCome,
    /// Requests refused: they had no token.
    TokenMissing,
    /// Tokens refused: malformed.
    TokenMalformed,
    /// Tokens refused: no key has their algorithm.
    TokenAlgorithm,
    /// Tokens refused: there is no key for them.
    TokenKey,
    /// Tokens refused: the signature is invalid.
    TokenSignature,
    /// Tokens refused: a claim is missing or has another value.
    TokenClaim,
    /// Tokens refused: expired.
    TokenExpired,
    /// Tokens refused: not valid yet.
    TokenNotYet,
    /// Tokens refused: they do not allow the channel.
    TokenChannel,
    /// Streams ended because the client's permission ended.
    EndedExpired,
    /// Tokens refused: revoked.
    TokenRevoked,
}

/// The number of counters.
pub const COUNTERS: usize = Counter::TokenRevoked as usize + 1;

// Each has a word in the region's header.
const _: () = assert!(COUNTERS <= header::COUNTER_COUNT);

/// The figures of a hub at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Open streams, of all processes.
    pub subscribers: u64,
    /// Known channels.
    pub channels: u64,
    /// Retained events.
    pub retained_events: u64,
    /// Bytes of all blocks.
    pub zone_bytes: u64,
    /// Bytes of the blocks in use.
    pub zone_used_bytes: u64,
    /// The state of the connection to Redis.
    pub redis: RedisState,
    /// How long deliveries took.
    pub delivery_times: DeliveryTimes,
    counters: [u64; COUNTERS],
}

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            subscribers: 0,
            channels: 0,
            retained_events: 0,
            zone_bytes: 0,
            zone_used_bytes: 0,
            redis: RedisState::Off,
            delivery_times: DeliveryTimes::default(),
            counters: [0; COUNTERS],
        }
    }
}

impl Stats {
    /// Returns the value of a counter.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    /// Returns the same figures with another value of a counter.
    #[cfg(test)]
    pub fn with(mut self, counter: Counter, value: u64) -> Stats {
        self.counters[counter as usize] = value;
        self
    }
}

impl Hub {
    /// Adds to a counter.
    pub fn count(&self, counter: Counter, by: u64) {
        self.region.word(header::COUNTERS + counter as usize).fetch_add(by, Ordering::Relaxed);
    }

    /// Returns the current figures, without the lock.
    pub fn stats(&self) -> Stats {
        let block = (BLOCK * WORD) as u64;
        let free = available(&self.region, &self.layout) as u64;
        Stats {
            subscribers: self.streams(),
            channels: self.region.get(header::CHANNELS),
            retained_events: self.region.get(header::RETAINED),
            zone_bytes: (self.layout.blocks as u64 - 1) * block,
            zone_used_bytes: (self.layout.blocks as u64 - 1).saturating_sub(free) * block,
            redis: self.link(),
            delivery_times: self.delivery_times(),
            counters: std::array::from_fn(|i| self.region.get(header::COUNTERS + i)),
        }
    }
}
