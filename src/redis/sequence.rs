//! Where a live durable event stands in its channel: next, behind something that was missed, or before what
//! the channel has had already.

use crate::hub::ReportedId;

/// How messages are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// Each message comes once, to this process alone.
    Alone,
    /// What a former holder has had comes here as well, for a while after a takeover.
    Repeats,
    /// A holder and its successor count messages together: none may be held back.
    Counts,
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOrder {
    /// Behind the last one, or it comes again: it is appended, and the hub knows repetitions.
    Next,
    /// Something before it was missed, and has to be fetched first.
    BehindHole,
    /// The stream has started over: what it has now has to be fetched.
    Rewound,
}

/// Where an event with this id stands, whose predecessor in the stream is `prev`, in a channel whose last
/// event was `last`.
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
