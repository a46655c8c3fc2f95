//! What a client's id says of what it has had.

use crate::hub::log::position::Place;
use crate::hub::replication::lease::Source;
use crate::hub::replication::reported::Latest;
use crate::hub::{Hub, Now};
use crate::sse::id::{Id, Stamp};

/// Numbers that are so far below the clock, in ms, were given before, whatever the clocks say.
const LONG_BEFORE: u64 = 3_600_000;
/// How far apart two nginxes may have read what different streams in Redis had at one time, in ms.
const APART: u64 = 2_000;

/// What a client's id says.
pub(in crate::hub) enum Origin {
    /// It had everything up to this place.
    Here(Place),
    /// It had, from another nginx, everything that Redis numbered up to this.
    Elsewhere(Stamp),
    /// Nothing that is known here.
    Unknown,
}

/// What a client has had, or has no claim to, of what enters the log only after its stream has begun:
/// durable events that another nginx gave it, or that happened before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Had {
    /// What Redis numbered up to this.
    pub stamp: Stamp,
    /// What was born before this (ms of the monotonic clock) and Redis brought late.
    pub born: u64,
    /// The number of the client's id, if it is above everything that this hub has seen: another nginx was
    /// faster, or the id is of another time. 0 otherwise.
    pub ahead: Stamp,
    /// What is lost up to this is no loss to it, though it gets what is there.
    pub forgone: Stamp,
}

impl Had {
    /// Whether durable events that are lost up to a number are none of the client's.
    pub(in crate::hub) fn covers(self, lost: Stamp, now: Now) -> bool {
        let began = now.wall.saturating_sub(now.mono.saturating_sub(self.born));
        let long_before = self.born != 0 && lost.ms < began.saturating_sub(LONG_BEFORE);
        lost <= self.stamp.max(self.forgone) || long_before
    }
}

impl Origin {
    /// The number of the client's id, if it is above the end of the log; 0 otherwise.
    pub(in crate::hub) fn ahead(&self, end: Place) -> Stamp {
        Some(self.had()).filter(|had| *had > end.stamp).unwrap_or_default()
    }

    /// Up to which number the client has had what Redis numbered.
    pub(in crate::hub) fn had(&self) -> Stamp {
        match self {
            Origin::Here(place) => place.stamp,
            Origin::Elsewhere(stamp) => *stamp,
            Origin::Unknown => Stamp::default(),
        }
    }
}

impl Hub {
    /// What a client without an id has no claim to: all that happened before its stream begins.
    pub(in crate::hub) fn had_before(&self, end: Place, now: Now) -> Had {
        if self.source() == Source::Alone {
            return Had::default();
        }
        Had { stamp: end.stamp, born: now.mono, ..Had::default() }
    }

    /// The same of one that is to get what is owed, while that still comes from Redis.
    pub(in crate::hub) fn had_before_replay(&self, end: Place, now: Now) -> Had {
        let forgone = end.stamp.max(Stamp { ms: now.wall, seq: 0 });
        Had { forgone, ..Had::default() }
    }

    /// What a client's id says.
    pub(in crate::hub) fn origin_of(
        &self,
        id: &[u8],
        end: Place,
        channels: usize,
        now: Now,
    ) -> Origin {
        let Some(id) = Id::parse(id) else { return Origin::Unknown };
        let stamp = id.stamp();
        let joined = self.source() != Source::Alone;
        // Redis may have given higher ids to channels that nobody here listens to.
        if stamp > end.stamp && !(joined && Latest::here(now).allows(stamp)) {
            return Origin::Unknown;
        }
        match id {
            // The id of an event: that event itself, and all that was placed at it, is known.
            Id::Local { tag, .. } if tag == self.tag() && !joined => {
                Origin::Here(Place { stamp, position: u64::MAX })
            }
            Id::Placed { tag, pos, .. } if tag == self.tag() => {
                Origin::Here(Place { stamp, position: pos })
            }
            // Streams in Redis have no common order: another nginx may have read them in another one.
            Id::Durable(_) if self.source() == Source::Streams && channels > 1 => {
                Origin::Elsewhere(Stamp { ms: stamp.ms.saturating_sub(APART), seq: 0 }.before())
            }
            Id::Durable(_) if joined => Origin::Here(Place { stamp, position: 0 }),
            Id::Placed { .. } if self.source() == Source::Streams => {
                Origin::Elsewhere(Stamp { ms: stamp.ms.saturating_sub(APART), seq: 0 }.before())
            }
            Id::Placed { .. } if joined => Origin::Elsewhere(stamp),
            _ => Origin::Unknown,
        }
    }
}
