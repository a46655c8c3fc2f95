//! Signals: entries of the ring that are no events, but tell the processes which read it something of
//! a channel. They have a position like any event, and nothing but that entry.

use std::sync::atomic::{fence, Ordering};

use crate::hub::memory::access::Guard;
use crate::hub::memory::layout::{header, pair};
use crate::hub::memory::redo::Change;

/// No zone has a block of a higher number.
const LAST_BLOCK: u32 = u32::MAX - 3;

/// What is told of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Its streams are to end.
    End,
    /// Somebody listens to it, and it is not in step with Redis: for the bridge.
    Wanted,
    /// It is in step.
    Step,
    /// Events are lost that nobody here has seen; its floor says which.
    Lost,
}

impl Signal {
    /// What stands in the entry where an event has its block.
    fn number(self) -> u32 {
        match self {
            Signal::End => 0,
            Signal::Wanted => u32::MAX,
            Signal::Step => u32::MAX - 1,
            Signal::Lost => u32::MAX - 2,
        }
    }

    /// The signal that stands in place of a block.
    #[inline]
    pub(in crate::hub) fn of(block: u32) -> Option<Signal> {
        match block {
            0 => Some(Signal::End),
            1..=LAST_BLOCK => None,
            _ => [Signal::Wanted, Signal::Step, Signal::Lost]
                .into_iter()
                .find(|signal| signal.number() == block),
        }
    }
}

impl Guard<'_> {
    /// Enters a signal into the ring and moves the head. Returns its position.
    pub(in crate::hub) fn signal(
        &self,
        change: &mut Change<'_>,
        record: u32,
        signal: Signal,
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
