//! Patterns over channel names, with the semantics of Redis' PSUBSCRIBE (`stringmatchlen` in its
//! util.c), so that a pattern matches the same names here and there.
//!
//! `*` matches any bytes, including none; `?` one byte; `[ab]` and `[a-z]` one byte of a set,
//! `[^ab]` one byte outside it; `\x` the byte x. A set that is not closed ends with the pattern.
//! Bytes in ranges compare as unsigned numbers.
//!
//! One name is often compared with many patterns from clients, so the work must be small for every
//! pattern. A pattern is read once, from left to right, together with the set of all places in the
//! name where a match of the pattern so far can end. That set has 256 bits, and each byte of the
//! pattern costs a few operations on it.

#![expect(
    clippy::indexing_slicing,
    reason = "tables have an entry for each byte and for each place in a name"
)]

use std::cell::OnceCell;

/// Maximum length in bytes of a name that a pattern can match: one bit for each place, and one for
/// the end.
pub const MAX_NAME: usize = 255;

/// Whether `pattern` matches all of `name`, byte by byte and case-sensitively.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    Subject::new(name).matches(pattern)
}

/// Returns the budget steps that one comparison with a pattern costs.
pub fn cost(pattern: &[u8]) -> usize {
    1 + pattern.len() / 32
}

/// A name to compare with patterns.
pub struct Subject<'n> {
    name: &'n [u8],
    bytes: OnceCell<Box<Bytes>>,
    ranges: OnceCell<Box<[Bytes; 8]>>,
}

/// For each byte, the places where it occurs in the name.
type Bytes = [Places; 256];

impl<'n> Subject<'n> {
    /// Creates a subject. Its tables are computed when a pattern first needs them.
    pub fn new(name: &'n [u8]) -> Subject<'n> {
        Subject { name, bytes: OnceCell::new(), ranges: OnceCell::new() }
    }

    /// Returns the name being matched.
    pub fn name(&self) -> &'n [u8] {
        self.name
    }

    /// Whether a pattern matches the whole name.
    pub fn matches(&self, pattern: &[u8]) -> bool {
        let plain = pattern.iter().take_while(|byte| !b"*?[\\".contains(byte)).count();
        let (prefix, mut rest) = pattern.split_at(plain);
        let Some(behind) = self.name.strip_prefix(prefix) else { return false };
        match rest {
            [] => return behind.is_empty(),
            [b'*'] => return true,
            _ if self.name.len() > MAX_NAME => return false,
            _ => {}
        }
        let mut ends = Places::one(plain);
        let all = Places::below(self.name.len() + 1);
        while !rest.is_empty() && !ends.is_empty() {
            if let [b'*', behind @ ..] = rest {
                ends = ends.and_all_above().and(all);
                rest = behind;
                continue;
            }
            let (of_token, behind) = self.token(rest);
            ends = ends.and(of_token).next();
            rest = behind;
        }
        ends.holds(self.name.len())
    }

    /// Returns the places of all bytes that the pattern's first token (not a star) matches, and the
    /// rest of the pattern.
    fn token<'p>(&self, pattern: &'p [u8]) -> (Places, &'p [u8]) {
        match pattern {
            [] => (Places::default(), pattern),
            [b'?', rest @ ..] => (Places::below(self.name.len()), rest),
            [b'[', b'^', set @ ..] => {
                let (of_set, rest) = self.set(set);
                (Places::below(self.name.len()).without(of_set), rest)
            }
            [b'[', set @ ..] => self.set(set),
            [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (self.byte(*literal), rest),
        }
    }

    /// Parses a set up to its `]`. Returns the places of its bytes, and the pattern after it.
    ///
    /// As in Redis, the ends of a range may be in either order, a range may end at `]`, and an
    /// escaped byte never begins a range.
    fn set<'p>(&self, set: &'p [u8]) -> (Places, &'p [u8]) {
        let mut set = set;
        let mut places = Places::default();
        loop {
            set = match set {
                [] => return (places, set),
                [b'\\', literal, rest @ ..] => {
                    places = places.or(self.byte(*literal));
                    rest
                }
                [b']', rest @ ..] => return (places, rest),
                [from, b'-', to, rest @ ..] => {
                    places = places.or(self.range(*from.min(to), *from.max(to)));
                    rest
                }
                [literal, rest @ ..] => {
                    places = places.or(self.byte(*literal));
                    rest
                }
            };
        }
    }

    fn byte(&self, byte: u8) -> Places {
        self.bytes()[usize::from(byte)]
    }

    fn bytes(&self) -> &Bytes {
        self.bytes.get_or_init(|| {
            let mut bytes = Box::new([Places::default(); 256]);
            for (byte, place) in self.name.iter().take(MAX_NAME).zip(0..) {
                bytes[usize::from(*byte)].insert(place);
            }
            bytes
        })
    }

    /// Returns the places of all bytes from `first` to `last`: the union of the 2^n bytes starting
    /// at `first` and the 2^n bytes ending at `last`.
    fn range(&self, first: u8, last: u8) -> Places {
        let power = (u32::from(last - first) + 1).ilog2().min(7) as usize;
        if power == 0 {
            return self.byte(first).or(self.byte(last));
        }
        let ranges = &self.ranges()[power];
        let (first, last) = (usize::from(first), usize::from(last));
        // A range of all 256 bytes is two halves as well.
        ranges[first].or(ranges[last + 1 - (1 << power)])
    }

    /// Returns, for each power of two 2^n and each byte, the places of the 2^n bytes starting at
    /// that byte.
    fn ranges(&self) -> &[Bytes; 8] {
        self.ranges.get_or_init(|| {
            let mut ranges = Box::new([[Places::default(); 256]; 8]);
            ranges[0] = *self.bytes();
            for power in 1..8 {
                let half = 1 << (power - 1);
                for byte in 0..=256 - 2 * half {
                    let halves = &ranges[power - 1];
                    ranges[power][byte] = halves[byte].or(halves[byte + half]);
                }
            }
            ranges
        })
    }
}

