//! Event ids, which clients send back in `Last-Event-ID`.
//!
//! Framing writes ids, and the stream handler parses them. An id is decimal numbers joined by `-`,
//! so that it is safe in a header under every CORS rule. Parsing is strict: each id has exactly one
//! spelling, and everything else is not an id of this module. Whether an id can be resumed from is
//! decided by the hub.

use std::fmt;

/// Maximum length of an id in bytes: two 64-bit numbers, a 32-bit tag, a 64-bit position, and three
/// hyphens.
pub const MAX_LEN: usize = 20 + 1 + 20 + 1 + 10 + 1 + 20;

/// An event's number: milliseconds since 1970, and a sequence number within the millisecond. Has
/// the form of Redis' entry ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct EntryId {
    /// Milliseconds since 1970.
    pub ms: u64,
    /// Sequence number within the millisecond.
    pub seq: u64,
}

impl EntryId {
    /// Returns the greatest number below this one; zero stays as it is.
    pub fn before(self) -> EntryId {
        match (self.ms.checked_sub(1), self.seq.checked_sub(1)) {
            (_, Some(seq)) => EntryId { ms: self.ms, seq },
            (Some(ms), None) => EntryId { ms, seq: u64::MAX },
            (None, None) => self,
        }
    }

    /// Returns the least id above this one; the greatest stays as it is.
    pub fn after(self) -> EntryId {
        match (self.ms.checked_add(1), self.seq.checked_add(1)) {
            (_, Some(seq)) => EntryId { ms: self.ms, seq },
            (Some(ms), None) => EntryId { ms, seq: 0 },
            (None, None) => self,
        }
    }
}

/// An event's id. The variants differ in who can order the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Id {
    /// `MS-SEQ`: ordered by Redis; every nginx that is connected to it knows the event's position.
    Durable(EntryId),
    /// `MS-SEQ-TAG`: ordered by a hub without Redis; the tag names one lifetime of the hub.
    Local {
        /// The event's number in the hub.
        entry_id: EntryId,
        /// The lifetime of the hub.
        tag: u32,
    },
    /// `MS-SEQ-TAG-POS`: only the hub with this tag can order the event, by its position.
    Placed {
        /// The hub's highest number when the event arrived.
        entry_id: EntryId,
        /// The lifetime of the hub.
        tag: u32,
        /// The event's position in the hub's log.
        pos: u64,
    },
}

impl Id {
    /// Parses an id. Returns `None` for anything that [`Id::write`] never writes: signs, spaces,
    /// leading zeros, numbers that are too large, or a wrong count of numbers.
    pub fn parse(bytes: &[u8]) -> Option<Id> {
        if bytes.len() > MAX_LEN {
            return None;
        }
        let mut numbers = bytes.split(|&byte| byte == b'-').map(number);
        let entry_id = EntryId { ms: numbers.next()??, seq: numbers.next()?? };
        let Some(tag) = numbers.next() else {
            return Some(Id::Durable(entry_id));
        };
        let tag = u32::try_from(tag?).ok()?;
        let Some(pos) = numbers.next() else {
            return Some(Id::Local { entry_id, tag });
        };
        let pos = pos?;
        numbers.next().is_none().then_some(Id::Placed { entry_id, tag, pos })
    }

    /// Appends the id as text, at most `MAX_LEN` bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        for (index, number) in self.numbers().enumerate() {
            if index > 0 {
                out.push(b'-');
            }
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        }
    }

    /// Returns the number of bytes that [`Id::write`] appends.
    pub fn text_len(&self) -> usize {
        self.numbers().map(|number| digits(number) + 1).sum::<usize>() - 1
    }

    /// Returns the id's time and sequence number.
    pub fn entry_id(&self) -> EntryId {
        match *self {
            Id::Durable(entry_id) | Id::Local { entry_id, .. } | Id::Placed { entry_id, .. } => {
                entry_id
            }
        }
    }

    fn numbers(&self) -> impl Iterator<Item = u64> {
        let EntryId { ms, seq } = self.entry_id();
        let (tag, pos) = match *self {
            Id::Durable(_) => (None, None),
            Id::Local { tag, .. } => (Some(tag), None),
            Id::Placed { tag, pos, .. } => (Some(tag), Some(pos)),
        };
        [Some(ms), Some(seq), tag.map(u64::from), pos].into_iter().flatten()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, number) in self.numbers().enumerate() {
            if index > 0 {
                f.write_str("-")?;
            }
            write!(f, "{number}")?;
        }
        Ok(())
    }
}

