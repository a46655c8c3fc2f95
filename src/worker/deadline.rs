//! Deadlines of single streams: their maximum age, and the time at which the client's permission
//! ends. Before the latter, the client can receive an event.
//!
//! A permission ends at a time of the wall clock, which can be set, and which continues while the
//! machine is suspended. So a stream's next deadline is on the timer wheel for at most a minute,
//! and is then computed again; if the wall clock was set, at once. Streams without deadlines do not
//! pay for them, and those that are gone leave nothing on the wheel for longer than that.

use super::end::End;
use super::keys::StreamKey;
use super::socket::{Batch, Sent, Socket};
use super::stream::{Flow, Stream, StreamState};
use super::work_queue::StreamTask;
use super::Worker;
use crate::hub::{Budget, Now};
use crate::sse::frame::Frame;

/// Interval in ms at which the event is tried again if the stream cannot be sent anything.
const RETRY_INTERVAL: u64 = 1_000;
/// A change of the wall clock, against the monotonic one, that is noticed. In ms.
const CLOCK_TOLERANCE: u64 = 1_000;

impl<S: Socket> Worker<S> {
    /// Ends a stream when the client's permission ends, in ms of the wall clock.
    pub(super) fn set_expiry(&mut self, key: StreamKey, expires: u64, now: Now) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let warn_at = stream
            .settings
            .expiry_event
            .as_ref()
            .map(|event| expires.saturating_sub(event.before.random(&mut self.random)));
        let limits = stream.limits.get_or_insert_default();
        (limits.expires, limits.warn_at) = (Some(expires), warn_at);
        limits.expiry_index.get_or_insert_with(|| self.expiries.add(key));
        self.schedule_deadline(key, now);
    }

    /// Ends a stream at an age, in ms.
    pub(super) fn set_age(&mut self, key: StreamKey, age: u64, now: Now) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.limits.get_or_insert_default().age = Some(now.mono.saturating_add(age));
        self.schedule_deadline(key, now);
    }

    /// Adds the stream's next deadline to the timer wheel.
    fn schedule_deadline(&mut self, key: StreamKey, now: Now) {
        let limits = self.streams.get_mut(key).and_then(|stream| stream.limits.as_mut());
        let Some(limits) = limits else { return };
        let Some(next) = limits.next(now) else { return };
        limits.entered = next;
        self.work.add_at(next, StreamTask::Deadline(key));
    }

    /// Does what is due at a stream's deadline.
    pub(super) fn meet_deadline(&mut self, key: StreamKey, now: Now) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(limits) = stream.limits.as_ref().filter(|all| all.entered <= now.mono) else {
            return;
        };
        if let Some(end) = limits.end(now) {
            return self.finish(key, end, now);
        }
        if let Some(failed) = stream.warn_if_due(now) {
            return self.end(key, failed);
        }
        self.schedule_deadline(key, now);
    }

    /// Notices that the wall clock was set. Called at each tick.
    pub(super) fn check_clock(&mut self, now: Now) {
        let ahead = now.wall.wrapping_sub(now.mono);
        let moved = (ahead.wrapping_sub(self.clock_ahead) as i64).unsigned_abs();
        if moved <= CLOCK_TOLERANCE {
            return;
        }
        self.clock_ahead = ahead;
        self.expiries.start();
    }

    /// Computes deadlines again after the wall clock was set, within the budget. Returns whether
    /// there are more.
    pub(super) fn continue_rescheduling(&mut self, budget: &mut Budget, now: Now) -> bool {
        while self.expiries.has_unchecked() {
            if !budget.step() {
                return true;
            }
            let Some(key) = self.expiries.next_unchecked() else { break };
            let limits = self.streams.get_mut(key).and_then(|stream| stream.limits.as_mut());
            if let Some(limits) = limits {
                limits.entered = now.mono;
                self.work.add(StreamTask::Deadline(key));
            }
        }
        false
    }

    /// Removes a stream that is closed from the list of those whose permission ends.
    pub(super) fn remove_from_expiries(&mut self, index: u32) {
        let Some(moved) = self.expiries.remove(index) else { return };
        let moved = self.streams.get_mut(moved).and_then(|stream| stream.limits.as_mut());
        if let Some(limits) = moved {
            limits.expiry_index = Some(index);
        }
    }
}

impl<S: Socket> Stream<S> {
    /// Sends the event before the end of the permission, if it is due. Returns how the stream ends
    /// if that fails.
    fn warn_if_due(&mut self, now: Now) -> Option<End> {
        let limits = self.limits.as_mut()?;
        let (expires, due) = (limits.expires?, limits.warn_at?);
        if due > now.wall {
            return None;
        }
        if !matches!(self.state, StreamState::Live) || self.flow == Flow::Blocked {
            limits.warn_at = Some(now.wall.saturating_add(RETRY_INTERVAL));
            return None;
        }
        limits.warn_at = None;
        let event = self.settings.expiry_event.as_ref()?;
        let left = expires.saturating_sub(now.wall) / 1000;
        let name = String::from_utf8_lossy(&event.name);
        let frame = Frame::raw(format!("event: {name}\ndata: {{\"in\":{left}}}\n\n").as_bytes());
        self.written = now.mono;
        match self.socket.send(&Batch::from_frames(vec![frame])) {
            Sent::All => None,
            Sent::Blocked { .. } => {
                self.flow = Flow::Blocked;
                None
            }
            Sent::Failed => Some(End::Error),
        }
    }
}