/// A set of places in a name, from 0 to 255.
#[derive(Clone, Copy, Default)]
struct Places([u64; 4]);

impl Places {
    fn one(place: usize) -> Places {
        let mut places = Places::default();
        places.insert(place);
        places
    }

    /// Returns all places below `end`, which is at most 256.
    fn below(end: usize) -> Places {
        Places(std::array::from_fn(|i| match end.saturating_sub(i * 64) {
            0 => 0,
            bits @ 1..64 => (1 << bits) - 1,
            _ => u64::MAX,
        }))
    }

    fn insert(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    fn holds(self, place: usize) -> bool {
        self.0[place / 64] >> (place % 64) & 1 == 1
    }

    fn is_empty(self) -> bool {
        self.0 == [0; 4]
    }

    fn and(self, other: Places) -> Places {
        Places(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    fn or(self, other: Places) -> Places {
        Places(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    fn without(self, other: Places) -> Places {
        Places(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    /// Returns each place plus one.
    fn next(self) -> Places {
        let carry = |i: usize| i.checked_sub(1).map_or(0, |before| self.0[before] >> 63);
        Places(std::array::from_fn(|i| self.0[i] << 1 | carry(i)))
    }

    /// Returns the lowest place and all places above it.
    fn and_all_above(self) -> Places {
        let mut above = 0;
        Places(self.0.map(|word| {
            // In the word with the lowest place, all bits from that one on; in later words, all
            // bits.
            let bits = word | word.wrapping_neg() | above;
            above |= if word == 0 { 0 } else { u64::MAX };
            bits
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::redis_pattern::reference;
    use proptest::prelude::*;

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        for name in yes {
            assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for name in no {
            assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn the_places_below_an_end_are_exactly_those() {
        for end in 0..=256 {
            let places = Places::below(end);
            assert!((0..256).all(|place| places.holds(place) == (place < end)), "{end}");
        }
    }

    #[test]
    fn stars_and_question_marks() {
        check("*", &["a", "news", "é"], &[]);
        check("news.*", &["news.", "news.a", "news.a.b"], &["news", "New.a", "xnews.a"]);
        check("*.a*b", &[".ab", "x.a.ab", "x.a..b"], &["ab", ".abc", ".a"]);
        check("h?llo", &["hello", "h?llo"], &["hllo", "heello"]);
        check("plain", &["plain"], &["Plain", "plai", "plainer", ""]);
    }

    #[test]
    fn sets_and_escapes() {
        check("[abc]x", &["ax", "cx"], &["dx", "x", "a"]);
        check("[a-c]", &["b"], &["d", "-"]);
        check("[c-a]", &["b"], &["d"]);
        check("[^a-c]", &["d"], &["b"]);
        check("[a\\-c]", &["a", "-", "c"], &["b"]);
        check("[\\]]", &["]"], &["\\", "a"]);
        check("\\*\\?\\[\\\\", &["*?[\\"], &["aaa\\"]);
    }

    #[test]
    fn the_odd_corners_are_those_of_redis() {
        check("[]a]", &[], &["a", "]", "]a]", "a]"]);
        check("[abc", &["a", "c"], &["d", "[abc"]);
        check("[^", &["a"], &["ab"]);
        check("[", &[], &["[", "a"]);
        check("[a-]", &["_", "]", "a"], &["-", "b"]);
        check("a\\", &["a\\"], &["a"]);
        check("[a\\", &["a", "\\"], &["b"]);
    }

    #[test]
    fn names_of_full_length() {
        let name = "a".repeat(MAX_NAME);
        check(&("a*".repeat(120) + "b"), &[], &[&name]);
        check(&"?".repeat(MAX_NAME), &[&name], &[&name[1..], &(name.clone() + "a")]);
        check(
            &("*".to_owned() + &"[a-z]".repeat(50) + "a"),
            &[&name, &name[204..]],
            &[&name[205..]],
        );
        check("*a", &[&name], &[&(name.clone() + "a"), &(name[1..].to_owned() + "b")]);
        check("*", &[&name, &(name.clone() + "a")], &[]);
    }

    #[test]
    fn ranges_of_every_length() {
        for last in 0..=255u8 {
            let (yes, no) = ([last], [last.wrapping_add(1)]);
            assert!(matches(&[b'[', 0, b'-', last, b']'], &yes));
            assert_eq!(matches(&[b'[', 0, b'-', last, b']'], &no), last == 255);
            if !b"]\\".contains(&last) {
                assert!(matches(&[b'[', b'^', last, b'-', last, b']'], &no));
            }
            assert!(matches(&[b'[', 255, b'-', last, b']'], &yes));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn agrees_with_redis_own_algorithm(
            pattern in r"[abc*?\[\]^\\-]{0,12}",
            name in r"[abc\]\\^-]{1,7}",
        ) {
            let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(matches(pattern, name), reference(pattern, name));
        }
    }
}
