//! Finds the next event of one channel in a replay. That may take more steps than one hold of the
//! lock has; the state is kept for the next hold.

use crate::hub::budget::Budget;
use crate::hub::log::backward::{BackwardSearch, EventAnchor, SearchBounds};
use crate::hub::log::position::{Kind, LogOrder, LowWatermark};
use crate::hub::log::replay::{Course, Order};
use crate::hub::log::resume::AlreadySeen;
use crate::hub::memory::access::Guard;
use crate::hub::memory::layout::{channel, header, high, low};
use crate::sse::id::EntryId;

/// One channel of a replay.
#[derive(Debug)]
pub struct Track {
    pub record: u32,
    pub next: Next,
    /// The position up to which a gap event covers the channel's losses.
    pub gap_sent: u64,
}

/// The next event of a channel, or the state of the search for it.
#[derive(Clone, Copy, Debug)]
pub enum Next {
    /// It is not known yet how the stream starts with this channel.
    Begin,
    /// Searching for a plain message that arrived while an id was the high watermark, in this event
    /// and older ones.
    CheckPlain(EventAnchor),
    /// Searching for the first event to replay. `None`: the search has not started.
    Seek(Option<BackwardSearch>),
    /// The oldest event.
    Oldest,
    /// This event, or the oldest if this was evicted.
    At(EventAnchor),
    /// The event after this one, or the oldest if this was evicted.
    Behind(EventAnchor),
}

/// What a stream starts with.
#[derive(Clone, Copy, Debug)]
pub enum Aim {
    /// At most this many of the newest events of each channel.
    Newest(u64),
    /// Everything after a position of this hub.
    Here,
    /// Everything after an id, of a client that has received an unknown part of the plain messages
    /// that arrived while that id was the high watermark.
    Elsewhere(EntryId),
}

