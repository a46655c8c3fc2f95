//! Reading what is retained: where a stream begins (`begin`), and the events that one which is behind
//! still has to get, merged over its channels (`track`: one of them). Both under the lock, in slices
//! that have a budget each.

use crate::hub::budget::Budget;
use crate::hub::log::delivery::is_late;
use crate::hub::log::position::{end, Kind, LogOrder};
use crate::hub::log::replay::track::{Aim, EventAnchor, Next, Track};
use crate::hub::log::resume::AlreadySeen;
use crate::hub::log::ring::EventCopy;
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::layout::{event, low};
use crate::hub::{Hub, Membership, Now};
use crate::sse::id::Id;

mod start;
mod track;

pub use crate::hub::log::replay::start::{ReplayStart, Resume};

/// What a stream that is behind still has to get: everything on its channels after `after` and up
/// to the end of the log when it began.
#[derive(Debug)]
pub struct ReplayCursor {
    course: Course,
    /// A gap has to be told, whatever the floors say.
    gap_due: bool,
    tracks: Box<[Track]>,
}

/// From where to where a pursuit goes, and how.
#[derive(Clone, Copy, Debug)]
struct Course {
    after: LogOrder,
    end: LogOrder,
    order: Order,
    /// What of these the client has had elsewhere.
    seen: AlreadySeen,
    aim: Aim,
    /// It is of a client without an id, which gets one although there may be nothing else for it.
    is_fresh: bool,
    /// Its channels are several streams in Redis: the client may have had of one what came late, and
    /// not yet of another what came before.
    is_merged: bool,
}

/// By what the events of several channels are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// A stream's first pass: a channel that was joined late has old ids at high positions.
    Id,
    /// From then on.
    Position,
}

/// A slice of a pursuit or of a search.
#[derive(Debug, Default)]
pub struct ReplayBatch {
    /// Events were lost since the last one: the id that the gap event bears.
    pub gap: Option<Id>,
    /// The next events, in order.
    pub events: Vec<ReplayedEvent>,
    /// Nothing is left behind these.
    pub done: bool,
    /// Nothing is left, but events behind where the pursuit ends were lost, and perhaps others before
    /// it: the next one, which is to begin there, tells.
    pub overtaken: bool,
    /// Of a search that has nothing to give: where the stream begins.
    pub begins: Option<LogOrder>,
    /// For each channel, up to where the gap tells what was lost.
    pub(in crate::hub) low_watermarks: Vec<u64>,
}

/// An event that a pursuit has found.
#[derive(Debug)]
pub struct ReplayedEvent {
    /// The event.
    pub event: EventCopy,
    track: usize,
    block: u32,
    channel: Option<Box<[u8]>>,
}

impl ReplayedEvent {
    /// One that a search has found.
    pub(in crate::hub) fn for_channel(
        event: EventCopy,
        block: u32,
        name: Vec<u8>,
    ) -> ReplayedEvent {
        ReplayedEvent { event, track: 0, block, channel: Some(name.into()) }
    }

    /// The name of its channel, if a search has found it.
    pub fn channel(&self) -> Option<&[u8]> {
        self.channel.as_deref()
    }

    /// Which of the pursuit's channels it is of.
    pub fn track(&self) -> usize {
        self.track
    }
}

impl ReplayCursor {
    /// For a stream in progress that is behind: it has had everything up to `at`, and some elsewhere.
    pub fn since(
        at: u64,
        seen: AlreadySeen,
        until: u64,
        channels: impl Iterator<Item = Membership>,
    ) -> Box<ReplayCursor> {
        let tracks = channels.map(|member| Track {
            record: member.record,
            next: Next::Seek(None),
            gap_sent: at,
        });
        let place = |position| LogOrder { position, ..LogOrder::START };
        let course = Course {
            after: place(at),
            end: place(until),
            order: Order::Position,
            seen,
            aim: Aim::Here,
            is_fresh: false,
            is_merged: false,
        };
        Box::new(ReplayCursor { course, gap_due: false, tracks: tracks.collect() })
    }

    /// The position up to which it goes.
    pub fn until(&self) -> u64 {
        self.course.until()
    }

    /// A gap has to be told, whatever the floors say.
    pub fn require_gap(&mut self) {
        self.gap_due = true;
    }

    /// The event was handed to the socket.
    pub fn delivered(&mut self, found: &ReplayedEvent) {
        let anchor = EventAnchor { block: found.block, position: found.event.place.position };
        self.tracks[found.track].next = Next::Behind(anchor);
        self.course.after = self.course.key(found.event.place, found.event.kind());
    }

