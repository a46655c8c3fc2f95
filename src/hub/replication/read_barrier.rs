//! Read barriers: whether a hub has everything that Redis delivered before a certain moment.
//!
//! A publish is answered when Redis has the event, which can be before the event is in the log of
//! each nginx. Before a process answers that a channel has nothing to send, it therefore requests a
//! barrier, and waits until the holder of the subscription has passed it. Barriers are numbers: one
//! that was passed covers all lower ones.

use crate::hub::memory::atomic::Ordering;
use crate::hub::memory::layout::header;
use crate::hub::replication::lease::FencingToken;
use crate::hub::Hub;

impl Hub {
    /// Requests a barrier and returns its number. The caller wakes the process that holds the
    /// subscription.
    pub fn request_read_barrier(&self) -> u64 {
        self.region.word(header::BARRIER_REQUESTED).fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Returns the newest barrier that was requested.
    pub fn requested_read_barrier(&self) -> u64 {
        self.region.word(header::BARRIER_REQUESTED).load(Ordering::Acquire)
    }

    /// Returns the newest barrier that the holder has passed. All that Redis delivered before it
    /// was requested is in the log then.
    pub fn passed_read_barrier(&self) -> u64 {
        self.region.word(header::BARRIER_PASSED).load(Ordering::Acquire)
    }

    /// Records that the holder has passed a barrier. The caller wakes the other processes.
    pub fn pass_read_barrier(&self, token: FencingToken, number: u64) {
        if self.holds_token(token) {
            self.region.word(header::BARRIER_PASSED).fetch_max(number, Ordering::AcqRel);
        }
    }
}
