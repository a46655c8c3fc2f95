//! `sse_jwt_channels`: the claim that lists the channels that a token allows.

use super::claims::Claims;
use super::json::JsonValue;
use crate::sse::channel::{is_own, MAX_LEN};
use crate::sse::pattern;

/// Maximum number of entries in the claim.
const MAX_ENTRIES: usize = 1000;

/// Where a token lists its channels, and how the list is interpreted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelClaim {
    /// The path of the claim.
    pub path: Vec<String>,
    /// The byte that separates the entries of a string. Without it, a string is one entry.
    pub split: Option<u8>,
    /// What entries are.
    pub kind: EntryKind,
}

/// What the entries of the claim are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Names of channels, which are compared byte by byte.
    Names,
    /// Glob patterns of names.
    Patterns,
}

/// The channels that a token allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedChannels {
    entries: Vec<Box<[u8]>>,
    kind: EntryKind,
}

impl ChannelClaim {
    /// Returns the channels that a token allows. Returns `None` if the claim is missing, or if it
    /// has another form than a string or an array of strings.
    pub fn allowed(&self, claims: &Claims) -> Option<AllowedChannels> {
        let entries: Vec<&[u8]> = match claims.at(&self.path)? {
            JsonValue::Text(text) => {
                text.as_bytes().split(|byte| Some(*byte) == self.split).collect()
            }
            JsonValue::List(list) => {
                let texts = list.iter().map(|entry| match entry {
                    JsonValue::Text(text) => Some(text.as_bytes()),
                    _ => None,
                });
                texts.collect::<Option<_>>()?
            }
            _ => return None,
        };
        if entries.len() > MAX_ENTRIES || entries.iter().any(|entry| entry.len() > MAX_LEN) {
            return None;
        }
        let entries =
            entries.into_iter().filter(|entry| !entry.is_empty()).map(Box::from).collect();
        Some(AllowedChannels { entries, kind: self.kind })
    }
}

impl AllowedChannels {
    /// Whether a channel is allowed. The module's own channels are allowed only by name.
    pub fn allows_name(&self, name: &[u8]) -> bool {
        match self.kind {
            EntryKind::Patterns if !is_own(name) => self.matches(name),
            EntryKind::Names | EntryKind::Patterns => self.has(name),
        }
    }

    /// Whether a stream of a pattern is allowed: all names that the pattern matches are.
    pub fn allows_pattern(&self, wanted: &[u8]) -> bool {
        match self.kind {
            EntryKind::Names => is_literal(wanted) && self.has(wanted),
            EntryKind::Patterns => self.entries.iter().any(|entry| covers(entry, wanted)),
        }
    }

    fn has(&self, text: &[u8]) -> bool {
        self.entries.iter().any(|entry| **entry == *text)
    }

    fn matches(&self, name: &[u8]) -> bool {
        let subject = pattern::Subject::new(name);
        self.entries.iter().any(|entry| subject.matches(entry))
    }
}

/// Whether a pattern contains no special character, so that it matches one name only.
fn is_literal(pattern: &[u8]) -> bool {
    !pattern.iter().any(|byte| b"*?[\\".contains(byte))
}

