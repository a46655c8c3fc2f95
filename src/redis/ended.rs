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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_shown_by_its_code_and_the_beginning_of_its_text() {
        let shown = |code: &str, detail: Option<String>| {
            shown(&::redis::make_extension_error(code.to_owned(), detail))
        };
        assert_eq!(
            shown("OOM", Some("command not allowed".into())),
            "Redis replied OOM command not allowed"
        );
        assert_eq!(shown("READONLY", None), "Redis replied READONLY");
        let long = [120, 121].map(|length| shown("ERR", Some("é".repeat(length))));
        assert_eq!(long, [0; 2].map(|_| format!("Redis replied ERR {}", "é".repeat(120))));
    }

    #[test]
    fn an_error_without_a_code_is_of_the_connection() {
        let of = |kind| RedisError::from(std::io::Error::from(kind));
        assert_eq!(shown(&of(std::io::ErrorKind::TimedOut)), "Redis does not respond");
        let reset = of(std::io::ErrorKind::ConnectionReset);
        assert_eq!(lost(reset), Ended::Lost("the connection was lost".to_owned()));
    }
}
