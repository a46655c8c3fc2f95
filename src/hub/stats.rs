//! The hub's counters and figures.

use std::sync::atomic::Ordering;

use super::{Hub, RedisState};
use crate::hub::memory::alloc::available;
use crate::hub::memory::layout::{header, BLOCK};
use crate::hub::memory::region::WORD;

/// What is counted in the region, by all processes, since the hub began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Events appended.
    EventsIn,
    /// Bytes of their data.
    BytesIn,
    /// Events handed to clients.
    EventsOut,
    /// Bytes of the frames handed to clients.
    BytesOut,
    /// Events that left because their memory was needed.
    Evicted,
    /// Events that left because they were too old.
    Expired,
    /// Events that an administrator had forgotten.
    Forgotten,
    /// Streams opened.
    Opened,
    /// Those of them that came with an id to resume from.
    Resumed,
    /// Clients that history overtook.
    SlowClients,
    /// Gaps told.
    Gaps,
    /// Streams that were turned away for the moment.
    TurnedAway,
    /// Publishes repeated with a known key.
    Deduplicated,
    /// Publishes refused: not well formed.
    RefusedBad,
    /// Publishes refused: from another site.
    RefusedForbidden,
    /// Publishes refused: too large.
    RefusedTooLarge,
    /// Publishes refused: the lock could not be had.
    RefusedBusy,
    /// Publishes refused: larger than the zone.
    RefusedNoRoom,
    /// Changes that another process finished for one that died.
    Repairs,
    /// Ways of events through a channel's streams in one process.
    Passes,
    /// Their time from publishing to the last stream, in ms.
    PassMs,
    /// Streams ended: the client went away.
    EndedClient,
    /// Streams ended by their age.
    EndedAge,
    /// Streams ended because their process was told to quit.
    EndedDrain,
    /// Streams ended because the client took nothing for send_timeout.
    EndedTimeout,
    /// Streams ended because history had overtaken the client.
    EndedSlow,
    /// Streams ended by an administrator.
    EndedAdmin,
    /// Streams ended by a failure.
    EndedError,
    /// Streams that ended with their process: it was killed, or left without a drain.
    EndedExit,
    /// Streams whose request was given back.
    Lean,
    /// Streams whose request could not be, though the location wants it.
    NotLean,
    /// Connections to Redis that were made anew.
    Reconnects,
    /// Publishes refused: Redis could not be asked.
    RefusedUnreachable,
    /// Publishes that Redis did not answer.
    RefusedUnanswered,
    /// Publishes that Redis refused.
    RefusedByRedis,
}

/// How many counters there are.
pub const COUNTERS: usize = Counter::RefusedByRedis as usize + 1;

// Each has a word in the region's header.
const _: () = assert!(COUNTERS <= header::COUNTER_COUNT);

/// The figures of a hub at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Open streams, of all processes.
    pub subscribers: u64,
    /// Channels known.
    pub channels: u64,
    /// Events retained.
    pub retained_events: u64,
    /// Bytes of all blocks.
    pub zone_bytes: u64,
    /// Bytes of the blocks in use.
    pub zone_used_bytes: u64,
    /// What became of the connection to Redis.
    pub redis: RedisState,
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
            counters: [0; COUNTERS],
        }
    }
}

impl Stats {
    /// The value of a counter.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    /// The same figures with another value of a counter.
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

    /// The figures now, read without the lock.
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
            counters: std::array::from_fn(|i| self.region.get(header::COUNTERS + i)),
        }
    }
}
