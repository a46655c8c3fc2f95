//! A timer wheel: the deadlines of many streams behind a single nginx timer.

use crate::hub::Budget;

/// The resolution in ms: a deadline is met at most this late.
pub const STEP: u64 = 100;
/// Steps in one revolution. Later deadlines stay on the wheel for several revolutions.
const SPOKES: usize = 512;

/// Deadlines of values of type `T`.
pub struct TimerWheel<T> {
    // Steps are stored as 32 bits to save memory, because each stream has at least one entry. They
    // overflow after 13 years; two of those have already passed when the machine starts.
    spokes: Vec<Vec<(u32, T)>>,
    /// The last step that was completely processed.
    step: u64,
    /// Number of entries in the next step's spoke that were checked and have to stay.
    passed: usize,
    /// Number of entries.
    len: usize,
    /// Where the next search for abandoned entries starts.
    sweep: Cursor,
}

/// The location of an entry.
#[derive(Clone, Copy, Default)]
struct Cursor {
    spoke: usize,
    index: usize,
}

impl<T> TimerWheel<T> {
    /// Creates an empty wheel; `now` in ms.
    pub fn new(now: u64) -> TimerWheel<T> {
        let spokes = std::iter::repeat_with(Vec::new).take(SPOKES).collect();
        TimerWheel { spokes, step: now / STEP, passed: 0, len: 0, sweep: Cursor::default() }
    }

    /// Adds a deadline (ms). If it has passed already, it is met at the next step.
    pub fn enter(&mut self, due: u64, what: T) {
        let step = due.div_ceil(STEP).max(self.step + 1);
        self.spokes[step as usize % SPOKES].push((short(step), what));
        self.len += 1;
    }

    /// Whether there are unprocessed steps up to `now` (ms).
    pub fn is_behind(&self, now: u64) -> bool {
        self.step < now / STEP
    }

    /// Passes everything due at `now` (ms) to `due`, in order of the steps, until the budget is
    /// spent. The next call continues from there.
    pub fn turn(&mut self, now: u64, budget: &mut Budget, mut due: impl FnMut(T)) {
        let last = now / STEP;
        // After a long sleep, visiting each spoke once is enough.
        let oldest = (last + 1).saturating_sub(SPOKES as u64);
        if self.step + 1 < oldest {
            (self.step, self.passed) = (oldest - 1, 0);
        }
        while self.step < last {
            let spoke = &mut self.spokes[(self.step + 1) as usize % SPOKES];
            while let Some((step, _)) = spoke.get(self.passed) {
                if !budget.step() {
                    return;
                }
                if *step <= short(last) {
                    due(spoke.swap_remove(self.passed).1);
                    self.len -= 1;
                } else {
                    self.passed += 1;
                }
            }
            if spoke.is_empty() {
                // Free the memory that a burst may have left.
                *spoke = Vec::new();
            }
            self.step += 1;
            self.passed = 0;
        }
    }

    /// Checks the next `steps` entries (or empty spokes) and removes those for which `is_wanted`
    /// returns false. Successive calls go around the wheel, so that entries whose owner is gone do
    /// not take memory until they are due.
    pub fn sweep(&mut self, steps: usize, is_wanted: impl Fn(&T) -> bool) {
        let begun = (self.step + 1) as usize % SPOKES;
        for _ in 0..steps {
            let Cursor { spoke: number, index } = self.sweep;
            let spoke = &mut self.spokes[number];
            match spoke.get(index) {
                Some((_, entry)) if is_wanted(entry) => self.sweep.index += 1,
                Some(_) => {
                    spoke.swap_remove(index);
                    self.len -= 1;
                    if number == begun {
                        // The last entry, which may not have been checked yet, has taken its place.
                        self.passed = self.passed.min(index);
                    }
                }
                None => {
                    if spoke.len() < spoke.capacity() / 4 {
                        spoke.shrink_to(spoke.len() * 2);
                    }
                    self.sweep = Cursor { spoke: (number + 1) % SPOKES, index: 0 };
                }
            }
        }
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.len
    }
}

