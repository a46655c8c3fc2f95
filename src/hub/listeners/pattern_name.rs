//! The names of patterns' records.
//!
//! A pattern has a record like a channel's, but in a separate namespace: its name is a NUL, with
//! which no channel's name can begin, followed by the pattern.

use crate::sse::channel::is_own;
use crate::sse::pattern::Subject;

/// The first byte of the name of every pattern's record.
const MARK: u8 = 0;

/// Returns the name of a pattern's record. A process that joins it listens to all channels that
/// match.
pub fn name_of_pattern(pattern: &[u8]) -> Box<[u8]> {
    [&[MARK], pattern].concat().into()
}

/// Returns the pattern if `name` is the name of a pattern's record.
pub fn pattern_of(name: &[u8]) -> Option<&[u8]> {
    name.strip_prefix(&[MARK])
}

/// Returns a channel's name, or a pattern, as users write it.
pub fn shown(name: &[u8]) -> &[u8] {
    pattern_of(name).unwrap_or(name)
}

/// Returns whether a listener of `name`, the name of a channel or of a pattern's record, receives
/// the events of `channel`. The module's own channels match no pattern.
pub fn reaches(name: &[u8], channel: &Subject<'_>) -> bool {
    match pattern_of(name) {
        Some(pattern) => {
            let is_hidden = is_own(channel.name()) || pattern_of(channel.name()).is_some();
            !is_hidden && channel.matches(pattern)
        }
        None => name == channel.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reaches_itself_and_a_pattern_what_it_matches() {
        let all = name_of_pattern(b"*");
        let reaches = |name: &[u8], channel: &[u8]| reaches(name, &Subject::new(channel));
        assert!(reaches(b"a*", b"a*") && !reaches(b"a*", b"ab"));
        assert!(reaches(&name_of_pattern(b"a*"), b"ab") && reaches(&all, b"sse"));
        assert!(!reaches(&all, b"sse.status") && !reaches(&name_of_pattern(b"sse.*"), b"sse.x"));
        assert!(!reaches(&all, &all), "a pattern is no channel");
        assert_eq!((shown(&all), shown(b"a")), (&b"*"[..], &b"a"[..]));
    }
}
