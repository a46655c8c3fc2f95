//! Replays retained events: `start` determines where a stream starts. `track` finds the events of
//! one channel that a stream still has to receive. They are merged over the stream's channels. Both
//! need the lock and work in batches, each with a budget. `passing` determines whether a replay has
//! reached the end of a run, and `whole_run` whether a run is complete.

use crate::hub::log::backward::EventAnchor;
use crate::hub::log::delivery::{is_earlier, is_late, EventFacts};
use crate::hub::log::position::{end, LogOrder};
use crate::hub::log::received::{Extent, Received};
use crate::hub::log::replay::track::{Next, Track};
use crate::hub::log::ring::EventCopy;
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::{event, low};
use crate::hub::{Hub, Membership, Now};
use crate::sse::id::{EntryId, Id};

mod passing;
mod start;
mod track;
mod whole_run;

use crate::hub::log::replay::passing::Passing;
pub use crate::hub::log::replay::passing::{KnownRunEnds, Runs};
pub use crate::hub::log::replay::start::{ReplayStart, Resume};

/// The state of a replay: everything on the stream's channels that the client lacks, up to the end
/// of the log when the replay started.
#[derive(Debug)]
pub struct ReplayCursor {
    course: Course,
    /// Whether a gap event is required, whatever the low watermarks say.
    gap_due: bool,
    tracks: Box<[Track]>,
    passing: Passing,
}

/// The range of a replay, and how events are selected.
#[derive(Clone, Copy, Debug)]
struct Course {
    received: Received,
    end: LogOrder,
    extent: Extent,
    /// The id of a client that has received, elsewhere, an unknown part of the plain messages that
    /// arrived while this id was the high watermark.
    in_doubt: Option<EntryId>,
    /// Whether the client has no id. It then gets one, even if there is nothing else for it.
    is_fresh: bool,
    /// Whether the channels are several streams in Redis. Then the client may have received a late
    /// event of one stream, and not yet an earlier event of another.
    is_merged: bool,
    /// How the stream treats the runs of its channels.
    runs: Runs,
    /// The finishes next to where an open stream is.
    known_ends: KnownRunEnds,
}

/// A batch of replayed events.
#[derive(Debug, Default)]
pub struct ReplayBatch {
    /// The id of the gap event, if events were lost since the last batch.
    pub gap: Option<Id>,
    /// The next events, in order.
    pub events: Vec<ReplayedEvent>,
    /// Whether nothing is left after these.
    pub done: bool,
    /// Whether nothing is left, but events after the end of this replay were lost, and perhaps
    /// others before it. The next replay, which starts there, reports them.
    pub overtaken: bool,
    /// Where the stream starts, if there is nothing to replay.
    pub begins: Option<LogOrder>,
    /// Whether the stream has to end after these events, because its channel's run was finished.
    pub finished: bool,
    /// For each channel, the position up to which the gap event covers losses.
    pub(in crate::hub) low_watermarks: Vec<u64>,
}

/// An event that a replay has found.
#[derive(Debug)]
pub struct ReplayedEvent {
    /// The event.
    pub event: EventCopy,
    track: usize,
    block: u32,
    channel: Option<Box<[u8]>>,
}

impl ReplayedEvent {
    /// Creates an event that a replay of patterns has found.
    pub(in crate::hub) fn for_channel(
        event: EventCopy,
        block: u32,
        name: Vec<u8>,
    ) -> ReplayedEvent {
        ReplayedEvent { event, track: 0, block, channel: Some(name.into()) }
    }

    /// Returns the name of the event's channel, if a replay of patterns has found it.
    pub fn channel(&self) -> Option<&[u8]> {
        self.channel.as_deref()
    }

    /// Returns the index of the event's channel in the replay.
    pub fn track(&self) -> usize {
        self.track
    }
}

impl ReplayCursor {
    /// Creates a replay for an open stream that is behind, up to the position `until`.
    pub fn since(
        received: Received,
        until: u64,
        channels: impl Iterator<Item = Membership>,
    ) -> Box<ReplayCursor> {
        let tracks = channels.map(|member| Track {
            record: member.record,
            next: Next::Seek(None),
            gap_sent: received.position(),
        });
        let course = Course {
            received,
            end: LogOrder { position: until, ..LogOrder::START },
            extent: Extent::All,
            in_doubt: None,
            is_fresh: false,
            is_merged: false,
            runs: Runs::Joined,
            known_ends: KnownRunEnds::default(),
        };
        let (tracks, passing) = (tracks.collect(), Passing::default());
        Box::new(ReplayCursor { course, gap_due: false, tracks, passing })
    }

