//! Signals: entries of the ring that are no events, but tell the processes which read it something of
//! a channel. They have a position like any event, and nothing but that entry.

use std::sync::atomic::{fence, Ordering};

use crate::hub::memory::access::Guard;
use crate::hub::memory::layout::{header, pair};
use crate::hub::memory::redo::Transaction;

/// No zone has a block of a higher number.
const LAST_BLOCK: u32 = u32::MAX - 3;

/// What is told of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlEntry {
    /// Its streams are to end.
    End,
    /// Somebody listens to it, and it is not in step with Redis: for the bridge.
    Wanted,
    /// It is in step.
    Step,
    /// Events are lost that nobody here has seen; its floor says which.
    Lost,
}

impl ControlEntry {
    /// What stands in the entry where an event has its block.
    fn number(self) -> u32 {
        match self {
            ControlEntry::End => 0,
            ControlEntry::Wanted => u32::MAX,
            ControlEntry::Step => u32::MAX - 1,
            ControlEntry::Lost => u32::MAX - 2,
        }
    }

    /// The signal that stands in place of a block.
    #[inline]
    pub(in crate::hub) fn from_block(block: u32) -> Option<ControlEntry> {
        match block {
            0 => Some(ControlEntry::End),
            1..=LAST_BLOCK => None,
            _ => [ControlEntry::Wanted, ControlEntry::Step, ControlEntry::Lost]
                .into_iter()
                .find(|signal| signal.number() == block),
        }
    }
}

impl Guard<'_> {
    /// Enters a signal into the ring and moves the head. Returns its position.
    pub(in crate::hub) fn signal(
        &self,
        change: &mut Transaction<'_>,
        record: u32,
        signal: ControlEntry,
    ) -> u64 {
        let position = self.get(header::HEAD) + 1;
        self.hub.region.set(header::RESERVED, position);
        fence(Ordering::Release);
        let entry = self.hub.layout.ring(position);
        change.set(entry + 1, pair(record, signal.number()));
        change.set(entry, position);
        change.set(header::HEAD, position);
        position
    }
}
