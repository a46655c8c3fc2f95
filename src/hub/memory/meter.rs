//! Counts, for tests, how many words of the region one hold of the lock reads and writes. This
//! shows whether a budget bounds the work, even if a loop does not take one.

use std::cell::Cell;

thread_local! {
    static WORDS: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

/// Counts words that were read or written.
pub fn count(words: usize) {
    WORDS.set(WORDS.get() + words);
}

/// Returns the most words that one hold of the lock in this thread read and wrote during a call.
pub fn most_in_a_hold(during: impl FnOnce()) -> usize {
    MOST.set(0);
    during();
    MOST.get()
}

/// Returns the words that a call read and wrote, with and without the lock.
pub fn words_of(during: impl FnOnce()) -> usize {
    let before = WORDS.get();
    during();
    WORDS.get() - before
}

/// A hold of the lock.
pub struct Hold {
    since: usize,
}

impl Hold {
    /// Starts a hold, when the lock has been taken.
    pub fn begin() -> Hold {
        Hold { since: WORDS.get() }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        MOST.set(MOST.get().max(WORDS.get() - self.since));
    }
}
