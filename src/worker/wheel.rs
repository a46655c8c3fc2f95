//! A timer wheel: many streams' deadlines behind one timer of nginx.

/// The wheel's step in ms: deadlines are met this late at most.
pub const STEP: u64 = 100;
/// Steps of one turn of the wheel; later deadlines stay on it for several turns.
const SPOKES: usize = 512;

/// Deadlines of things of type `T`.
pub struct Wheel<T> {
    // Steps are kept short, for there is at least one entry for each stream: they last 13 years, two of
    // which are past when the machine starts.
    spokes: Vec<Vec<(u32, T)>>,
    /// The step that was looked at last.
    step: u64,
    /// How many entries there are.
    len: usize,
    /// Where the search for abandoned entries goes on.
    sweep: Cursor,
}

/// The place of an entry.
#[derive(Clone, Copy, Default)]
struct Cursor {
    spoke: usize,
    index: usize,
}

impl<T> Wheel<T> {
    /// An empty wheel; `now` in ms.
    pub fn new(now: u64) -> Wheel<T> {
        let spokes = std::iter::repeat_with(Vec::new).take(SPOKES).collect();
        Wheel { spokes, step: now / STEP, len: 0, sweep: Cursor::default() }
    }

    /// Enters a deadline (ms). One that has passed is met at the next step.
    pub fn enter(&mut self, due: u64, what: T) {
        let step = due.div_ceil(STEP).max(self.step + 1);
        self.spokes[step as usize % SPOKES].push((short(step), what));
        self.len += 1;
    }

    /// Takes what is due at `now` (ms), in order of the steps.
    pub fn turn(&mut self, now: u64, mut due: impl FnMut(T)) {
        let last = now / STEP;
        // After a long sleep one look at every spoke is enough.
        let first = (self.step + 1).max((last + 1).saturating_sub(SPOKES as u64));
        for step in first..=last {
            let spoke = &mut self.spokes[step as usize % SPOKES];
            let mut i = 0;
            while i < spoke.len() {
                if spoke[i].0 <= short(last) {
                    due(spoke.swap_remove(i).1);
                    self.len -= 1;
                } else {
                    i += 1;
                }
            }
            if spoke.is_empty() {
                // What a burst has left behind is given back.
                *spoke = Vec::new();
            }
        }
        self.step = self.step.max(last);
    }

    /// Looks at the next `steps` entries (or empty spokes) and removes those that `is_wanted` does not
    /// want any more. Calls in succession go around the wheel, so that entries whose owner has gone do
    /// not take memory until they are due.
    pub fn sweep(&mut self, steps: usize, is_wanted: impl Fn(&T) -> bool) {
        for _ in 0..steps {
            let Cursor { spoke: number, index } = self.sweep;
            let spoke = &mut self.spokes[number];
            match spoke.get(index) {
                Some((_, entry)) if is_wanted(entry) => self.sweep.index += 1,
                Some(_) => {
                    spoke.swap_remove(index);
                    self.len -= 1;
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

    /// How many entries there are.
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

    fn due(wheel: &mut Wheel<u32>, now: u64) -> Vec<u32> {
        let mut out = Vec::new();
        wheel.turn(now, |what| out.push(what));
        out.sort_unstable();
        out
    }

    #[test]
    fn a_deadline_is_met_within_a_step_and_once() {
        let mut wheel = Wheel::new(1_000);
        wheel.enter(1_250, 1);
        assert!(due(&mut wheel, 1_249).is_empty());
        assert_eq!(due(&mut wheel, 1_300), [1]);
        assert!(due(&mut wheel, 99_000).is_empty());
    }

    #[test]
    fn a_deadline_beyond_one_turn_waits_for_its_own() {
        let mut wheel = Wheel::new(0);
        let far = STEP * SPOKES as u64 + 500;
        wheel.enter(far, 2);
        wheel.enter(500, 1);
        assert_eq!(due(&mut wheel, 600), [1]);
        assert!(due(&mut wheel, far - STEP).is_empty());
        assert_eq!(due(&mut wheel, far), [2]);
    }

    #[test]
    fn after_a_long_sleep_everything_is_met() {
        let mut wheel = Wheel::new(0);
        for i in 0..1_000 {
            wheel.enter(u64::from(i) * 137, i);
        }
        assert_eq!(due(&mut wheel, 1_000_000).len(), 1_000);
    }

    #[test]
    fn one_sweep_around_removes_what_nobody_wants_and_nothing_else() {
        let mut wheel = Wheel::new(0);
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
        let mut wheel = Wheel::new(10_000);
        wheel.enter(5, 7);
        assert!(due(&mut wheel, 10_050).is_empty());
        assert_eq!(due(&mut wheel, 10_100), [7]);
    }
}
