//! The hub's clock in Redis: the key from which the publish script takes the numbers of all events.
//!
//! It never gives a number twice, nor one below another, so it is raised to what this hub has seen,
//! for a failover may have set it back. It may also be ahead: then everything that is published
//! would be, for as long as the key lives. A number that cannot have been given by now is therefore
//! neither believed nor written, and a clock that has one is removed.

use std::sync::OnceLock;

use ::redis::{cmd, RedisError, Script, Value};

use crate::hub::{Now, ReportedId};
use crate::redis::context::LogLevel;
use crate::redis::ended::Ended;
use crate::redis::session::Session;
use crate::sse::id::EntryId;

const RESET: &str = include_str!("reset.lua");

impl Session {
    /// Sets the clock right, whose newest number is `reported`, and learns from which number this
    /// connection goes on.
    pub(in crate::redis) async fn set_right(
        &mut self,
        reported: Option<ReportedId>,
    ) -> Result<(), Ended> {
        let mark = self.with_lock(|| self.joined.hub.high_watermark()).await?;
        let latest = self.latest();
        let given = match reported {
            Some(id) if id.checked(latest).is_none() => {
                self.reset_clock(id).await;
                None
            }
            other => other.and_then(|id| id.checked(latest)),
        };
        self.clock_fell_back = mark > EntryId::default() && given.is_none_or(|given| given < mark);
        self.clock = match given {
            Some(given) if given >= mark => given,
            None if mark == EntryId::default() => self.tick_clock("*").await,
            // This machine's clock was ahead once.
            _ if !latest.allows(mark) => mark,
            _ => self.tick_clock(&ReportedId::from(mark).to_string()).await.max(mark),
        };
        Ok(())
    }

    /// Has the clock give a number, this one or its own. Zero if it gives none: another nginx may have
    /// been faster, which is as good.
    async fn tick_clock(&mut self, id: &str) -> EntryId {
        let mut tick = cmd("XADD");
        tick.arg(self.joined.names.clock()).arg("MAXLEN").arg(1).arg(id).arg("t").arg("");
        let answer: Result<Vec<u8>, _> = tick.query_async(&mut self.link.connection).await;
        let Some(given) = answer.ok().and_then(|id| ReportedId::parse(&id)) else {
            return EntryId::default();
        };
        match given.checked(self.latest()) {
            Some(entry_id) => entry_id,
            None => {
                self.reset_clock(given).await;
                EntryId::default()
            }
        }
    }

    /// Removes the clock, unless it has gone on from this number meanwhile.
    async fn reset_clock(&mut self, id: ReportedId) {
        static SCRIPT: OnceLock<Script> = OnceLock::new();
        let script = SCRIPT.get_or_init(|| Script::new(RESET));
        let mut call = script.key(self.joined.names.clock());
        let call = call.arg(id.to_string());
        let removed: Result<i64, RedisError> = call.invoke_async(&mut self.link.connection).await;
        let what = match removed {
            Ok(_) => "it is removed, and begins again with the time",
            Err(_) => "it cannot be removed, and ids of new events are made here",
        };
        self.joined.log(
            LogLevel::Warn,
            format_args!(
                "the hub's clock in Redis, {}, is at {id}, more than an hour ahead; {what}",
                String::from_utf8_lossy(&self.joined.names.clock()),
            ),
        );
    }
}

/// What Redis' clock showed when the monotonic clock of this machine began (ms since 1970), by the answer to
/// TIME. That clock goes on evenly when somebody sets this machine's other one.
pub(in crate::redis) fn redis_epoch(time: &Value, now: Now) -> u64 {
    let parts = match time {
        Value::Array(parts) => &parts[..],
        _ => &[],
    };
    let number = |value: Option<&Value>| match value {
        Some(Value::BulkString(text)) => std::str::from_utf8(text).ok()?.parse::<u64>().ok(),
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    let there = match (number(parts.first()), number(parts.get(1))) {
        (Some(seconds), Some(micros)) => seconds.saturating_mul(1000).saturating_add(micros / 1000),
        // It does not say.
        _ => now.wall,
    };
    there.saturating_sub(now.mono)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_of_this_machine_that_is_set_changes_nothing() {
        let time = |seconds: &str| {
            let text = |text: &str| Value::BulkString(text.into());
            Value::Array(vec![text(seconds), text("250000")])
        };
        let hour = 3_600_000;
        let at = |mono, wall| Now { mono, mono_ns: 0, wall };
        let epoch = redis_epoch(&time("1000000"), at(5_000, 999_000_000));
        assert_eq!(epoch + 5_000, 1_000_000_250);
        assert_eq!(redis_epoch(&time("1000001"), at(6_000, 999_001_000 + hour)), epoch);
        assert_eq!(redis_epoch(&Value::Nil, at(5_000, 7_000)), 2_000);
        assert_eq!(redis_epoch(&time("x"), at(5_000, 7_000)), 2_000);
    }
}
