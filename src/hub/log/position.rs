//! Places in the log: what events are ordered by, and how they become ids and back.

use crate::hub::memory::layout::{event, header, Layout};
use crate::hub::memory::region::Region;
use crate::sse::id::{EntryId, Id};

/// The place of an event: by its id's number, then by position (design: order of places).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogOrder {
    /// The number that the id carries.
    pub entry_id: EntryId,
    /// The dense number of the event in this hub's log.
    pub position: u64,
}

/// How an event's id is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `MS-SEQ-TAG`: made by this hub.
    Local,
    /// `MS-SEQ`: made by Redis.
    Durable,
    /// `MS-SEQ-TAG-POS`: placed by this hub only.
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
    /// The lowest place: before every event.
    pub const START: LogOrder = LogOrder { entry_id: EntryId { ms: 0, seq: 0 }, position: 0 };

    /// The place of a retained event.
    pub(in crate::hub) fn from_event(region: &Region, layout: &Layout, block: u32) -> LogOrder {
        let entry_id = EntryId {
            ms: region.get(layout.block(block, event::MS)),
            seq: region.get(layout.block(block, event::SEQ)),
        };
        LogOrder { entry_id, position: region.get(layout.stamp(block)) }
    }

    /// The place as the order of ids knows it. What Redis has numbered stands before all that came
    /// while its number was the mark; its own position says nothing to other nginxes.
    pub fn by_id(self, kind: Kind) -> LogOrder {
        match kind {
            Kind::Durable => LogOrder { position: 0, ..self },
            Kind::Local | Kind::Placed => self,
        }
    }

    /// The id of an event at this place.
    pub fn id(self, kind: Kind, tag: u32) -> Id {
        match kind {
            Kind::Local => Id::Local { entry_id: self.entry_id, tag },
            Kind::Durable => Id::Durable(self.entry_id),
            Kind::Placed => Id::Placed { entry_id: self.entry_id, tag, pos: self.position },
        }
    }

    /// The place that an id names, as far as it does, and its kind.
    pub fn from_id(id: Id) -> (LogOrder, Kind) {
        match id {
            Id::Local { entry_id, .. } => (LogOrder { entry_id, position: 0 }, Kind::Local),
            Id::Durable(entry_id) => (LogOrder { entry_id, position: 0 }, Kind::Durable),
            Id::Placed { entry_id, pos, .. } => {
                (LogOrder { entry_id, position: pos }, Kind::Placed)
            }
        }
    }

    /// The id of the place just before an event: who resumes from it gets that event first.
    pub fn id_before(self, kind: Kind, tag: u32) -> Id {
        match kind {
            Kind::Placed => {
                Id::Placed { entry_id: self.entry_id, tag, pos: self.position.saturating_sub(1) }
            }
            _ => LogOrder { entry_id: self.entry_id.before(), ..self }.id(kind, tag),
        }
    }
}

/// What has left a channel for good, or was never to be had: the place of the newest such event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LowWatermark {
    /// Its place.
    pub place: LogOrder,
    /// What kinds have left.
    pub left: LostKinds,
}

/// What kinds of events have left a channel. Those that Redis retains can come back; others cannot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LostKinds {
    /// Only those that this hub numbers, or none.
    #[default]
    Local,
    /// Only durable ones.
    Durable,
    /// Plain ones too, but the newest was durable.
    Mixed,
    /// The newest was a plain one.
    Placed,
}

/// Bits of a floor's third word that hold the position; `Left` stands above them.
const POSITION_BITS: u32 = 62;

impl LowWatermark {
    /// Reads a floor of three words.
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

    /// Writes it as three words.
    pub(in crate::hub) fn write(self, mut set: impl FnMut(usize, u64)) {
        set(0, self.place.entry_id.ms);
        set(1, self.place.entry_id.seq);
        set(2, (self.left as u64) << POSITION_BITS | self.place.position);
    }

    /// The floor when an event at a place has left as well.
    pub(in crate::hub) fn raised(self, place: LogOrder, kind: Kind) -> LowWatermark {
        let left = match (kind, self.left) {
            (Kind::Local, _) => LostKinds::Local,
            (Kind::Placed, _) => LostKinds::Placed,
            (Kind::Durable, LostKinds::Mixed | LostKinds::Placed) => LostKinds::Mixed,
            (Kind::Durable, LostKinds::Local | LostKinds::Durable) => LostKinds::Durable,
        };
        LowWatermark { place, left }
    }

    /// The kind of the newest that left.
    pub fn kind(self) -> Kind {
        match self.left {
            LostKinds::Local => Kind::Local,
            LostKinds::Durable | LostKinds::Mixed => Kind::Durable,
            LostKinds::Placed => Kind::Placed,
        }
    }
}

/// The end of the log: the place behind the newest event.
pub(in crate::hub) fn end(region: &Region) -> LogOrder {
    let last = EntryId { ms: region.get(header::LAST_MS), seq: region.get(header::LAST_SEQ) };
    LogOrder { entry_id: last, position: region.get(header::HEAD) }
}
