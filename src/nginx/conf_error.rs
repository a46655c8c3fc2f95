//! Why a directive, or a whole configuration, is refused.

use std::ffi::c_char;
use std::fmt;

/// Why a directive is refused.
#[derive(Debug)]
pub enum ConfError {
    /// It stands twice in one place.
    Duplicate,
    /// A value makes no sense: what it was to be, and what it is.
    Invalid(&'static str, String),
    /// In these words; nginx adds the file and the line.
    Message(String),
    /// nginx has said already what is wrong.
    AlreadyLogged,
}

impl ConfError {
    /// In these words.
    pub fn message(what: impl fmt::Display) -> ConfError {
        ConfError::Message(what.to_string())
    }

    /// An argument, or a part of one, that makes no sense.
    pub fn invalid(value: &[u8]) -> ConfError {
        ConfError::no_valid("value", value)
    }

    /// An argument that makes no sense, with the name of what it was to be ("hub name").
    pub fn no_valid(what: &'static str, value: &[u8]) -> ConfError {
        let shown = String::from_utf8_lossy(value);
        // A message is one line, whatever stands in the configuration.
        let escape = |c: char| c.is_control().then(|| c.escape_default().to_string());
        let escaped = shown.chars().map(|c| escape(c).unwrap_or_else(|| c.to_string())).collect();
        ConfError::Invalid(what, escaped)
    }
}

/// nginx's NGX_CONF_ERROR.
pub(super) const ERROR: *mut c_char = usize::MAX as *mut c_char;
