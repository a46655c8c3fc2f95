//! Another client of the same server: fetches a small file at intervals over a persistent
//! connection, and records how long that took. It runs in a thread of the driver, which is
//! otherwise idle, so that the delay is the server's and not the generator's.

use super::page::Page;
use crate::histogram::Histogram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(10);

/// A running probe.
pub struct Probe {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Histogram, String>>,
}

impl Probe {
    pub fn start(page: Page) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&over);
        Self { over, thread: std::thread::spawn(move || fetch_until(&flag, page)) }
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
        std::thread::sleep(EVERY);
    }
    Ok(histogram)
}
