//! A timer wheel: many streams' deadlines behind one timer of nginx.

/// The wheel's step in ms: deadlines are met this late at most.
pub const STEP: u64 = 100;
/// Steps of one turn of the wheel; later deadlines stay on it for several turns.
const SPOKES: usize = 512;

/// Deadlines of things of type `T`.
pub struct Wheel<T> {
    // Steps are kept short, for there is at least one entry for each stream: they last 13 years.
    spokes: Vec<Vec<(u32, T)>>,
    /// The step that was looked at last.
    step: u64,
}

impl<T> Wheel<T> {
    /// An empty wheel; `now` in ms.
    pub fn new(now: u64) -> Wheel<T> {
        let spokes = std::iter::repeat_with(Vec::new).take(SPOKES).collect();
        Wheel { spokes, step: now / STEP }
    }

    /// Enters a deadline (ms). One that has passed is met at the next step.
    pub fn enter(&mut self, due: u64, what: T) {
        let step = due.div_ceil(STEP).max(self.step + 1);
        self.spokes[step as usize % SPOKES].push((short(step), what));
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
    fn a_passed_deadline_is_met_at_the_next_step() {
        let mut wheel = Wheel::new(10_000);
        wheel.enter(5, 7);
        assert!(due(&mut wheel, 10_050).is_empty());
        assert_eq!(due(&mut wheel, 10_100), [7]);
    }
}