fn number(text: &[u8]) -> Option<u64> {
    match text {
        [] => None,
        [b'0'] => Some(0),
        [b'0', ..] => None,
        digits => digits.iter().try_fold(0u64, |number, byte| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            number.checked_mul(10)?.checked_add(digit)
        }),
    }
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: EntryId = EntryId { ms: u64::MAX, seq: u64::MAX };

    fn text(id: Id) -> Vec<u8> {
        let mut out = Vec::new();
        id.write(&mut out);
        out
    }

    #[test]
    fn the_three_kinds_as_text() {
        let entry_id = EntryId { ms: 1_763_807_585_123, seq: 0 };
        let tag = 2_891_336_453;
        assert_eq!(text(Id::Durable(entry_id)), b"1763807585123-0");
        assert_eq!(text(Id::Local { entry_id, tag }), b"1763807585123-0-2891336453");
        assert_eq!(text(Id::Placed { entry_id, tag, pos: 7 }), b"1763807585123-0-2891336453-7");
    }

    #[test]
    fn the_longest_id_has_max_len() {
        let id = Id::Placed { entry_id: MAX, tag: u32::MAX, pos: u64::MAX };
        assert_eq!(text(id).len(), MAX_LEN);
        assert_eq!(Id::parse(&text(id)), Some(id));
    }

    #[test]
    fn before_steps_down_and_stops_at_the_least() {
        let entry_id = |ms, seq| EntryId { ms, seq };
        assert_eq!(entry_id(5, 3).before(), entry_id(5, 2));
        assert_eq!(entry_id(5, 0).before(), entry_id(4, u64::MAX));
        assert_eq!(entry_id(0, 1).before(), entry_id(0, 0));
        assert_eq!(entry_id(0, 0).before(), entry_id(0, 0));
        assert_eq!(MAX.before(), entry_id(u64::MAX, u64::MAX - 1));
    }

    #[test]
    fn junk_is_no_id() {
        let junk = "|-|1|1-|-1|--|1--2|01-2|1-02|00-0|1-2-03|+1-2|1-+2|1- 2| 1-2|1-2 |1-2\n|1-2\0|\
            1-2-|1-2-3-|1-2-3-4-|1-2-3-4-5|1-2-4294967296|18446744073709551616-0|\
            0-18446744073709551616|1-2-3-18446744073709551616|99999999999999999999-0|0x1-2|\
            1:2|1.5-2|1e3-0|١-٢|1-2\u{feff}|null|*|$|evil";
        for text in junk.split('|') {
            assert_eq!(Id::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Id::parse(b"\xff-\xfe"), None);
        assert_eq!(Id::parse(&[b'1'; 8192]), None);
        assert_eq!(Id::parse(&[b'-'; MAX_LEN]), None);
    }

    #[test]
    fn zero_is_a_number() {
        assert_eq!(Id::parse(b"0-0"), Some(Id::Durable(EntryId::default())));
        let id = Id::Local { entry_id: EntryId::default(), tag: 0 };
        assert_eq!(Id::parse(b"0-0-0"), Some(id));
    }

    proptest! {
        #[test]
        fn every_id_is_read_back(id in super::super::tests::ids()) {
            let text = text(id);
            prop_assert_eq!(Id::parse(&text), Some(id));
            prop_assert_eq!(text.len(), id.text_len());
            prop_assert!(text.len() <= MAX_LEN);
            prop_assert_eq!(text, id.to_string().into_bytes());
        }

        #[test]
        fn an_id_has_one_spelling(bytes in "[0-9-]{0,12}|[0-9]{1,21}-[0-9]{1,2}(-[0-9]{1,11})?") {
            if let Some(id) = Id::parse(bytes.as_bytes()) {
                prop_assert_eq!(text(id), bytes.as_bytes());
            }
        }

        #[test]
        fn before_is_the_greatest_below(ms in any::<u64>(), seq in any::<u64>()) {
            let entry_id = EntryId { ms, seq };
            prop_assert!(entry_id.before() <= entry_id);
            let next = EntryId { ms, seq: seq.wrapping_add(1) };
            prop_assert!(seq == u64::MAX || next.before() == entry_id);
        }
    }
}
