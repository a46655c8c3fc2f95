//! Reading new events without the lock: the ring of descriptors, and copies that are checked.
//!
//! A copy may meet blocks that are being used again. The stamp of the event's first block says
//! whether it did: an evictor clears it before the blocks can be used, and published bytes cannot
//! reach it. What was torn is thrown away and counts as gone.

use std::sync::atomic::{fence, Ordering};

use crate::hub::listeners::control::ControlEntry;
use crate::hub::log::delivery::{is_earlier, is_late};
use crate::hub::log::position::{Kind, LogOrder};
use crate::hub::memory::alloc::read_event;
use crate::hub::memory::layout::{event, header, high, low};
use crate::hub::{Hub, Now};
use crate::sse::id::{EntryId, Id};

/// Where an event lies: its position, its channel and its first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The event's position in the log.
    pub position: u64,
    /// Its channel, as [`super::Membership::channel`] names it.
    pub channel: u32,
    pub(in crate::hub) block: u32,
}

impl Descriptor {
    /// What it tells of the channel, if it is no event.
    #[inline]
    pub fn signal(&self) -> Option<ControlEntry> {
        ControlEntry::from_block(self.block)
    }
}

/// An event that was copied out of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventCopy {
    /// Its type and encoded data, one behind the other.
    bytes: Vec<u8>,
    type_len: usize,
    /// Its place.
    pub place: LogOrder,
    /// When it came (ms of the monotonic clock).
    pub born: u64,
    kind: Option<Kind>,
}

impl EventCopy {
    /// The type; empty for none.
    pub fn event_type(&self) -> &[u8] {
        &self.bytes[..self.type_len]
    }

    /// The data as `data: …` lines.
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.type_len..]
    }

    /// How its id is written.
    pub fn kind(&self) -> Kind {
        self.kind.unwrap_or(Kind::Local)
    }

    /// The id.
    pub fn id(&self, hub: &Hub) -> Id {
        self.place.id(self.kind(), hub.tag())
    }
}

impl Hub {
    /// The position of the newest event.
    pub fn head(&self) -> u64 {
        let head = self.region.get(header::HEAD);
        fence(Ordering::Acquire);
        head
    }

    /// Where the event at a position (not above the head) lies. `None`: the ring has been
    /// overtaken, newer descriptors stand in its place.
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

    /// Copies an event. False: it is gone, or too old to be sent, or came late, so that it is not for
    /// every stream.
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

    /// Whether an event happened before its channel was subscribed to: streams of patterns in progress are
    /// not given it. False also if the event is gone.
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

    /// Copies the event in a block, as far as it can be followed.
    pub(in crate::hub) fn copy_block(&self, block: u32, out: &mut EventCopy) -> bool {
        let word = |word| self.region.get(self.layout.block(block, word));
        let len = low(word(event::OWNER)) as usize;
        let born = word(event::BORN);
        out.type_len = born as u8 as usize;
        if out.type_len > len || len > self.max_event() {
            return false;
        }
        out.born = born >> 16;
        out.kind = Some(Kind::from_flags((born >> 8) as u8));
        let entry_id = EntryId { ms: word(event::MS), seq: word(event::SEQ) };
        out.place = LogOrder { entry_id, position: self.region.get(self.layout.stamp(block)) };
        out.bytes.clear();
        out.bytes.reserve(len);
        read_event(&self.region, &self.layout, block, len, &mut out.bytes)
    }

    fn is_old(&self, born: u64, now: Now) -> bool {
        let age = self.region.get(header::AGE);
        age != 0 && (born >> 16).saturating_add(age) <= now.mono
    }
}
