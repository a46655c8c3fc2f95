//! Channel records: finding them by name, creating, and removing them.

use std::hash::Hasher;

use crate::hub::listeners::pattern_name::pattern_of;
use crate::hub::log::position::{LostKinds, LowWatermark};
use crate::hub::memory::access::Guard;
use crate::hub::memory::alloc::{free_chain, BlockAllocator};
use crate::hub::memory::layout::{channel, header, high, low, more_pairs, pair, PAYLOAD};
use crate::hub::memory::linked_list::List;
use crate::hub::memory::redo::Transaction;
use crate::hub::{Hub, Now};

/// Channels with more events than history owes, in the order in which they lose one.
pub const SURPLUS: List = List { ends: header::SURPLUS, link: channel::SURPLUS };
/// Channels without events and subscribers, the longest idle first.
pub const IDLE: List = List { ends: header::IDLE, link: channel::LIST };

/// The records of all patterns.
pub const PATTERNS: List = List { ends: header::PATTERNS, link: channel::SURPLUS };

/// Returns the list of the channels whose events take `blocks` blocks, rounded down to a power of
/// two.
pub fn class(blocks: u32) -> List {
    List { ends: header::CLASSES + blocks.max(1).ilog2() as usize, link: channel::LIST }
}

/// The bit of the count of events that is set while the record is in the list SURPLUS.
pub const IN_SURPLUS: u32 = 1 << 31;

/// Returns how many blocks a channel's record takes, including its name of `len` bytes.
pub fn record_blocks(len: usize) -> usize {
    1 + len.saturating_sub(channel::NAME_INLINE).div_ceil(PAYLOAD)
}

/// Returns the part of a name that is in the record: its length, and as many bytes as fit.
fn first_part(len: usize, inline: &[u8]) -> [u8; channel::NAME_INLINE + 1] {
    let mut first = [0; channel::NAME_INLINE + 1];
    first[0] = len as u8;
    first[1..=inline.len()].copy_from_slice(inline);
    first
}

impl Hub {
    /// Returns the length in bytes of a record's name.
    fn name_len(&self, record: u32) -> usize {
        match self.region.get(self.layout.block(record, channel::NAME)) as u8 {
            0 => 256,
            len => usize::from(len),
        }
    }

    /// Returns whether a record belongs to a pattern.
    pub(in crate::hub) fn is_pattern(&self, record: u32) -> bool {
        let word = self.region.get(self.layout.block(record, channel::NAME));
        let [_len, first, ..] = word.to_le_bytes();
        pattern_of(&[first]).is_some()
    }

    /// Reads a record's name. Without the lock, the blocks may be in use for something else, which
    /// the caller has to check.
    pub(in crate::hub) fn read_name(&self, record: u32, out: &mut Vec<u8>) {
        let (region, layout) = (&self.region, &self.layout);
        let len = self.name_len(record);
        let inline = len.min(channel::NAME_INLINE);
        out.clear();
        region.read_bytes(layout.block(record, channel::NAME), inline + 1, out);
        out.remove(0);
        let mut block = low(region.get(layout.block(record, channel::MORE)));
        while out.len() < len && (1..layout.blocks).contains(&(block as usize)) {
            region.read_bytes(layout.block(block, 0), (len - out.len()).min(PAYLOAD), out);
            block = region.get(layout.next(block)) as u32;
        }
    }
}

