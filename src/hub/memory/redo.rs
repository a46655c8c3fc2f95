//! A change of the hub's metadata that becomes true as a whole: the redo log.
//!
//! A change is collected in the log itself, as pairs of (word, value), and means nothing until
//! `commit` stores their number: with that one store it has happened. After it the pairs are carried
//! out; whoever dies in between leaves the number behind, and the next owner of the lock carries
//! them out from the first. Values, never increments, so twice is as good as once.
//!
//! New events are too many for pairs (a batch has up to a thousand), but they need none: their
//! blocks lie ready and linked before the commit, so the log only names the first of them, and
//! entering them into the ring is carried out by walking the links.

use std::sync::atomic::{compiler_fence, fence, Ordering};

use crate::hub::memory::layout::{event, header, high, low, pair, Layout};
use crate::hub::memory::region::Region;

/// Bit of REDO_LEN that is set with any change, so that one without pairs is seen as well.
const PRESENT: u64 = 1 << 32;

/// A change that is being collected: one at a time, for the log is its memory. Dropped without
/// `commit`, nothing has happened.
pub struct Transaction<'a> {
    pub region: &'a Region,
    pub layout: &'a Layout,
    len: usize,
    batch: EventRange,
}

/// Events that a change adds: the first one's block and position, and how many.
#[derive(Clone, Copy, Default)]
pub struct EventRange {
    pub first: u32,
    pub count: u32,
    pub position: u64,
}

impl<'a> Transaction<'a> {
    /// A change of nothing yet.
    pub fn new(region: &'a Region, layout: &'a Layout) -> Transaction<'a> {
        Transaction { region, layout, len: 0, batch: EventRange::default() }
    }

    /// The word as it will be after the change.
    #[inline]
    pub fn get(&self, at: usize) -> u64 {
        match self.find(at) {
            Some(i) => self.region.get(header::REDO_VALUES + i),
            None => self.region.get(at),
        }
    }

    /// Sets a word. More than [`header::REDO_PAIRS`] different words in one change are a fault of the program.
    #[inline]
    pub fn set(&mut self, at: usize, value: u64) {
        let i = self.find(at).unwrap_or_else(|| {
            assert!(self.len < header::REDO_PAIRS, "a change of too many words");
            self.region.set(header::REDO_WORDS + self.len, at as u64);
            self.len += 1;
            self.len - 1
        });
        self.region.set(header::REDO_VALUES + i, value);
    }

    #[inline]
    fn find(&self, at: usize) -> Option<usize> {
        let words = self.region.words(header::REDO_WORDS, self.len);
        words.iter().position(|word| word.load(Ordering::Relaxed) == at as u64)
    }

    /// Adds to a word (a wrapping sum, so that a negative `by` takes away).
    pub fn add(&mut self, at: usize, by: i64) {
        self.set(at, self.get(at).wrapping_add_signed(by));
    }

    /// Sets the upper half of a word.
    pub fn set_high(&mut self, at: usize, value: u32) {
        self.set(at, pair(value, low(self.get(at))));
    }

    /// Sets the lower half of a word.
    pub fn set_low(&mut self, at: usize, value: u32) {
        self.set(at, pair(high(self.get(at)), value));
    }

    /// Lets the change enter events whose blocks lie ready and linked.
    pub fn enter(&mut self, batch: EventRange) {
        self.batch = batch;
    }

    /// Makes the change true and carries it out.
    pub fn commit(self) {
        self.region.set(header::REDO_BATCH, pair(self.batch.first, self.batch.count));
        self.region.set(header::REDO_POSITION, self.batch.position);
        self.region.set_after(header::REDO_LEN, PRESENT | self.len as u64);
        redo(self.region, self.layout);
    }
}

/// Carries out the change that the redo log holds, if it holds one.
pub fn redo(region: &Region, layout: &Layout) -> bool {
    let len = region.get(header::REDO_LEN);
    if len == 0 {
        return false;
    }
    fence(Ordering::Acquire);
    enter_batch(region, layout);
    for i in 0..(len as u32 as usize).min(header::REDO_PAIRS) {
        let at = region.get(header::REDO_WORDS + i);
        // The order among the pairs is the order for readers without the lock: a stamp goes before
        // its block can be used again, an event's entry stands before the head moves.
        region.set_after(at as usize, region.get(header::REDO_VALUES + i));
    }
    region.set_after(header::REDO_LEN, 0);
    // The next change is not written into the log before this one is off it, or who dies in
    // between leaves half of each.
    compiler_fence(Ordering::SeqCst);
    true
}

fn enter_batch(region: &Region, layout: &Layout) {
    let word = region.get(header::REDO_BATCH);
    let (mut block, count) = (high(word), low(word));
    let first = region.get(header::REDO_POSITION);
    for position in first..first + u64::from(count) {
        let owner = high(region.get(layout.block(block, event::OWNER)));
        let entry = layout.ring(position);
        region.set(entry + 1, pair(owner, block));
        region.set_after(entry, position);
        region.set_after(layout.stamp(block), position);
        block = low(region.get(layout.block(block, event::LINKS)));
    }
}
