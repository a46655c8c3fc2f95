//! Measures how long this process blocks others: turns of nginx's event loop, and holds of a hub's
//! lock with the place in the source that took it. Only with the cargo feature `trace-blocking`,
//! for `scripts/bench blocking`; without it nothing of this is compiled.
//!
//! Times are those of an idle machine: of a long one the time is taken off in which the kernel ran
//! somebody else on the thread's processor (proc_pid_schedstat, "time spent waiting on a runqueue").

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::Location;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shorter ones are not looked at closer: to ask the kernel would cost more than it tells.
const LONG: Duration = Duration::from_micros(100);

/// What was measured since the figures were last taken.
static MEASURED: Mutex<BTreeMap<What, Figures>> = Mutex::new(BTreeMap::new());

thread_local! {
    /// ns for which this thread had to wait for a processor when it was last asked.
    static DELAYED: Cell<u64> = const { Cell::new(0) };
    /// The thread's scheduler statistics, and the process that has opened them.
    static STATISTICS: RefCell<Option<(u32, File)>> = const { RefCell::new(None) };
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A turn of nginx's event loop: from the end of its wait for events to the next wait.
    Turn,
    /// A hold of a hub's lock, by the file and line that took it.
    Hold(&'static str, u32),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Turn => f.write_str("turn"),
            What::Hold(file, line) => write!(f, "hold {file}:{line}"),
        }
    }
}

/// A time that is being measured: until the value is dropped.
pub struct Span {
    what: What,
    since: Instant,
    /// For how long the thread had waited for a processor by then (ns), if it was asked.
    delayed: Option<u64>,
}

impl Span {
    /// A turn of the event loop begins.
    pub fn turn() -> Span {
        let delayed = delay();
        DELAYED.set(delayed);
        Span { what: What::Turn, since: Instant::now(), delayed: Some(delayed) }
    }

    /// A lock has been taken at this place.
    pub fn hold(place: &'static Location<'static>) -> Span {
        let what = What::Hold(place.file(), place.line());
        Span { what, since: Instant::now(), delayed: None }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let mut time = self.since.elapsed();
        if time > LONG {
            let delay = delay();
            let before = DELAYED.replace(delay);
            let lost = delay.saturating_sub(self.delayed.unwrap_or(before));
            time = time.saturating_sub(Duration::from_nanos(lost));
        }
        let mut measured = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
        measured.entry(self.what).or_default().add(time);
    }
}

/// ns for which this thread has waited for a processor since it began.
fn delay() -> u64 {
    STATISTICS.with_borrow_mut(|statistics| {
        // A process that was forked has a thread of its own.
        let process = std::process::id();
        if statistics.as_ref().is_none_or(|(opened, _)| *opened != process) {
            let file = File::open("/proc/thread-self/schedstat").ok();
            *statistics = file.map(|file| (process, file));
        }
        let mut text = [0; 64];
        let read = statistics.as_ref().and_then(|(_, file)| file.read_at(&mut text, 0).ok());
        let text = text.get(..read.unwrap_or(0)).unwrap_or_default();
        let words = std::str::from_utf8(text).unwrap_or_default();
        words.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    })
}

/// How long something took, over all times it was measured.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    count: u64,
    shortest: Duration,
    longest: Duration,
    /// How many took as long, by `class_of`.
    classes: BTreeMap<u32, u64>,
}

impl Figures {
    fn add(&mut self, time: Duration) {
        self.shortest = if self.count == 0 { time } else { self.shortest.min(time) };
        self.longest = self.longest.max(time);
        self.count += 1;
        *self.classes.entry(class_of(time)).or_default() += 1;
    }

    /// The time that 99 of 100 did not exceed by more than an eighth.
    fn p99(&self) -> Duration {
        let mut left = self.count - self.count / 100;
        for (class, count) in &self.classes {
            left = left.saturating_sub(*count);
            if left == 0 {
                return start_of(*class);
            }
        }
        self.longest
    }
}

/// Eight classes for each power of two of ns.
fn class_of(time: Duration) -> u32 {
    let ns = time.as_nanos().max(8) as u64;
    let power = ns.ilog2();
    power * 8 + ((ns >> (power - 3)) as u32 & 7)
}

/// The shortest time of a class.
fn start_of(class: u32) -> Duration {
    let (power, part) = (class / 8, u64::from(class % 8));
    Duration::from_nanos((8 + part) << (power - 3))
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |time: Duration| time.as_nanos() as f64 / 1e3;
        write!(
            f,
            "count={} min_us={:.1} p99_us={:.1} max_us={:.1}",
            self.count,
            us(self.shortest),
            us(self.p99()),
            us(self.longest)
        )
    }
}

/// Takes out all that was measured since this was last called.
pub fn take() -> BTreeMap<What, Figures> {
    std::mem::take(&mut *MEASURED.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_times() {
        let mut figures = Figures::default();
        (1..=200).for_each(|us| figures.add(Duration::from_micros(us)));
        let text = figures.to_string();
        assert!(text.starts_with("count=200 min_us=1.0 p99_us="), "{text}");
        assert!(text.ends_with(" max_us=200.0"), "{text}");
        let p99 = figures.p99();
        assert!(p99 <= Duration::from_micros(198) && p99 >= Duration::from_micros(175), "{p99:?}");
    }

    #[test]
    fn classes_begin_where_they_say() {
        for ns in [8, 9, 15, 16, 17, 1_000, 123_456_789] {
            let class = class_of(Duration::from_nanos(ns));
            let (start, next) = (start_of(class), start_of(class + 1));
            assert!(start <= Duration::from_nanos(ns) && Duration::from_nanos(ns) < next, "{ns}");
        }
    }
}
