//! Channel names: which bytes are valid, and how the values of a request become names.
//!
//! The stream and publish handlers call this with the values of variables. Names are compared byte
//! by byte; nothing is trimmed, folded, or decoded. A valid name holds no control character, so it
//! can be written as an event type.

use std::fmt;

/// Maximum length of a name in bytes.
pub const MAX_LEN: usize = 255;

/// Maximum number of channels that one stream may subscribe to.
pub const MAX_NAMES: usize = 64;

/// Prefix of the module's own channels, which can be read but not published to.
const OWN: &[u8] = b"sse.";

/// Why a name or a list of names was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// The name is empty.
    Empty,
    /// The name has more than `MAX_LEN` bytes.
    TooLong,
    /// The name is not UTF-8.
    NotUtf8,
    /// The name contains a control character.
    ControlCharacter,
    /// The name is one of the module's own.
    Reserved,
    /// Redis itself, or the module, uses this name in the Redis that the hub is connected to.
    Internal,
    /// There are more than `MAX_NAMES` different names.
    TooMany,
    /// All parts were empty.
    None,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the channel name is empty",
            Self::TooLong => "the channel name is longer than 255 bytes",
            Self::NotUtf8 => "the channel name is not UTF-8",
            Self::ControlCharacter => "the channel name contains a control character",
            Self::Reserved => "channel names beginning with sse. are reserved",
            Self::Internal => "the channel name is used internally in Redis",
            Self::TooMany => "there are more than 64 channel names",
            Self::None => "no channel name is given",
        })
    }
}

impl std::error::Error for NameError {}

/// Checks that `name` is valid: 1 to `MAX_LEN` bytes of UTF-8 without control characters (U+0000 to
/// U+001F, U+007F to U+009F).
pub fn check(name: &[u8]) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_LEN {
        return Err(NameError::TooLong);
    }
    let name = std::str::from_utf8(name).map_err(|_| NameError::NotUtf8)?;
    if name.chars().any(char::is_control) {
        return Err(NameError::ControlCharacter);
    }
    Ok(())
}

/// Whether `name` belongs to the module's own channels.
pub fn is_own(name: &[u8]) -> bool {
    name.starts_with(OWN)
}

/// Checks that `name` is valid and can be published to.
pub fn check_publish(name: &[u8]) -> Result<(), NameError> {
    check(name)?;
    if is_own(name) {
        return Err(NameError::Reserved);
    }
    Ok(())
}

/// Returns the names in `values`. If `split` is given, each value is split at that byte.
///
/// Names keep the order of their first occurrence; empty parts and duplicates are skipped. Fails
/// with the error of the first invalid name, and if there are no names or more than `MAX_NAMES`.
pub fn names(values: &[&[u8]], split: Option<u8>) -> Result<Vec<Box<[u8]>>, NameError> {
    let parts = values.iter().flat_map(|value| value.split(move |&byte| Some(byte) == split));
    let mut names: Vec<Box<[u8]>> = Vec::new();
    for part in parts.filter(|part| !part.is_empty()) {
        check(part)?;
        if names.iter().any(|name| **name == *part) {
            continue;
        }
        if names.len() == MAX_NAMES {
            return Err(NameError::TooMany);
        }
        names.push(part.into());
    }
    if names.is_empty() {
        return Err(NameError::None);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(values: &[&str], split: Option<u8>) -> Result<Vec<String>, NameError> {
        let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
        let text = |name: Box<[u8]>| String::from_utf8_lossy(&name).into_owned();
        names(&values, split).map(|names| names.into_iter().map(text).collect())
    }

    #[test]
    fn each_error_has_a_text() {
        let text = |value: &str| listed(&[value], Some(b',')).unwrap_err().to_string();
        assert_eq!(text("a\n"), "the channel name contains a control character");
        assert_eq!(text(&many(65)), "there are more than 64 channel names");
        assert_eq!(text(&"x".repeat(256)), "the channel name is longer than 255 bytes");
    }

    fn many(count: usize) -> String {
        (0..count).map(|number| format!("{number},")).collect()
    }

    #[test]
    fn names_are_utf8_of_at_most_255_bytes() {
        for name in ["a", "news:sport", " a b ", "é✓", "\u{a0}", "\u{2028}", "{}*?[]\\\""] {
            assert_eq!(check(name.as_bytes()), Ok(()), "{name}");
        }
        assert_eq!(check(&[b'a'; MAX_LEN]), Ok(()));
        assert_eq!(check(&[b'a'; MAX_LEN + 1]), Err(NameError::TooLong));
        assert_eq!(check(b""), Err(NameError::Empty));
        assert_eq!(check(b"a\xc3"), Err(NameError::NotUtf8));
    }

    #[test]
    fn control_characters_are_refused() {
        for code in (0..=0x1fu8).chain(0x7f..=0x9f) {
            let name = format!("a{}b", char::from(code));
            assert_eq!(check(name.as_bytes()), Err(NameError::ControlCharacter), "{name:?}");
        }
    }

    #[test]
    fn the_modules_own_channels_can_be_read_but_not_published_to() {
        assert_eq!(check(b"sse.status"), Ok(()));
        assert_eq!(check_publish(b"sse.status"), Err(NameError::Reserved));
        assert_eq!(check_publish(b"sse"), Ok(()));
        assert_eq!(check_publish(b"a\n"), Err(NameError::ControlCharacter));
    }

    #[test]
    fn values_are_split_only_when_asked() {
        assert_eq!(listed(&["a,b", "c"], Some(b',')), Ok(vec!["a".into(), "b".into(), "c".into()]));
        assert_eq!(listed(&["a,b", "c"], None), Ok(vec!["a,b".into(), "c".into()]));
    }

    #[test]
    fn empty_parts_are_skipped_and_doubles_count_once() {
        let names = Ok(vec!["b".to_string(), "a".into()]);
        assert_eq!(listed(&["", ",b,,a,", "b"], Some(b',')), names);
        assert_eq!(listed(&["b", "", "a", "b"], None), names);
    }

    #[test]
    fn a_list_without_a_name_is_refused() {
        assert_eq!(listed(&[], None), Err(NameError::None));
        assert_eq!(listed(&["", ""], None), Err(NameError::None));
        assert_eq!(listed(&[",,"], Some(b',')), Err(NameError::None));
    }

    #[test]
    fn at_most_64_different_names() {
        assert_eq!(listed(&[&many(64), &many(64)], Some(b',')).map(|names| names.len()), Ok(64));
        assert_eq!(listed(&[&many(65)], Some(b',')), Err(NameError::TooMany));
    }

    #[test]
    fn every_name_of_a_list_is_checked() {
        assert_eq!(listed(&["a,b\u{85}"], Some(b',')), Err(NameError::ControlCharacter));
        assert_eq!(names(&[b"a,\xff"], Some(b',')), Err(NameError::NotUtf8));
    }
}
