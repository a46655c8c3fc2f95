//! What a client has received, according to its id.

use crate::hub::log::position::LogOrder;
use crate::hub::replication::lease::Source;
use crate::hub::replication::reported::Latest;
use crate::hub::{Hub, Now};
use crate::sse::id::{EntryId, Id};

/// An id this many milliseconds below the clock was assigned before, whatever the clocks say.
const LONG_BEFORE: u64 = 3_600_000;
/// How far apart two nginx servers may have read different streams of Redis, in milliseconds.
const APART: u64 = 2_000;

/// What a client's id says.
pub(in crate::hub) enum Origin {
    /// It has received everything up to this position of this hub.
    Here(LogOrder),
    /// It has received, from another nginx, everything with an id of Redis up to this.
    Elsewhere(EntryId),
    /// The id means nothing here.
    Unknown,
}

/// What a client has received elsewhere, or is not owed, of the events that are appended after its
/// stream has started: durable events from another nginx, or from before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlreadySeen {
    /// It has received the events with ids of Redis up to this.
    pub entry_id: EntryId,
    /// It has received the late events that were created before this time, in milliseconds of the
    /// monotonic clock.
    pub born: u64,
    /// The client's entry id, if it is above everything that this hub has seen: another nginx was
    /// faster, or the id is from another time. 0 otherwise.
    pub ahead: EntryId,
    /// A loss up to this id does not concern the client, though it receives the events that exist.
    pub forgone: EntryId,
}

impl AlreadySeen {
    /// Returns whether a loss of durable events up to `lost` does not concern the client.
    pub(in crate::hub) fn covers(self, lost: EntryId, now: Now) -> bool {
        let began = now.wall.saturating_sub(now.mono.saturating_sub(self.born));
        let long_before = self.born != 0 && lost.ms < began.saturating_sub(LONG_BEFORE);
        lost <= self.entry_id.max(self.forgone) || long_before
    }
}

impl Origin {
    /// Returns the client's entry id if it is above the end of the log, and 0 otherwise.
    pub(in crate::hub) fn ahead(&self, end: LogOrder) -> EntryId {
        Some(self.seen()).filter(|seen| *seen > end.entry_id).unwrap_or_default()
    }

    /// Returns the id up to which the client has received the events with ids of Redis.
    pub(in crate::hub) fn seen(&self) -> EntryId {
        match self {
            Origin::Here(place) => place.entry_id,
            Origin::Elsewhere(entry_id) => *entry_id,
            Origin::Unknown => EntryId::default(),
        }
    }
}

impl Hub {
    /// Returns what a client without an id is not owed: everything before its stream starts.
    pub(in crate::hub) fn seen_before(&self, end: LogOrder, now: Now) -> AlreadySeen {
        if self.source() == Source::Alone {
            return AlreadySeen::default();
        }
        AlreadySeen { entry_id: end.entry_id, born: now.mono, ..AlreadySeen::default() }
    }

    /// Returns what a client without an id is not owed if it receives history that still has to be
    /// fetched from Redis.
    pub(in crate::hub) fn seen_before_replay(&self, end: LogOrder, now: Now) -> AlreadySeen {
        let forgone = end.entry_id.max(EntryId { ms: now.wall, seq: 0 });
        AlreadySeen { forgone, ..AlreadySeen::default() }
    }

    /// Returns what a client's id says.
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
        // Redis may have assigned higher ids on channels that have no listener here.
        if entry_id > end.entry_id && !(joined && Latest::here(now).allows(entry_id)) {
            return Origin::Unknown;
        }
        match id {
            // The id of an event: that event, and everything placed at its id, was received.
            Id::Local { tag, .. } if tag == self.tag() && !joined => {
                Origin::Here(LogOrder { entry_id, position: u64::MAX })
            }
            Id::Placed { tag, pos, .. } if tag == self.tag() => {
                Origin::Here(LogOrder { entry_id, position: pos })
            }
            // Streams in Redis have no common order, so another nginx may have read them in another
            // one.
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
