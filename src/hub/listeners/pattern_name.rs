//! The names of patterns' records.
//!
//! A pattern has a record like a channel's, in a namespace of its own: a NUL, with which no channel's name
//! can begin, and then the pattern.

use crate::sse::channel::is_own;
use crate::sse::pattern::Subject;

/// The first byte of the name of every pattern's record.
const MARK: u8 = 0;

/// The name under which a hub knows a pattern: what to join, to listen to all channels that match.
pub fn name_of_pattern(pattern: &[u8]) -> Box<[u8]> {
    [&[MARK], pattern].concat().into()
}

/// The pattern, if this is the name of one's record.
pub fn pattern_of(name: &[u8]) -> Option<&[u8]> {
    name.strip_prefix(&[MARK])
}

/// The name, or the pattern, as users know it.
pub fn shown(name: &[u8]) -> &[u8] {
    pattern_of(name).unwrap_or(name)
}

/// Whether who listens to `name`, a channel's or a pattern's record's, gets the events of `channel`.
/// The module's own channels are never matched by a pattern.
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
