//! What a client has received, and so which events it lacks. All code that replays or sends events
//! asks here.
//!
//! A client has received everything up to a place in the log. Apart from that, there are events
//! that it has received elsewhere, or is not owed, although they are appended after that place:
//! Redis delivers them late, or another nginx was faster.

use crate::hub::log::delivery::EventFacts;
use crate::hub::log::position::{Kind, LogOrder, LowWatermark};
use crate::hub::log::since::Since;
use crate::hub::Now;
use crate::sse::id::EntryId;

/// An id this many milliseconds below the clock was assigned before, whatever the clocks say.
const LONG_BEFORE: u64 = 3_600_000;

/// The order in which events are compared, and in which those of several channels are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Order {
    /// By id, when a stream starts: a channel that was joined late has old ids at high positions.
    Id,
    /// By position, later on.
    Position,
    /// By id, of what comes after a position: a channel that has caught up has lower ids at higher
    /// positions.
    IdAfter(u64),
}

impl Order {
    /// Returns the order of an event. Events in the order of positions have no id.
    pub fn key(self, place: LogOrder, kind: Kind) -> LogOrder {
        match self {
            Order::Id | Order::IdAfter(_) => place.by_id(kind),
            Order::Position => LogOrder { position: place.position, ..LogOrder::START },
        }
    }
}

/// What a client has received of its channels.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Everything up to this.
    pub(in crate::hub) up_to: LogOrder,
    pub(in crate::hub) order: Order,
    /// And these of the later events.
    pub(in crate::hub) elsewhere: Elsewhere,
}

/// What a client has received elsewhere, or is not owed, of the events that are appended after its
/// stream has started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Elsewhere {
    /// Nothing: whatever is appended is new to it.
    #[default]
    Nothing,
    /// The events with ids of Redis up to this: its id says that another nginx has sent them.
    UpTo(EntryId),
    /// What was published before its stream started, because the client had no id.
    Before {
        /// The end of the log when the stream started. It is not owed events with ids of Redis up
        /// to this.
        end: EntryId,
        /// The start of the stream, in milliseconds of the monotonic clock. It is not owed late
        /// events that were created before.
        start: u64,
    },
    /// Nothing, because it receives history that still has to be fetched from Redis; but a loss up
    /// to this id does not concern it.
    LossesUpTo(EntryId),
    /// What was published before a time, because the client asked for what came later.
    Since(Since),
}

/// How many of the events that a client lacks are replayed when its stream starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Extent {
    /// All. If some were lost, the client receives a gap event.
    All,
    /// None, because no history is owed. If there were any, the client receives a gap event.
    Nothing,
    /// At most this many of the newest ones of each channel, because the client does not know of
    /// others.
    Newest(u64),
    /// All that were published at or after a time. If some of these were lost, the client receives
    /// a gap event.
    Since(Since),
    /// The newest run of each channel, from its first event.
    Run,
}

impl Extent {
    /// Returns the extent for a client whose id says what it has received.
    pub fn after_id(owed: u64) -> Extent {
        if owed == 0 {
            Extent::Nothing
        } else {
            Extent::All
        }
    }
}

impl Received {
    /// Returns what the client of an open stream has received: everything up to a position of the
    /// log, and some events elsewhere.
    pub fn at(position: u64, elsewhere: Elsewhere) -> Received {
        let up_to = LogOrder { position, ..LogOrder::START };
        Received { up_to, order: Order::Position, elsewhere }
    }

    /// Returns the same for an open stream of several channels, which receives the events after
    /// that position in the order of their ids.
    pub fn merged_after(position: u64, elsewhere: Elsewhere) -> Received {
        Received { up_to: LogOrder::START, order: Order::IdAfter(position), elsewhere }
    }

    /// Returns the position up to which the client has received everything, if its id says it.
    pub(in crate::hub) fn position(&self) -> u64 {
        match self.order {
            Order::IdAfter(position) => position,
            Order::Id | Order::Position => self.up_to.position,
        }
    }

    /// Returns what a client has received when its stream starts: everything up to this id.
    pub(in crate::hub) fn by_id(up_to: LogOrder) -> Received {
        Received { up_to, order: Order::Id, elsewhere: Elsewhere::Nothing }
    }

    /// Returns what a client has received, or is not owed, that asks for everything from a time on.
    pub(in crate::hub) fn since(since: Since) -> Received {
        let elsewhere = Elsewhere::Since(since);
        Received { up_to: LogOrder::START, order: Order::Id, elsewhere }
    }

