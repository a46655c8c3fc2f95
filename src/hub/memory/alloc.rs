//! Allocates and frees blocks, and chains of them.
//!
//! Free blocks are a list, linked through `next` and bounded by its count, and all blocks from
//! FRESH on, which were never used. Allocated blocks keep their links, so a chain taken from the
//! list is already linked, and a writer that dies before its commit has allocated nothing.

use crate::hub::memory::layout::{event, header, high, low, pair, Layout, PAYLOAD};
use crate::hub::memory::redo::Transaction;
use crate::hub::memory::region::Region;

/// Returns how many blocks an event takes whose type and data have `len` bytes.
pub fn blocks_for_event(len: usize) -> usize {
    1 + len.saturating_sub(event::FIRST).div_ceil(PAYLOAD)
}

/// Allocates blocks one after the other. They are free again unless `finish` is part of a commit.
pub struct BlockAllocator<'a> {
    region: &'a Region,
    layout: &'a Layout,
    free: u32,
    free_count: u32,
    fresh: u32,
    last: u32,
}

impl<'a> BlockAllocator<'a> {
    /// Starts with the free blocks as they are.
    pub fn new(region: &'a Region, layout: &'a Layout) -> BlockAllocator<'a> {
        let free = region.get(header::FREE);
        let fresh = region.get(header::FRESH) as u32;
        BlockAllocator { region, layout, free: high(free), free_count: low(free), fresh, last: 0 }
    }

    /// Allocates the next block, and links it after the previous one. The caller has made sure that
    /// there is one.
    pub fn take(&mut self) -> u32 {
        let block;
        if self.free_count > 0 {
            block = self.free;
            self.free_count -= 1;
            self.free = self.region.get(self.layout.next(block)) as u32;
        } else {
            block = self.fresh;
            assert!((block as usize) < self.layout.blocks, "blocks were taken without room");
            self.fresh += 1;
            if self.last != 0 {
                self.region.set(self.layout.next(self.last), u64::from(block));
            }
        }
        self.last = block;
        block
    }

    /// Makes the allocation part of a transaction.
    pub fn finish(self, change: &mut Transaction<'_>) {
        let free = if self.free_count == 0 { 0 } else { self.free };
        change.set(header::FREE, pair(free, self.free_count));
        change.set(header::FRESH, u64::from(self.fresh));
    }
}

/// Returns how many blocks are free.
pub fn available(region: &Region, layout: &Layout) -> usize {
    low(region.get(header::FREE)) as usize + (layout.blocks - region.get(header::FRESH) as usize)
}

/// Frees a chain of `count` blocks.
pub fn free_chain(change: &mut Transaction<'_>, first: u32, count: usize) {
    let mut tail = first;
    for _ in 1..count {
        tail = change.region.get(change.layout.next(tail)) as u32;
    }
    let free = change.get(header::FREE);
    change.set(change.layout.next(tail), u64::from(high(free)));
    change.set(header::FREE, pair(first, low(free) + count as u32));
}

/// Allocates a chain and writes an event's type and data into it. Returns the first block.
pub fn write_event(allocator: &mut BlockAllocator<'_>, event_type: &[u8], data: &[u8]) -> u32 {
    let (region, layout) = (allocator.region, allocator.layout);
    let block = allocator.take();
    let mut out = Filler {
        at: layout.block(block, event::DATA),
        left: event::FIRST,
        held: [0; 8],
        held_len: 0,
    };
    for part in [event_type, data] {
        let mut rest = part;
        while !rest.is_empty() {
            if out.left == 0 {
                let next = allocator.take();
                out.at = layout.block(next, 0);
                out.left = PAYLOAD;
            }
            rest = out.fill(region, rest);
        }
    }
    out.flush(region);
    block
}

/// Packs bytes into words. `left` bytes are left in the block.
struct Filler {
    at: usize,
    left: usize,
    held: [u8; 8],
    held_len: usize,
}

impl Filler {
    /// Writes as many bytes as fit into the block, and returns the rest. Blocks are whole words, so
    /// a partial word never crosses from one block into the next.
    fn fill<'b>(&mut self, region: &Region, bytes: &'b [u8]) -> &'b [u8] {
        let (now, rest) = bytes.split_at(bytes.len().min(self.left));
        self.left -= now.len();
        let mut now = now;
        if self.held_len > 0 {
            let (head, tail) = now.split_at(now.len().min(8 - self.held_len));
            self.held[self.held_len..self.held_len + head.len()].copy_from_slice(head);
            self.held_len += head.len();
            now = tail;
            if self.held_len == 8 {
                self.flush(region);
            }
        }
        let whole = now.len() & !7;
        if whole > 0 {
            region.write_bytes(self.at, &now[..whole]);
            self.at += whole / 8;
        }
        if whole < now.len() {
            self.held_len = now.len() - whole;
            self.held[..self.held_len].copy_from_slice(&now[whole..]);
        }
        rest
    }

    fn flush(&mut self, region: &Region) {
        if self.held_len > 0 {
            region.write_bytes(self.at, &self.held[..self.held_len]);
            self.at += 1;
            self.held_len = 0;
        }
    }
}

/// Appends the `len` bytes of type and data of the event in `first` to `out`. Returns false if the
/// chain is broken, because the event was evicted while it was read without the lock.
pub fn read_event(
    region: &Region,
    layout: &Layout,
    first: u32,
    len: usize,
    out: &mut Vec<u8>,
) -> bool {
    let mut rest = len;
    let here = rest.min(event::FIRST);
    region.read_bytes(layout.block(first, event::DATA), here, out);
    rest -= here;
    let mut block = first;
    while rest > 0 {
        block = region.get(layout.next(block)) as u32;
        if block == 0 || block as usize >= layout.blocks {
            return false;
        }
        let here = rest.min(PAYLOAD);
        region.read_bytes(layout.block(block, 0), here, out);
        rest -= here;
    }
    true
}
