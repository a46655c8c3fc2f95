//! Where the runs of a channel ended, as far as this process has read the log.

use std::collections::VecDeque;

use crate::hub::KnownRunEnds;

/// Maximum number of positions that are kept. A stream that lags behind more than that reads from
/// the hub.
const MOST: usize = 32;

/// The positions in the log of a channel's newest finishes, which rise.
#[derive(Debug, Default)]
pub struct RunEnds {
    positions: VecDeque<u64>,
}

impl RunEnds {
    /// Returns the ends of a channel that is joined when its newest finish is at `newest`; 0 if it
    /// had none.
    pub fn of_channel(newest: u64) -> RunEnds {
        let mut ends = RunEnds::default();
        ends.add(newest);
        ends
    }

    /// Adds a finish. Returns the oldest one if it is not known from now on.
    pub fn add(&mut self, position: u64) -> Option<u64> {
        if position <= self.newest() {
            return None;
        }
        let forgotten =
            if self.positions.len() == MOST { self.positions.pop_front() } else { None };
        self.positions.push_back(position);
        forgotten
    }

    /// Returns the newest finish; 0 if there is none.
    pub fn newest(&self) -> u64 {
        self.positions.back().copied().unwrap_or(0)
    }

    /// Returns the first finish after a position.
    pub fn after(&self, at: u64) -> Option<u64> {
        self.around(at).next
    }

    /// Returns the last finish up to a position, and the first one after it.
    pub fn around(&self, at: u64) -> KnownRunEnds {
        let passed = self.positions.partition_point(|position| *position <= at);
        let of = |index| self.positions.get(index).copied();
        KnownRunEnds { passed: passed.checked_sub(1).and_then(of).unwrap_or(0), next: of(passed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_between_two_ends() {
        let mut ends = RunEnds::of_channel(5);
        assert_eq!([ends.add(9), ends.add(9), ends.add(7)], [None; 3]);
        for (at, passed, next) in
            [(0, 0, Some(5)), (4, 0, Some(5)), (5, 5, Some(9)), (8, 5, Some(9)), (9, 9, None)]
        {
            assert_eq!(ends.around(at), KnownRunEnds { passed, next }, "at {at}");
            assert_eq!(ends.after(at), next);
        }
        let none = RunEnds::of_channel(0);
        assert_eq!((none.newest(), none.around(7)), (0, KnownRunEnds::default()));
    }

    #[test]
    fn the_oldest_ends_are_forgotten() {
        let mut ends = RunEnds::default();
        let forgotten: Vec<u64> = (1..=40).filter_map(|position| ends.add(position)).collect();
        assert_eq!((forgotten, ends.after(0), ends.newest()), ((1..=8).collect(), Some(9), 40));
    }
}
