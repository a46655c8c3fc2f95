//! What limits one stream: the times at which something is due, and the user that it belongs to.

use super::end::End;
use super::timer_wheel::STEP;
use crate::hub::{Now, UserHash};

/// The longest time in ms for which a deadline is on the timer wheel.
const MAX_AHEAD: u64 = 60_000;

/// The limits of a stream.
#[derive(Debug, Default)]
pub struct StreamLimits {
    /// When the stream reaches its maximum age, in ms of the monotonic clock.
    pub age: Option<u64>,
    /// When the client's permission ends, in ms of the wall clock.
    pub expires: Option<u64>,
    /// The stream's index in the list of those whose permission ends.
    pub expiry_index: Option<u32>,
    /// When the event before that is to be sent, in ms of the wall clock.
    pub warn_at: Option<u64>,
    /// The time of the entry on the timer wheel that counts. Earlier ones are ignored.
    pub entered: u64,
    /// The user that the stream belongs to.
    pub user: Option<StreamUser>,
}

/// The user that a stream belongs to.
#[derive(Clone, Copy, Debug)]
pub struct StreamUser {
    pub hash: UserHash,
    /// How many users had been disconnected when the stream was opened.
    pub seen: u64,
    /// The stream's index in the list of the user's streams.
    pub index: u32,
}

impl StreamLimits {
    /// Returns the time of the next deadline in ms of the monotonic clock. The wheel meets
    /// deadlines up to a step late, and nothing may be sent after the permission has ended.
    pub fn next(&self, now: Now) -> Option<u64> {
        let at_wall = |time: u64| now.mono.saturating_add(time.saturating_sub(now.wall));
        let expires = self.expires.map(|time| at_wall(time.saturating_sub(STEP)));
        let all = [self.age, expires, self.warn_at.map(at_wall)];
        let next = all.into_iter().flatten().min()?;
        Some(next.min(now.mono.saturating_add(MAX_AHEAD)))
    }

    /// Returns why the stream is to end now, if it is.
    pub fn end(&self, now: Now) -> Option<End> {
        if has_expired(self.expires, now) {
            Some(End::Expired)
        } else {
            self.age.filter(|age| *age <= now.mono).map(|_| End::Age)
        }
    }
}

/// Whether a permission that ends at a time of the wall clock (ms) has ended, or is about to end
/// within a step of the timer wheel.
fn has_expired(expires: Option<u64>, now: Now) -> bool {
    expires.is_some_and(|time| time < now.wall.saturating_add(STEP))
}
