//! What a stream that is behind still has to get from the hub, whatever it listens to.

use super::channel::Channel;
use crate::hub::{
    pattern_of, AlreadySeen, Beginning, Hub, Locked, LogOrder, Now, PatternReplay, ReplayBatch,
    ReplayCursor, ReplayedEvent,
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
    pub had: AlreadySeen,
    /// What it first has to get.
    pub missed: Option<Backlog>,
}

impl From<Beginning> for Begun {
    fn from(beginning: Beginning) -> Begun {
        let missed = beginning.pursuit.map(Backlog::Of);
        Begun { end: beginning.end, had: beginning.had, missed }
    }
}

impl From<(LogOrder, AlreadySeen, Option<Box<PatternReplay>>)> for Begun {
    fn from((end, had, search): (LogOrder, AlreadySeen, Option<Box<PatternReplay>>)) -> Begun {
        Begun { end, had, missed: search.map(Backlog::Matching) }
    }
}

impl Backlog {
    /// For a stream in progress that has had everything up to `at`, and some elsewhere.
    pub fn since<'a>(
        at: u64,
        had: AlreadySeen,
        until: u64,
        channels: impl Iterator<Item = &'a Channel> + Clone,
    ) -> Backlog {
        match channels.clone().any(|channel| pattern_of(&channel.name).is_some()) {
            true => {
                Backlog::Matching(PatternReplay::since(at, had, channels.map(|c| c.name.clone())))
            }
            false => {
                Backlog::Of(ReplayCursor::since(at, had, until, channels.map(|c| c.membership)))
            }
        }
    }

    /// The next slice; `None` if it is still being looked for.
    pub fn slice(
        &mut self,
        hub: &Hub,
        events: usize,
        bytes: usize,
        now: Now,
    ) -> Result<Option<ReplayBatch>, Locked> {
        match self {
            Backlog::Of(pursuit) => hub.replay(pursuit, events, bytes, now),
            Backlog::Matching(search) => hub.search(search, events, bytes, now),
        }
    }

    /// Something was lost before what follows, whatever the hub knows of it.
    pub fn owe_gap(&mut self) {
        match self {
            Backlog::Of(pursuit) => pursuit.owe_gap(),
            Backlog::Matching(search) => search.owe_gap(),
        }
    }

    /// The position up to which it goes.
    pub fn until(&self) -> u64 {
        match self {
            Backlog::Of(pursuit) => pursuit.until(),
            Backlog::Matching(search) => search.until(),
        }
    }

    /// The event was handed to the socket.
    pub fn passed(&mut self, found: &ReplayedEvent) {
        match self {
            Backlog::Of(pursuit) => pursuit.passed(found),
            Backlog::Matching(search) => search.passed(found),
        }
    }

    /// The gap of a slice was told.
    pub fn told(&mut self, slice: &ReplayBatch) {
        match self {
            Backlog::Of(pursuit) => pursuit.told(slice),
            Backlog::Matching(search) => search.told(),
        }
    }
}
