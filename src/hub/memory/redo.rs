//! The redo log: makes changes of the hub's metadata atomic.
//!
//! A transaction is collected in the log itself, as pairs of (word, value), and has no effect until
//! `commit` stores their number. With that one store it has happened. Then the pairs are applied.
//! If the process dies before they are, the number stays, and the next owner of the lock applies
//! them from the first. They are values and never increments, so applying them twice does no harm.
//!
//! A batch of up to a thousand events would need too many pairs, but it needs none: the blocks of
//! the events are written and linked before the commit, so the log only names the first of them,
//! and they are added to the ring by following the links.

use std::sync::atomic::compiler_fence;

use crate::hub::memory::atomic::{fence, Ordering};
use crate::hub::memory::layout::{event, header, high, low, pair, Layout};
use crate::hub::memory::region::Region;

/// The bit of REDO_LEN that is set with any transaction, so that one without pairs is recognized
/// too.
const PRESENT: u64 = 1 << 32;

/// A transaction that is being collected. There is only one at a time, because the log is its
/// memory. If it is dropped without `commit`, nothing has happened.
pub struct Transaction<'a> {
    pub region: &'a Region,
    pub layout: &'a Layout,
    len: usize,
    batch: EventRange,
}

/// The events that a transaction adds: the first one's block and position, and their number.
#[derive(Clone, Copy, Default)]
pub struct EventRange {
    pub first: u32,
    pub count: u32,
    pub position: u64,
}

impl<'a> Transaction<'a> {
    /// Starts an empty transaction.
    pub fn new(region: &'a Region, layout: &'a Layout) -> Transaction<'a> {
        Transaction { region, layout, len: 0, batch: EventRange::default() }
    }

    /// Returns a word as it will be after the transaction.
    #[inline]
    pub fn get(&self, at: usize) -> u64 {
        match self.find(at) {
            Some(i) => self.region.get(header::REDO_VALUES + i),
            None => self.region.get(at),
        }
    }

    /// Sets a word. Panics if the transaction sets more than [`header::REDO_PAIRS`] different
    /// words.
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

    /// Adds to a word; a negative `by` subtracts.
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

    /// Adds events, whose blocks are already written and linked, to the ring.
    pub fn enter(&mut self, batch: EventRange) {
        self.batch = batch;
    }

    /// Commits the transaction and applies it.
    pub fn commit(self) {
        self.region.set(header::REDO_BATCH, pair(self.batch.first, self.batch.count));
        self.region.set(header::REDO_POSITION, self.batch.position);
        self.region.set_after(header::REDO_LEN, PRESENT | self.len as u64);
        redo(self.region, self.layout);
    }
}

/// Applies the transaction in the redo log. Returns false if there is none.
pub fn redo(region: &Region, layout: &Layout) -> bool {
    let len = region.get(header::REDO_LEN);
    if len == 0 {
        return false;
    }
    fence(Ordering::Acquire);
    enter_batch(region, layout);
    for i in 0..(len as u32 as usize).min(header::REDO_PAIRS) {
        let at = region.get(header::REDO_WORDS + i);
        // The order of the pairs is the order for readers without the lock: a stamp is cleared
        // before its block can be reused, and an event's entry is written before the head moves.
        region.set_after(at as usize, region.get(header::REDO_VALUES + i));
    }
    region.set_after(header::REDO_LEN, 0);
    // The next transaction must not be written into the log before this one is removed, or a
    // process that dies in between leaves half of each.
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