    /// Sets how the stream treats the runs of its channels, and what its process knows of them. By
    /// default it passes over finishes.
    pub fn with_runs(
        mut self: Box<Self>,
        runs: Runs,
        known_ends: KnownRunEnds,
    ) -> Box<ReplayCursor> {
        (self.course.runs, self.course.known_ends) = (runs, known_ends);
        self
    }

    /// Returns the position up to which the replay goes.
    pub fn until(&self) -> u64 {
        self.course.until()
    }

    /// Requires a gap event, whatever the low watermarks say.
    pub fn require_gap(&mut self) {
        self.gap_due = true;
    }

    /// Records that an event was handed to the socket.
    pub fn delivered(&mut self, found: &ReplayedEvent) {
        let anchor = EventAnchor { block: found.block, position: found.event.place.position };
        self.tracks[found.track].next = Next::Behind(anchor);
        self.course.received.advance(found.event.place, found.event.kind());
        if self.ends_at_finish() && found.event.ends_run {
            self.passing.reached();
        }
    }

    /// Records that the gap event of a batch was sent.
    pub fn gap_sent(&mut self, batch: &ReplayBatch) {
        self.gap_due = false;
        if batch.finished && batch.events.is_empty() {
            self.passing.reached();
        }
        for (track, low_watermark) in self.tracks.iter_mut().zip(&batch.low_watermarks) {
            track.gap_sent = track.gap_sent.max(*low_watermark);
        }
    }
}

impl Hub {
    /// Returns the next batch: at most `events` events, and at most `bytes` bytes of type and data,
    /// unless the first event alone is larger. Returns `None` if it is still being searched for.
    pub fn replay(
        &self,
        cursor: &mut ReplayCursor,
        events: usize,
        bytes: usize,
        now: Now,
    ) -> Result<Option<ReplayBatch>, Locked> {
        let guard = self.lock()?;
        guard.begin_again_after_loss(cursor);
        let mut budget = Budget::for_visit();
        if !guard.locate_all(cursor, now, &mut budget) {
            return Ok(None);
        }
        Ok(guard.next_batch(cursor, events, bytes, now, &mut budget))
    }
}

