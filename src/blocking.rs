//! Measures how long this process blocks others: turns of nginx's event loop, and holds of a hub's
//! lock with the place in the source that took it. Only with the cargo feature `trace-blocking`,
//! for `scripts/bench blocking`; without it nothing of this is compiled.
//!
//! Times are those of an idle machine. Of a long one counts what the thread used of a processor, so
//! that neither other threads nor the host of a virtual machine lengthen it; if the thread slept
//! meanwhile, all of it counts but the time in which it only waited for a processor.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::Location;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Shorter ones are not looked at closer: to ask the kernel would cost more than it tells.
const LONG: Duration = Duration::from_micros(100);

/// What was measured since the figures were last taken.
static MEASURED: Mutex<BTreeMap<What, Figures>> = Mutex::new(BTreeMap::new());

/// Reads the thread's usage; what needs the libc for that sets it.
static USAGE: OnceLock<fn() -> Usage> = OnceLock::new();

thread_local! {
    static LAST: Cell<Sample> = const { Cell::new(Sample::NONE) };
    /// The thread's scheduler statistics, and the process that has opened them.
    static STATISTICS: RefCell<Option<(u32, File)>> = const { RefCell::new(None) };
}

/// What a thread has used since it began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time on a processor.
    pub processor: Duration,
    /// How often it slept.
    pub sleeps: u64,
}

/// Sets what reads the usage of the thread that calls it.
pub fn set_usage(read: fn() -> Usage) {
    let _ = USAGE.set(read);
}

/// What is known of a thread at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    usage: Usage,
    /// For how long it has waited for a processor.
    delay: Duration,
}

impl Sample {
    const NONE: Sample =
        Sample { usage: Usage { processor: Duration::ZERO, sleeps: 0 }, delay: Duration::ZERO };

    fn now() -> Sample {
        let usage = USAGE.get().map(|read| read()).unwrap_or_default();
        Sample { usage, delay: delay() }
    }

    /// What of a time that has just ended counts. This sample was taken before the time began, or as it
    /// began.
    fn counted(&self, time: Duration, now: &Sample) -> Duration {
        if now.usage.sleeps == self.usage.sleeps && USAGE.get().is_some() {
            time.min(now.usage.processor.saturating_sub(self.usage.processor))
        } else {
            time.saturating_sub(now.delay.saturating_sub(self.delay))
        }
    }
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
    /// Taken as it began, if it was.
    sample: Option<Sample>,
}

impl Span {
    /// A turn of the event loop begins.
    pub fn turn() -> Span {
        let sample = Sample::now();
        LAST.set(sample);
        Span { what: What::Turn, since: Instant::now(), sample: Some(sample) }
    }

    /// A lock has been taken at this place.
    pub fn hold(place: &'static Location<'static>) -> Span {
        let what = What::Hold(place.file(), place.line());
        Span { what, since: Instant::now(), sample: None }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let mut time = self.since.elapsed();
        if time > LONG {
            let now = Sample::now();
            let last = LAST.replace(now);
            time = self.sample.unwrap_or(last).counted(time, &now);
        }
        let mut measured = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
        measured.entry(self.what).or_default().add(time);
    }
}

/// For how long this thread has waited for a processor since it began (proc_pid_schedstat).
fn delay() -> Duration {
    // While the thread ends its variables may be gone already.
    STATISTICS.try_with(|statistics| read_delay(&mut statistics.borrow_mut())).unwrap_or_default()
}

fn read_delay(statistics: &mut Option<(u32, File)>) -> Duration {
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
    let ns = words.split(' ').nth(1).and_then(|word| word.parse().ok());
    Duration::from_nanos(ns.unwrap_or(0))
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
    fn a_thread_may_end_in_the_middle_of_a_turn() {
        thread_local! {
            static TURN: RefCell<Option<Span>> = const { RefCell::new(None) };
        }
        let thread = std::thread::spawn(|| {
            // Whichever of the thread's variables goes first.
            TURN.set(None);
            let mut span = Span::turn();
            span.since -= LONG * 2;
            TURN.set(Some(span));
        });
        thread.join().unwrap();
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
