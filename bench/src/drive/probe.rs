//! Another client of the same server: fetches a small file at intervals over a persistent
//! connection, and records how long that took. It runs in a thread of the driver, which is
//! otherwise idle, so that the delay is the server's and not the generator's.

use super::page::Page;
use crate::histogram::Histogram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The pause between two requests.
const PAUSE: Duration = Duration::from_millis(10);
/// The interval of requests that are due by the clock.
const EVERY: Duration = Duration::from_millis(2);

/// A running probe.
pub struct Probe {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Histogram, String>>,
}

impl Probe {
    /// Starts a client that pauses after each response.
    pub fn start(page: Page) -> Self {
        Self::run(page, fetch_until)
    }

    /// Starts a client whose requests are due by the clock. A request that has to wait for the
    /// response before it is late, and that counts as its latency: during a disturbance that is
    /// longer than the interval, every request has the latency that it would have had on a
    /// connection of its own.
    pub fn start_by_clock(page: Page) -> Self {
        Self::run(page, fetch_by_clock_until)
    }

    fn run(
        page: Page,
        fetch: impl FnOnce(&AtomicBool, Page) -> Result<Histogram, String> + Send + 'static,
    ) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&over);
        Self { over, thread: std::thread::spawn(move || fetch(&flag, page)) }
    }

    pub fn finish(self) -> Result<Histogram, String> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the probe panicked")?
    }
}

fn fetch_until(over: &AtomicBool, mut page: Page) -> Result<Histogram, String> {
    let mut histogram = Histogram::new();
    while !over.load(Ordering::Relaxed) {
        let since = Instant::now();
        page.get("/file")?;
        histogram.add(since.elapsed().as_nanos() as u64);
        std::thread::sleep(PAUSE);
    }
    Ok(histogram)
}

fn fetch_by_clock_until(over: &AtomicBool, mut page: Page) -> Result<Histogram, String> {
    let mut histogram = Histogram::new();
    let mut due = Instant::now();
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        page.get("/file")?;
        histogram.add(due.elapsed().as_nanos() as u64);
        due += EVERY;
    }
    Ok(histogram)
}
