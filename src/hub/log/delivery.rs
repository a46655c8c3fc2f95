//! How and when an event reached the log, and the word of its record that says so.

use crate::hub::log::monotonic_time::MonotonicTime;
use crate::hub::log::position::{Kind, LogOrder};

/// How an event reached the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Delivery {
    /// It was published on this nginx.
    Here,
    /// Redis delivered it as a plain message.
    Plain,
    /// Redis delivered it, with an id, when it was published.
    Live,
    /// It was fetched from Redis when its channel caught up: some streams received it elsewhere.
    Late,
    /// It was fetched from Redis, and was published before its channel was subscribed to: open
    /// streams of patterns received it then.
    Earlier,
}

/// What the record of an event says about it, as far as it matters to whom it is sent.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) struct EventFacts {
    pub place: LogOrder,
    pub kind: Kind,
    /// It was fetched from Redis when its channel caught up.
    pub is_late: bool,
    /// It was fetched, and published before its channel was subscribed to.
    pub is_earlier: bool,
    /// When it was created, in milliseconds of the monotonic clock.
    pub born: u64,
}

/// The flag of an event that was fetched late.
const LATE: u8 = 4;
/// The flag of an event that was published before its channel was subscribed to.
const EARLIER: u8 = 8;
/// The flag of an event that may have been published before an older one of its channel, or that
/// follows such an event.
pub(in crate::hub) const UNORDERED: u8 = 128;

impl Delivery {
    /// Returns the flags of an event that reached the log in this way.
    pub(in crate::hub) fn flags(self) -> u8 {
        match self {
            Delivery::Earlier => LATE | EARLIER,
            Delivery::Late => LATE,
            Delivery::Here | Delivery::Plain | Delivery::Live => 0,
        }
    }
}

/// Returns the word BORN of an event.
pub(in crate::hub) fn born_word(born: MonotonicTime, flags: u8, type_len: usize) -> u64 {
    born.to_bits() << 16 | u64::from(flags) << 8 | type_len as u64
}

/// Returns when an event arrived, by its word BORN.
pub(in crate::hub) fn born_at(word: u64) -> MonotonicTime {
    MonotonicTime::from_bits(word >> 16)
}

/// Returns whether an event was fetched from Redis when its channel caught up, by its word BORN.
pub(in crate::hub) fn is_late(born: u64) -> bool {
    (born >> 8) as u8 & LATE != 0
}

/// Returns whether an event was published before its channel was subscribed to, by its word BORN.
pub(in crate::hub) fn is_earlier(born: u64) -> bool {
    (born >> 8) as u8 & EARLIER != 0
}

/// Returns whether events up to this one may be in another order than that of their times, by its
/// word BORN.
pub(in crate::hub) fn is_unordered(born: u64) -> bool {
    (born >> 8) as u8 & UNORDERED != 0
}
