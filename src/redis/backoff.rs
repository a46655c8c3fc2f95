//! The pause before the next attempt to connect: a random time up to a limit that grows with each
//! failure ("full jitter"), so that several nginx instances do not reconnect at the same moment.

use std::time::Duration;

const FIRST: u64 = 50;
const LONGEST: u64 = 5_000;

/// The pauses between consecutive failed attempts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    /// Returns the next pause.
    pub fn next(&mut self) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.tries.min(16)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        Duration::from_millis(fastrand::u64(bound / 5..=bound))
    }

    /// Starts over after an attempt that succeeded.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_five_seconds_and_no_further() {
        let mut backoff = Backoff::default();
        assert!(backoff.next() <= Duration::from_millis(FIRST));
        let waits: Vec<_> = (0..100).map(|_| backoff.next()).collect();
        assert!(waits.iter().all(|wait| *wait <= Duration::from_millis(LONGEST)));
        assert!(waits.iter().any(|wait| *wait > Duration::from_millis(1_000)));
        // Never so short that the next attempt is part of the same failure.
        assert!(waits[10..].iter().all(|wait| *wait >= Duration::from_millis(LONGEST / 5)));
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(FIRST));
    }

    #[test]
    fn each_pause_has_a_bound_that_doubles() {
        for tries in 0..40 {
            let bound = (FIRST << tries.min(10)).min(LONGEST);
            let longest = (0..300).map(|_| Backoff { tries }.next().as_millis() as u64).max();
            let shortest = (0..300).map(|_| Backoff { tries }.next().as_millis() as u64).min();
            assert!(longest.is_some_and(|longest| longest <= bound && longest > bound * 3 / 4));
            assert!(shortest.is_some_and(|shortest| shortest >= bound / 5));
            assert!(shortest.is_some_and(|shortest| shortest < bound * 2 / 5));
        }
        let mut last = Backoff { tries: u32::MAX };
        last.next();
        assert_eq!(last.tries, u32::MAX);
    }
}
