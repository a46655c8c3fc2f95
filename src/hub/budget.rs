//! How much work may be done at a stretch: in one hold of the hub's lock, or in one turn of an event
//! loop. Every loop over events, channels, patterns or streams takes a budget as an argument, and
//! stops when it is spent; what is left continues in the next hold or turn.
//!
//! A step is one thing that was looked at: an event, a channel's record, a bucket, a pair of
//! subscribers. Each costs some memory accesses, most of them outside of the processor's cache, so
//! that a step takes about 0.1 microseconds. A count, not a clock: it costs nothing to keep, and what
//! it bounds does not depend on the machine.

/// Steps of one hold of the lock: well below 1 ms.
const HOLD: usize = 4096;
/// Steps of a look for what one stream lacks: many streams have their visits in one turn.
const VISIT: usize = 1024;
/// Steps of one turn of an event loop, outside of the lock: well below 5 ms.
const TURN: usize = 16_384;
/// Steps that it takes to free an event of one block.
const FREEING: usize = 4;
/// Blocks of an event that count as one step: they are mostly neighbours.
const BLOCKS: usize = 4;

/// Steps that may still be taken.
#[derive(Debug)]
pub struct Budget {
    left: usize,
}

impl Budget {
    /// The budget of one hold of the lock.
    pub fn for_hold() -> Budget {
        Budget::with_steps(HOLD)
    }

    /// The budget of one turn of an event loop.
    pub fn for_turn() -> Budget {
        #[cfg(test)]
        return Budget::with_steps(TURN_OF_TEST.get());
        #[cfg(not(test))]
        Budget::with_steps(TURN)
    }

    /// The budget of one visit to a stream that is behind, of which a turn makes many.
    pub fn for_visit() -> Budget {
        #[cfg(test)]
        return Budget::with_steps(VISIT_OF_TEST.get());
        #[cfg(not(test))]
        Budget::with_steps(VISIT)
    }

    /// So many steps.
    pub fn with_steps(steps: usize) -> Budget {
        Budget { left: steps }
    }

    /// Whether nothing is left.
    #[inline]
    pub fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Takes one step. False if none is left.
    #[inline]
    pub fn step(&mut self) -> bool {
        let is_left = self.left > 0;
        self.spend(1);
        is_left
    }

    /// Takes steps for something that cannot be divided.
    #[inline]
    pub fn spend(&mut self, steps: usize) {
        self.left = self.left.saturating_sub(steps);
    }

    /// Takes the steps that freeing an event of so many blocks costs.
    #[inline]
    pub fn spend_on_freeing(&mut self, blocks: usize) {
        self.spend(FREEING + blocks / BLOCKS);
    }
}

#[cfg(test)]
thread_local! {
    static TURN_OF_TEST: std::cell::Cell<usize> = const { std::cell::Cell::new(TURN) };
    static VISIT_OF_TEST: std::cell::Cell<usize> = const { std::cell::Cell::new(VISIT) };
}

/// Gives visits in this thread so few steps, so that small tests meet their ends.
#[cfg(test)]
pub fn set_visit_steps(steps: usize) {
    VISIT_OF_TEST.set(steps);
}

/// The same of turns.
#[cfg(test)]
pub fn set_turn_steps(steps: usize) {
    TURN_OF_TEST.set(steps);
}
