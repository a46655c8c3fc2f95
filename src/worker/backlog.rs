//! The events that a stream lacks and has to read from the hub, for channels as well as for
//! patterns.

use super::channel::Channel;
use crate::hub::{
    pattern_of, AlreadySeen, Hub, Locked, LogOrder, Now, PatternReplay, ReplayBatch, ReplayCursor,
    ReplayStart, ReplayedEvent,
};

/// The events that a stream lacks.
#[derive(Debug)]
pub enum Backlog {
    /// The events of channels that the stream is subscribed to.
    Of(Box<ReplayCursor>),
    /// The events of all channels that its patterns match.
    Matching(Box<PatternReplay>),
}

/// Where a stream starts.
pub struct Begun {
    /// The end of the log at that moment.
    pub end: LogOrder,
    /// What the client has received of events that are not in the log yet.
    pub seen: AlreadySeen,
    /// The events that the client has missed.
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
    /// Returns the backlog of a running stream that has received everything up to `at`, and the
    /// events in `seen` from another nginx.
    pub fn since<'a>(
        at: u64,
        seen: AlreadySeen,
        until: u64,
        channels: impl Iterator<Item = &'a Channel> + Clone,
    ) -> Backlog {
        if channels.clone().any(|channel| pattern_of(&channel.name).is_some()) {
            Backlog::Matching(PatternReplay::since(at, seen, channels.map(|c| c.name.clone())))
        } else {
            Backlog::Of(ReplayCursor::since(at, seen, until, channels.map(|c| c.membership)))
        }
    }

    /// Reads the next batch of events from the hub. Returns `None` if the search for them is not
    /// finished.
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

    /// Records that events were lost before the backlog, even if the hub does not know of it.
    pub fn require_gap(&mut self) {
        match self {
            Backlog::Of(cursor) => cursor.require_gap(),
            Backlog::Matching(search) => search.require_gap(),
        }
    }

    /// Returns the position up to which the backlog extends.
    pub fn until(&self) -> u64 {
        match self {
            Backlog::Of(cursor) => cursor.until(),
            Backlog::Matching(search) => search.until(),
        }
    }

    /// Records that the socket has accepted an event.
    pub fn delivered(&mut self, found: &ReplayedEvent) {
        match self {
            Backlog::Of(cursor) => cursor.delivered(found),
            Backlog::Matching(search) => search.delivered(found),
        }
    }

    /// Records that the gap event of a batch has been sent.
    pub fn gap_sent(&mut self, replayed: &ReplayBatch) {
        match self {
            Backlog::Of(cursor) => cursor.gap_sent(replayed),
            Backlog::Matching(search) => search.gap_sent(),
        }
    }
}
