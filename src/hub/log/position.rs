//! Positions in the log: the order of events, how they become ids and back, and watermarks.

use crate::hub::memory::layout::{event, header, Layout};
use crate::hub::memory::region::Region;
use crate::sse::id::{EntryId, Id};

/// The order of events: by entry id, then by position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogOrder {
    /// The entry id, which the event's id contains.
    pub entry_id: EntryId,
    /// The dense number of the event in this hub's log.
    pub position: u64,
}

/// The form of an event's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `MS-SEQ-TAG`: assigned by this hub.
    Local,
    /// `MS-SEQ`: assigned by Redis.
    Durable,
    /// `MS-SEQ-TAG-POS`: only this hub can place the event.
    Placed,
}

impl Kind {
    pub(in crate::hub) fn from_flags(flags: u8) -> Kind {
        match flags & 3 {
            1 => Kind::Durable,
            2 => Kind::Placed,
            _ => Kind::Local,
        }
    }

    pub(in crate::hub) fn flags(self) -> u8 {
        match self {
            Kind::Local => 0,
            Kind::Durable => 1,
            Kind::Placed => 2,
        }
    }
}

impl LogOrder {
    /// The lowest value, before every event.
    pub const START: LogOrder = LogOrder { entry_id: EntryId { ms: 0, seq: 0 }, position: 0 };

    /// Returns the order of a retained event.
    pub(in crate::hub) fn from_event(region: &Region, layout: &Layout, block: u32) -> LogOrder {
        let entry_id = EntryId {
            ms: region.get(layout.block(block, event::MS)),
            seq: region.get(layout.block(block, event::SEQ)),
        };
        LogOrder { entry_id, position: region.get(layout.stamp(block)) }
    }

    /// Returns the order by id. An event with an id of Redis comes before all that were placed
    /// while its id was the high watermark; its own position means nothing to other nginx servers.
    pub fn by_id(self, kind: Kind) -> LogOrder {
        match kind {
            Kind::Durable => LogOrder { position: 0, ..self },
            Kind::Local | Kind::Placed => self,
        }
    }

    /// Returns the id of an event with this order.
    pub fn id(self, kind: Kind, tag: u32) -> Id {
        match kind {
            Kind::Local => Id::Local { entry_id: self.entry_id, tag },
            Kind::Durable => Id::Durable(self.entry_id),
            Kind::Placed => Id::Placed { entry_id: self.entry_id, tag, pos: self.position },
        }
    }

    /// Returns the order that an id denotes, as far as it does, and its kind.
    pub fn from_id(id: Id) -> (LogOrder, Kind) {
        match id {
            Id::Local { entry_id, .. } => (LogOrder { entry_id, position: 0 }, Kind::Local),
            Id::Durable(entry_id) => (LogOrder { entry_id, position: 0 }, Kind::Durable),
            Id::Placed { entry_id, pos, .. } => {
                (LogOrder { entry_id, position: pos }, Kind::Placed)
            }
        }
    }

    /// Returns the id just before an event: a client that resumes from it receives that event
    /// first.
    pub fn id_before(self, kind: Kind, tag: u32) -> Id {
        match kind {
            Kind::Placed => {
                Id::Placed { entry_id: self.entry_id, tag, pos: self.position.saturating_sub(1) }
            }
            _ => LogOrder { entry_id: self.entry_id.before(), ..self }.id(kind, tag),
        }
    }
}

/// The newest event that a channel has lost: it was evicted, or was never available here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LowWatermark {
    /// The order of that event.
    pub place: LogOrder,
    /// The kinds of events that were lost.
    pub left: LostKinds,
}

/// The kinds of events that a channel has lost. Those that Redis retains can come back; others
/// cannot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LostKinds {
    /// Only events with ids of this hub, or none.
    #[default]
    Local,
    /// Only durable events.
    Durable,
    /// Plain messages too, but the newest lost event was durable.
    Mixed,
    /// The newest lost event was a plain message.
    Placed,
}

/// The bits of the third word that hold the position; the kinds are above them.
const POSITION_BITS: u32 = 62;

impl LowWatermark {
    /// Reads a low watermark from three words.
    pub(in crate::hub) fn read(region: &Region, at: usize) -> LowWatermark {
        let entry_id = EntryId { ms: region.get(at), seq: region.get(at + 1) };
        let word = region.get(at + 2);
        let left = match word >> POSITION_BITS {
            0 => LostKinds::Local,
            1 => LostKinds::Durable,
            2 => LostKinds::Mixed,
            _ => LostKinds::Placed,
        };
        LowWatermark {
            place: LogOrder { entry_id, position: word & ((1 << POSITION_BITS) - 1) },
            left,
        }
    }

    /// Writes the low watermark as three words.
    pub(in crate::hub) fn write(self, mut set: impl FnMut(usize, u64)) {
        set(0, self.place.entry_id.ms);
        set(1, self.place.entry_id.seq);
        set(2, (self.left as u64) << POSITION_BITS | self.place.position);
    }

    /// Returns the low watermark after another event was lost.
    pub(in crate::hub) fn raised(self, place: LogOrder, kind: Kind) -> LowWatermark {
        let left = match (kind, self.left) {
            (Kind::Local, _) => LostKinds::Local,
            (Kind::Placed, _) => LostKinds::Placed,
            (Kind::Durable, LostKinds::Mixed | LostKinds::Placed) => LostKinds::Mixed,
            (Kind::Durable, LostKinds::Local | LostKinds::Durable) => LostKinds::Durable,
        };
        LowWatermark { place, left }
    }

    /// Returns the kind of the newest lost event.
    pub fn kind(self) -> Kind {
        match self.left {
            LostKinds::Local => Kind::Local,
            LostKinds::Durable | LostKinds::Mixed => Kind::Durable,
            LostKinds::Placed => Kind::Placed,
        }
    }
}

/// Returns the end of the log: the order of the newest event.
pub(in crate::hub) fn end(region: &Region) -> LogOrder {
    let last = EntryId { ms: region.get(header::LAST_MS), seq: region.get(header::LAST_SEQ) };
    LogOrder { entry_id: last, position: region.get(header::HEAD) }
}
