//! What a client's id says, and what a client without one is owed.

use crate::hub::log::position::LogOrder;
use crate::hub::log::received::Elsewhere;
use crate::hub::replication::lease::Source;
use crate::hub::replication::reported::Latest;
use crate::hub::{Hub, Now};
use crate::sse::id::{EntryId, Id};

/// How far apart two nginx servers may have read different streams of Redis, in milliseconds.
pub(super) const APART: u64 = 2_000;

/// What a client's id says.
pub(in crate::hub) enum Origin {
    /// It has received everything up to this position of this hub.
    Here(LogOrder),
    /// It has received, from another nginx, everything with an id of Redis up to this.
    Elsewhere(EntryId),
    /// The id means nothing here.
    Unknown,
}

impl Origin {
    /// Returns the client's entry id if it is above the end of the log: another nginx was faster,
    /// or the id is from another time.
    pub(in crate::hub) fn claim(&self, end: LogOrder) -> Option<EntryId> {
        Some(self.entry_id()).filter(|entry_id| *entry_id > end.entry_id)
    }

    /// Returns what the client has received of events that are appended later.
    pub(in crate::hub) fn elsewhere(&self) -> Elsewhere {
        Elsewhere::up_to(self.entry_id())
    }

    /// Returns the id up to which the client has received the events with ids of Redis.
    fn entry_id(&self) -> EntryId {
        match self {
            Origin::Here(place) => place.entry_id,
            Origin::Elsewhere(entry_id) => *entry_id,
            Origin::Unknown => EntryId::default(),
        }
    }
}

impl Hub {
    /// Returns what a client without an id is not owed: everything before its stream starts.
    pub(in crate::hub) fn not_owed(&self, end: LogOrder, now: Now) -> Elsewhere {
        if self.source() == Source::Alone {
            return Elsewhere::Nothing;
        }
        Elsewhere::Before { end: end.entry_id, start: now.mono }
    }

    /// Returns what a client without an id is not owed if it receives history that still has to be
    /// fetched from Redis: only the report of losses.
    pub(in crate::hub) fn not_owed_before_history(&self, end: LogOrder, now: Now) -> Elsewhere {
        Elsewhere::LossesUpTo(end.entry_id.max(EntryId { ms: now.wall, seq: 0 }))
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
