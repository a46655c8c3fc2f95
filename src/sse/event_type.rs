//! The `event` field: which types a publisher may give to an event.
//!
//! Called where events enter: by the publish handler, by the batch parser, and for events from
//! Redis. A valid type can be written on the wire as it is. The reserved types are those that a
//! page would mistake for the state of the connection.

use std::fmt;

/// Maximum length of a type in bytes.
pub const MAX_LEN: usize = 128;

/// Prefix of the module's own types (`sse.open`, `sse.gap`).
const OWN: &[u8] = b"sse.";

/// Why a type was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeError {
    /// The type has more than `MAX_LEN` bytes.
    TooLong,
    /// The type is not UTF-8.
    NotUtf8,
    /// The type contains CR, LF or NUL.
    LineEndOrNul,
    /// The type is reserved.
    Reserved,
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the event type is longer than 128 bytes",
            Self::NotUtf8 => "the event type is not UTF-8",
            Self::LineEndOrNul => "the event type contains CR, LF or NUL",
            Self::Reserved => {
                "the event types error, open and those beginning with sse. are reserved"
            }
        })
    }
}

impl std::error::Error for TypeError {}

/// Checks that an event may be published with this type. An empty type means that the event has
/// none.
///
/// `error` and `open` are rejected because EventSource would call the page's `onerror` and `onopen`
/// handlers for them.
pub fn check(event_type: &[u8]) -> Result<(), TypeError> {
    if event_type.len() > MAX_LEN {
        return Err(TypeError::TooLong);
    }
    if event_type.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Err(TypeError::LineEndOrNul);
    }
    if std::str::from_utf8(event_type).is_err() {
        return Err(TypeError::NotUtf8);
    }
    if matches!(event_type, b"error" | b"open") || event_type.starts_with(OWN) {
        return Err(TypeError::Reserved);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_types_are_accepted() {
        for name in ["", "message", "trade", "Open", "errors", "sse", "with space", "é✓", " a"] {
            assert_eq!(check(name.as_bytes()), Ok(()), "{name}");
        }
        assert_eq!(check(&[b'a'; MAX_LEN]), Ok(()));
    }

    #[test]
    fn types_with_line_ends_or_nul_are_refused() {
        assert_eq!(check(&[b'a'; MAX_LEN + 1]), Err(TypeError::TooLong));
        assert_eq!(check(b"\xff"), Err(TypeError::NotUtf8));
        for name in ["a\rid: evil", "a\nb", "a\0", "\r\n"] {
            assert_eq!(check(name.as_bytes()), Err(TypeError::LineEndOrNul), "{name:?}");
        }
    }

    #[test]
    fn types_that_a_page_would_mistake_for_connection_state_are_refused() {
        for name in ["error", "open", "sse.", "sse.gap"] {
            assert_eq!(check(name.as_bytes()), Err(TypeError::Reserved), "{name}");
        }
    }
}
