//! The place of a live durable event in its channel: next, after something that was missed, or before what the
//! channel has had already.

use crate::hub::ReportedId;

/// How messages are delivered at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// Each message arrives once, at this process alone.
    Alone,
    /// Messages that a former holder has received arrive here as well, for a while after a handover.
    Repeats,
    /// A holder and its successor count messages together: none may be held back.
    Counts,
}

/// The place of an event in its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOrder {
    /// After the last one, or a repetition, which the hub recognises: it is appended.
    Next,
    /// Something before it was missed, and has to be read first.
    BehindHole,
    /// The stream has started over: what it has now has to be read.
    Rewound,
}

/// Returns the place of an event with this id, whose predecessor in the stream is `prev`, in a channel whose
/// last event was `last`.
pub fn place(
    id: ReportedId,
    prev: ReportedId,
    last: ReportedId,
    reading: DeliveryMode,
) -> EventOrder {
    if reading == DeliveryMode::Counts {
        return EventOrder::Next;
    }
    if prev > last {
        return EventOrder::BehindHole;
    }
    if id <= last && reading == DeliveryMode::Alone {
        return EventOrder::Rewound;
    }
    EventOrder::Next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ReportedId {
        ReportedId::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn an_event_is_next_or_behind_a_hole_or_its_stream_has_started_over() {
        use {DeliveryMode::*, EventOrder::*};
        // id, prev, last: alone, while repetitions come, while two count.
        let table = [
            ("5-0", "4-0", "4-0", [Next, Next, Next]),
            ("5-0", "0-0", "0-0", [Next, Next, Next]),
            ("5-1", "4-7", "5-0", [Next, Next, Next]),
            ("5-0", "4-1", "4-0", [BehindHole, BehindHole, Next]),
            ("5-0", "4-0", "0-0", [BehindHole, BehindHole, Next]),
            ("5-0", "4-0", "5-0", [Rewound, Next, Next]),
            ("3-0", "0-0", "5-0", [Rewound, Next, Next]),
        ];
        for (new, prev, last, places) in table {
            for (reading, wanted) in [Alone, Repeats, Counts].into_iter().zip(places) {
                let found = place(id(new), id(prev), id(last), reading);
                assert_eq!(found, wanted, "{new} behind {prev}, after {last}, {reading:?}");
            }
        }
    }
}
