//! The hub: channels and their history, in memory that all worker processes share.
//!
//! It is one log, written under one lock and read without it. An event gets its position here and
//! nowhere else. Any process may die between any two instructions; `memory::redo` explains why the
//! next process still finds the hub intact.
//!
//! # Layout
//!
//! - `memory`: the region as words, the lock, the work that one hold of it may do, and the redo log
//!   that makes changes atomic
//! - `log`: channels and their events: appending, reading, eviction, history, and resuming
//! - `listeners`: processes, the channels and patterns they listen to, and how they are woken
//! - `replication`: hubs that follow a Redis: the lease, the state of each channel, and ingestion
//! - `admin`: lists channels, ends their streams, and deletes their events
//! - `users`: users that were disconnected, and revoked tokens
//! - `stats`: counters, and the histogram of delivery times
//! - `invariants`: what is true of every hub, checked by tests
//!
//! Nothing here depends on nginx or on Redis.

mod admin;
mod listeners;
mod log;
mod memory;
mod replication;
mod stats;
mod users;

#[cfg(any(test, fuzzing))]
#[cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
mod invariants;
#[cfg(any(test, fuzzing))]
#[cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
mod tests;

#[cfg(fuzzing)]
#[path = "../fuzz/targets/hub/mod.rs"]
pub mod fuzz;
#[cfg(loom)]
#[path = "../loom/models/mod.rs"]
pub mod models;

pub use admin::{ChannelInfo, Forgotten, Listing, ListingPage};
pub use listeners::control::ControlEntry;
pub use listeners::pattern_name::{name_of_pattern, pattern_of, reaches, shown};
pub use listeners::pattern_replay::PatternReplay;
pub use listeners::slots::{SlotClaim, Wakers};
pub use listeners::subscribe::{JoinError, Membership};
pub use log::eviction::Reaped;
pub use log::monotonic_time::MonotonicTime;
pub use log::position::{Kind, LogOrder};
pub use log::prepared_event::NewEvent;
pub use log::publish::{PublishError, Published};
pub use log::received::{Elsewhere, Received};
pub use log::replay::{
    KnownRunEnds, ReplayBatch, ReplayCursor, ReplayStart, ReplayedEvent, Resume, Runs,
};
pub use log::ring::{Descriptor, EventCopy};
pub use log::run::{Activity, RunState};
pub use log::run_start::RunPlace;
pub use log::since::Since;
pub use memory::budget::Budget;
#[cfg(any(test, fuzzing))]
pub use memory::budget::{set_turn_steps, set_visit_steps};
pub use memory::holder::Locked;
pub use memory::lock::{Attempt, RobustLock, WORDS as LOCK_WORDS};
pub use memory::region::Region;
pub use replication::handover::TakenOver;
pub use replication::incoming::{IncomingEvent, Provenance};
pub use replication::ingest::Ingested;
pub use replication::lease::{FencingToken, LeaseError, LeaseGuard, RedisState, Source};
pub use replication::reported::{JudgedId, Latest, ReportedId};
pub use replication::sync::{Loss, SyncState};
pub use stats::delivery_times::{DeliveryTimes, BUCKET_BOUNDS};
pub use stats::{Counter, Stats, COUNTERS};
pub use users::{DisconnectedUsers, Displaced, ReportedUser, Revocation, UserHash};

use memory::alloc;
use memory::layout;
use replication::sync;
use std::hash::{BuildHasher, RandomState};

use listeners::matching::Matching;
use listeners::pattern_replay::ReplayMemory;
use memory::holder::GivenUp;
use memory::layout::{header, slot, Layout};
use memory::lock::WORDS;
use memory::region::WORD;

/// The version of the region's layout. It is part of the zone's name.
pub const LAYOUT: u32 = layout::VERSION;

/// How many events of the largest size fit into the smallest zone.
const LEAST_EVENTS: usize = 8;

/// The current time, which callers pass in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of CLOCK_MONOTONIC, which is the same in all processes of a machine.
    pub mono: u64,
    /// Nanoseconds of the same clock since that millisecond.
    pub mono_ns: u32,
    /// Milliseconds since 1970.
    pub wall: u64,
}

impl Now {
    /// Returns the time of the monotonic clock.
    pub fn time(self) -> MonotonicTime {
        MonotonicTime::new(self.mono, self.mono_ns)
    }
}

/// How many of its newest events a channel is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// How many; 0 for none.
    pub count: u64,
    /// The age in milliseconds up to which these events are kept; 0 for no limit.
    pub age: u64,
}

impl History {
    /// No events.
    pub const NONE: History = History { count: 0, age: 0 };
}

/// The parameters of a new hub.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The size of the region in bytes.
    pub bytes: usize,
    /// The maximum number of processes. Values above 512 mean 512.
    pub slots: usize,
    /// The maximum size of an event's type and encoded data, in bytes.
    pub max_event: usize,
    /// The history that each channel is owed.
    pub history: History,
    /// How much of its unfinished run each channel is owed besides.
    pub runs: History,
    /// Where the hub's events come from.
    pub source: Source,
}

