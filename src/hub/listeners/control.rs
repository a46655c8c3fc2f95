//! Control entries: entries of the ring that are not events, but notify the processes that read the
//! log of something about a channel. A control entry has a position like an event, and no other
//! data.

use crate::hub::memory::atomic::{fence, Ordering};

use crate::hub::memory::access::Guard;
use crate::hub::memory::layout::{header, pair};
use crate::hub::memory::redo::Transaction;

/// The highest block number. No zone has a block with a higher one.
const LAST_BLOCK: u32 = u32::MAX - 5;

/// A notification about a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlEntry {
    /// The channel's streams have to end.
    End,
    /// The channel has a listener, but is not in sync with Redis. This is for the holder of the
    /// subscription.
    Wanted,
    /// The channel is in sync with Redis, or cannot be for now.
    Step,
    /// Events of the channel that precede others in the log are being fetched from Redis.
    CatchingUp,
    /// Events were lost that no process here has seen. The channel's low watermark says which.
    Lost,
    /// The channel's run has finished.
    Finished,
}

impl ControlEntry {
    /// Returns the number that stands in the ring entry in place of an event's block.
    fn number(self) -> u32 {
        match self {
            ControlEntry::End => 0,
            ControlEntry::Wanted => u32::MAX,
            ControlEntry::Step => u32::MAX - 1,
            ControlEntry::Lost => u32::MAX - 2,
            ControlEntry::Finished => u32::MAX - 3,
            ControlEntry::CatchingUp => u32::MAX - 4,
        }
    }

    /// Returns the control entry that stands in place of a block, or `None` if it is an event's
    /// block.
    #[inline]
    pub(in crate::hub) fn from_block(block: u32) -> Option<ControlEntry> {
        match block {
            0 => Some(ControlEntry::End),
            1..=LAST_BLOCK => None,
            _ => [
                ControlEntry::Wanted,
                ControlEntry::Step,
                ControlEntry::Lost,
                ControlEntry::Finished,
                ControlEntry::CatchingUp,
            ]
            .into_iter()
            .find(|signal| signal.number() == block),
        }
    }
}

impl Guard<'_> {
    /// Adds a control entry to the ring and moves the head. Returns its position.
    pub(in crate::hub) fn signal(
        &self,
        change: &mut Transaction<'_>,
        record: u32,
        signal: ControlEntry,
    ) -> u64 {
        let position = self.get(header::HEAD) + 1;
        self.hub.region.set(header::RESERVED, position);
        fence(Ordering::Release);
        self.enter_control(change, (record, position), signal);
        change.set(header::HEAD, position);
        position
    }

    /// Adds a control entry at a reserved position to the ring. The caller moves the head.
    pub(in crate::hub) fn enter_control(
        &self,
        change: &mut Transaction<'_>,
        (record, position): (u32, u64),
        signal: ControlEntry,
    ) {
        let entry = self.hub.layout.ring(position);
        change.set(entry + 1, pair(record, signal.number()));
        change.set(entry, position);
    }
}
