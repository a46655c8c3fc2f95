//! What a process does for the hub besides serving its streams: it leaves channels, clears what
//! dead processes left behind, and frees the events of deleted channels. Each part is continued
//! later if the lock is not available.

use std::collections::VecDeque;

use crate::hub::{Hub, Membership, Now, Reaped};

/// Interval of housekeeping in ms.
pub const HOUSEKEEPING_INTERVAL: u64 = 1000;
/// Channels that one tick leaves of those that could not be left before.
const LEAVES_PER_TICK: usize = 256;

/// Upkeep that is still to be done.
#[derive(Debug, Default)]
pub struct Upkeep {
    /// Channels whose last stream in this process has ended, but which could not be left.
    to_leave: VecDeque<Membership>,
    /// Buckets of the channel table that are still to be cleared of the streams of dead processes.
    unswept_buckets: usize,
    /// Whether this process still has to free events of deleted channels.
    freeing: bool,
    /// Time of the next housekeeping (ms).
    housekeeping_at: u64,
}

impl Upkeep {
    /// Returns whether housekeeping is due, and schedules the next one.
    pub fn is_due(&mut self, now: Now) -> bool {
        let is_due = now.mono >= self.housekeeping_at;
        if is_due {
            self.housekeeping_at = now.mono + HOUSEKEEPING_INTERVAL;
        }
        is_due
    }

    /// Leaves a channel in the hub, now or later.
    pub fn leave(&mut self, hub: &Hub, membership: Membership) {
        // While earlier ones are waiting for the lock, do not try this one.
        if !self.to_leave.is_empty() || hub.leave(membership).is_err() {
            self.to_leave.push_back(membership);
        }
    }

    /// Leaves channels that could not be left before, except those that this process has joined
    /// again, by the number of their record. Stops when the lock is not available, or after a
    /// bounded number.
    pub fn leave_pending(&mut self, hub: &Hub, is_joined: impl Fn(u32) -> bool) {
        for _ in 0..LEAVES_PER_TICK {
            let Some(membership) = self.to_leave.pop_front() else { return };
            // If the channel has been joined again, it has the same membership.
            let is_left = !is_joined(membership.channel());
            if is_left && hub.leave(membership).is_err() {
                self.to_leave.push_front(membership);
                return;
            }
        }
    }

    /// Returns how many channels could not be left.
    pub fn pending_leaves(&self) -> usize {
        self.to_leave.len()
    }

    /// Requires that the events of deleted channels are freed.
    pub fn require_freeing(&mut self) {
        self.freeing = true;
    }

    /// Continues to free the events of deleted channels. Returns whether there is more to do.
    pub fn continue_freeing(&mut self, hub: &Hub) -> bool {
        // If the lock is not available, the next housekeeping starts again.
        self.freeing = self.freeing && hub.free_detached().unwrap_or(false);
        self.freeing
    }

    /// Requires one sweep of the whole table of channels, because a process has died.
    pub fn require_sweep(&mut self, hub: &Hub) {
        self.unswept_buckets = hub.buckets();
    }

    /// Continues to sweep the table of channels. Returns what was found, or `None` if there is
    /// nothing to do, or the lock is not available. Other processes that sweep meanwhile report
    /// what they find themselves.
    pub fn continue_sweep(&mut self, hub: &Hub, now: Now) -> Option<Reaped> {
        if self.unswept_buckets == 0 {
            return None;
        }
        let swept = hub.sweep(now).ok()?;
        self.unswept_buckets = self.unswept_buckets.saturating_sub(swept.buckets);
        Some(swept)
    }

    /// Returns whether the table of channels is still to be swept.
    pub fn is_sweeping(&self) -> bool {
        self.unswept_buckets > 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{small_hub, START};
    use super::*;

    #[test]
    fn housekeeping_is_due_once_a_second() {
        let mut upkeep = Upkeep::default();
        let due = |ms: u64| Now { mono: ms, ..Now::default() };
        assert_eq!(
            [0, 999, 1_000, 5_000, 5_999].map(|ms| upkeep.is_due(due(ms))),
            [true, false, true, true, false]
        );
    }

    #[test]
    #[cfg(not(miri))]
    fn channels_are_left_later_if_the_lock_is_not_available() {
        let hub = small_hub();
        let claim = hub.claim_slot().unwrap();
        let [a, b, c] = [b"a", b"b", b"c"].map(|name| hub.join(claim, name, START).unwrap());
        let mut upkeep = Upkeep::default();
        hub.while_locked(|| [a, b].into_iter().for_each(|member| upkeep.leave(&hub, member)));
        hub.forget_given_up();
        // In their order.
        upkeep.leave(&hub, c);
        assert_eq!(upkeep.pending_leaves(), 3);
        hub.while_locked(|| upkeep.leave_pending(&hub, |_| false));
        hub.forget_given_up();
        assert_eq!(upkeep.pending_leaves(), 3);
        upkeep.leave_pending(&hub, |record| record == b.channel());
        assert_eq!(upkeep.pending_leaves(), 0);
        assert_eq!([b"a", b"b", b"c"].map(|name| hub.is_idle(name)), [true, false, true]);
        hub.check_settled();
    }

    #[test]
    fn a_sweep_covers_the_table_once() {
        let hub = small_hub();
        let mut upkeep = Upkeep::default();
        assert!(upkeep.continue_sweep(&hub, START).is_none() && !upkeep.is_sweeping());
        upkeep.require_sweep(&hub);
        assert!(upkeep.is_sweeping());
        let sweeps = std::iter::from_fn(|| upkeep.continue_sweep(&hub, START));
        let covered: usize = sweeps.map(|swept| swept.buckets).sum();
        assert!(covered >= hub.buckets() && !upkeep.is_sweeping());
    }
}
