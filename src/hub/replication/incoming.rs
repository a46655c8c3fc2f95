//! Events that arrive from Redis, and how they were received.

use crate::hub::log::prepared_event::NewEvent;
use crate::hub::log::run_start::RunPlace;
use crate::hub::replication::reported::{JudgedId, ReportedId};
use crate::hub::MonotonicTime;
use crate::sse::finish;
use crate::sse::id::EntryId;

/// An event from Redis.
#[derive(Clone, Copy, Debug)]
pub struct IncomingEvent<'a> {
    /// The channel.
    pub channel: &'a [u8],
    /// How the event was received.
    pub provenance: Provenance,
    /// The type and the data.
    pub event: NewEvent<'a>,
    /// When the event was created, by this machine's clock.
    pub born: MonotonicTime,
    /// What Redis says about its place in its run.
    pub run_place: RunPlace,
}

impl IncomingEvent<'_> {
    /// Returns whether this is not an event, but the finish of the channel's run.
    pub(super) fn is_finish(&self) -> bool {
        self.event.event_type == finish::EVENT_TYPE
    }
}

/// How an event was received from Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// As a plain message, without an id.
    Plain,
    /// As a plain message that has waited until its channel was read. The next event of its channel
    /// has the id after this one.
    PlainBefore(EntryId),
    /// When it was published, with its id.
    Live(JudgedId),
    /// When the connection was restored: it was published meanwhile.
    Missed(JudgedId),
    /// When its channel was joined: it was published before. If a pattern that matches the channel
    /// was subscribed to, the event was received through the pattern then.
    Earlier(JudgedId),
    /// While its channel was being joined: the channel is subscribed to, and its events are not
    /// received through patterns any more.
    Joining(JudgedId),
    /// Because a pattern matches its channel, which no process has joined: with an id, or plain.
    Strayed(Option<JudgedId>),
}

impl Provenance {
    /// Returns the event's id, if it has a plausible one.
    pub fn entry_id(self) -> Option<EntryId> {
        match self {
            Provenance::Live(id)
            | Provenance::Missed(id)
            | Provenance::Earlier(id)
            | Provenance::Joining(id) => id.entry_id(),
            Provenance::Strayed(id) => id.and_then(JudgedId::entry_id),
            Provenance::Plain | Provenance::PlainBefore(_) => None,
        }
    }

    /// Returns the id of the event's entry in the channel's stream, if that is read.
    pub(super) fn entry(self) -> Option<ReportedId> {
        match self {
            Provenance::Live(id)
            | Provenance::Missed(id)
            | Provenance::Earlier(id)
            | Provenance::Joining(id) => Some(id.reported()),
            Provenance::Strayed(_) | Provenance::Plain | Provenance::PlainBefore(_) => None,
        }
    }

    /// Returns the provenance of the same event if it was published after its channel was
    /// subscribed to.
    pub fn since_subscribed(self) -> Provenance {
        match self {
            Provenance::Earlier(id) | Provenance::Live(id) => Provenance::Joining(id),
            other => other,
        }
    }

    /// Returns the provenance of the same event if its channel has been read again meanwhile.
    pub fn missed(self) -> Provenance {
        match self {
            Provenance::Live(id) => Provenance::Missed(id),
            other => other,
        }
    }

    /// Returns whether this is a plain message.
    pub fn is_plain(self) -> bool {
        matches!(self, Provenance::Plain | Provenance::PlainBefore(_) | Provenance::Strayed(None))
    }

    /// Returns the provenance of the same message if it was received only through a pattern.
    pub fn strayed(self) -> Provenance {
        match self {
            Provenance::Live(id) => Provenance::Strayed(Some(id)),
            Provenance::Plain => Provenance::Strayed(None),
            other => other,
        }
    }
}