impl Guard<'_> {
    /// Evicts expired events of the replay's channels, and finds the next event of each. Returns
    /// false if the budget is spent first.
    pub(in crate::hub) fn locate_all(
        &self,
        cursor: &mut ReplayCursor,
        now: Now,
        budget: &mut Budget,
    ) -> bool {
        let ReplayCursor { course, gap_due, tracks, .. } = cursor;
        tracks.iter().all(|track| self.expire(track.record, now, budget))
            && tracks.iter_mut().all(|track| self.locate_next(course, track, gap_due, budget))
    }

    /// Begins a replay again, as if the client had come now, if it has no id, has received nothing
    /// yet, and events were lost since: it does not know of any, so it receives no gap event.
    fn begin_again_after_loss(&self, cursor: &mut ReplayCursor) {
        let ReplayCursor { course, tracks, .. } = cursor;
        let is_new = course.is_fresh && matches!(course.extent, Extent::Newest(_));
        if !is_new || course.received.up_to != LogOrder::START {
            return;
        }
        let has_begun = |track: &Track| !matches!(track.next, Next::Begin);
        let has_lost =
            |track: &Track| self.low_watermark(track.record).place.position > track.gap_sent;
        let is_early = |track: &Track| self.hub.is_catching_up(track.record);
        let is_outdated = tracks.iter().any(|track| has_begun(track) && has_lost(track));
        if is_outdated && !tracks.iter().any(is_early) {
            course.end = end(&self.hub.region);
            tracks.iter_mut().for_each(|track| track.next = Next::Begin);
        }
    }

    fn next_batch(
        &self,
        cursor: &ReplayCursor,
        events: usize,
        bytes: usize,
        now: Now,
        budget: &mut Budget,
    ) -> Option<ReplayBatch> {
        let course = &cursor.course;
        let mut candidates: Vec<u32> =
            cursor.tracks.iter().map(|track| self.candidate(track)).collect();
        let gap = self.gap(cursor, &candidates, now);
        let low_watermarks = cursor
            .tracks
            .iter()
            .map(|track| self.low_watermark(track.record).place.position)
            .collect();
        let mut found = Vec::new();
        let mut size = 0;
        let mut is_whole = true;
        let mut finished = self.is_finished_before(cursor, &candidates, gap.is_some());
        while is_whole && !finished && found.len() < events {
            let Some(track) = self.first_of(course, &candidates) else { break };
            let block = candidates[track];
            size += low(self.word(block, event::OWNER)) as usize;
            if size > bytes && !found.is_empty() {
                break;
            }
            let mut event = EventCopy::default();
            self.hub.copy_block(block, &mut event);
            let later = self.next_lacked(&course.received, self.later(block), budget);
            is_whole = later.is_some();
            candidates[track] = later.unwrap_or(0);
            finished = cursor.ends_at_finish() && event.ends_run;
            found.push(ReplayedEvent { event, track, block, channel: None });
        }
        let done = is_whole && self.first_of(course, &candidates).is_none();
        let overtaken = done && gap.is_none() && self.is_overtaken(cursor);
        let nothing = done && found.is_empty() && gap.is_none();
        let begins = (course.is_fresh && nothing).then_some(course.end);
        Some(ReplayBatch { gap, events: found, done, overtaken, begins, finished, low_watermarks })
    }

    /// Returns whether a replay has neither an event nor a gap event for the client.
    fn has_nothing_left(&self, cursor: &ReplayCursor, now: Now) -> bool {
        let candidates: Vec<u32> =
            cursor.tracks.iter().map(|track| self.candidate(track)).collect();
        self.first_of(&cursor.course, &candidates).is_none()
            && self.gap(cursor, &candidates, now).is_none()
    }

    /// Returns the channel whose next event comes first, within the range of the replay.
    fn first_of(&self, course: &Course, candidates: &[u32]) -> Option<usize> {
        let blocks = candidates.iter().enumerate().filter(|(_, block)| **block != 0);
        blocks
            .filter(|(_, block)| self.place(**block).position <= course.until())
            .min_by_key(|(_, block)| self.key(course, **block))
            .map(|(track, _)| track)
    }

    pub(in crate::hub) fn place(&self, block: u32) -> LogOrder {
        LogOrder::from_event(&self.hub.region, &self.hub.layout, block)
    }

    /// Returns `block`, or the first event after it that the client has not received elsewhere, or
    /// 0. Returns `None` if the budget is spent first.
    fn next_lacked(&self, received: &Received, block: u32, budget: &mut Budget) -> Option<u32> {
        let mut block = block;
        while block != 0 && !received.lacks(&self.facts(block)) {
            if !budget.step() {
                return None;
            }
            block = self.later(block);
        }
        Some(block)
    }

    /// Returns what the record of an event says about it.
    pub(in crate::hub) fn facts(&self, block: u32) -> EventFacts {
        let word = self.word(block, event::BORN);
        EventFacts {
            place: self.place(block),
            kind: self.kind(block),
            is_late: is_late(word),
            is_earlier: is_earlier(word),
            born: self.born(block),
        }
    }

    /// Returns whether events after the end of the replay were lost for which no gap event was
    /// sent.
    fn is_overtaken(&self, cursor: &ReplayCursor) -> bool {
        cursor.tracks.iter().any(|track| {
            self.low_watermark(track.record).place.position > track.gap_sent.max(cursor.until())
        })
    }

    /// Returns the id of the gap event if events were lost: it comes just before the next event, or
    /// is the log's end.
    fn gap(&self, cursor: &ReplayCursor, candidates: &[u32], now: Now) -> Option<Id> {
        // If nothing is left, a loss after `until` is reported by the next replay, which starts
        // there. Otherwise it would be reported twice.
        let course = &cursor.course;
        let rest = self.first_of(course, candidates).is_some();
        let lost = cursor.tracks.iter().any(|track| {
            let low_watermark = self.low_watermark(track.record);
            low_watermark.place.position > track.gap_sent
                && (rest || low_watermark.place.position <= course.until())
                && course.received.lacks_lost(low_watermark, now)
        });
        if !lost && !cursor.gap_due {
            return None;
        }
        let first = candidates
            .iter()
            .filter(|block| **block != 0)
            .min_by_key(|block| self.key(course, **block));
        let (tag, hub) = (self.hub.tag(), self.hub);
        Some(match first {
            Some(&block) => self.place(block).id_before(self.kind(block), tag),
            None => end(&hub.region).id(hub.own_kind(), tag),
        })
    }
}
