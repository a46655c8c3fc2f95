//! Why a connection could not be made, in one sentence, and what errors of commands mean for a
//! connection.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{ErrorKind, RedisError};

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No response in time.
    Unreachable,
    /// The user or password is wrong or missing, or the user lacks a permission.
    Auth,
    /// The node responds and will serve later: it is loading, a replica, or in the middle of a
    /// failover.
    NotReady,
    /// It does not support RESP3 (Redis before 6).
    TooOld,
    /// It does not support TLS, or its certificate is not trusted.
    Tls,
    /// Anything else.
    Other,
}

/// Why a connection could not be made. Contains neither user nor password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkError {
    /// The kind of the failure.
    pub kind: Kind,
    text: String,
}

impl LinkError {
    pub(super) fn new(kind: Kind, text: String) -> LinkError {
        LinkError { kind, text }
    }

    /// Explains an error of the connection to `peer`.
    pub(super) fn from_error(peer: &str, error: &RedisError) -> LinkError {
        let (kind, what) = judge(error);
        LinkError::new(kind, format!("{peer} {what}"))
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for LinkError {}

/// Whether the server will serve this request later.
pub fn is_not_ready(error: &RedisError) -> bool {
    let codes = [
        "LOADING",
        "READONLY",
        "MASTERDOWN",
        "CLUSTERDOWN",
        "BUSY",
        "TRYAGAIN",
        "MISCONF",
        "NOREPLICAS",
    ];
    error.code().is_some_and(|code| codes.contains(&code))
}

/// Whether another node holds the hub, which has moved.
pub fn is_elsewhere(error: &RedisError) -> bool {
    let codes = ["MOVED", "ASK", "TRYAGAIN", "READONLY"];
    error.code().is_some_and(|code| codes.contains(&code))
}

/// Returns the result of `work`, or an error if it takes longer than `limit`.
pub(super) async fn in_time<T>(
    limit: Duration,
    peer: &str,
    work: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(LinkError::new(Kind::Unreachable, format!("{peer} does not respond"))),
    }
}

/// Returns the more informative of two failures: that of a host that responded.
pub(super) fn more_informative(one: Option<LinkError>, two: LinkError) -> Option<LinkError> {
    match one {
        Some(one) if two.kind == Kind::Unreachable => Some(one),
        _ => Some(two),
    }
}

/// Returns the kind and the description of an error. It contains only fixed texts, and those of TLS
/// and of the system, which never repeat what was sent.
fn judge(error: &RedisError) -> (Kind, String) {
    if let Some(fault) = tls_fault(error) {
        return (Kind::Tls, format!("cannot be trusted: {fault}"));
    }
    let (kind, what) = match error.code().unwrap_or_default() {
        "NOAUTH" => (Kind::Auth, "requires a password"),
        "WRONGPASS" => (Kind::Auth, "rejects the user name or password"),
        "NOPERM" => (Kind::Auth, "denies the user a required permission"),
        "LOADING" => (Kind::NotReady, "is still loading its data"),
        "READONLY" => (Kind::NotReady, "is a replica"),
        "MASTERDOWN" => (Kind::NotReady, "has lost its master"),
        "CLUSTERDOWN" => (Kind::NotReady, "is part of a cluster that is down"),
        "BUSY" => (Kind::NotReady, "is busy with a script"),
        "MISCONF" => (Kind::NotReady, "cannot write to its disk"),
        "NOPROTO" => (Kind::TooOld, "does not support RESP3 (Redis 6 or later is required)"),
        "DENIED" => (Kind::Auth, "is in protected mode and accepts local connections only"),
        _ => return judge_kind(error),
    };
    (kind, what.to_string())
}

fn judge_kind(error: &RedisError) -> (Kind, String) {
    let (kind, what) = match error.kind() {
        ErrorKind::AuthenticationFailed => (Kind::Auth, "rejects the user name or password"),
        ErrorKind::RESP3NotSupported => {
            (Kind::TooOld, "does not support RESP3 (Redis 6 or later is required)")
        }
        ErrorKind::Io => return (Kind::Unreachable, judge_io(error)),
        ErrorKind::Parse => (Kind::Other, "does not respond like Redis"),
        ErrorKind::Server(_) => judge_words(error.detail().unwrap_or_default()),
        _ => (Kind::Other, "cannot be used"),
    };
    (kind, what.to_string())
}

/// Redis identifies some errors only by their text.
fn judge_words(words: &str) -> (Kind, &'static str) {
    if words.starts_with("DB index is out of range") {
        return (Kind::Other, "has no database with that number");
    }
    if words.starts_with("max number of clients reached") {
        return (Kind::NotReady, "has reached its maximum number of clients");
    }
    (Kind::Other, "rejects the first commands of the connection")
}

fn judge_io(error: &RedisError) -> String {
    match cause::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "refuses connections".to_string(),
        Some(io::ErrorKind::NotFound) => "does not exist".to_string(),
        Some(io::ErrorKind::TimedOut) => "does not respond".to_string(),
        Some(
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted,
        ) => "closes the connection".to_string(),
        _ => format!("cannot be reached: {error}"),
    }
}

fn tls_fault(error: &RedisError) -> Option<&rustls::Error> {
    cause(error).or_else(|| cause::<io::Error>(error)?.get_ref()?.downcast_ref())
}

