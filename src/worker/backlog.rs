//! What a stream that is behind still has to get from the hub, whatever it listens to.

use super::channel::Channel;
use crate::hub::{
    pattern_of, AlreadySeen, Hub, Locked, LogOrder, Now, PatternReplay, ReplayBatch, ReplayCursor,
    ReplayStart, ReplayedEvent,
};

/// What a stream lacks.
#[derive(Debug)]
pub enum Backlog {
    /// Of channels that it has joined.
    Of(Box<ReplayCursor>),
    /// Of all channels that its patterns match.
    Matching(Box<PatternReplay>),
}

/// Where a stream begins.
pub struct Begun {
    /// The end of the log at that moment.
    pub end: LogOrder,
    /// What the client has had of events that are not in the log yet.
    pub seen: AlreadySeen,
    /// What it first has to get.
    pub missed: Option<Backlog>,
}

impl From<ReplayStart> for Begun {
    fn from(beginning: ReplayStart) -> Begun {
        let missed = beginning.cursor.map(Backlog::Of);
        Begun { end: beginning.end, seen: beginning.seen, missed }
    }
}

impl From<(LogOrder, AlreadySeen, Option<Box<PatternReplay>>)> for Begun {
    fn from((end, seen, search): (LogOrder, AlreadySeen, Option<Box<PatternReplay>>)) -> Begun {
        Begun { end, seen, missed: search.map(Backlog::Matching) }
    }
}

impl Backlog {
    /// For a stream in progress that has had everything up to `at`, and some elsewhere.
    pub fn since<'a>(
        at: u64,
        seen: AlreadySeen,
        until: u64,
        channels: impl Iterator<Item = &'a Channel> + Clone,
    ) -> Backlog {
        match channels.clone().any(|channel| pattern_of(&channel.name).is_some()) {
            true => {
                Backlog::Matching(PatternReplay::since(at, seen, channels.map(|c| c.name.clone())))
            }
            false => {
                Backlog::Of(ReplayCursor::since(at, seen, until, channels.map(|c| c.membership)))
            }
        }
    }

    /// The next slice; `None` if it is still being looked for.
    pub fn replayed(
        &mut self,
        hub: &Hub,
        events: usize,
        bytes: usize,
        now: Now,
    ) -> Result<Option<ReplayBatch>, Locked> {
        match self {
            Backlog::Of(cursor) => hub.replay(cursor, events, bytes, now),
            Backlog::Matching(search) => hub.replay_patterns(search, events, bytes, now),
        }
    }

    /// Something was lost before what follows, whatever the hub knows of it.
    pub fn require_gap(&mut self) {
        match self {
            Backlog::Of(cursor) => cursor.require_gap(),
            Backlog::Matching(search) => search.require_gap(),
        }
    }

    /// The position up to which it goes.
    pub fn until(&self) -> u64 {
        match self {
            Backlog::Of(cursor) => cursor.until(),
            Backlog::Matching(search) => search.until(),
        }
    }

    /// The event was handed to the socket.
    pub fn delivered(&mut self, found: &ReplayedEvent) {
        match self {
            Backlog::Of(cursor) => cursor.delivered(found),
            Backlog::Matching(search) => search.delivered(found),
        }
    }

    /// The gap of a slice was told.
    pub fn gap_sent(&mut self, replayed: &ReplayBatch) {
        match self {
            Backlog::Of(cursor) => cursor.gap_sent(replayed),
            Backlog::Matching(search) => search.gap_sent(),
        }
    }
}
