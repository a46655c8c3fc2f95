//! Memory for the hubs of a run, which the next run uses again.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Words of a region.
pub type Words = &'static [AtomicU64];

static FREE: Mutex<Vec<Words>> = Mutex::new(Vec::new());

thread_local! {
    /// What this thread has taken.
    static TAKEN: RefCell<Vec<Words>> = const { RefCell::new(Vec::new()) };
}

/// Returns `count` words that are zero.
pub fn take(count: usize) -> Words {
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let words = match free.iter().position(|words| words.len() >= count) {
        Some(at) => free.swap_remove(at),
        None => (0..count).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak(),
    };
    TAKEN.with_borrow_mut(|taken| taken.push(words));
    let region = &words[..count];
    region.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    region
}

/// Performs a run in a thread of its own, and takes back the memory of its hubs. The mutexes in the
/// hubs belong to the thread, and the kernel releases them when it ends.
pub fn run(run: impl FnOnce() + Send) {
    let thread = || {
        run();
        TAKEN.take()
    };
    let taken = std::thread::scope(|scope| scope.spawn(thread).join());
    let taken = taken.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    FREE.lock().unwrap_or_else(PoisonError::into_inner).extend(taken);
}
