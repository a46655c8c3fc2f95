//! Measures how long this process blocks others: turns of nginx's event loop, and holds of a hub's
//! lock with the source location that took it. Compiled only with the cargo feature
//! `trace-blocking`, for `scripts/bench blocking`.
//!
//! Times are those of an idle machine. A long time counts only the processor time that the thread
//! used, so that neither other threads nor the host of a virtual machine lengthen it. If the thread
//! slept meanwhile, all of the time counts except what the thread spent waiting for a processor.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::Location;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Shorter times are taken as they are: asking the kernel about them would cost more than it
/// reveals.
const LONG: Duration = Duration::from_micros(100);

/// What was measured since the last [`take`].
static MEASURED: Mutex<BTreeMap<What, Figures>> = Mutex::new(BTreeMap::new());

/// Reads the usage of the calling thread. Set by the layer that may call libc.
static USAGE: OnceLock<fn() -> Usage> = OnceLock::new();

thread_local! {
    static LAST: Cell<Sample> = const { Cell::new(Sample::NONE) };
    /// The thread's scheduler statistics, and the id of the process that opened the file.
    static STATISTICS: RefCell<Option<(u32, File)>> = const { RefCell::new(None) };
}

/// What a thread has used since it started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Processor time.
    pub processor: Duration,
    /// Number of times that it slept.
    pub sleeps: u64,
}

/// Sets the function that reads the usage of the calling thread.
pub fn set_usage(read: fn() -> Usage) {
    let _ = USAGE.set(read);
}

/// A thread's usage and delay at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    usage: Usage,
    /// Time spent waiting for a processor.
    delay: Duration,
}

impl Sample {
    const NONE: Sample =
        Sample { usage: Usage { processor: Duration::ZERO, sleeps: 0 }, delay: Duration::ZERO };

    fn now() -> Sample {
        let usage = USAGE.get().map(|read| read()).unwrap_or_default();
        Sample { usage, delay: delay() }
    }

    /// Returns the part of `time`, which has just ended, that counts. This sample was taken when
    /// that time began, or before.
    fn counted(&self, time: Duration, now: &Sample) -> Duration {
        if now.usage.sleeps == self.usage.sleeps && USAGE.get().is_some() {
            time.min(now.usage.processor.saturating_sub(self.usage.processor))
        } else {
            time.saturating_sub(now.delay.saturating_sub(self.delay))
        }
    }
}

/// The kind of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A turn of nginx's event loop: from the end of one wait for events to the next wait.
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

/// A measurement in progress; it ends when the value is dropped.
pub struct Span {
    what: What,
    since: Instant,
    /// Taken when the measurement began, for kinds that need it.
    sample: Option<Sample>,
}

impl Span {
    /// Starts measuring a turn of the event loop.
    pub fn turn() -> Span {
        let sample = Sample::now();
        LAST.set(sample);
        Span { what: What::Turn, since: Instant::now(), sample: Some(sample) }
    }

    /// Starts measuring a hold of a lock that was taken at `place`.
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

/// Returns how long this thread has waited for a processor since it started (proc_pid_schedstat).
fn delay() -> Duration {
    // A thread that is ending may have dropped its variables already.
    STATISTICS.try_with(|statistics| read_delay(&mut statistics.borrow_mut())).unwrap_or_default()
}

fn read_delay(statistics: &mut Option<(u32, File)>) -> Duration {
    // After a fork, the thread is a different one.
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

/// The distribution of the times of one kind.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    count: u64,
    shortest: Duration,
    longest: Duration,
    /// Number of times per class of `class_of`.
    classes: BTreeMap<u32, u64>,
}

impl Figures {
    fn add(&mut self, time: Duration) {
        self.shortest = if self.count == 0 { time } else { self.shortest.min(time) };
        self.longest = self.longest.max(time);
        self.count += 1;
        *self.classes.entry(class_of(time)).or_default() += 1;
    }

    /// Returns the time that 99 of 100 measurements did not exceed by more than an eighth.
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

/// Returns the class of a time; each power of two of ns has eight.
fn class_of(time: Duration) -> u32 {
    let ns = time.as_nanos().max(8) as u64;
    let power = ns.ilog2();
    power * 8 + ((ns >> (power - 3)) as u32 & 7)
}

/// Returns the shortest time of a class.
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

/// Returns everything that was measured since the last call.
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
            // Depends on which of the thread's variables is dropped first.
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
