//! The hub's counters and figures.

use std::sync::atomic::Ordering;

use super::blocks::available;
use super::layout::{header, BLOCK};
use super::region::WORD;
use super::Hub;

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
    /// Streams opened.
    Opened,
    /// Clients that history overtook.
    SlowClients,
    /// Gaps told.
    Gaps,
    /// Streams ended by drain.
    Drained,
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
    /// Streams ended by their age.
    Aged,
    /// Streams ended by an administrator.
    Kicked,
    /// Streams whose client took nothing for send_timeout.
    TimedOut,
}

/// How many counters there are.
const COUNTERS: usize = Counter::TimedOut as usize + 1;

/// The figures of a hub at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    counters: [u64; COUNTERS],
}

impl Stats {
    /// The value of a counter.
    pub fn of(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
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
            counters: std::array::from_fn(|i| self.region.get(header::COUNTERS + i)),
        }
    }
}
