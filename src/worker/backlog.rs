//! The events that a stream lacks and has to read from the hub, for channels as well as for
//! patterns.

use super::channel::Channel;
use crate::hub::{
    pattern_of, Elsewhere, Hub, Locked, LogOrder, Now, PatternReplay, Received, ReplayBatch,
    ReplayCursor, ReplayedEvent, Runs,
};

/// The events that a stream lacks.
#[derive(Debug)]
pub enum Backlog {
    /// The events of channels that the stream is subscribed to.
    Of(Box<ReplayCursor>),
    /// The events of all channels that its patterns match.
    Matching(Box<PatternReplay>),
}

impl Backlog {
    /// Returns the backlog of a running stream, which has received everything up to `at`, of what
    /// its process has `read`. Of patterns, it is everything, unless one of them is to wait for a
    /// channel.
    pub fn since<'a>(
        hub: &Hub,
        (at, elsewhere): (u64, Elsewhere),
        read: LogOrder,
        channels: impl Iterator<Item = &'a Channel> + Clone,
        runs: Runs,
    ) -> Backlog {
        if channels.clone().any(|channel| pattern_of(&channel.name).is_some()) {
            let names: Vec<_> = channels.map(|channel| channel.name.clone()).collect();
            let until = hub.end_unless_catching_up(&names).unwrap_or(read);
            let received = Received::merged_after(at, elsewhere);
            return Backlog::Matching(PatternReplay::since(received, until, names));
        }
        // Only a stream of one channel ends with a run.
        let ends = channels.clone().next().map(|channel| channel.run_ends.around(at));
        let received = if channels.clone().count() > 1 {
            Received::merged_after(at, elsewhere)
        } else {
            Received::at(at, elsewhere)
        };
        let channels = channels.map(|channel| channel.membership);
        let cursor = ReplayCursor::since(received, read.position, channels);
        Backlog::Of(cursor.with_runs(runs, ends.unwrap_or_default()))
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
