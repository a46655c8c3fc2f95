//! Which id an event bears on a stream: nearly always its own.

use super::stream::Subscription;
use crate::hub::{Hub, Kind, LogOrder, Source};
use crate::sse::frame::Frame;

/// The place of an id, if there is one.
pub type At = Option<(LogOrder, Kind)>;

/// How a stream's ids are written.
#[derive(Clone, Copy, Debug)]
pub enum Ids {
    /// As the events have them.
    Own,
    /// As places of this hub. Several streams in Redis have no common order, so of what comes from them
    /// only this hub can say what comes after what.
    Here(u32),
}

impl Ids {
    /// Those of a stream of these channels.
    pub fn of(hub: &Hub, channels: &[Subscription]) -> Ids {
        match hub.source() {
            Source::Streams if channels.len() > 1 => Ids::Here(hub.tag()),
            _ => Ids::Own,
        }
    }

    /// The kind of an event's id.
    pub fn kind(self, own: Kind) -> Kind {
        match self {
            Ids::Own => own,
            Ids::Here(_) => Kind::Placed,
        }
    }

    /// An event's frame with that id.
    pub fn frame(self, frame: Frame, place: LogOrder) -> Frame {
        match self {
            Ids::Own => frame,
            Ids::Here(tag) => frame.with_id(&place.id(Kind::Placed, tag)),
        }
    }
}

/// The id that an event bears on a stream. Ids rise there: what Redis brings late, behind events of other
/// channels, bears the last id once more, or the client would return to a place before these.
pub fn later(last: At, own: (LogOrder, Kind)) -> (LogOrder, Kind) {
    let by_id = |(place, kind): (LogOrder, Kind)| place.by_id(kind);
    last.filter(|last| by_id(*last) > by_id(own)).unwrap_or(own)
}
