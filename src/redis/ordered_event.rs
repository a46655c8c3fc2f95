//! Events whose order was checked. No other events of Redis are appended to the hub.

use crate::hub::{
    FencingToken, Hub, IncomingEvent, Ingested, JudgedId, LeaseError, Loss, MonotonicTime,
    NewEvent, Now, Provenance, RunPlace,
};
use crate::redis::entry::Entry;
use crate::redis::message::Message;
use crate::redis::message_order::InOrder;
use crate::sse::id::EntryId;

/// An event whose order in its channel was checked.
#[derive(Clone, Copy, Debug)]
pub struct OrderedEvent<'m>(IncomingEvent<'m>);

impl<'m> OrderedEvent<'m> {
    /// Returns the event of a message that is in order. `id` is its judged id if it is durable;
    /// `born` is when it arrived.
    pub fn from_message(
        _: InOrder,
        channel: &'m [u8],
        message: &'m Message<'m>,
        id: Option<JudgedId>,
        born: MonotonicTime,
    ) -> OrderedEvent<'m> {
        let event = match message {
            Message::Durable(event) => {
                NewEvent { event_type: &event.event_type, data: &event.data }
            }
            Message::Plain(data) => NewEvent { event_type: b"", data },
            Message::Doubtful(_) => NewEvent { event_type: b"", data: b"" },
        };
        let provenance = id.map_or(Provenance::Plain, Provenance::Live);
        let run_place = RunPlace::Unknown;
        OrderedEvent(IncomingEvent { channel, provenance, event, born, run_place })
    }

    /// Returns the event of an entry of a channel's stream, which defines the order.
    pub fn from_entry(
        channel: &'m [u8],
        entry: &'m Entry,
        provenance: Provenance,
        born: MonotonicTime,
    ) -> OrderedEvent<'m> {
        let event = NewEvent { event_type: &entry.event_type, data: &entry.data };
        let run_place = match entry.number {
            None => RunPlace::Unknown,
            Some(0) => RunPlace::First,
            Some(_) => RunPlace::Later,
        };
        OrderedEvent(IncomingEvent { channel, provenance, event, born, run_place })
    }

    /// Returns the same event, received only through a pattern.
    pub fn strayed(self) -> OrderedEvent<'m> {
        OrderedEvent(IncomingEvent { provenance: self.0.provenance.strayed(), ..self.0 })
    }

    /// Returns the same event, published after its channel was subscribed to.
    pub fn since_subscribed(self) -> OrderedEvent<'m> {
        OrderedEvent(IncomingEvent { provenance: self.0.provenance.since_subscribed(), ..self.0 })
    }

    /// Returns the same event, received after its channel was read again.
    pub fn missed(self) -> OrderedEvent<'m> {
        OrderedEvent(IncomingEvent { provenance: self.0.provenance.missed(), ..self.0 })
    }

    /// Returns the same event; if it is a plain message, it comes just after this id.
    pub fn plain_before(self, id: EntryId) -> OrderedEvent<'m> {
        let provenance = match self.0.provenance {
            Provenance::Plain => Provenance::PlainBefore(id),
            other => other,
        };
        OrderedEvent(IncomingEvent { provenance, ..self.0 })
    }

    /// Returns its channel.
    pub fn channel(&self) -> &'m [u8] {
        self.0.channel
    }

    /// Returns how it was received.
    pub fn provenance(&self) -> Provenance {
        self.0.provenance
    }

    /// Returns its id, if it has a plausible one.
    pub fn entry_id(&self) -> Option<EntryId> {
        self.0.provenance.entry_id()
    }

    /// Returns the bytes of its data.
    pub fn size(&self) -> usize {
        self.0.event.data.len()
    }
}

/// What is appended to the log: an event, or the loss of a channel's events before those that
/// follow.
#[derive(Debug)]
pub enum LogStep<'m> {
    /// An event.
    Event(OrderedEvent<'m>),
    /// The name of a channel, and what it has lost.
    Loss(&'m [u8], Loss),
}

/// Appends events to the hub in order, as many as one hold of its lock allows, but at least one.
pub fn ingest(
    hub: &Hub,
    fence: FencingToken,
    events: &[OrderedEvent<'_>],
    now: Now,
) -> Result<Ingested, LeaseError> {
    let events: Vec<IncomingEvent<'_>> = events.iter().map(|event| event.0).collect();
    hub.ingest(fence, &events, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_an_event_was_received_is_changed_alone() {
        let id = EntryId { ms: 5, seq: 0 };
        let judged = JudgedId::from(id);
        let entry = Entry {
            id: id.into(),
            prev: None,
            number: Some(0),
            event_type: b"t".to_vec(),
            data: b"data".to_vec(),
            skipped: 0,
        };
        let event = |provenance| {
            OrderedEvent::from_entry(b"a", &entry, provenance, MonotonicTime::default())
        };
        let live = event(Provenance::Live(judged));
        for (changed, provenance) in [
            (live.strayed(), Provenance::Strayed(Some(judged))),
            (live.since_subscribed(), Provenance::Joining(judged)),
            (live.missed(), Provenance::Missed(judged)),
            (live.plain_before(id), Provenance::Live(judged)),
            (event(Provenance::Plain).plain_before(id), Provenance::PlainBefore(id)),
            (event(Provenance::Plain).since_subscribed(), Provenance::Plain),
        ] {
            assert_eq!(changed.provenance(), provenance);
            assert_eq!((changed.channel(), changed.size()), (&b"a"[..], 4));
            assert_eq!(changed.0.event.event_type, b"t");
            assert_eq!(changed.0.run_place, RunPlace::First);
        }
    }
}
