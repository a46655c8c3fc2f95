//! Runs: streams end where the run of their channel was finished.
//!
//! A live stream of one channel ends when it has been sent the cached frames up to the first finish
//! after its cursor; one that reads from the hub learns there where the run ends. A stream of
//! several channels ends when it has been sent everything and all of them are finished. Patterns
//! have no runs.

use super::keys::{ChannelKey, StreamKey};
use super::socket::Socket;
use super::stream::StreamState;
use super::{End, Worker};
use crate::hub::{Membership, Now, Runs};

impl<S: Socket> Worker<S> {
    /// Records that a channel's run was finished at a position, and schedules its streams.
    pub(super) fn finish_run(&mut self, key: ChannelKey, position: u64) {
        let Some(channel) = self.directory.get_mut(key) else { return };
        if let Some(forgotten) = channel.run_ends.add(position) {
            // Streams that are still before it read from the hub, which has a mark for each.
            channel.complete_after = channel.complete_after.max(forgotten);
        }
        self.touch(key, position);
    }

    /// Ends the streams of a finished channel that were kept open while it was not in sync with
    /// Redis, where another run could have begun. `position` is that of the control entry of being
    /// in sync: a later finish has its own entry, after events that have not been read yet.
    pub(super) fn recheck_run(&mut self, key: ChannelKey, position: u64) {
        let Some(channel) = self.directory.get(key) else { return };
        let run = self.hub.run_state(channel.membership);
        if run.is_finished && run.position < position {
            self.finish_run(key, position);
        }
    }

    /// Ends a stream if it has been sent everything, and all of its channels are finished. A stream
    /// of one channel has been ended by its finish already, unless it was opened behind it.
    pub(super) fn finish_if_over(&mut self, key: StreamKey, now: Now) {
        let Some(stream) = self.streams.get(key) else { return };
        let is_live = matches!(stream.state, StreamState::Live);
        // Of a client that is ahead of this hub, it is not known which finishes it has passed.
        let has_claim = stream.past.as_ref().is_some_and(|past| past.claim.is_some());
        if !is_live || has_claim || stream.settings.finished.runs() == Runs::Joined {
            return;
        }
        let (at, members) = (stream.at, self.memberships(key));
        // First, because another run may have begun before they were in sync.
        let is_in_sync = self.hub.in_sync(&members);
        let is_finished = |member: &Membership| {
            let state = self.hub.run_state(*member);
            state.is_finished && state.position <= at
        };
        if is_in_sync && members.iter().all(is_finished) {
            self.finish(key, End::Finished, now);
        }
    }
}
