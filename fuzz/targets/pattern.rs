//! Patterns match what Redis' own algorithm matches.

use super::input::Input;
use crate::hub::{name_of_pattern, pattern_of, reaches};
use crate::sse::pattern::{cost, matches, Subject, MAX_NAME};
use crate::sse::redis_pattern::reference;

/// The second algorithm takes exponential time in the number of stars.
const MOST_STARS: usize = 4;
const LONGEST: usize = 48;

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let (name, pattern) = (input.piece(), input.rest());
    let subject = Subject::new(name);
    let matched = subject.matches(pattern);
    // Tables that another pattern has filled change nothing.
    subject.matches(b"*[a-z]?\\x");
    assert_eq!(subject.matches(pattern), matched);
    assert_eq!(matches(pattern, name), matched);
    assert!(cost(pattern) <= 1 + pattern.len());

    let stars = pattern.iter().filter(|byte| **byte == b'*').count();
    let is_short = stars <= MOST_STARS && name.len() <= LONGEST;
    // A channel's name is never empty; Redis takes a pattern without a byte for no pattern.
    if is_short && !name.is_empty() {
        assert_eq!(matched, reference(pattern, name));
    }
    if name.len() <= MAX_NAME {
        let escaped: Vec<u8> = name.iter().flat_map(|byte| [b'\\', *byte]).collect();
        assert!(matches(&escaped, name));
        assert!(matches(&[&escaped[..], b"*"].concat(), name));
        assert_eq!(matches(&[&escaped[..], b"?"].concat(), name), false);
    }

    let own = name_of_pattern(pattern);
    assert_eq!(pattern_of(&own), Some(pattern));
    let is_hidden = name.starts_with(b"sse.") || name.starts_with(&[0]);
    assert_eq!(reaches(&own, &subject), matched && !is_hidden);
}
