//! The layout of the region: the only description of the hub's memory. Offsets are in words of 8
//! bytes.
//!
//! ```text
//! header | slots | users | channel table | key table | ring | meta | blocks
//! ```
//!
//! Blocks are 128 bytes; block 0 is never used and means "none". `words` has the contents of the
//! header, of the slots, of revocations, and of each kind of block. A change of either file is a
//! change of [`VERSION`].

use crate::hub::memory::atomic::{fence, Ordering};
use crate::hub::memory::lock;
use crate::hub::memory::region::{Region, WORD};

mod words;

pub use crate::hub::memory::layout::words::{
    channel, event, header, key, more_pairs, revocation, slot,
};

/// The version of the layout. It is part of the zone's name, so another version uses another zone.
pub const VERSION: u32 = 8;

/// "SSE hub" and the version: the first word of a region that was formatted completely.
pub const MAGIC: u64 = 0x5353_4568_7562_0000 | VERSION as u64;

/// The size of a block in words.
pub const BLOCK: usize = 16;
/// The size of a slot in words.
pub const SLOT: usize = 16;
/// The maximum number of slots: as many as the pairs of one record can name.
pub const MAX_SLOTS: usize = 512;
/// The size in bytes of a block that continues an event, a name, or a list of subscribers.
pub const PAYLOAD: usize = BLOCK * WORD;

/// Returns the upper half of a word that holds two numbers.
#[inline]
pub fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

/// Returns the lower half of a word that holds two numbers.
#[inline]
pub fn low(word: u64) -> u32 {
    word as u32
}

/// Returns a word that holds two numbers.
#[inline]
pub fn pair(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// Where the parts of a region begin, and how large they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub blocks: usize,
    pub slots: usize,
    pub buckets: usize,
    pub key_buckets: usize,
    pub ring: usize,
    /// The number of disconnected users, and that of revocations.
    pub users: usize,
    slots_at: usize,
    users_at: usize,
    table_at: usize,
    keys_at: usize,
    ring_at: usize,
    meta_at: usize,
    blocks_at: usize,
}

/// The number of disconnected users, and of revocations, that a region holds.
const USERS: std::ops::RangeInclusive<usize> = if cfg!(loom) { 1..=1 } else { 16..=1024 };

/// The minimum number of entries of the ring.
const RING_MIN: usize = if cfg!(loom) { 4 } else { 1024 };

impl Layout {
    /// Returns the layout of a region with this many blocks.
    pub fn new(blocks: usize, slots: usize) -> Layout {
        let buckets = (blocks / 4).next_power_of_two();
        let key_buckets = (blocks / 16).next_power_of_two();
        let ring = (blocks / 4).next_power_of_two().max(RING_MIN);
        let slots_at = header::WORDS;
        let users = (blocks / 64).clamp(*USERS.start(), *USERS.end());
        let users_at = slots_at + slots * SLOT;
        let table_at = users_at + users * (1 + revocation::WORDS);
        let keys_at = table_at + buckets;
        let ring_at = keys_at + key_buckets;
        let meta_at = ring_at + ring * 2;
        let blocks_at = meta_at + blocks * 2;
        Layout {
            blocks,
            slots,
            buckets,
            key_buckets,
            ring,
            users,
            slots_at,
            users_at,
            table_at,
            keys_at,
            ring_at,
            meta_at,
            blocks_at,
        }
    }

    /// Returns the layout with the most blocks that fits into `bytes`, or `None` if not even a few
    /// do.
    pub fn fitting(bytes: usize, slots: usize) -> Option<Layout> {
        let words = bytes / WORD;
        let fits = |blocks| Layout::new(blocks, slots).words() <= words;
        // The tables grow in powers of two, so the size is not linear: search.
        let (mut yes, mut no) = (0, words / BLOCK + 1);
        while no - yes > 1 {
            let middle = yes + (no - yes) / 2;
            if fits(middle) {
                yes = middle;
            } else {
                no = middle;
            }
        }
        (yes >= 16 && yes < u32::MAX as usize).then(|| Layout::new(yes, slots))
    }

