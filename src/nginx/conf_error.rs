//! Errors in directives, or in a configuration as a whole.

use std::ffi::c_char;
use std::fmt;

/// An error in a directive.
#[derive(Debug)]
pub enum ConfError {
    /// The directive occurs twice in the same block.
    Duplicate,
    /// A value is invalid: what it should be ("hub name"), and the value.
    Invalid(&'static str, String),
    /// Another error, in one sentence. nginx adds the file and the line.
    Message(String),
    /// An error that nginx has already logged.
    AlreadyLogged,
}

impl ConfError {
    /// Creates an error with this sentence.
    pub fn message(what: impl fmt::Display) -> ConfError {
        ConfError::Message(what.to_string())
    }

    /// Creates the error for an argument, or a part of one, that is invalid.
    pub fn invalid(value: &[u8]) -> ConfError {
        ConfError::no_valid("value", value)
    }

    /// Creates the error for an invalid argument, with the name of what it should be ("hub name").
    pub fn no_valid(what: &'static str, value: &[u8]) -> ConfError {
        let shown = String::from_utf8_lossy(value);
        // A message must be one line, so control characters are escaped.
        let escape = |c: char| c.is_control().then(|| c.escape_default().to_string());
        let escaped = shown.chars().map(|c| escape(c).unwrap_or_else(|| c.to_string())).collect();
        ConfError::Invalid(what, escaped)
    }
}

/// nginx's `NGX_CONF_ERROR`.
pub(super) const ERROR: *mut c_char = usize::MAX as *mut c_char;
