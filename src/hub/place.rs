//! Places in the log: what events are ordered by, and how they become ids and back.

use super::layout::{event, header, Layout};
use super::region::Region;
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
    pub(super) fn from_flags(flags: u8) -> Kind {
        match flags & 3 {
            1 => Kind::Durable,
            2 => Kind::Placed,
            _ => Kind::Local,
        }
    }

    pub(super) fn flags(self) -> u8 {
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

    /// Reads a place of three words.
    pub(super) fn read(region: &Region, at: usize) -> Place {
        let stamp = Stamp { ms: region.get(at), seq: region.get(at + 1) };
        Place { stamp, position: region.get(at + 2) }
    }

    /// Writes it as three words.
    pub(super) fn write(self, mut set: impl FnMut(usize, u64)) {
        set(0, self.stamp.ms);
        set(1, self.stamp.seq);
        set(2, self.position);
    }

    /// The place of a retained event.
    pub(super) fn of_event(region: &Region, layout: &Layout, block: u32) -> Place {
        let stamp = Stamp {
            ms: region.get(layout.block(block, event::MS)),
            seq: region.get(layout.block(block, event::SEQ)),
        };
        Place { stamp, position: region.get(layout.stamp(block)) }
    }

    /// The id of an event at this place.
    pub fn id(self, kind: Kind, tag: u32) -> Id {
        match kind {
            Kind::Local => Id::Local { stamp: self.stamp, tag },
            Kind::Durable => Id::Durable(self.stamp),
            Kind::Placed => Id::Placed { stamp: self.stamp, tag, pos: self.position },
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

/// The end of the log: the place behind the newest event.
pub(super) fn end(region: &Region) -> Place {
    let last = Stamp { ms: region.get(header::LAST_MS), seq: region.get(header::LAST_SEQ) };
    Place { stamp: last, position: region.get(header::HEAD) }
}