    /// Returns the layout of a formatted region, or `None` if its header has values that no hub of
    /// this version has at any time.
    pub fn plausible(region: &Region) -> Option<Layout> {
        if region.size() < header::WORDS || region.get(header::MAGIC) != MAGIC {
            return None;
        }
        let (blocks, slots) = (region.get(header::BLOCKS), region.get(header::SLOTS));
        if blocks > (region.size() / BLOCK) as u64 || slots > MAX_SLOTS as u64 {
            return None;
        }
        let layout = Layout::new(blocks as usize, slots as usize);
        // Another process may change these words meanwhile. FRESH and RESERVED only grow, so they
        // are read last.
        let (free, head) = (region.get(header::FREE), region.get(header::HEAD));
        fence(Ordering::Acquire);
        let (fresh, reserved) = (region.get(header::FRESH), region.get(header::RESERVED));
        let has_valid_blocks =
            (1..=blocks).contains(&fresh) && u64::from(high(free).max(low(free))) < fresh;
        let fits = layout.words() <= region.size();
        (fits && has_valid_blocks && head <= reserved).then_some(layout)
    }

    /// Returns the size of the region in words.
    pub fn words(&self) -> usize {
        self.blocks_at + self.blocks * BLOCK
    }

    /// Returns the index of a word of a block.
    #[inline]
    pub fn block(&self, block: u32, word: usize) -> usize {
        self.blocks_at + block as usize * BLOCK + word
    }

    /// Returns the index of a block's stamp: the position of the event that begins in it, or 0.
    #[inline]
    pub fn stamp(&self, block: u32) -> usize {
        self.meta_at + block as usize * 2
    }

    /// Returns the index of a block's link: the block that follows it in its chain or in the free
    /// list.
    #[inline]
    pub fn next(&self, block: u32) -> usize {
        self.meta_at + block as usize * 2 + 1
    }

    /// Returns the index of the ring's entry for a position. The entry is the position, and then
    /// the channel and the block, or in place of the block a control entry.
    #[inline]
    pub fn ring(&self, position: u64) -> usize {
        self.ring_at + (position as usize & (self.ring - 1)) * 2
    }

    /// Returns the index of the bucket of channels with this hash: when an unfinished run of one of
    /// them was forgotten, see `forgotten_runs` | the first record.
    #[inline]
    pub fn bucket(&self, hash: u32) -> usize {
        self.table_at + (hash as usize & (self.buckets - 1))
    }

    /// Returns the index of the bucket of idempotency keys with this hash.
    #[inline]
    pub fn key_bucket(&self, hash: u64) -> usize {
        self.keys_at + (hash as usize & (self.key_buckets - 1))
    }

    /// Returns the index of the word for the disconnected user with this number.
    pub fn disconnected(&self, number: u64) -> usize {
        self.users_at + (number % self.users as u64) as usize
    }

    /// Returns the index of a word of a revocation.
    pub fn revocation(&self, entry: usize, word: usize) -> usize {
        self.users_at + self.users + entry * revocation::WORDS + word
    }

    /// Returns the index of a word of a slot.
    #[inline]
    pub fn slot(&self, slot: usize, word: usize) -> usize {
        self.slots_at + slot * SLOT + word
    }
}

// The parts of the header do not overlap.
const _: () = {
    assert!(header::LOCK + lock::WORDS <= header::REDO_LEN);
    assert!(header::CLASSES + header::CLASS_COUNT <= header::SWEEP);
    assert!(header::COUNTERS + header::COUNTER_COUNT <= header::REDO_WORDS);
    assert!(header::REDO_WORDS + header::REDO_PAIRS <= header::REDO_VALUES);
    assert!(header::REDO_VALUES + header::REDO_PAIRS <= header::WORDS);
    assert!(header::REDO_VALUES + header::REDO_PAIRS <= header::SOURCE);
    assert!(header::LEASE + lock::WORDS <= header::SUCCESSOR_LOCK);
    assert!(header::SUCCESSOR_LOCK + lock::WORDS <= header::DELIVERY_BUCKETS);
    assert!(header::DELIVERY_BUCKETS + header::DELIVERY_BUCKET_COUNT <= header::DELIVERY_TOTAL);
    assert!(header::DELIVERY_TOTAL < header::WORDS);
    assert!(slot::LIFE + lock::WORDS <= slot::GENERATION);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fitting_layout_is_the_largest() {
        for bytes in [300 << 10, 1 << 20, 32 << 20, 100 << 20] {
            let layout = Layout::fitting(bytes, 32).unwrap();
            assert!(layout.words() * WORD <= bytes);
            assert!(Layout::new(layout.blocks + 1, 32).words() * WORD > bytes);
        }
        assert_eq!(Layout::fitting(10_000, 32), None);
    }

    #[test]
    fn thirty_two_mebibytes_hold_two_hundred_thousand_small_events() {
        assert!(Layout::fitting(32 << 20, 32).unwrap().blocks > 200_000);
    }
}
