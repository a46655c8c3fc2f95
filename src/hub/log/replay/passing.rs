//! Whether a replay has reached the end of a run, where its stream has to end.
//!
//! Older runs end after the events that are flagged. The newest finish is in the channel's record,
//! so it is found even if the events before it have left. Several channels have no common end of a
//! run: such a stream ends when all its channels are finished, which its process determines.

use crate::hub::log::received::{Extent, Order};
use crate::hub::log::replay::ReplayCursor;
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
        let state = self.run_state(track.record);
        let (finish, course) = (state.position, &cursor.course);
        let is_before_next = *next == 0 || self.place(*next).position > finish;
        if finish == 0 || finish > course.until() || !is_before_next {
            return false;
        }
        match (course.received.order, course.extent) {
            (Order::Position, _) => finish > course.received.up_to.position,
            // Another run may have begun in Redis.
            (Order::Id, _) if state.is_finished => {
                *next == 0 && self.hub.are_in_sync(&[track.record])
            }
            // It begins in the newest run.
            (Order::Id, Extent::Newest(_)) => false,
            // The id of a client does not say whether it has passed the finish. It has not if it
            // lacks events that were lost before the finish.
            (Order::Id, Extent::All | Extent::Nothing) => {
                has_gap && finish > self.low_watermark(track.record).place.position
            }
        }
    }
}
