//! The names of keys and channels in Redis. Publishers use them, so they never change.
//!
//! All keys of a hub have the same hash tag, its prefix or `sse`, so that a script may use them
//! together in Redis Cluster, and one node orders all events of the hub.

use std::fmt;

use crate::hub::Source;

/// The hash tag of a hub without a prefix.
const NO_PREFIX: &str = "sse";

/// The longest prefix, in bytes.
const MAX_PREFIX: usize = 255;

/// The beginning of the keys of all hubs, and of the names of their control channels.
const KEYS: &[u8] = b"sse:{";

/// The end of the names of control channels.
const CONTROL: &[u8] = b"}:ctl";

/// The beginnings of the names of Redis' own channels: keyspace notifications, client-side caching,
/// and what Sentinels send to each other.
const INTERNAL: [&[u8]; 6] = [
    b"__keyspace@",
    b"__keyevent@",
    b"__subkeyspace",
    b"__subkeyevent",
    b"__redis__:",
    b"__sentinel__:",
];

/// Whether a channel of Redis belongs to no hub: it is a channel of Redis itself, or a control
/// channel.
fn is_internal(subject: &[u8]) -> bool {
    let is_control = subject.starts_with(KEYS) && subject.ends_with(CONTROL);
    is_control || INTERNAL.iter().any(|own| subject.starts_with(own))
}

/// Why a prefix is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixError {
    /// It is the tag of hubs without a prefix.
    Taken,
    /// It contains a brace, which would end or start the hash tag.
    Brace,
    /// It contains a control character.
    ControlCharacter,
    /// It is longer than 255 bytes.
    TooLong,
    /// Every channel would belong to Redis itself.
    Internal,
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Taken => "the prefix \"sse\" is used by hubs without a prefix",
            Self::Brace => "the prefix contains a brace",
            Self::ControlCharacter => "the prefix contains a control character",
            Self::TooLong => "the prefix is longer than 255 bytes",
            Self::Internal => "channels with this prefix belong to Redis itself",
        })
    }
}

impl std::error::Error for PrefixError {}

/// Checks a value of `redis_prefix`. An empty value means no prefix.
pub fn check_prefix(prefix: &str) -> Result<(), PrefixError> {
    if prefix == NO_PREFIX {
        return Err(PrefixError::Taken);
    }
    if prefix.contains(['{', '}']) {
        return Err(PrefixError::Brace);
    }
    if prefix.chars().any(char::is_control) {
        return Err(PrefixError::ControlCharacter);
    }
    if prefix.len() > MAX_PREFIX {
        return Err(PrefixError::TooLong);
    }
    if is_internal(prefix.as_bytes()) {
        return Err(PrefixError::Internal);
    }
    Ok(())
}

/// The names of one hub's keys and channels.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: Vec<u8>,
    /// `sse:{T}:`, the beginning of all keys.
    root: Vec<u8>,
}

impl Keys {
    /// Returns the names for a prefix that has been checked.
    pub fn new(prefix: &str) -> Keys {
        let tag = if prefix.is_empty() { NO_PREFIX } else { prefix };
        Keys { prefix: prefix.into(), root: format!("sse:{{{tag}}}:").into_bytes() }
    }

    /// Returns the key of a channel's stream.
    pub fn stream(&self, channel: &[u8]) -> Vec<u8> {
        self.under(&[b"s:", channel])
    }

    /// Returns the key of the clock that issues ids.
    pub fn clock(&self) -> Vec<u8> {
        self.under(&[b"clock"])
    }

    /// Returns the channel on which processes of nginx report handovers and deletions to each
    /// other.
    pub fn control(&self) -> Vec<u8> {
        self.under(&[b"ctl"])
    }

    /// Returns the key of the history settings and the token.
    pub fn history(&self) -> Vec<u8> {
        self.under(&[b"history"])
    }

    /// Returns the key of the stream of users that were disconnected.
    pub fn users(&self) -> Vec<u8> {
        self.under(&[b"users"])
    }

    /// Returns the key of the low watermarks of streams that applications write, by channel.
    pub fn forgotten(&self) -> Vec<u8> {
        self.under(&[b"forgotten"])
    }

    /// Returns the key under which the result of an idempotency key is stored.
    ///
    /// It contains the channel's length, because both names may contain colons.
    pub fn key(&self, channel: &[u8], key: &[u8]) -> Vec<u8> {
        self.under(&[b"k:", channel.len().to_string().as_bytes(), b":", channel, b":", key])
    }

    /// Returns the name of a channel in Redis, which is also the key of its stream if applications
    /// write the stream.
    pub fn subject(&self, channel: &[u8]) -> Vec<u8> {
        [&self.prefix, channel].concat()
    }

