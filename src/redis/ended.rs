//! Why a session ends, and how errors of Redis are logged.

use ::redis::RedisError;

use crate::hub::Locked;

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The connection is lost, or was never made.
    Lost(String),
    /// The hub's lock cannot be had.
    Locked(Locked),
    /// Another process has taken over.
    Fenced,
    /// This process leaves the subscription to another, or to nobody.
    Retired,
    /// This process ends.
    Stopped,
}

/// An error of Redis as a log line shows it: its own words, bounded, and never what was sent.
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

/// The end of a session whose connection failed.
pub fn lost(error: RedisError) -> Ended {
    Ended::Lost(shown(&error))
}