    /// Returns whether an event is after the place up to which the client has received everything.
    pub(in crate::hub) fn is_after(&self, place: LogOrder, kind: Kind) -> bool {
        let is_after_position = match self.order {
            Order::IdAfter(position) => place.position > position,
            Order::Id | Order::Position => true,
        };
        is_after_position && self.key(place, kind) > self.up_to
    }

    /// Returns the order of an event for this client.
    pub(in crate::hub) fn key(&self, place: LogOrder, kind: Kind) -> LogOrder {
        self.order.key(place, kind)
    }

    /// Returns whether the client lacks an event that is after that place.
    pub(in crate::hub) fn lacks(&self, event: &EventFacts) -> bool {
        !self.elsewhere.has(event)
    }

    /// Returns whether the client lacks an event that is after that place, if it receives it
    /// through a pattern. An open stream of a pattern has received earlier events when they were
    /// published.
    pub(in crate::hub) fn lacks_through_pattern(&self, event: &EventFacts) -> bool {
        let has_earlier = self.order != Order::Id && event.is_earlier;
        !has_earlier && self.lacks(event)
    }

    /// Returns whether the client lacks what a channel has lost.
    pub(in crate::hub) fn lacks_lost(&self, lost: LowWatermark, now: Now) -> bool {
        self.is_after(lost.place, lost.kind()) && !self.elsewhere.covers(lost, now)
    }

    /// Records that the client has received the next event.
    pub(in crate::hub) fn advance(&mut self, place: LogOrder, kind: Kind) {
        self.up_to = self.key(place, kind);
    }
}

impl Elsewhere {
    /// Returns what a client has received whose id says that it has the events of Redis up to this.
    pub fn up_to(entry_id: EntryId) -> Elsewhere {
        if entry_id == EntryId::default() {
            Elsewhere::Nothing
        } else {
            Elsewhere::UpTo(entry_id)
        }
    }

    /// Returns the id up to which the client has received, or is not owed, the events with ids of
    /// Redis.
    pub fn entry_id(&self) -> EntryId {
        match *self {
            Elsewhere::UpTo(entry_id) | Elsewhere::Before { end: entry_id, .. } => entry_id,
            Elsewhere::Nothing | Elsewhere::LossesUpTo(_) | Elsewhere::Since(_) => {
                EntryId::default()
            }
        }
    }

    /// Returns whether the client may have this event, or a later one.
    pub fn reaches(&self, place: LogOrder, kind: Kind) -> bool {
        let elsewhere = LogOrder { entry_id: self.entry_id(), position: 0 };
        place.by_id(kind) <= elsewhere
    }

    fn has(&self, event: &EventFacts) -> bool {
        let is_before_start = match self {
            Elsewhere::Before { start, .. } => event.is_late && event.born < *start,
            Elsewhere::Since(since) => since.excludes(event),
            Elsewhere::Nothing | Elsewhere::UpTo(_) | Elsewhere::LossesUpTo(_) => false,
        };
        event.kind == Kind::Durable && event.place.entry_id <= self.entry_id() || is_before_start
    }