    /// Returns the pattern that matches the subjects of all channels that `pattern` matches.
    pub fn subject_pattern(&self, pattern: &[u8]) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.prefix.len() + pattern.len());
        for &byte in &self.prefix {
            if b"*?[]\\^".contains(&byte) {
                whole.push(b'\\');
            }
            whole.push(byte);
        }
        whole.extend_from_slice(pattern);
        whole
    }

    /// Whether a channel's name is reserved: in Redis, it would be a channel of Redis itself, or a
    /// key of this module.
    pub fn is_reserved(&self, channel: &[u8], source: Source) -> bool {
        let subject = self.subject(channel);
        match source {
            Source::Streams => subject.starts_with(KEYS),
            Source::PubSub | Source::Alone => is_internal(&subject),
        }
    }

    /// Returns the channel that a subject belongs to. `None` for subjects of other hubs, and of no
    /// hub, which patterns can match, too.
    pub fn channel_of_subject<'a>(&self, subject: &'a [u8]) -> Option<&'a [u8]> {
        if is_internal(subject) {
            return None;
        }
        subject.strip_prefix(&*self.prefix).filter(|channel| !channel.is_empty())
    }

    fn under(&self, parts: &[&[u8]]) -> Vec<u8> {
        [&[&*self.root], parts].concat().concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_those_that_publishers_know() {
        let names = Keys::new("");
        assert_eq!(names.stream(b"news"), b"sse:{sse}:s:news");
        assert_eq!(names.clock(), b"sse:{sse}:clock");
        assert_eq!(names.control(), b"sse:{sse}:ctl");
        assert_eq!(names.history(), b"sse:{sse}:history");
        assert_eq!(names.users(), b"sse:{sse}:users");
        assert_eq!(names.forgotten(), b"sse:{sse}:forgotten");
        assert_eq!(names.key(b"news", b"k1"), b"sse:{sse}:k:4:news:k1");
        assert_eq!(names.subject(b"news"), b"news");
        let names = Keys::new("shop:");
        assert_eq!(names.stream(b"news"), b"sse:{shop:}:s:news");
        assert_eq!(names.subject(b"news"), b"shop:news");
    }

    #[test]
    fn prefixes_that_would_be_ambiguous_are_refused() {
        for prefix in ["", "sse:", "SSE", "shop", "a b", "é"] {
            assert_eq!(check_prefix(prefix), Ok(()), "{prefix}");
        }
        assert_eq!(check_prefix("sse"), Err(PrefixError::Taken));
        for prefix in ["{", "a}", "{a}"] {
            assert_eq!(check_prefix(prefix), Err(PrefixError::Brace), "{prefix}");
        }
        assert_eq!(check_prefix("a\n"), Err(PrefixError::ControlCharacter));
        assert_eq!(check_prefix("a\u{85}"), Err(PrefixError::ControlCharacter));
        assert_eq!(check_prefix(&"a".repeat(255)), Ok(()));
        assert_eq!(check_prefix(&"a".repeat(256)), Err(PrefixError::TooLong));
    }

    #[test]
    fn an_invalid_prefix_is_explained() {
        for (prefix, word) in [
            ("sse", "is used by hubs without a prefix"),
            ("{", "brace"),
            ("\n", "control character"),
            (&"a".repeat(256), "255 bytes"),
            ("__keyspace@", "Redis itself"),
        ] {
            let error = check_prefix(prefix).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn what_is_not_of_this_hub_has_no_channel() {
        let names = Keys::new("shop:");
        assert_eq!(names.channel_of_subject(b"news"), None);
        assert_eq!(names.channel_of_subject(b"shop:"), None);
        assert_eq!(Keys::new("").channel_of_subject(b"sse:{shop:}:ctl"), None);
    }

    #[test]
    fn internal_channels_of_redis_are_nobodys() {
        let (names, split) = (Keys::new(""), Keys::new("__key"));
        let internal = [
            "__keyspace@0__:a",
            "__keyevent@15__:set",
            "__subkeyspace@0__:a",
            "__redis__:invalidate",
            "__sentinel__:hello",
            "sse:{sse}:ctl",
        ];
        for subject in internal {
            let subject = subject.as_bytes();
            assert_eq!(names.channel_of_subject(subject), None);
            assert!(names.is_reserved(subject, Source::PubSub));
            assert_eq!(split.channel_of_subject(subject), None);
        }
        assert!(split.is_reserved(b"space@0__:a", Source::PubSub));
        assert!(!split.is_reserved(b"__keyspace@0__:a", Source::PubSub));
        for free in ["__keys", "_", "__", "sse:{", "sse:{sse}:clock", "keyspace@0__:a"] {
            assert!(!names.is_reserved(free.as_bytes(), Source::PubSub), "{free}");
        }
        assert!(names.is_reserved(b"sse:{sse}:clock", Source::Streams));
        assert!(!names.is_reserved(b"__keyspace@0__:a", Source::Streams));
        assert_eq!(check_prefix("__keyspace@0__:"), Err(PrefixError::Internal));
    }

    #[test]
    fn idempotency_keys_of_two_channels_do_not_meet() {
        let names = Keys::new("");
        assert_ne!(names.key(b"a", b"b:c"), names.key(b"a:b", b"c"));
    }

    proptest! {
        #[test]
        fn names_lead_back(prefix in "[a-z:]{0,6}", channel in "[a-z:{}é]{1,8}") {
            prop_assume!(check_prefix(&prefix).is_ok());
            let (names, channel) = (Keys::new(&prefix), channel.as_bytes());
            let subject = names.subject(channel);
            prop_assert_eq!(names.channel_of_subject(&subject), Some(channel));
        }
    }
}