    /// The gap of a slice was told.
    pub fn gap_sent(&mut self, batch: &ReplayBatch) {
        self.gap_due = false;
        for (track, low_watermark) in self.tracks.iter_mut().zip(&batch.low_watermarks) {
            track.gap_sent = track.gap_sent.max(*low_watermark);
        }
    }
}

impl Hub {
    /// The next slice of what a stream has to get: at most `events` events, and no more than `bytes`
    /// bytes of type and data, unless the first event alone has more. `None`: it is still being looked
    /// for.
    pub fn replay(
        &self,
        cursor: &mut ReplayCursor,
        events: usize,
        bytes: usize,
        now: Now,
    ) -> Result<Option<ReplayBatch>, Locked> {
        let guard = self.lock()?;
        let mut budget = Budget::for_visit();
        Ok(match guard.locate_all(cursor, now, &mut budget) {
            true => guard.next_batch(cursor, events, bytes, now, &mut budget),
            false => None,
        })
    }
}

impl Guard<'_> {
    /// Frees what is too old on the channels of a pursuit, and finds out where each goes on. False: the
    /// budget is spent before that.
    pub(in crate::hub) fn locate_all(
        &self,
        cursor: &mut ReplayCursor,
        now: Now,
        budget: &mut Budget,
    ) -> bool {
        let ReplayCursor { course, gap_due, tracks } = cursor;
        tracks.iter().all(|track| self.expire(track.record, now, budget))
            && tracks.iter_mut().all(|track| self.locate_next(course, track, gap_due, budget))
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
        while is_whole && found.len() < events {
            let Some(track) = self.first_of(course, &candidates) else { break };
            let block = candidates[track];
            size += low(self.word(block, event::OWNER)) as usize;
            if size > bytes && !found.is_empty() {
                break;
            }
            let mut event = EventCopy::default();
            self.hub.copy_block(block, &mut event);
            let later = self.next_wanted(course.seen, self.later(block), budget);
            is_whole = later.is_some();
            candidates[track] = later.unwrap_or(0);
            found.push(ReplayedEvent { event, track, block, channel: None });
        }
        let done = is_whole && self.first_of(course, &candidates).is_none();
        let overtaken = done && gap.is_none() && self.is_overtaken(cursor);
        let nothing = done && found.is_empty() && gap.is_none();
        let begins = (course.is_fresh && nothing).then_some(course.end);
        Some(ReplayBatch { gap, events: found, done, overtaken, begins, low_watermarks })
    }

    /// The track whose candidate comes first, of those that the pursuit reaches.
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

    /// This event or the first behind it that the client has not had elsewhere; or 0. `None`: the budget
    /// is spent before that.
    fn next_wanted(&self, seen: AlreadySeen, block: u32, budget: &mut Budget) -> Option<u32> {
        let mut block = block;
        while block != 0 && self.was_seen(seen, block) {
            if !budget.step() {
                return None;
            }
            block = self.later(block);
        }
        Some(block)
    }

    pub(in crate::hub) fn was_seen(&self, seen: AlreadySeen, block: u32) -> bool {
        seen != AlreadySeen::default()
            && (self.kind(block) == Kind::Durable && self.place(block).entry_id <= seen.entry_id
                || is_late(self.word(block, event::BORN)) && self.born(block) < seen.born)
    }

    /// Whether events have left behind where the pursuit ends, of which no gap has told.
    fn is_overtaken(&self, cursor: &ReplayCursor) -> bool {
        cursor.tracks.iter().any(|track| {
            self.low_watermark(track.record).place.position > track.gap_sent.max(cursor.until())
        })
    }

    /// If events were lost: the id of the place before the first that follows, or of the log's end.
    fn gap(&self, cursor: &ReplayCursor, candidates: &[u32], now: Now) -> Option<Id> {
        // With nothing left to give, what was lost beyond `until` is the next pursuit's to tell: it
        // starts there and would tell it again.
        let course = &cursor.course;
        let rest = self.first_of(course, candidates).is_some();
        let lost = cursor.tracks.iter().any(|track| {
            let low_watermark = self.low_watermark(track.record);
            low_watermark.place.position > track.gap_sent
                && (rest || low_watermark.place.position <= course.until())
                && course.key(low_watermark.place, low_watermark.kind()) > course.after
                && !(low_watermark.kind() == Kind::Durable
                    && course.seen.covers(low_watermark.place.entry_id, now))
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