    /// Returns whether what a channel has lost does not concern the client.
    fn covers(&self, low_watermark: LowWatermark, now: Now) -> bool {
        let lost = low_watermark.place.entry_id;
        match *self {
            Elsewhere::Since(since) => since.excludes_lost(low_watermark),
            // No id says whether a plain message was received.
            _ if low_watermark.kind() != Kind::Durable => false,
            Elsewhere::Nothing => false,
            Elsewhere::UpTo(entry_id) | Elsewhere::LossesUpTo(entry_id) => lost <= entry_id,
            Elsewhere::Before { end, start } => {
                let started = now.wall.saturating_sub(now.mono.saturating_sub(start));
                lost <= end || lost.ms < started.saturating_sub(LONG_BEFORE)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { mono: 10_000, mono_ns: 0, wall: 1_700_000_000_000 };

    fn id(ms: u64) -> EntryId {
        EntryId { ms, seq: 0 }
    }

    fn place(ms: u64, position: u64) -> LogOrder {
        LogOrder { entry_id: id(ms), position }
    }

    /// How an event can have reached the log: when it was published, when its channel caught up, or
    /// from before its channel was subscribed to; created at 100 or 300.
    fn events(ms: u64, kind: Kind) -> Vec<EventFacts> {
        let (place, live) = (place(ms, 7), (false, false));
        [(live, 100), ((true, false), 100), ((true, false), 300), ((true, true), 300)]
            .map(|((is_late, is_earlier), born)| EventFacts {
                place,
                kind,
                is_late,
                is_earlier,
                born,
            })
            .to_vec()
    }

    /// Which of the events a client lacks that has received these elsewhere, as `x` and `.`, of
    /// durable events with the ids 40 and 60, and of plain messages.
    fn lacking(elsewhere: Elsewhere, through_pattern: bool) -> String {
        let received = Received::at(5, elsewhere);
        let kinds = [(40, Kind::Durable), (60, Kind::Durable), (40, Kind::Placed)];
        let of = |(ms, kind)| {
            let lacks = |event: &EventFacts| {
                if through_pattern {
                    received.lacks_through_pattern(event)
                } else {
                    received.lacks(event)
                }
            };
            events(ms, kind).iter().map(|event| if lacks(event) { 'x' } else { '.' }).collect()
        };
        kinds.map(of).map(|letters: String| letters).join(" ")
    }

    #[test]
    fn what_was_received_elsewhere_is_not_lacked() {
        let before = Elsewhere::Before { end: id(50), start: 200 };
        for (elsewhere, on_channel, through_pattern) in [
            (Elsewhere::Nothing, "xxxx xxxx xxxx", "xxx. xxx. xxx."),
            (Elsewhere::UpTo(id(50)), ".... xxxx xxxx", ".... xxx. xxx."),
            (before, ".... x.xx x.xx", ".... x.x. x.x."),
            (Elsewhere::LossesUpTo(id(50)), "xxxx xxxx xxxx", "xxx. xxx. xxx."),
        ] {
            assert_eq!(lacking(elsewhere, false), on_channel, "{elsewhere:?}");
            assert_eq!(lacking(elsewhere, true), through_pattern, "{elsewhere:?}");
        }
        // A stream that starts has received nothing through its patterns.
        let starting = Received::by_id(place(30, 0));
        assert!(events(40, Kind::Durable)
            .iter()
            .all(|event| starting.lacks_through_pattern(event)));
    }

    #[test]
    fn a_place_is_compared_by_id_at_first_and_by_position_later() {
        let by_id = Received::by_id(place(50, 7));
        for (event, kind, is_after) in [
            (place(50, 8), Kind::Durable, false),
            (place(50, 8), Kind::Placed, true),
            (place(50, 7), Kind::Placed, false),
            (place(51, 1), Kind::Durable, true),
            (place(49, 9), Kind::Local, false),
        ] {
            assert_eq!(by_id.is_after(event, kind), is_after, "{event:?} {kind:?}");
        }
        let mut by_position = Received::at(7, Elsewhere::Nothing);
        assert!(by_position.is_after(place(1, 8), Kind::Durable));
        assert!(!by_position.is_after(place(99, 7), Kind::Durable));
        by_position.advance(place(1, 8), Kind::Durable);
        assert!(!by_position.is_after(place(1, 8), Kind::Durable));
    }

    #[test]
    fn a_loss_concerns_clients_that_have_not_received_it() {
        let lost = |ms, kind| LowWatermark::default().raised(place(ms, 7), kind);
        let lacks = |elsewhere, lost| Received::at(5, elsewhere).lacks_lost(lost, NOW);
        let long_ago = NOW.wall - 10_000 - LONG_BEFORE;
        let before = Elsewhere::Before { end: id(50), start: 200 };
        for (elsewhere, ms, is_lacked) in [
            (Elsewhere::Nothing, 40, true),
            (Elsewhere::UpTo(id(50)), 50, false),
            (Elsewhere::UpTo(id(50)), 51, true),
            (Elsewhere::LossesUpTo(id(50)), 50, false),
            (Elsewhere::LossesUpTo(id(50)), 51, true),
            (before, 50, false),
            // Whatever the end of the log was, this was published before the stream started.
            (before, long_ago, false),
            (before, NOW.wall - 9_000, true),
        ] {
            assert_eq!(lacks(elsewhere, lost(ms, Kind::Durable)), is_lacked, "{elsewhere:?} {ms}");
            // No id says whether a plain message was received.
            assert!(lacks(elsewhere, lost(ms, Kind::Placed)));
        }
        assert!(!Received::at(7, Elsewhere::Nothing).lacks_lost(lost(99, Kind::Durable), NOW));
    }

    #[test]
    fn ids_that_may_have_been_received_are_not_sent_unchecked() {
        let up_to = Elsewhere::up_to(id(50));
        assert!(up_to.reaches(place(50, 7), Kind::Durable));
        assert!(!up_to.reaches(place(50, 7), Kind::Placed));
        // A durable event with a lower id may follow.
        assert!(up_to.reaches(place(49, 7), Kind::Placed));
        assert!(!Elsewhere::up_to(id(0)).reaches(place(1, 1), Kind::Durable));
        assert!(!Elsewhere::LossesUpTo(id(50)).reaches(place(40, 7), Kind::Durable));
    }
}