impl Guard<'_> {
    /// Returns the hash of a channel's name. It is keyed, so that one bucket cannot be filled on
    /// purpose.
    pub(in crate::hub) fn hash(&self, name: &[u8]) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write_u64(self.get(header::SEED));
        hasher.write(name);
        hasher.finish()
    }

    /// Returns the record of a channel.
    pub(in crate::hub) fn find(&self, name: &[u8]) -> Option<u32> {
        let hash = self.hash(name) as u32;
        let mut record = self.get(self.hub.layout.bucket(hash)) as u32;
        while record != 0 {
            let word = self.word(record, channel::HASH);
            if high(word) == hash && self.has_name(record, name) {
                return Some(record);
            }
            record = low(word);
        }
        None
    }

    fn has_name(&self, record: u32, name: &[u8]) -> bool {
        let (region, layout) = (&self.hub.region, &self.hub.layout);
        let (inline, rest) = name.split_at(name.len().min(channel::NAME_INLINE));
        if self.name_len(record) != name.len()
            || !region.holds(layout.block(record, channel::NAME), &first_part(name.len(), inline))
        {
            return false;
        }
        let mut block = low(self.word(record, channel::MORE));
        rest.chunks(PAYLOAD).all(|part| {
            let at = layout.block(block, 0);
            block = region.get(layout.next(block)) as u32;
            region.holds(at, part)
        })
    }

    fn name_len(&self, record: u32) -> usize {
        self.hub.name_len(record)
    }

    /// Returns how many steps it takes to look at a record with its name and its pairs.
    pub(in crate::hub) fn cost_of(&self, record: u32) -> usize {
        const PAIRS_OF_A_STEP: usize = 4;
        let more = high(self.word(record, channel::MORE)) != 0;
        let pairs = if more { self.pair_words(record).count() } else { 0 };
        2 + pairs / PAIRS_OF_A_STEP
    }

    /// Returns whether a block is a channel's record.
    pub(in crate::hub) fn is_record(&self, block: u32) -> bool {
        if block == 0 || block as usize >= self.hub.layout.blocks {
            return false;
        }
        let hash = high(self.word(block, channel::HASH));
        let mut record = self.get(self.hub.layout.bucket(hash)) as u32;
        while record != 0 && record != block {
            record = low(self.word(record, channel::HASH));
        }
        record == block
    }

    /// Returns whether a record belongs to a pattern.
    pub(in crate::hub) fn is_pattern(&self, record: u32) -> bool {
        self.hub.is_pattern(record)
    }

    /// Returns how many blocks a record takes: itself, its name, its cursor, and its pairs.
    pub(in crate::hub) fn record_size(&self, record: u32) -> usize {
        let mut blocks = record_blocks(self.name_len(record));
        blocks += usize::from(self.cursor_block(record) != 0);
        let mut pairs = high(self.word(record, channel::MORE));
        while pairs != 0 {
            blocks += 1;
            pairs = self.word(pairs, more_pairs::NEXT) as u32;
        }
        blocks
    }

    /// Returns a channel's name.
    pub(in crate::hub) fn name(&self, record: u32) -> Vec<u8> {
        let mut name = Vec::new();
        self.name_into(record, &mut name);
        name
    }

    /// Reads a channel's name into a buffer that is reused.
    pub(in crate::hub) fn name_into(&self, record: u32, out: &mut Vec<u8>) {
        self.hub.read_name(record, out);
    }

    /// Creates the record of a channel that has none. The caller has freed [`record_blocks`]
    /// blocks.
    pub(in crate::hub) fn create_record(&self, name: &[u8], now: Now) -> u32 {
        let (region, layout) = (&self.hub.region, &self.hub.layout);
        let hash = self.hash(name) as u32;
        let mut allocator = BlockAllocator::new(region, layout);
        let record = allocator.take();
        let at = |word| layout.block(record, word);

        let (inline, rest) = name.split_at(name.len().min(channel::NAME_INLINE));
        let mut more = 0;
        for part in rest.chunks(PAYLOAD) {
            let block = allocator.take();
            region.write_bytes(layout.block(block, 0), part);
            if more == 0 {
                more = block;
            }
        }
        let bucket = layout.bucket(hash);
        let low_watermark = LowWatermark::read(region, header::FORGOTTEN);
        region.set(at(channel::HASH), pair(hash, low(region.get(bucket))));
        for word in [channel::EVENTS, channel::SIZE, channel::SURPLUS, channel::LIST] {
            region.set(at(word), 0);
        }
        for word in [channel::PAIRS, channel::PAIRS + 1, channel::SYNC, channel::ENDED] {
            region.set(at(word), 0);
        }
        region.set(at(channel::RUN), self.inherited_run(hash, now));
        region.set(at(channel::RUN_START), 0);
        low_watermark.write(|word, value| region.set(at(channel::LOW_WATERMARK + word), value));
        region.set(at(channel::MORE), pair(0, more));
        region.write_bytes(at(channel::NAME), &first_part(name.len(), inline));

        let mut change = self.change();
        allocator.finish(&mut change);
        change.set_low(bucket, record);
        match pattern_of(name) {
            Some(_) => PATTERNS.push(&mut change, record),
            None => change.add(header::CHANNELS, 1),
        }
        IDLE.push(&mut change, record);
        change.commit();
        record
    }

    /// Removes the record of a channel that has neither events nor subscribers. Its low watermark
    /// goes into FORGOTTEN, from which every new record starts. Detached events must have been
    /// freed before.
    pub(in crate::hub) fn remove_record(&self, record: u32) {
        debug_assert!(!self.hub.has_detached(), "a record is named by its detached events");
        let layout = &self.hub.layout;
        let hash = high(self.word(record, channel::HASH));
        let mut change = self.change();
        let mut link = layout.bucket(hash);
        while change.get(link) as u32 != record {
            link = layout.block(change.get(link) as u32, channel::HASH);
        }
        change.set_low(link, low(self.word(record, channel::HASH)));
        IDLE.remove(&mut change, record);
        if self.is_pattern(record) {
            PATTERNS.remove(&mut change, record);
            change.add(header::REMOVED, 1);
        } else {
            change.add(header::CHANNELS, -1);
        }
        let low_watermark = self.low_watermark(record);
        let forgotten = LowWatermark::read(&self.hub.region, header::FORGOTTEN);
        // Redis retains the events that have ids of Redis, and reports what was lost of them.
        // What a pattern has missed does not concern other records, and the pattern starts again
        // when it comes back.
        let tells = low_watermark.left != LostKinds::Durable && !self.is_pattern(record);
        self.remember_open_run(&mut change, record);
        if low_watermark.place > forgotten.place && tells {
            low_watermark.write(|word, value| change.set(header::FORGOTTEN + word, value));
        }
        self.give_back_record(&mut change, record);
        change.commit();
    }

    fn give_back_record(&self, change: &mut Transaction<'_>, record: u32) {
        let more = self.word(record, channel::MORE);
        let name_blocks = record_blocks(self.name_len(record)) - 1;
        if name_blocks > 0 {
            free_chain(change, low(more), name_blocks);
        }
        let cursor = self.cursor_block(record);
        if cursor != 0 {
            free_chain(change, cursor, 1);
        }
        let mut pairs = high(more);
        while pairs != 0 {
            let next = self.word(pairs, more_pairs::NEXT) as u32;
            free_chain(change, pairs, 1);
            pairs = next;
        }
        free_chain(change, record, 1);
    }

    /// Returns how many events a channel has.
    pub(in crate::hub) fn events(&self, record: u32) -> u32 {
        high(self.word(record, channel::SIZE)) & !IN_SURPLUS
    }

    /// Returns the low watermark of a channel: the newest event that it has lost.
    pub(in crate::hub) fn low_watermark(&self, record: u32) -> LowWatermark {
        LowWatermark::read(&self.hub.region, self.hub.layout.block(record, channel::LOW_WATERMARK))
    }
}
