//! The ids that events carry on a stream: nearly always their own.

use super::stream::Subscription;
use crate::hub::{Hub, Kind, LogOrder, Source};
use crate::sse::frame::Frame;

/// The last id of a stream, if there is one.
pub type LastId = Option<(LogOrder, Kind)>;

/// How the ids of a stream are written.
#[derive(Clone, Copy, Debug)]
pub enum Ids {
    /// Events keep their own ids.
    Own,
    /// As positions of this hub, with its tag. Several Redis streams have no common order, so only
    /// this hub knows the order of their events.
    Here(u32),
}

impl Ids {
    /// Returns how the ids of a stream of these channels are written.
    pub fn for_channels(hub: &Hub, channels: &[Subscription]) -> Ids {
        match hub.source() {
            Source::Streams if channels.len() > 1 => Ids::Here(hub.tag()),
            _ => Ids::Own,
        }
    }

    /// Returns the kind of id that an event carries on the stream.
    pub fn kind(self, own: Kind) -> Kind {
        match self {
            Ids::Own => own,
            Ids::Here(_) => Kind::Placed,
        }
    }

    /// Returns an event's frame with the id that it carries on the stream.
    pub fn frame(self, frame: Frame, place: LogOrder) -> Frame {
        match self {
            Ids::Own => frame,
            Ids::Here(tag) => frame.with_id(&place.id(Kind::Placed, tag)),
        }
    }
}

/// Returns the id that an event carries on a stream. Ids on a stream must not fall: if Redis
/// delivers an event late, after events of other channels with higher ids, it carries the last id
/// again. Otherwise the client would resume from a position before those.
pub fn later(last: LastId, own: (LogOrder, Kind)) -> (LogOrder, Kind) {
    let by_id = |(place, kind): (LogOrder, Kind)| place.by_id(kind);
    last.filter(|last| by_id(*last) > by_id(own)).unwrap_or(own)
}