impl Guard<'_> {
    /// Finds the next event of a channel. Sets `gap_due` if something was lost before a stream
    /// starts. Returns false if the budget is spent first.
    pub(super) fn locate_next(
        &self,
        course: &Course,
        track: &mut Track,
        gap_due: &mut bool,
        budget: &mut Budget,
    ) -> bool {
        loop {
            let next = match track.next {
                Next::Begin => Some(self.start_channel(course, track, gap_due)),
                Next::CheckPlain(at) => self.check_plain(course, track, at, gap_due, budget),
                Next::Seek(stopped) => self.seek(course, track, stopped, budget),
                Next::Oldest | Next::At(_) | Next::Behind(_) => {
                    return self.skip_seen(course.seen, track, budget);
                }
            };
            match next {
                Some(next) => track.next = next,
                None => return false,
            }
        }
    }

    /// Determines how a stream starts with a channel, as far as that is known at once.
    fn start_channel(&self, course: &Course, track: &mut Track, gap_due: &mut bool) -> Next {
        let low_watermark = self.low_watermark(track.record);
        // A loss after the end of the replay is reported when the stream gets there.
        track.gap_sent = low_watermark.place.position.min(course.until());
        let owes_nothing = self.get(header::COUNT) == 0;
        let newest = low(self.word(track.record, channel::EVENTS));
        let high_watermark = match course.aim {
            Aim::Newest(count) => return self.newest(track.record, count),
            Aim::Here => None,
            Aim::Elsewhere(high_watermark) => Some(high_watermark),
        };
        *gap_due |= course
            .is_new(low_watermark.place.by_id(low_watermark.kind()), low_watermark.place.position);
        if owes_nothing && newest != 0 {
            let place = self.place(newest);
            *gap_due |= course.is_new(place.by_id(self.kind(newest)), place.position);
        }
        *gap_due |=
            high_watermark.is_some_and(|high_watermark| is_plain_at(low_watermark, high_watermark));
        if high_watermark.is_some() && !*gap_due && newest != 0 {
            return Next::CheckPlain(self.anchor(newest));
        }
        self.behind_after(track.record)
    }

    /// Continues with what is after the replay's `after`, of which nothing is replayed if nothing
    /// is owed.
    fn behind_after(&self, record: u32) -> Next {
        match self.get(header::COUNT) {
            0 => self.newest(record, 0),
            _ => Next::Seek(None),
        }
    }

    /// Selects the newest `count` events.
    fn newest(&self, record: u32, count: u64) -> Next {
        let newest = low(self.word(record, channel::EVENTS));
        match count {
            0 if newest != 0 => Next::Behind(self.anchor(newest)),
            0 => Next::Oldest,
            _ => Next::Seek(None),
        }
    }

    /// Searches for a plain message that arrived while an id was the high watermark.
    fn check_plain(
        &self,
        course: &Course,
        track: &mut Track,
        at: EventAnchor,
        gap_due: &mut bool,
        budget: &mut Budget,
    ) -> Option<Next> {
        let Aim::Elsewhere(high_watermark) = course.aim else { return Some(Next::Seek(None)) };
        let mut block = if self.is_present(track.record, at) { at.block } else { 0 };
        while block != 0 && !*gap_due && self.place(block).entry_id >= high_watermark {
            if !budget.step() {
                track.next = Next::CheckPlain(self.anchor(block));
                return None;
            }
            *gap_due =
                self.kind(block) == Kind::Placed && self.place(block).entry_id == high_watermark;
            block = self.earlier(block);
        }
        // An event that was not looked at yet may have been evicted since the search started.
        *gap_due |= is_plain_at(self.low_watermark(track.record), high_watermark);
        Some(self.behind_after(track.record))
    }

    /// Searches for the first event to replay: the first after `after`, or of the newest ones.
    fn seek(
        &self,
        course: &Course,
        track: &mut Track,
        stopped: Option<BackwardSearch>,
        budget: &mut Budget,
    ) -> Option<Next> {
        let record = track.record;
        let bounds = match course.aim {
            Aim::Newest(count) => SearchBounds { until: course.until(), count },
            Aim::Here | Aim::Elsewhere(_) => SearchBounds { until: u64::MAX, count: u64::MAX },
        };
        let is_wanted = |block| self.key(course, block) > course.after;
        match self.search_backwards(record, stopped, bounds, is_wanted, budget) {
            Err(stopped) => {
                track.next = Next::Seek(Some(stopped));
                None
            }
            Ok(first) if first != 0 => Some(Next::At(self.anchor(first))),
            Ok(_) if matches!(course.aim, Aim::Newest(_)) => Some(Next::Oldest),
            Ok(_) => Some(self.newest(record, 0)),
        }
    }

    /// Skips events that the client has received elsewhere.
    fn skip_seen(&self, seen: AlreadySeen, track: &mut Track, budget: &mut Budget) -> bool {
        if seen == AlreadySeen::default() {
            return true;
        }
        let mut block = self.candidate(track);
        while block != 0 && self.was_seen(seen, block) {
            track.next = Next::Behind(self.anchor(block));
            if !budget.step() {
                return false;
            }
            block = self.later(block);
        }
        true
    }

    /// Returns the next event of a channel that `locate_next` has found, even if it is after the
    /// end of the replay, or 0.
    pub(super) fn candidate(&self, track: &Track) -> u32 {
        match track.next {
            Next::At(anchor) if self.is_present(track.record, anchor) => anchor.block,
            Next::Behind(anchor) if self.is_present(track.record, anchor) => {
                self.later(anchor.block)
            }
            _ => high(self.word(track.record, channel::EVENTS)),
        }
    }

    /// Returns the order of an event in the replay.
    pub(super) fn key(&self, course: &Course, block: u32) -> LogOrder {
        course.key(self.place(block), self.kind(block))
    }
}

fn is_plain_at(low_watermark: LowWatermark, high_watermark: EntryId) -> bool {
    low_watermark.kind() == Kind::Placed && low_watermark.place.entry_id == high_watermark
}

impl Course {
    /// Returns whether something in this hub is new to the client.
    fn is_new(&self, place: LogOrder, position: u64) -> bool {
        // The client knows what was recorded before the position in its id, even if the id of that
        // is above the high watermark of then: Redis can lose events that no hub has seen.
        let gap_sent = if self.after.position == u64::MAX { 0 } else { self.after.position };
        place > self.after
            && (position > gap_sent || self.is_merged && place.entry_id <= self.end.entry_id)
    }

    /// Returns the position up to which the replay goes.
    pub(super) fn until(&self) -> u64 {
        self.end.position
    }

    /// Returns the order in which the replay sorts an event.
    pub(super) fn key(&self, place: LogOrder, kind: Kind) -> LogOrder {
        match self.order {
            Order::Id => place.by_id(kind),
            Order::Position => LogOrder { position: place.position, ..LogOrder::START },
        }
    }
}
