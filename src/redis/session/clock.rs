//! The hub's clock in Redis: the key from which the publish script gets the ids of all events.
//!
//! Its ids only increase, so it is raised to the highest id that this hub has seen: a failover may
//! have set it back. If it is ahead of the time, all ids that are issued later are ahead, too.
//! Implausible ids are therefore neither trusted nor written, and a clock that has one is reset.

use std::sync::OnceLock;

use ::redis::{cmd, RedisError, Script, Value};

use crate::hub::{Now, ReportedId, Source};
use crate::redis::context::LogLevel;
use crate::redis::ended::Ended;
use crate::redis::entry::entries;
use crate::redis::link::{Link, Unanswered};
use crate::redis::session::Session;
use crate::sse::id::EntryId;

const RESET: &str = include_str!("reset.lua");

impl Session {
    /// Corrects the clock, whose newest id is `reported`, and sets the id from which this
    /// connection continues.
    pub(in crate::redis) async fn correct_clock(
        &mut self,
        reported: Option<ReportedId>,
    ) -> Result<(), Ended> {
        let mark = self.with_lock(|| self.context.hub.high_watermark()).await?;
        let latest = self.latest();
        let given = reported.and_then(|id| id.checked(latest));
        let ahead = reported.filter(|_| given.is_none());
        let is_usable = match ahead {
            Some(id) => self.reset_clock(id).await,
            None => true,
        };
        self.clock_fell_back = mark > EntryId::default() && given.is_none_or(|given| given < mark);
        self.received = if self.clock_fell_back { EntryId::default() } else { mark };
        self.clock = match given {
            Some(given) if given >= mark => given,
            _ if !is_usable => mark,
            None if mark == EntryId::default() => self.tick_clock("*").await,
            // This machine's clock was ahead before.
            _ if !latest.allows(mark) => mark,
            _ => self.tick_clock(&ReportedId::from(mark).to_string()).await.max(mark),
        };
        Ok(())
    }

    /// Returns the id that the clock has issued last, or the one from which this connection
    /// continued if that is higher.
    ///
    /// It is requested after patterns have been subscribed to: whatever was published before, and
    /// was therefore not received, has no higher id.
    pub(in crate::redis) async fn newest_id(&self) -> Result<EntryId, Ended> {
        if self.context.hub.source() == Source::Streams {
            return Ok(self.clock);
        }
        let newest = newest_of_clock(&self.link, self.context.names.clock()).await?;
        let newest = newest.and_then(|newest| newest.checked(self.latest()));
        Ok(newest.unwrap_or_default().max(self.clock))
    }

    /// Makes the clock issue an id: this one, or its own. Returns zero if it issues none,
    /// because another nginx was faster.
    async fn tick_clock(&mut self, id: &str) -> EntryId {
        let mut tick = cmd("XADD");
        tick.arg(self.context.names.clock()).arg("MAXLEN").arg(1).arg(id).arg("t").arg("");
        let reply: Result<Vec<u8>, _> = tick.query_async(&mut self.link.connection).await;
        let Some(given) = reply.ok().and_then(|id| ReportedId::parse(&id)) else {
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

    /// Resets the clock, unless it has issued another id since this one. Returns false if Redis
    /// rejects that.
    async fn reset_clock(&mut self, id: ReportedId) -> bool {
        static SCRIPT: OnceLock<Script> = OnceLock::new();
        let script = SCRIPT.get_or_init(|| Script::new(RESET));
        let mut call = script.key(self.context.names.clock());
        let call = call.arg(id.to_string());
        let removed: Result<i64, RedisError> = call.invoke_async(&mut self.link.connection).await;
        let what = match removed {
            Ok(_) => "it was reset to the current time",
            Err(_) => "it could not be reset, so this nginx assigns the ids of new events",
        };
        self.context.log(
            LogLevel::Warn,
            format_args!(
                "the hub's clock in Redis ({}) is at {id}, more than an hour in the future; {what}",
                String::from_utf8_lossy(&self.context.names.clock()),
            ),
        );
        removed.is_ok()
    }
}

/// Returns the id that the clock in this key has issued last, or `None` if there is none, or if the
/// user lacks the permission to read it.
pub(in crate::redis) async fn newest_of_clock(
    link: &Link,
    key: Vec<u8>,
) -> Result<Option<ReportedId>, Unanswered> {
    let mut newest = cmd("XREVRANGE");
    newest.arg(key).arg("+").arg("-").arg("COUNT").arg(1);
    match link.reply(async |connection| newest.query_async::<Value>(connection).await).await {
        Ok(reply) => Ok(entries(&reply).first().map(|entry| entry.id)),
        Err(Unanswered::Failed(error)) if error.code().is_some() => Ok(None),
        Err(why) => Err(why),
    }
}

/// Returns the time in Redis at which this machine's monotonic clock was 0, in ms since 1970, from
/// the reply to TIME. Unlike the wall clock, the monotonic clock cannot be set.
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
        // The reply is invalid.
        _ => now.wall,
    };
    there.saturating_sub(now.mono)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_this_machines_clock_changes_nothing() {
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

    #[test]
    fn the_time_in_redis_is_read_in_both_forms_and_to_the_millisecond() {
        let at = |mono| Now { mono, mono_ns: 0, wall: 7_000 };
        let time = |seconds, micros| Value::Array(vec![Value::Int(seconds), Value::Int(micros)]);
        assert_eq!(redis_epoch(&time(10, 999), at(0)), 10_000);
        assert_eq!(redis_epoch(&time(10, 1_000), at(0)), 10_001);
        assert_eq!(redis_epoch(&time(10, 999_999), at(10_000)), 999);
        // A machine that has run for longer than the clock in Redis shows.
        assert_eq!(redis_epoch(&time(10, 0), at(10_001)), 0);
        // What is no time.
        for time in [time(-1, 0), time(10, -1), Value::Array(vec![Value::Int(10)]), Value::Int(10)]
        {
            assert_eq!(redis_epoch(&time, at(2_000)), 5_000);
        }
        assert_eq!(redis_epoch(&time(i64::MAX, 0), at(1)), u64::MAX - 1);
    }
}
