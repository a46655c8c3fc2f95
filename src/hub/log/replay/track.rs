//! Finds the next event of one channel in a replay. That may take more steps than one hold of the
//! lock has; the state is kept for the next hold.

use crate::hub::log::backward::{BackwardSearch, EventAnchor, SearchBounds, SearchedRuns, Sought};
use crate::hub::log::position::{Kind, LogOrder, LowWatermark};
use crate::hub::log::received::{Extent, Received};
use crate::hub::log::replay::whole_run::NewestRun;
use crate::hub::log::replay::{Course, Runs};
use crate::hub::log::since::Since;
use crate::hub::memory::access::Guard;
use crate::hub::memory::budget::Budget;
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
    CheckPlain(EventAnchor, EntryId),
    /// Searching for the first event to replay. `None`: the search has not started.
    Seek(Option<BackwardSearch>),
    /// The oldest event.
    Oldest,
    /// This event, or the oldest if this was evicted.
    At(EventAnchor),
    /// The event after this one, or the oldest if this was evicted.
    Behind(EventAnchor),
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
                Next::CheckPlain(at, id) => {
                    self.check_plain(course, track, (at, id), gap_due, budget)
                }
                Next::Seek(stopped) => self.seek(course, track, stopped, gap_due, budget),
                Next::Oldest | Next::At(_) | Next::Behind(_) => {
                    return self.skip_received(&course.received, track, budget);
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
        let newest = low(self.word(track.record, channel::EVENTS));
        if matches!(course.extent, Extent::Newest(_) | Extent::Since(_) | Extent::Run) {
            return self.first(track.record, course);
        }
        *gap_due |= course.is_new(low_watermark.place, low_watermark.kind());
        if course.extent == Extent::Nothing && newest != 0 {
            *gap_due |= course.is_new(self.place(newest), self.kind(newest));
        }
        let Some(id) = course.in_doubt else { return self.first(track.record, course) };
        *gap_due |= is_plain_at(low_watermark, id);
        if !*gap_due && newest != 0 {
            return Next::CheckPlain(self.anchor(newest), id);
        }
        self.first(track.record, course)
    }

    /// Returns how the first event of a channel to replay is found.
    fn first(&self, record: u32, course: &Course) -> Next {
        match course.extent {
            Extent::Run => match self.newest_run(record, false) {
                NewestRun::From(first) => Next::At(self.anchor(first)),
                NewestRun::Nothing | NewestRun::Incomplete => self.after_newest(record),
            },
            Extent::Nothing | Extent::Newest(0) => self.after_newest(record),
            Extent::All | Extent::Newest(_) | Extent::Since(_) => Next::Seek(None),
        }
    }

    /// Selects what is appended to a channel from now on.
    fn after_newest(&self, record: u32) -> Next {
        match low(self.word(record, channel::EVENTS)) {
            0 => Next::Oldest,
            newest => Next::Behind(self.anchor(newest)),
        }
    }

    /// Searches for a plain message that arrived while an id was the high watermark.
    fn check_plain(
        &self,
        course: &Course,
        track: &mut Track,
        (at, id): (EventAnchor, EntryId),
        gap_due: &mut bool,
        budget: &mut Budget,
    ) -> Option<Next> {
        let mut block = if self.is_present(track.record, at) { at.block } else { 0 };
        while block != 0 && !*gap_due && self.place(block).entry_id >= id {
            if !budget.step() {
                track.next = Next::CheckPlain(self.anchor(block), id);
                return None;
            }
            *gap_due = self.kind(block) == Kind::Placed && self.place(block).entry_id == id;
            block = self.earlier(block);
        }
        // An event that was not looked at yet may have been evicted since the search started.
        *gap_due |= is_plain_at(self.low_watermark(track.record), id);
        Some(self.first(track.record, course))
    }

    /// Searches for the first event to replay.
    fn seek(
        &self,
        course: &Course,
        track: &mut Track,
        stopped: Option<BackwardSearch>,
        gap_due: &mut bool,
        budget: &mut Budget,
    ) -> Option<Next> {
        let record = track.record;
        let runs = match course.runs {
            Runs::Joined => SearchedRuns::All,
            Runs::Separate | Runs::InProgress => SearchedRuns::Newest,
        };
        let bounds = match course.extent {
            Extent::Newest(count) => SearchBounds { until: course.until(), count, runs },
            Extent::Since(_) => SearchBounds { until: course.until(), count: u64::MAX, runs },
            Extent::All | Extent::Nothing | Extent::Run => {
                SearchBounds { until: u64::MAX, count: u64::MAX, runs: SearchedRuns::All }
            }
        };
        let sought = |block| match &course.extent {
            Extent::Since(since) => self.sought_since(since, block),
            Extent::All | Extent::Nothing | Extent::Newest(_) | Extent::Run => {
                Sought::in_order(course.received.is_after(self.place(block), self.kind(block)))
            }
        };
        let found = self.search_backwards(record, stopped, bounds, sought, budget);
        if let (Ok(first), Extent::Since(since)) = (found, course.extent) {
            *gap_due |= self.may_lack_before(track.record, &since, first, runs);
            // What is lost by now was considered.
            track.gap_sent = self.low_watermark(record).place.position.min(course.until());
            if first != 0 && self.get(header::COUNT) == 0 {
                // No history is owed.
                *gap_due = true;
                return Some(self.after_newest(record));
            }
        }
        match found {
            Err(stopped) => {
                track.next = Next::Seek(Some(stopped));
                None
            }
            Ok(first) if first != 0 => Some(Next::At(self.anchor(first))),
            Ok(_)
                if bounds.runs == SearchedRuns::All
                    && matches!(course.extent, Extent::Newest(_)) =>
            {
                Some(Next::Oldest)
            }
            Ok(_) => Some(self.after_newest(record)),
        }
    }

    /// Returns whether a client that resumes from a time, and whose first event is `first` or none,
    /// may lack an event that is lost, apart from those of earlier runs.
    fn may_lack_before(&self, record: u32, since: &Since, first: u32, runs: SearchedRuns) -> bool {
        let earlier = if first == 0 { 0 } else { self.earlier(first) };
        let run = self.run_state(record);
        let begins_run = if earlier == 0 {
            !run.is_finished && run.position > self.low_watermark(record).place.position
        } else {
            self.ends_run(earlier)
        };
        let has_run = runs == SearchedRuns::Newest && begins_run;
        !has_run && self.may_lack_since(record, since)
    }

    /// Skips events that the client has received elsewhere. Returns false if the budget is spent
    /// first.
    fn skip_received(&self, received: &Received, track: &mut Track, budget: &mut Budget) -> bool {
        let mut block = self.candidate(track);
        while block != 0 && !received.lacks(&self.facts(block)) {
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
        course.received.key(self.place(block), self.kind(block))
    }
}

fn is_plain_at(low_watermark: LowWatermark, high_watermark: EntryId) -> bool {
    low_watermark.kind() == Kind::Placed && low_watermark.place.entry_id == high_watermark
}

impl Course {
    /// Returns whether something in this hub is new to the client.
    fn is_new(&self, place: LogOrder, kind: Kind) -> bool {
        // The client knows what was recorded before the position in its id, even if the id of that
        // is above the high watermark of then: Redis can lose events that no hub has seen.
        let after = self.received.position();
        let gap_sent = if after == u64::MAX { 0 } else { after };
        self.received.is_after(place, kind)
            && (place.position > gap_sent || self.is_merged && place.entry_id <= self.end.entry_id)
    }

    /// Returns the position up to which the replay goes.
    pub(super) fn until(&self) -> u64 {
        self.end.position
    }
}