impl Plan {
    /// Returns the size in bytes of the smallest region for events of up to `max_event` bytes.
    pub fn minimum_bytes(slots: usize, max_event: usize) -> usize {
        // A few blocks more than the events take: block 0, channels, and an idempotency key.
        let blocks = LEAST_EVENTS * alloc::blocks_for_event(max_event) + 64;
        Layout::new(blocks, slots).words() * WORD
    }
}

/// The region cannot hold a hub.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Not even a few events would fit.
    #[error("the zone is too small")]
    TooSmall,
    /// A mutex could not be initialized.
    #[error("a mutex in the zone could not be initialized: {0}")]
    Mutex(#[from] std::io::Error),
}

/// The region does not contain a hub of this layout, or its header is damaged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the zone holds no hub of this version, or is damaged")]
pub struct AttachError;

/// Creates an empty hub in zeroed memory. `tag` identifies this instance of the hub in ids; 0
/// counts as 1.
pub fn format(region: &Region, plan: &Plan, tag: u32, now: Now) -> Result<(), FormatError> {
    let slots = plan.slots.min(layout::MAX_SLOTS);
    let layout = Layout::fitting(plan.bytes.min(region.size() * WORD), slots)
        .ok_or(FormatError::TooSmall)?;
    let words = [
        (header::TAG, u64::from(tag.max(1))),
        (header::BLOCKS, layout.blocks as u64),
        (header::SLOTS, layout.slots as u64),
        (header::MAX_EVENT, plan.max_event as u64),
        (header::COUNT, plan.history.count),
        (header::AGE, plan.history.age),
        (header::RUNS_COUNT, plan.runs.count),
        (header::RUNS_AGE, plan.runs.age),
        (header::SEED, RandomState::new().hash_one(tag)),
        // Block 0 means "none".
        (header::FRESH, 1),
        // The id of the empty hub's end, so that a stream can start before the first event. If
        // Redis assigns the ids, none is known yet.
        (header::LAST_MS, if plan.source == Source::Alone { now.wall } else { 0 }),
        (header::SOURCE, plan.source.word()),
        // SYNC of a channel must be comparable with the epoch before the first.
        (header::EPOCH, sync::FIRST_EPOCH),
    ];
    for (at, value) in words {
        region.set(at, value);
    }
    for at in [header::LOCK, header::LEASE, header::SUCCESSOR_LOCK] {
        RobustLock::at(region.words(at, WORDS)).init()?;
    }
    for number in 0..layout.slots {
        RobustLock::at(region.words(layout.slot(number, slot::LIFE), WORDS)).init()?;
    }
    region.set_after(header::MAGIC, layout::MAGIC);
    Ok(())
}

/// A process's handle to a hub.
#[derive(Clone)]
pub struct Hub {
    region: Region,
    layout: Layout,
    /// The id of this process.
    process: u32,
    given_up: GivenUp,
    matching: Matching,
    replay_memory: ReplayMemory,
}

impl Hub {
    /// Opens the hub that `format` created in a region.
    pub fn attach(region: Region) -> Result<Hub, AttachError> {
        let layout = Layout::plausible(&region).ok_or(AttachError)?;
        let (process, given_up) = (std::process::id(), GivenUp::default());
        let (matching, replay_memory) = (Matching::default(), ReplayMemory::default());
        Ok(Hub { region, layout, process, given_up, matching, replay_memory })
    }

    /// Returns the tag that identifies this instance of the hub in ids.
    pub fn tag(&self) -> u32 {
        self.region.get(header::TAG) as u32
    }

    /// Changes the history that channels are owed, and how much of their unfinished runs.
    pub fn set_history(&self, history: History, runs: History) -> Result<(), Locked> {
        {
            let guard = self.lock()?;
            if self.history() == history && self.runs() == runs {
                return Ok(());
            }
            let mut change = guard.change();
            change.set(header::COUNT, history.count);
            change.set(header::AGE, history.age);
            change.set(header::RUNS_COUNT, runs.count);
            change.set(header::RUNS_AGE, runs.age);
            change.commit();
        }
        // If the lock is not available any more, the sweeps do it later.
        self.reclassify_all().or(Ok(()))
    }

    /// Returns the history that channels are owed.
    pub fn history(&self) -> History {
        History { count: self.region.get(header::COUNT), age: self.region.get(header::AGE) }
    }

    /// Returns how much of its unfinished run a channel is owed.
    pub fn runs(&self) -> History {
        let (count, age) = (header::RUNS_COUNT, header::RUNS_AGE);
        History { count: self.region.get(count), age: self.region.get(age) }
    }

    /// Returns the size of the hub's memory in bytes.
    pub fn bytes(&self) -> usize {
        self.region.size() * WORD
    }

    /// Returns the maximum size of an event's type and encoded data, in bytes.
    pub fn max_event(&self) -> usize {
        self.region.get(header::MAX_EVENT) as usize
    }
}
