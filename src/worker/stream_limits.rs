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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_deadline_is_the_earliest_and_at_most_a_minute_ahead() {
        let now = Now { mono: 1_000, mono_ns: 0, wall: 500_000 };
        let next = |age, expires, warn_at| {
            StreamLimits { age, expires, warn_at, ..StreamLimits::default() }.next(now)
        };
        assert_eq!(next(None, None, None), None);
        assert_eq!(next(Some(7_000), None, None), Some(7_000));
        assert_eq!(next(Some(7_000), Some(503_000), None), Some(4_000 - STEP));
        assert_eq!(next(Some(7_000), Some(503_000), Some(501_000)), Some(2_000));
        assert_eq!(next(Some(900_000), None, None), Some(1_000 + MAX_AHEAD));
        // What is over is due now.
        assert_eq!(next(None, Some(1), None), Some(1_000));
    }
}
