//! The maximum length of a command. Redis closes the connection on a longer one, often before the
//! error can be read, so the limits are queried in advance.

use std::time::Duration;

use ::redis::{pipe, RedisError, Value};
use tokio::time::timeout;

use super::link::Link;
use super::script::Command;

/// How long to wait for the reply. Without one, no limits are known.
const TIMEOUT: Duration = Duration::from_millis(500);
/// Bytes of a command in addition to its events: keys, names, the script's hash.
const OVERHEAD: u64 = 4096;

/// The limits of a node in bytes; `None` if unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedisLimits {
    /// One string: `proto-max-bulk-len`.
    string: Option<u64>,
    /// A whole command: `client-query-buffer-limit`.
    command: Option<u64>,
}

impl RedisLimits {
    /// Queries a node's limits. If the user has no permission for CONFIG, they are unknown, and a
    /// command that is too large for Redis counts as unanswered.
    pub async fn query(link: &mut Link) -> RedisLimits {
        let mut query = pipe();
        query.ignore_errors();
        for name in ["proto-max-bulk-len", "client-query-buffer-limit"] {
            query.cmd("CONFIG").arg("GET").arg(name);
        }
        let reply = timeout(TIMEOUT, query.query_async(&mut link.connection)).await;
        let Ok(Ok(replies)) = reply else { return RedisLimits::default() };
        let replies: Vec<Result<Value, RedisError>> = replies;
        let mut limits = replies.iter().map(|reply| reply.as_ref().ok().and_then(limit));
        RedisLimits { string: limits.next().flatten(), command: limits.next().flatten() }
    }

    /// Returns the limit that a command exceeds, if there is one.
    pub fn exceeded_by(self, command: &Command) -> Option<u64> {
        let longest = command.longest() as u64;
        let size = (command.size() as u64).saturating_add(OVERHEAD);
        let string = self.string.filter(|most| longest > *most);
        string.or_else(|| self.command.filter(|most| size > *most))
    }
}

/// Returns the number in a reply to CONFIG GET, which is a map or a list of a name and a value.
pub(super) fn limit(reply: &Value) -> Option<u64> {
    let value = match reply {
        Value::Map(pairs) => &pairs.first()?.1,
        Value::Array(items) => items.get(1)?,
        _ => return None,
    };
    let text = match value {
        Value::BulkString(text) => std::str::from_utf8(text).ok()?,
        Value::SimpleString(text) => text,
        _ => return None,
    };
    // 0 would reject everything, and is not a limit that Redis accepts.
    text.parse().ok().filter(|most| *most > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::script::{PublishCommand, PublishTarget};
    use crate::sse::finish::RunAfterwards;

    fn publish(lengths: &[usize]) -> Command {
        let events = lengths.iter().map(|length| (Vec::new(), vec![b'x'; *length])).collect();
        let source = PublishTarget::Pubsub;
        let run = RunAfterwards::Open;
        let (key, idempotency) = (Vec::new(), None);
        Command::Publish(PublishCommand { key, events, run, idempotency, source })
    }

    #[test]
    fn strings_and_commands_have_separate_limits() {
        let none = RedisLimits::default();
        assert_eq!(none.exceeded_by(&publish(&[1 << 20])), None);
        let string = RedisLimits { string: Some(1000), command: None };
        assert_eq!(string.exceeded_by(&publish(&[1000, 1000])), None);
        assert_eq!(string.exceeded_by(&publish(&[1, 1001])), Some(1000));
        let command = RedisLimits { string: None, command: Some(10_000) };
        assert_eq!(command.exceeded_by(&publish(&[5000])), None);
        assert_eq!(command.exceeded_by(&publish(&[5000, 5000])), Some(10_000));
    }

    #[test]
    fn only_valid_replies_are_limits() {
        let text = |text: &str| Value::BulkString(text.into());
        let map = |value| Value::Map(vec![(text("proto-max-bulk-len"), value)]);
        assert_eq!(limit(&map(text("1048576"))), Some(1_048_576));
        assert_eq!(limit(&Value::Array(vec![text("name"), text("7")])), Some(7));
        for strange in
            [map(text("-1")), map(text("0")), map(Value::Nil), Value::Nil, Value::Map(vec![])]
        {
            assert_eq!(limit(&strange), None);
        }
    }

    #[test]
    fn a_command_of_exactly_the_limits_is_accepted() {
        let limits = |string, command| RedisLimits { string, command };
        let most = |size: u64| limits(None, Some(OVERHEAD + size)).exceeded_by(&publish(&[60, 40]));
        assert_eq!([101, 100].map(most), [None, None]);
        assert_eq!(most(99), Some(OVERHEAD + 99));
        let longest = |size| limits(Some(size), None).exceeded_by(&publish(&[60, 40]));
        assert_eq!([61, 60, 59].map(longest), [None, None, Some(59)]);
        assert_eq!(limits(Some(59), Some(99)).exceeded_by(&publish(&[60, 40])), Some(59));
    }

    #[test]
    fn limits_are_read_in_every_form_of_a_string() {
        let (bulk, simple) = (Value::BulkString(b"7".into()), Value::SimpleString("8".into()));
        let name = || Value::SimpleString("client-query-buffer-limit".into());
        for (value, expected) in [(bulk, Some(7)), (simple, Some(8)), (Value::Int(9), None)] {
            assert_eq!(limit(&Value::Map(vec![(name(), value.clone())])), expected);
            assert_eq!(limit(&Value::Array(vec![name(), value])), expected);
        }
        assert_eq!(limit(&Value::Array(vec![name()])), None);
        let simple = |text: &str| Value::Array(vec![name(), Value::SimpleString(text.into())]);
        assert_eq!(["0", "1", "x"].map(|text| limit(&simple(text))), [None, Some(1), None]);
    }
}