/// Returns the error that `redis` wrapped, if it is of this type.
fn cause<E: Error + 'static>(error: &RedisError) -> Option<&E> {
    error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: &str, detail: &str) -> RedisError {
        ::redis::make_extension_error(code.to_string(), Some(detail.to_string()))
    }

    #[test]
    fn errors_say_what_is_to_be_done() {
        for (code, kind, what) in [
            ("NOAUTH", Kind::Auth, "requires a password"),
            ("WRONGPASS", Kind::Auth, "rejects the user name or password"),
            ("NOPERM", Kind::Auth, "denies the user a required permission"),
            ("LOADING", Kind::NotReady, "is still loading its data"),
            ("READONLY", Kind::NotReady, "is a replica"),
            ("MASTERDOWN", Kind::NotReady, "has lost its master"),
            ("CLUSTERDOWN", Kind::NotReady, "is part of a cluster that is down"),
            ("BUSY", Kind::NotReady, "is busy with a script"),
            ("MISCONF", Kind::NotReady, "cannot write to its disk"),
            ("NOPROTO", Kind::TooOld, "does not support RESP3 (Redis 6 or later is required)"),
            ("DENIED", Kind::Auth, "is in protected mode and accepts local connections only"),
            ("WHATEVER", Kind::Other, "cannot be used"),
        ] {
            let error = LinkError::from_error("a:1", &server(code, ""));
            assert_eq!((error.kind, error.to_string()), (kind, format!("a:1 {what}")), "{code}");
        }
        for (kind, what) in [
            (io::ErrorKind::ConnectionRefused, "refuses connections"),
            (io::ErrorKind::NotFound, "does not exist"),
            (io::ErrorKind::TimedOut, "does not respond"),
            (io::ErrorKind::BrokenPipe, "closes the connection"),
            (io::ErrorKind::UnexpectedEof, "closes the connection"),
            (io::ErrorKind::ConnectionReset, "closes the connection"),
            (io::ErrorKind::ConnectionAborted, "closes the connection"),
        ] {
            let error = LinkError::from_error("a:1", &RedisError::from(io::Error::from(kind)));
            assert_eq!((error.kind, error.to_string()), (Kind::Unreachable, format!("a:1 {what}")));
        }
    }

    #[test]
    fn errors_without_a_code_are_recognized_by_their_text() {
        let kind = |words: &str| judge_words(words).0;
        assert_eq!(kind("max number of clients reached"), Kind::NotReady);
        assert_eq!(judge_words("DB index is out of range").1, "has no database with that number");
        assert_eq!(kind("anything else"), Kind::Other);
    }

    #[test]
    fn errors_of_the_client_are_recognized_by_their_kind() {
        let judged = |kind: ErrorKind| {
            let error = LinkError::from_error("a:1", &RedisError::from((kind, "words")));
            (error.kind, error.to_string())
        };
        let is = |kind, what: &str| (kind, format!("a:1 {what}"));
        let rejected = is(Kind::Auth, "rejects the user name or password");
        assert_eq!(judged(ErrorKind::AuthenticationFailed), rejected);
        assert_eq!(judged(ErrorKind::Parse), is(Kind::Other, "does not respond like Redis"));
        assert_eq!(judged(ErrorKind::RESP3NotSupported).0, Kind::TooOld);
        assert_eq!(judged(ErrorKind::Client), is(Kind::Other, "cannot be used"));
    }

    #[test]
    fn an_error_of_tls_is_reported_as_one() {
        let inner = rustls::Error::General("it is a test".to_string());
        let error = RedisError::from(io::Error::new(io::ErrorKind::InvalidData, inner));
        let error = LinkError::from_error("a:1", &error);
        assert_eq!(error.kind, Kind::Tls);
        assert!(error.to_string().contains("it is a test"));
    }

    #[test]
    fn the_error_of_a_host_that_responds_is_more_informative() {
        let unreachable = LinkError::new(Kind::Unreachable, "a".into());
        let auth = LinkError::new(Kind::Auth, "b".into());
        let reported = more_informative(Some(auth.clone()), unreachable.clone());
        assert_eq!(reported, Some(auth.clone()));
        assert_eq!(more_informative(Some(unreachable.clone()), auth.clone()), Some(auth));
        assert_eq!(more_informative(None, unreachable.clone()), Some(unreachable));
    }

    #[test]
    fn a_servers_words_are_not_repeated() {
        let echo = "unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'u' 'SECRET'";
        let error = LinkError::from_error("a:1", &server("ERR", echo));
        assert!(!format!("{error} {error:?}").contains("SECRET"));
    }

    #[test]
    fn some_errors_lead_elsewhere_and_some_pass() {
        assert!(
            is_elsewhere(&server("MOVED", "1 a:1")) && !is_not_ready(&server("MOVED", "1 a:1"))
        );
        assert!(is_elsewhere(&server("READONLY", "")) && is_not_ready(&server("READONLY", "")));
        assert!(is_not_ready(&server("BUSY", "")) && !is_elsewhere(&server("BUSY", "")));
        assert!(!is_not_ready(&server("ERR", "")) && !is_elsewhere(&server("ERR", "")));
    }
}