/// Whether the pattern `entry` obviously matches every name that the pattern `wanted` matches: they
/// are equal, or `entry` is a prefix of `wanted` without special characters, followed by `*`.
fn covers(entry: &[u8], wanted: &[u8]) -> bool {
    if entry == wanted {
        return true;
    }
    let prefix = entry.strip_suffix(b"*").filter(|prefix| is_literal(prefix));
    prefix.is_some_and(|prefix| wanted.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::redis_pattern::reference;
    use proptest::prelude::*;

    fn claim(split: Option<u8>, kind: EntryKind) -> ChannelClaim {
        ChannelClaim { path: vec!["realm".into(), "access".into()], split, kind }
    }

    fn allowed(claim: &ChannelClaim, access: &str) -> Option<AllowedChannels> {
        let claims = format!(r#"{{"realm":{{"access":{access}}}}}"#);
        claim.allowed(&Claims::parse(claims.as_bytes()).unwrap())
    }

    #[test]
    fn entries_are_names_unless_they_are_patterns() {
        let names = allowed(&claim(None, EntryKind::Names), r#"["*","room:[x]","a,b"]"#).unwrap();
        for name in ["*", "room:[x]", "a,b"] {
            assert!(names.allows_name(name.as_bytes()), "{name}");
        }
        for name in ["a", "room:x", "b", "", "**"] {
            assert!(!names.allows_name(name.as_bytes()), "{name}");
        }
        let patterns = allowed(&claim(None, EntryKind::Patterns), r#"["room:*","[x]"]"#).unwrap();
        for name in ["room:", "room:1", "room:*", "x"] {
            assert!(patterns.allows_name(name.as_bytes()), "{name}");
        }
        for name in ["room", "rooms", "[x]", ""] {
            assert!(!patterns.allows_name(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_string_is_one_entry_unless_it_is_split() {
        let whole = allowed(&claim(None, EntryKind::Names), r#""a b""#).unwrap();
        assert!(whole.allows_name(b"a b") && !whole.allows_name(b"a"));
        let split = allowed(&claim(Some(b' '), EntryKind::Names), r#"" a  b ""#).unwrap();
        assert!(split.allows_name(b"a") && split.allows_name(b"b"));
        assert!(!split.allows_name(b"a b") && !split.allows_name(b""));
    }

    #[test]
    fn other_forms_allow_nothing() {
        for kind in [EntryKind::Names, EntryKind::Patterns] {
            for access in ["1", "null", "true", "{}", r#"["a",1]"#, r#"[["a"]]"#] {
                assert_eq!(allowed(&claim(None, kind), access), None, "{access}");
            }
            let longest = format!("\"{}\"", "a".repeat(255));
            let longest = allowed(&claim(None, kind), &longest).unwrap();
            assert!(longest.allows_name(&[b'a'; 255]) && !longest.allows_name(&[b'a'; 254]));
            let long = format!("\"{}\"", "a".repeat(256));
            assert_eq!(allowed(&claim(None, kind), &long), None);
            let most = format!("[{}\"b\"]", "\"a\",".repeat(MAX_ENTRIES - 1));
            assert!(allowed(&claim(None, kind), &most).unwrap().allows_name(b"b"));
            let many = format!("[{}\"\"]", "\"a\",".repeat(MAX_ENTRIES));
            assert_eq!(allowed(&claim(None, kind), &many), None);
        }
        assert_eq!(claim(None, EntryKind::Names).allowed(&Claims::parse(b"{}").unwrap()), None);
        let other = Claims::parse(br#"{"realm":["access"]}"#).unwrap();
        assert_eq!(claim(None, EntryKind::Names).allowed(&other), None);
    }

    #[test]
    fn own_channels_are_allowed_by_name_only() {
        let all = allowed(&claim(None, EntryKind::Patterns), r#"["*","sse.*"]"#).unwrap();
        assert!(all.allows_name(b"news") && !all.allows_name(b"sse.presence"));
        for kind in [EntryKind::Names, EntryKind::Patterns] {
            let named = allowed(&claim(None, kind), r#"["sse.presence"]"#).unwrap();
            assert!(named.allows_name(b"sse.presence"));
        }
    }

    #[test]
    fn a_pattern_is_allowed_if_an_entry_covers_it() {
        let patterns =
            allowed(&claim(None, EntryKind::Patterns), r#"["room:*","x[ab]*"]"#).unwrap();
        for wanted in ["room:*", "room:1:*", "room:[a", "room:\\*", "room:", "x[ab]*"] {
            assert!(patterns.allows_pattern(wanted.as_bytes()), "{wanted}");
        }
        for wanted in ["*", "room", "room*", "roo?:1", "[r]oom:1", "x[ab]", "xa*", "\\room:1", ""] {
            assert!(!patterns.allows_pattern(wanted.as_bytes()), "{wanted}");
        }
        let names = allowed(&claim(None, EntryKind::Names), r#"["room:*","a"]"#).unwrap();
        assert!(names.allows_pattern(b"a"));
        assert!(!names.allows_pattern(b"room:*") && !names.allows_pattern(b"room:1"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// Redis' own matcher is the second implementation.
        #[test]
        fn no_allowed_pattern_matches_a_name_that_is_not_allowed(
            entries in prop::collection::vec("[ab*?\\[\\]\\\\^-]{1,5}", 1..4),
            wanted in "[ab*?\\[\\]\\\\^-]{1,6}",
            name in "[ab*\\]\\[-]{0,6}",
        ) {
            let entries: Vec<Box<[u8]>> = entries.iter().map(|entry| entry.as_bytes().into()).collect();
            let allowed = AllowedChannels { entries: entries.clone(), kind: EntryKind::Patterns };
            let matches = |pattern: &[u8]| reference(pattern, name.as_bytes());
            prop_assert_eq!(
                allowed.allows_name(name.as_bytes()),
                entries.iter().any(|entry| matches(entry))
            );
            if allowed.allows_pattern(wanted.as_bytes()) && matches(wanted.as_bytes()) {
                prop_assert!(allowed.allows_name(name.as_bytes()), "{wanted} {name}");
            }
        }
    }
}
