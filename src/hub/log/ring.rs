//! Reads new events without the lock, from the ring of descriptors, and checks the copies.
//!
//! Blocks may be reused while they are copied. The stamp of the event's first block shows it: it is
//! cleared before the blocks can be reused, and published bytes cannot reach it. A copy that was
//! overwritten is discarded, and the event counts as gone.

use crate::hub::listeners::control::ControlEntry;
use crate::hub::log::delivery::{born_at, is_earlier, is_late};
use crate::hub::log::monotonic_time::MonotonicTime;
use crate::hub::log::position::{Kind, LogOrder};
use crate::hub::log::run::is_last_of_run;
use crate::hub::memory::alloc::read_event;
use crate::hub::memory::atomic::{fence, Ordering};
use crate::hub::memory::layout::{event, header, high, low};
use crate::hub::{Hub, Now};
use crate::sse::id::{EntryId, Id};

/// Where an event is stored: its position, its channel, and its first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The event's position in the log.
    pub position: u64,
    /// The event's channel, as [`super::Membership::channel`] returns it.
    pub channel: u32,
    pub(in crate::hub) block: u32,
}

impl Descriptor {
    /// Returns the control entry, if this is not an event.
    #[inline]
    pub fn signal(&self) -> Option<ControlEntry> {
        ControlEntry::from_block(self.block)
    }
}

/// A copy of an event in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventCopy {
    /// The type followed by the encoded data.
    bytes: Vec<u8>,
    type_len: usize,
    /// The event's order.
    pub place: LogOrder,
    /// When the event arrived.
    pub born: MonotonicTime,
    kind: Option<Kind>,
    /// Whether the channel's run was finished after the event.
    pub ends_run: bool,
}

impl EventCopy {
    /// Returns the type; empty for none.
    pub fn event_type(&self) -> &[u8] {
        &self.bytes[..self.type_len]
    }

    /// Returns the data as `data: …` lines.
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.type_len..]
    }

    /// Returns the form of the event's id.
    pub fn kind(&self) -> Kind {
        self.kind.unwrap_or(Kind::Local)
    }

    /// Returns the event's id.
    pub fn id(&self, hub: &Hub) -> Id {
        self.place.id(self.kind(), hub.tag())
    }
}

impl Hub {
    /// Returns the position of the newest event.
    pub fn head(&self) -> u64 {
        let head = self.region.get(header::HEAD);
        fence(Ordering::Acquire);
        head
    }

    /// Returns where the event at a position up to the head is stored, or `None` if the ring has
    /// been overtaken and newer descriptors have taken its place.
    pub fn descriptor(&self, position: u64) -> Option<Descriptor> {
        let at = self.layout.ring(position);
        let (there, entry) = (self.region.get(at), self.region.get(at + 1));
        fence(Ordering::Acquire);
        let reserved = self.region.get(header::RESERVED);
        let overtaken = reserved.saturating_sub(position) >= self.layout.ring as u64;
        (!overtaken && there == position).then(|| Descriptor {
            position,
            channel: high(entry),
            block: low(entry),
        })
    }

    /// Copies an event. Returns false if it is gone, expired, or late, so that it is not for every
    /// stream.
    pub fn copy(&self, from: Descriptor, now: Now, out: &mut EventCopy) -> bool {
        let entry_id = self.layout.stamp(from.block);
        if self.region.get(entry_id) != from.position {
            return false;
        }
        fence(Ordering::Acquire);
        let word = self.region.get(self.layout.block(from.block, event::BORN));
        if self.is_old(word, now) || is_late(word) || !self.copy_block(from.block, out) {
            return false;
        }
        fence(Ordering::Acquire);
        out.place.position = from.position;
        !self.is_forgotten(from) && self.region.get(entry_id) == from.position
    }

    /// Returns whether an event was published before its channel was subscribed to, so that open
    /// streams of patterns do not receive it. Returns false if the event is gone.
    pub fn is_earlier(&self, from: Descriptor) -> bool {
        let entry_id = self.layout.stamp(from.block);
        if self.region.get(entry_id) != from.position {
            return false;
        }
        fence(Ordering::Acquire);
        let word = self.region.get(self.layout.block(from.block, event::BORN));
        fence(Ordering::Acquire);
        self.region.get(entry_id) == from.position && is_earlier(word)
    }

    /// Copies the event in a block, as far as its chain can be followed.
    pub(in crate::hub) fn copy_block(&self, block: u32, out: &mut EventCopy) -> bool {
        let word = |word| self.region.get(self.layout.block(block, word));
        let len = low(word(event::OWNER)) as usize;
        let born = word(event::BORN);
        out.type_len = born as u8 as usize;
        if out.type_len > len || len > self.max_event() {
            return false;
        }
        out.born = born_at(born);
        out.kind = Some(Kind::from_flags((born >> 8) as u8));
        out.ends_run = is_last_of_run(born);
        let entry_id = EntryId { ms: word(event::MS), seq: word(event::SEQ) };
        out.place = LogOrder { entry_id, position: self.region.get(self.layout.stamp(block)) };
        out.bytes.clear();
        out.bytes.reserve(len);
        read_event(&self.region, &self.layout, block, len, &mut out.bytes)
    }

    fn is_old(&self, born: u64, now: Now) -> bool {
        let age = self.region.get(header::AGE);
        age != 0 && born_at(born).ms().saturating_add(age) <= now.mono
    }
}
