//! Limits how much work is done at a stretch: in one hold of the hub's lock, or in one turn of an
//! event loop. Every loop over events, channels, patterns, or streams takes a budget as an argument
//! and stops when it is spent. What is left continues in the next hold or turn.
//!
//! A step is one thing that is looked at: an event, a channel's record, a bucket, or a pair of
//! subscribers. Each takes a few memory accesses, most of them cache misses, so that a step takes
//! about 0.1 microseconds. Steps are counted and not timed, because a count is cheap and does not
//! depend on the machine.

/// Steps of one hold of the lock, which takes well below 1 ms.
const HOLD: usize = 4096;
/// Steps of one visit to a stream that is behind. One turn makes many visits.
const VISIT: usize = 1024;
/// Steps of one turn of an event loop, outside of the lock, which takes well below 5 ms.
const TURN: usize = 16_384;
/// Steps for freeing an event of one block.
const FREEING: usize = 4;
/// Blocks of an event that count as one step, because they are mostly adjacent.
const BLOCKS: usize = 4;

/// The steps that are left.
#[derive(Debug)]
pub struct Budget {
    left: usize,
}

impl Budget {
    /// Returns the budget of one hold of the lock.
    pub fn for_hold() -> Budget {
        Budget::with_steps(HOLD)
    }

    /// Returns the budget of one turn of an event loop.
    pub fn for_turn() -> Budget {
        #[cfg(any(test, fuzzing))]
        return Budget::with_steps(TURN_OF_TEST.get());
        #[cfg(not(any(test, fuzzing)))]
        Budget::with_steps(TURN)
    }

    /// Returns the budget of one visit to a stream that is behind.
    pub fn for_visit() -> Budget {
        #[cfg(any(test, fuzzing))]
        return Budget::with_steps(VISIT_OF_TEST.get());
        #[cfg(not(any(test, fuzzing)))]
        Budget::with_steps(VISIT)
    }

    /// Returns a budget of `steps` steps.
    pub fn with_steps(steps: usize) -> Budget {
        Budget { left: steps }
    }

    /// Returns whether no step is left.
    #[inline]
    pub fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Spends one step. Returns false if none was left.
    #[inline]
    pub fn step(&mut self) -> bool {
        let is_left = self.left > 0;
        self.spend(1);
        is_left
    }

    /// Spends `steps` steps for work that cannot be divided.
    #[inline]
    pub fn spend(&mut self, steps: usize) {
        self.left = self.left.saturating_sub(steps);
    }

    /// Spends the steps that freeing an event of `blocks` blocks takes.
    #[inline]
    pub fn spend_on_freeing(&mut self, blocks: usize) {
        self.spend(FREEING + blocks / BLOCKS);
    }
}

#[cfg(any(test, fuzzing))]
thread_local! {
    static TURN_OF_TEST: std::cell::Cell<usize> = const { std::cell::Cell::new(TURN) };
    static VISIT_OF_TEST: std::cell::Cell<usize> = const { std::cell::Cell::new(VISIT) };
}

/// Sets the budget of visits in this thread, so that small tests reach its end.
#[cfg(any(test, fuzzing))]
pub fn set_visit_steps(steps: usize) {
    VISIT_OF_TEST.set(steps);
}

/// Sets the budget of turns in this thread, so that small tests reach its end.
#[cfg(any(test, fuzzing))]
pub fn set_turn_steps(steps: usize) {
    TURN_OF_TEST.set(steps);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_after_its_steps() {
        let mut budget = Budget::with_steps(3);
        let steps = [(); 4].map(|()| (budget.is_spent(), budget.step()));
        assert_eq!(steps, [(false, true), (false, true), (false, true), (true, false)]);
        let mut budget = Budget::with_steps(3);
        budget.spend(2);
        assert!(!budget.is_spent());
        budget.spend(2);
        assert!(budget.is_spent() && !budget.step());
    }

    #[test]
    fn fewer_events_are_freed_in_a_hold_the_larger_they_are() {
        let freed = |blocks| {
            let mut budget = Budget::for_hold();
            let mut events = 0;
            while !budget.is_spent() {
                budget.spend_on_freeing(blocks);
                events += 1;
            }
            events
        };
        assert!((500..2_000).contains(&freed(1)), "{}", freed(1));
        assert!((100..400).contains(&freed(64)), "{}", freed(64));
        assert!((2..10).contains(&freed(4_096)), "{}", freed(4_096));
    }
}
