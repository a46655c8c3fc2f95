//! How new entries in the streams of applications are noticed (`redis_source stream`): Redis
//! notifies nginx of them, if its setting `notify-keyspace-events` permits that, or the streams are
//! polled. The setting is read again with each heartbeat.

use ::redis::{pipe, Pipeline, RedisError, Value};

use crate::hub::SyncState;
use crate::redis::context::{HubContext, LogLevel};
use crate::redis::ended::Ended;
use crate::redis::session::subscriptions::TOGETHER as SUBSCRIBED;
use crate::redis::session::Session;
use crate::redis::subscribe::Subscribe;

/// Number of streams that are read with each heartbeat although Redis has reported nothing: the
/// setting may have been changed and changed back in between.
const AUDITED: usize = 500;

/// How new entries are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrowthSource {
    /// Through keyspace notifications.
    Notified,
    /// By polling.
    Polled,
}

impl GrowthSource {
    /// Evaluates Redis' reply to CONFIG GET. Without permission for it, streams are polled.
    pub fn read(reply: &Result<Value, RedisError>) -> GrowthSource {
        let text = |value: &Value| match value {
            Value::BulkString(text) => String::from_utf8_lossy(text).into_owned(),
            Value::SimpleString(text) => text.clone(),
            _ => String::new(),
        };
        let logged = match reply {
            Ok(Value::Map(settings)) => {
                settings.iter().any(|(_, flags)| reports_growth(&text(flags)))
            }
            Ok(Value::Array(words)) => {
                words.get(1).is_some_and(|flags| reports_growth(&text(flags)))
            }
            _ => false,
        };
        if logged {
            GrowthSource::Notified
        } else {
            GrowthSource::Polled
        }
    }
}

/// Whether a polling connection can switch to notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notifications {
    /// Yes, once Redis' setting permits it.
    Possible,
    /// It is subscribing to all streams.
    Subscribing,
    /// The user has no permission to subscribe.
    Forbidden,
}

impl Session {
    /// Handles a change of Redis' setting, which a heartbeat has read. Each stream is read from
    /// its last entry on, so nothing is lost when the method changes.
    pub(in crate::redis) fn switch_growth_source(
        &mut self,
        reply: &Result<Value, RedisError>,
    ) -> Result<(), Ended> {
        match (self.reading.source, GrowthSource::read(reply)) {
            (GrowthSource::Notified, GrowthSource::Notified) => self.read_unreported(),
            (GrowthSource::Polled, GrowthSource::Polled) => {}
            (GrowthSource::Notified, GrowthSource::Polled) => {
                self.poll_streams();
                self.context.log(
                    LogLevel::Warn,
                    format_args!(
                        "Redis no longer reports new stream entries, because \
                         \"notify-keyspace-events\" lacks \"K\" or \"t\" now, or cannot be read; \
                         streams are polled instead"
                    ),
                );
            }
            (GrowthSource::Polled, GrowthSource::Notified) => self.subscribe_to_growth(),
        }
        Ok(())
    }

    fn poll_streams(&mut self) {
        self.subscribe = Subscribe::Not;
        self.reading.source = GrowthSource::Polled;
        self.reading.turn.clear();
        // It has just been logged.
        self.reading.many_logged = true;
    }

    /// Reads some streams about which nothing was reported, in turn.
    fn read_unreported(&mut self) {
        if self.reading.turn.is_empty() {
            self.reading.turn = self.channels.names().cloned().collect();
        }
        let rest = self.reading.turn.len().saturating_sub(AUDITED);
        self.reading.grown.extend(self.reading.turn.split_off(rest));
    }

    /// Subscribes to the notifications of all streams. They are polled until that is confirmed.
    fn subscribe_to_growth(&mut self) {
        if self.reading.notifications != Notifications::Possible || self.is_frozen() {
            return;
        }
        self.reading.notifications = Notifications::Subscribing;
        // From now on, new channels are subscribed to, too.
        self.subscribe = Subscribe::First;
        let names = self.channels.names().cloned().map(|name| (name, SyncState::Nothing));
        let names: Vec<_> = names.collect();
        let (subscriber, finished) = (self.channel_subscriber(), self.finished.clone());
        tokio::task::spawn_local(async move {
            let mut forbidden = false;
            for some in names.chunks(SUBSCRIBED) {
                match subscriber.subscribe(some.to_vec()).await {
                    Ok((_, refused)) => forbidden |= !refused.names.is_empty(),
                    Err(error) => {
                        finished.report(Err(error.to_string()), Session::growth_subscribed);
                        return;
                    }
                }
            }
            finished.report(Ok(forbidden), Session::growth_subscribed);
        });
    }

    /// Handles the end of subscribing to all streams.
    pub(in crate::redis) async fn growth_subscribed(
        &mut self,
        forbidden: bool,
    ) -> Result<(), Ended> {
        if forbidden {
            self.reading.notifications = Notifications::Forbidden;
            self.subscribe = Subscribe::Not;
            return Ok(());
        }
        self.reading.notifications = Notifications::Possible;
        self.reading.source = GrowthSource::Notified;
        self.reading.turn.clear();
        self.read_all_streams();
        let what = format_args!("Redis reports new stream entries; streams are no longer polled");
        self.context.log(LogLevel::Notice, what);
        Ok(())
    }
}

/// Asks for the setting that [`GrowthSource::read`] evaluates, after something that any node but
/// the right one refuses.
pub(in crate::redis) fn growth_query(context: &HubContext) -> Pipeline {
    let mut ask = pipe();
    ask.cmd("EXISTS").arg(context.names.clock());
    ask.cmd("CONFIG").arg("GET").arg("notify-keyspace-events");
    ask
}

/// Whether these flags make Redis report new stream entries: K for the keys' channels, t (or A, all
/// kinds) for streams.
fn reports_growth(flags: &str) -> bool {
    flags.contains('K') && (flags.contains('t') || flags.contains('A'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_flags_are_needed_whatever_the_form_of_the_reply() {
        use GrowthSource::{Notified, Polled};
        let bulk = |text: &str| Value::BulkString(text.into());
        let simple = |text: &str| Value::SimpleString(text.into());
        let name = || bulk("notify-keyspace-events");
        for (flags, expected) in
            [("Kt", Notified), ("AK", Notified), ("KEA", Notified), ("K", Polled), ("Et", Polled)]
        {
            for text in [bulk(flags), simple(flags)] {
                let map = Value::Map(vec![(name(), text.clone())]);
                assert_eq!(GrowthSource::read(&Ok(map)), expected, "{flags}");
                let list = Value::Array(vec![name(), text]);
                assert_eq!(GrowthSource::read(&Ok(list)), expected, "{flags}");
            }
        }
        let refused = ::redis::make_extension_error("NOPERM".into(), None);
        assert_eq!(GrowthSource::read(&Err(refused)), Polled);
        for reply in [Value::Nil, Value::Map(vec![]), Value::Array(vec![name()]), bulk("Kt")] {
            assert_eq!(GrowthSource::read(&Ok(reply)), Polled);
        }
    }
}
