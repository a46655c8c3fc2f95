//! Counts, for tests, how many words of the region one hold of the lock reads and writes. What a
//! budget bounds shows here, whoever forgets to take one.

use std::cell::Cell;

thread_local! {
    static WORDS: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

/// So many words were read or written.
pub fn count(words: usize) {
    WORDS.set(WORDS.get() + words);
}

/// The most words of one hold of the lock in this thread, of all holds during a call.
pub fn most_in_a_hold(during: impl FnOnce()) -> usize {
    MOST.set(0);
    during();
    MOST.get()
}

/// The words of a whole call, in and out of the lock.
pub fn words_of(during: impl FnOnce()) -> usize {
    let before = WORDS.get();
    during();
    WORDS.get() - before
}

/// One hold of the lock.
pub struct Hold {
    since: usize,
}

impl Hold {
    /// The lock has been taken.
    pub fn begin() -> Hold {
        Hold { since: WORDS.get() }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        MOST.set(MOST.get().max(WORDS.get() - self.since));
    }
}
