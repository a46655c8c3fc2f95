//! Whether a replay has reached the end of a run, where its stream has to end.
//!
//! Older runs end after the events that are flagged. The newest finish is in the channel's record,
//! so it is found even if the events before it have left. Several channels have no common end of a
//! run: such a stream ends when all its channels are finished, which its process determines.

use crate::hub::log::received::{Extent, Order};
use crate::hub::log::replay::{Course, ReplayCursor};
use crate::hub::memory::access::Guard;

/// How a stream treats the runs of its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// As one: it passes over finishes.
    Joined,
    /// It begins in the newest run, unless the client has an id, and ends at each finish that it
    /// reaches.
    Separate,
    /// As `Separate`, but a client without an id receives nothing of a run that is finished.
    InProgress,
}

/// The finishes next to where a stream is that its process has read in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownRunEnds {
    /// The last one up to there, which the stream was opened behind; 0 if there is none.
    pub passed: u64,
    /// The first one after it.
    pub next: Option<u64>,
}

/// What a replay remembers about the run in which it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passing {
    /// Whether everything before the end of the run has been passed to the socket.
    is_reached: bool,
}

impl Passing {
    /// Records that everything before the end of the run has been passed to the socket.
    pub fn reached(&mut self) {
        self.is_reached = true;
    }
}

impl ReplayCursor {
    /// Returns whether the stream has to end at the first finish that the replay reaches.
    pub(super) fn ends_at_finish(&self) -> bool {
        self.course.runs != Runs::Joined && self.tracks.len() == 1
    }
}

impl Guard<'_> {
    /// Returns whether the run has ended before the next event of the replay. `candidates` has the
    /// next event of each channel, or 0.
    pub(super) fn is_finished_before(
        &self,
        cursor: &ReplayCursor,
        candidates: &[u32],
        has_gap: bool,
    ) -> bool {
        if !cursor.ends_at_finish() {
            return false;
        }
        if cursor.passing.is_reached {
            return true;
        }
        let ([track], [next]) = (&*cursor.tracks, candidates) else { return false };
        let course = &cursor.course;
        match course.received.order {
            Order::Position | Order::IdAfter(_) => {
                self.open_stream_passes_finish(course, track.record, *next)
            }
            Order::Id => self.start_passes_finish(course, track.record, *next, has_gap),
        }
    }

    /// Returns whether the run of an open stream has ended before the event in `next`, or 0.
    fn open_stream_passes_finish(&self, course: &Course, record: u32, next: u32) -> bool {
        let at = course.received.position();
        let newest = Some(self.run_state(record).position).filter(|newest| *newest > at);
        let finish = course.known_ends.next.or(newest);
        if finish.is_some_and(|finish| is_passed(course, finish, self.position_of(next))) {
            return true;
        }
        // If the ring has overtaken its process, a finish in between is only known by the flag of
        // the event before it.
        let before = if next == 0 { 0 } else { self.earlier(next) };
        before != 0
            && self.ends_run(before)
            && (course.known_ends.passed..=at).contains(&self.place(before).position)
            && self.place(next).position <= course.until()
    }

    /// Returns whether the run of a stream that starts has ended before the event in `next`, or 0.
    fn start_passes_finish(&self, course: &Course, record: u32, next: u32, has_gap: bool) -> bool {
        let state = self.run_state(record);
        if state.position == 0 || !is_passed(course, state.position, self.position_of(next)) {
            return false;
        }
        match course.extent {
            // Another run may have begun in Redis.
            _ if state.is_finished => next == 0 && self.hub.are_in_sync(&[record]),
            // It begins in the newest run.
            Extent::Newest(_) | Extent::Since(_) | Extent::Run => false,
            // The id of a client does not say whether it has passed the finish. It has not if it
            // lacks events that were lost before the finish.
            Extent::All | Extent::Nothing => {
                has_gap && state.position > self.low_watermark(record).place.position
            }
        }
    }

    fn position_of(&self, event: u32) -> Option<u64> {
        (event != 0).then(|| self.place(event).position)
    }
}

/// Returns whether a replay reaches a finish before its next event.
fn is_passed(course: &Course, finish: u64, next: Option<u64>) -> bool {
    finish <= course.until() && next.is_none_or(|next| next > finish)
}
