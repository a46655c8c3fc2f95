//! Ids as Redis reports them, and which of them are plausible.
//!
//! Anyone who can write to Redis can choose an id: a single XADD in microseconds instead of
//! milliseconds is a date 50,000 years ahead. Such an id would put everything that follows out of
//! order, so a reported id is not an [`EntryId`]; it has to be checked first.

use std::fmt;

use crate::hub::Now;
use crate::sse::id::{EntryId, Id};

/// How far the clocks of this machine and of Redis may be apart, in milliseconds, before an id is
/// implausible.
const CLOCKS_APART: u64 = 3_600_000;
const DAY: u64 = 86_400_000;

/// The latest time that an id can have, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latest(u64);

impl Latest {
    /// Returns the latest time by the clock of this machine.
    pub fn here(now: Now) -> Latest {
        Latest(now.wall.saturating_add(CLOCKS_APART))
    }

    /// Returns the latest time by the clock of this machine and the clock of Redis (milliseconds
    /// since 1970), whichever is later. The latter is limited to a day ahead.
    pub fn in_redis(now: Now, redis: u64) -> Latest {
        let redis = redis.min(now.wall.saturating_add(DAY));
        Latest(now.wall.max(redis).saturating_add(CLOCKS_APART))
    }

    /// Returns whether an id can have been assigned by now.
    pub fn allows(self, entry_id: EntryId) -> bool {
        entry_id.ms <= self.0
    }
}

/// An id as Redis reports it, in an entry, a message, or a reply. It says how far a stream was
/// read, and nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReportedId(pub(in crate::hub) EntryId);

impl ReportedId {
    /// Parses an id of a stream, `MS-SEQ`.
    pub fn parse(text: &[u8]) -> Option<ReportedId> {
        match Id::parse(text)? {
            Id::Durable(entry_id) => Some(ReportedId(entry_id)),
            _ => None,
        }
    }

    /// Returns the id, if it is not implausibly late.
    pub fn checked(self, latest: Latest) -> Option<EntryId> {
        latest.allows(self.0).then_some(self.0)
    }

    /// Returns the id with the result of the check.
    pub fn judged(self, latest: Latest) -> JudgedId {
        JudgedId { reported: self, entry_id: self.checked(latest) }
    }

    /// Returns its milliseconds.
    pub fn ms(self) -> u64 {
        self.0.ms
    }

    /// Returns the greatest id below this one; the least stays as it is.
    pub fn before(self) -> ReportedId {
        ReportedId(self.0.before())
    }

    /// Returns the least id above this one; the greatest stays as it is.
    pub fn after(self) -> ReportedId {
        ReportedId(self.0.after())
    }

    /// Returns whether this is the greatest possible id.
    pub fn is_last(self) -> bool {
        self.0 == EntryId { ms: u64::MAX, seq: u64::MAX }
    }
}

impl From<EntryId> for ReportedId {
    fn from(entry_id: EntryId) -> ReportedId {
        ReportedId(entry_id)
    }
}

impl fmt::Display for ReportedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.ms, self.0.seq)
    }
}

/// The id of an entry after the check: how far its stream was read, and its place in the hub's
/// order if it is plausible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JudgedId {
    reported: ReportedId,
    entry_id: Option<EntryId>,
}

impl JudgedId {
    /// Returns the id as Redis reported it.
    pub fn reported(self) -> ReportedId {
        self.reported
    }

    /// Returns the id, if it is plausible.
    pub fn entry_id(self) -> Option<EntryId> {
        self.entry_id
    }
}

impl From<EntryId> for JudgedId {
    fn from(entry_id: EntryId) -> JudgedId {
        JudgedId { reported: entry_id.into(), entry_id: Some(entry_id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { mono: 0, mono_ns: 0, wall: 1_763_807_585_123 };

    fn checked(text: &str, latest: Latest) -> bool {
        ReportedId::parse(text.as_bytes()).unwrap().checked(latest).is_some()
    }

    #[test]
    fn an_id_may_be_an_hour_ahead_of_the_later_clock() {
        let here = Latest::here(NOW);
        assert!(checked("0-0", here) && checked("1763807585123-18446744073709551615", here));
        assert!(checked("1763811185123-0", here) && !checked("1763811185124-0", here));
        // Microseconds, and the largest id of all.
        assert!(!checked("1763807585123000-0", here));
        assert!(!checked("18446744073709551615-18446744073709551615", here));
        let ahead = Latest::in_redis(NOW, NOW.wall + 7_200_000);
        assert!(checked("1763818385123-0", ahead) && !checked("1763818385124-0", ahead));
        assert_eq!(Latest::in_redis(NOW, 0), here);
        let year_ahead = Latest::in_redis(NOW, NOW.wall + 365 * DAY);
        assert_eq!(year_ahead, Latest::in_redis(NOW, NOW.wall + DAY));
        assert!(!checked("18446744073709551615-0", Latest::in_redis(NOW, u64::MAX)));
    }

    #[test]
    fn only_ids_of_streams_are_read() {
        assert_eq!(ReportedId::parse(b"5-1"), Some(EntryId { ms: 5, seq: 1 }.into()));
        for text in ["", "5", "5-1-7", "5-1-7-9", "-5-1", "5-01", "$", "*"] {
            assert_eq!(ReportedId::parse(text.as_bytes()), None, "{text}");
        }
    }
}
