//! What a client's id says of what it has had.

use crate::hub::log::position::LogOrder;
use crate::hub::replication::lease::Source;
use crate::hub::replication::reported::Latest;
use crate::hub::{Hub, Now};
use crate::sse::id::{EntryId, Id};

/// Numbers that are so far below the clock, in ms, were given before, whatever the clocks say.
const LONG_BEFORE: u64 = 3_600_000;
/// How far apart two nginxes may have read what different streams in Redis had at one time, in ms.
const APART: u64 = 2_000;

/// What a client's id says.
pub(in crate::hub) enum Origin {
    /// It had everything up to this place.
    Here(LogOrder),
    /// It had, from another nginx, everything that Redis numbered up to this.
    Elsewhere(EntryId),
    /// Nothing that is known here.
    Unknown,
}

/// What a client has had, or has no claim to, of what enters the log only after its stream has begun:
/// durable events that another nginx gave it, or that happened before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlreadySeen {
    /// What Redis numbered up to this.
    pub entry_id: EntryId,
    /// What was born before this (ms of the monotonic clock) and Redis brought late.
    pub born: u64,
    /// The number of the client's id, if it is above everything that this hub has seen: another nginx was
    /// faster, or the id is of another time. 0 otherwise.
    pub ahead: EntryId,
    /// What is lost up to this is no loss to it, though it gets what is there.
    pub forgone: EntryId,
}

impl AlreadySeen {
    /// Whether durable events that are lost up to a number are none of the client's.
    pub(in crate::hub) fn covers(self, lost: EntryId, now: Now) -> bool {
        let began = now.wall.saturating_sub(now.mono.saturating_sub(self.born));
        let long_before = self.born != 0 && lost.ms < began.saturating_sub(LONG_BEFORE);
        lost <= self.entry_id.max(self.forgone) || long_before
    }
}

impl Origin {
    /// The number of the client's id, if it is above the end of the log; 0 otherwise.
    pub(in crate::hub) fn ahead(&self, end: LogOrder) -> EntryId {
        Some(self.seen()).filter(|seen| *seen > end.entry_id).unwrap_or_default()
    }

    /// Up to which number the client has had what Redis numbered.
    pub(in crate::hub) fn seen(&self) -> EntryId {
        match self {
            Origin::Here(place) => place.entry_id,
            Origin::Elsewhere(entry_id) => *entry_id,
            Origin::Unknown => EntryId::default(),
        }
    }
}

impl Hub {
    /// What a client without an id has no claim to: all that happened before its stream begins.
    pub(in crate::hub) fn seen_before(&self, end: LogOrder, now: Now) -> AlreadySeen {
        if self.source() == Source::Alone {
            return AlreadySeen::default();
        }
        AlreadySeen { entry_id: end.entry_id, born: now.mono, ..AlreadySeen::default() }
    }

    /// The same of one that is to get what is owed, while that still comes from Redis.
    pub(in crate::hub) fn seen_before_replay(&self, end: LogOrder, now: Now) -> AlreadySeen {
        let forgone = end.entry_id.max(EntryId { ms: now.wall, seq: 0 });
        AlreadySeen { forgone, ..AlreadySeen::default() }
    }

    /// What a client's id says.
    pub(in crate::hub) fn origin_of(
        &self,
        id: &[u8],
        end: LogOrder,
        channels: usize,
        now: Now,
    ) -> Origin {
        let Some(id) = Id::parse(id) else { return Origin::Unknown };
        let entry_id = id.entry_id();
        let joined = self.source() != Source::Alone;
        // Redis may have given higher ids to channels that nobody here listens to.
        if entry_id > end.entry_id && !(joined && Latest::here(now).allows(entry_id)) {
            return Origin::Unknown;
        }
        match id {
            // The id of an event: that event itself, and all that was placed at it, is known.
            Id::Local { tag, .. } if tag == self.tag() && !joined => {
                Origin::Here(LogOrder { entry_id, position: u64::MAX })
            }
            Id::Placed { tag, pos, .. } if tag == self.tag() => {
                Origin::Here(LogOrder { entry_id, position: pos })
            }
            // Streams in Redis have no common order: another nginx may have read them in another one.
            Id::Durable(_) if self.source() == Source::Streams && channels > 1 => {
                Origin::Elsewhere(
                    EntryId { ms: entry_id.ms.saturating_sub(APART), seq: 0 }.before(),
                )
            }
            Id::Durable(_) if joined => Origin::Here(LogOrder { entry_id, position: 0 }),
            Id::Placed { .. } if self.source() == Source::Streams => Origin::Elsewhere(
                EntryId { ms: entry_id.ms.saturating_sub(APART), seq: 0 }.before(),
            ),
            Id::Placed { .. } if joined => Origin::Elsewhere(entry_id),
            _ => Origin::Unknown,
        }
    }
}