fn short(step: u64) -> u32 {
    step.min(u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(wheel: &mut TimerWheel<u32>, now: u64) -> Vec<u32> {
        let mut out = Vec::new();
        wheel.turn(now, &mut Budget::with_steps(usize::MAX), |what| out.push(what));
        out.sort_unstable();
        out
    }

    #[test]
    fn a_deadline_is_met_within_a_step_and_once() {
        let mut wheel = TimerWheel::new(1_000);
        wheel.enter(1_250, 1);
        assert!(due(&mut wheel, 1_249).is_empty());
        assert_eq!(due(&mut wheel, 1_300), [1]);
        assert!(due(&mut wheel, 99_000).is_empty());
    }

    #[test]
    fn a_deadline_beyond_one_turn_waits_for_its_own() {
        let mut wheel = TimerWheel::new(0);
        let far = STEP * SPOKES as u64 + 500;
        wheel.enter(far, 2);
        wheel.enter(500, 1);
        assert_eq!(due(&mut wheel, 600), [1]);
        assert!(due(&mut wheel, far - STEP).is_empty());
        assert_eq!(due(&mut wheel, far), [2]);
    }

    #[test]
    fn after_a_long_sleep_everything_is_met() {
        let mut wheel = TimerWheel::new(0);
        for i in 0..1_000 {
            wheel.enter(u64::from(i) * 137, i);
        }
        assert_eq!(due(&mut wheel, 1_000_000).len(), 1_000);
    }

    #[test]
    fn one_sweep_around_removes_unwanted_entries_and_nothing_else() {
        let mut wheel = TimerWheel::new(0);
        for i in 0..1_000 {
            wheel.enter(u64::from(i) * 137, i);
        }
        wheel.sweep(1_000 + SPOKES, |i| i % 10 == 0);
        assert_eq!(wheel.len(), 100);
        assert!(wheel.spokes.iter().map(Vec::capacity).sum::<usize>() <= 8 * SPOKES);
        let wanted: Vec<_> = (0..1_000).filter(|i| i % 10 == 0).collect();
        assert_eq!(due(&mut wheel, 1_000_000), wanted);
    }

    #[test]
    fn a_passed_deadline_is_met_at_the_next_step() {
        let mut wheel = TimerWheel::new(10_000);
        wheel.enter(5, 7);
        assert!(due(&mut wheel, 10_050).is_empty());
        assert_eq!(due(&mut wheel, 10_100), [7]);
    }
    #[test]
    fn a_turn_looks_at_no_more_entries_than_its_budget_allows() {
        let mut wheel = TimerWheel::new(0);
        let later = STEP * SPOKES as u64;
        // A spoke in which every second entry is for the wheel's next revolution.
        for i in 0..1_000 {
            wheel.enter(500 + later * u64::from(i % 2), i);
        }
        let (mut out, mut turns) = (Vec::new(), 0);
        while wheel.is_behind(600) {
            let mut budget = Budget::with_steps(100);
            let before = out.len();
            wheel.turn(600, &mut budget, |what| out.push(what));
            assert!(out.len() - before <= 100);
            turns += 1;
            assert!(turns <= 11, "each entry is looked at once");
        }
        assert!(turns >= 10);
        out.sort_unstable();
        assert_eq!(out, (0..1_000).filter(|i| i % 2 == 0).collect::<Vec<_>>());
        assert_eq!(due(&mut wheel, 500 + later).len(), 500);
    }

    #[test]
    fn what_is_entered_or_removed_between_two_turns_is_met_as_well() {
        let mut wheel = TimerWheel::new(0);
        let later = STEP * SPOKES as u64;
        for i in 0..100 {
            // The first half stays on the wheel and is skipped.
            wheel.enter(if i < 50 { 500 + later } else { 500 }, i);
        }
        let mut out = Vec::new();
        wheel.turn(600, &mut Budget::with_steps(40), |what| out.push(what));
        assert!(out.is_empty() && wheel.is_behind(600));
        wheel.enter(100, 100);
        // Unchecked entries from the end of the spoke take the places of removed ones.
        wheel.sweep(100 + 2 * SPOKES, |i| i % 10 != 0);
        wheel.turn(600, &mut Budget::with_steps(usize::MAX), |what| out.push(what));
        out.sort_unstable();
        assert_eq!(out, (50..100).filter(|i| i % 10 != 0).collect::<Vec<_>>());
    }

    #[test]
    fn a_long_sleep_in_the_middle_of_a_step_leaves_nothing_behind() {
        let mut wheel = TimerWheel::new(0);
        let later = STEP * SPOKES as u64;
        for i in 0..100 {
            wheel.enter(if i < 50 { 500 + later } else { 500 }, i);
        }
        let mut out = Vec::new();
        wheel.turn(600, &mut Budget::with_steps(60), |what| out.push(what));
        assert_eq!(out.len(), 10);
        wheel.turn(3 * later, &mut Budget::with_steps(usize::MAX), |what| out.push(what));
        assert_eq!((out.len(), wheel.len()), (100, 0));
    }
}
