//! Places in the log: what events are ordered by, and how they become ids and back.

use crate::hub::memory::layout::{event, header, Layout};
use crate::hub::memory::region::Region;
use crate::sse::id::{Id, Stamp};

/// The place of an event: by its id's number, then by position (design: order of places).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The number that the id carries.
    pub stamp: Stamp,
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

impl Place {
    /// The lowest place: before every event.
    pub const START: Place = Place { stamp: Stamp { ms: 0, seq: 0 }, position: 0 };

    /// The place of a retained event.
    pub(in crate::hub) fn of_event(region: &Region, layout: &Layout, block: u32) -> Place {
        let stamp = Stamp {
            ms: region.get(layout.block(block, event::MS)),
            seq: region.get(layout.block(block, event::SEQ)),
        };
        Place { stamp, position: region.get(layout.stamp(block)) }
    }

    /// The place as the order of ids knows it. What Redis has numbered stands before all that came
    /// while its number was the mark; its own position says nothing to other nginxes.
    pub fn by_id(self, kind: Kind) -> Place {
        match kind {
            Kind::Durable => Place { position: 0, ..self },
            Kind::Local | Kind::Placed => self,
        }
    }

    /// The id of an event at this place.
    pub fn id(self, kind: Kind, tag: u32) -> Id {
        match kind {
            Kind::Local => Id::Local { stamp: self.stamp, tag },
            Kind::Durable => Id::Durable(self.stamp),
            Kind::Placed => Id::Placed { stamp: self.stamp, tag, pos: self.position },
        }
    }

    /// The place that an id names, as far as it does, and its kind.
    pub fn named(id: Id) -> (Place, Kind) {
        match id {
            Id::Local { stamp, .. } => (Place { stamp, position: 0 }, Kind::Local),
            Id::Durable(stamp) => (Place { stamp, position: 0 }, Kind::Durable),
            Id::Placed { stamp, pos, .. } => (Place { stamp, position: pos }, Kind::Placed),
        }
    }

    /// The id of the place just before an event: who resumes from it gets that event first.
    pub fn id_before(self, kind: Kind, tag: u32) -> Id {
        match kind {
            Kind::Placed => {
                Id::Placed { stamp: self.stamp, tag, pos: self.position.saturating_sub(1) }
            }
            _ => Place { stamp: self.stamp.before(), ..self }.id(kind, tag),
        }
    }
}

/// What has left a channel for good, or was never to be had: the place of the newest such event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// Its place.
    pub place: Place,
    /// What kinds have left.
    pub left: Left,
}

/// What kinds of events have left a channel. Those that Redis retains can come back; others cannot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Left {
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

impl Floor {
    /// Reads a floor of three words.
    pub(in crate::hub) fn read(region: &Region, at: usize) -> Floor {
        let stamp = Stamp { ms: region.get(at), seq: region.get(at + 1) };
        let word = region.get(at + 2);
        let left = match word >> POSITION_BITS {
            0 => Left::Local,
            1 => Left::Durable,
            2 => Left::Mixed,
            _ => Left::Placed,
        };
        Floor { place: Place { stamp, position: word & ((1 << POSITION_BITS) - 1) }, left }
    }

    /// Writes it as three words.
    pub(in crate::hub) fn write(self, mut set: impl FnMut(usize, u64)) {
        set(0, self.place.stamp.ms);
        set(1, self.place.stamp.seq);
        set(2, (self.left as u64) << POSITION_BITS | self.place.position);
    }

    /// The floor when an event at a place has left as well.
    pub(in crate::hub) fn raised(self, place: Place, kind: Kind) -> Floor {
        let left = match (kind, self.left) {
            (Kind::Local, _) => Left::Local,
            (Kind::Placed, _) => Left::Placed,
            (Kind::Durable, Left::Mixed | Left::Placed) => Left::Mixed,
            (Kind::Durable, Left::Local | Left::Durable) => Left::Durable,
        };
        Floor { place, left }
    }

    /// The kind of the newest that left.
    pub fn kind(self) -> Kind {
        match self.left {
            Left::Local => Kind::Local,
            Left::Durable | Left::Mixed => Kind::Durable,
            Left::Placed => Kind::Placed,
        }
    }
}

/// The end of the log: the place behind the newest event.
pub(in crate::hub) fn end(region: &Region) -> Place {
    let last = Stamp { ms: region.get(header::LAST_MS), seq: region.get(header::LAST_SEQ) };
    Place { stamp: last, position: region.get(header::HEAD) }
}
