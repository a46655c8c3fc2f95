//! Why a session ends, and how errors of Redis are logged.

use ::redis::RedisError;

use crate::hub::Locked;

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The connection was lost, or could not be made.
    Lost(String),
    /// The hub's lock was not available.
    Locked(Locked),
    /// Another process has taken over.
    Fenced,
    /// This process gives the subscription up, to another process or because nobody needs it.
    Retired,
    /// This process stops.
    Stopped,
}

/// Returns an error of Redis for a log line: its own words, bounded, and never what was sent.
pub fn shown(error: &RedisError) -> String {
    match error.code() {
        Some(code) => {
            let detail: String = error.detail().unwrap_or_default().chars().take(120).collect();
            format!("it answers {code} {detail}").trim_end().to_owned()
        }
        None if error.is_timeout() => "it does not answer".to_owned(),
        None => "the connection is broken".to_owned(),
    }
}

/// Returns the end of a session whose connection failed.
pub fn lost(error: RedisError) -> Ended {
    Ended::Lost(shown(&error))
}
