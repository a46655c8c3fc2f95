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
}

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
    /// See [`Counter`] for these.
    pub events_in: u64,
    pub bytes_in: u64,
    pub events_out: u64,
    pub bytes_out: u64,
    pub evicted: u64,
    pub expired: u64,
    pub opened: u64,
    pub slow_clients: u64,
    pub gaps: u64,
    pub drained: u64,
    pub turned_away: u64,
    pub deduplicated: u64,
    pub refused_bad: u64,
    pub refused_forbidden: u64,
    pub refused_too_large: u64,
    pub refused_busy: u64,
    pub refused_no_room: u64,
    pub repairs: u64,
}

impl Hub {
    /// Adds to a counter.
    pub fn count(&self, counter: Counter, by: u64) {
        self.region.word(header::COUNTERS + counter as usize).fetch_add(by, Ordering::Relaxed);
    }

    /// The figures now, read without the lock.
    pub fn stats(&self) -> Stats {
        let counter = |counter: Counter| self.region.get(header::COUNTERS + counter as usize);
        let block = (BLOCK * WORD) as u64;
        let free = available(&self.region, &self.layout) as u64;
        Stats {
            subscribers: self.streams(),
            channels: self.region.get(header::CHANNELS),
            retained_events: self.region.get(header::RETAINED),
            zone_bytes: (self.layout.blocks as u64 - 1) * block,
            zone_used_bytes: (self.layout.blocks as u64 - 1).saturating_sub(free) * block,
            events_in: counter(Counter::EventsIn),
            bytes_in: counter(Counter::BytesIn),
            events_out: counter(Counter::EventsOut),
            bytes_out: counter(Counter::BytesOut),
            evicted: counter(Counter::Evicted),
            expired: counter(Counter::Expired),
            opened: counter(Counter::Opened),
            slow_clients: counter(Counter::SlowClients),
            gaps: counter(Counter::Gaps),
            drained: counter(Counter::Drained),
            turned_away: counter(Counter::TurnedAway),
            deduplicated: counter(Counter::Deduplicated),
            refused_bad: counter(Counter::RefusedBad),
            refused_forbidden: counter(Counter::RefusedForbidden),
            refused_too_large: counter(Counter::RefusedTooLarge),
            refused_busy: counter(Counter::RefusedBusy),
            refused_no_room: counter(Counter::RefusedNoRoom),
            repairs: counter(Counter::Repairs),
        }
    }
}
