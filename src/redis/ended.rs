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
    /// This process gives the subscription up, to another process or because it is not needed.
    Retired,
    /// This process stops.
    Stopped,
}

/// Returns an error of Redis for a log line: its code and its shortened text, without the command.
pub fn shown(error: &RedisError) -> String {
    match error.code() {
        Some(code) => {
            let detail: String = error.detail().unwrap_or_default().chars().take(120).collect();
            format!("Redis replied {code} {detail}").trim_end().to_owned()
        }
        None if error.is_timeout() => "Redis does not respond".to_owned(),
        None => "the connection was lost".to_owned(),
    }
}

/// Returns the end of a session whose connection failed.
pub fn lost(error: RedisError) -> Ended {
    Ended::Lost(shown(&error))
}
