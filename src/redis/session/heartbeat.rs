//! The heartbeat of a connection: checks that the node still responds and is the right one, and
//! that its settings are unchanged.
//!
//! With `redis_source pubsub`, these are the `history` settings and the token; with `redis_source
//! stream`, the keyspace notifications.

use std::time::Duration;

use ::redis::{cmd, pipe, Pipeline, RedisError, Value};

use crate::hub::Source;
use crate::redis::context::{HubContext, LogLevel};
use crate::redis::ended::{shown, Ended};
use crate::redis::session::clock::redis_epoch;
use crate::redis::session::growth_source::growth_query;
use crate::redis::session::Session;
use crate::redis::token::{Agreed, Token};

/// How often the connection is tried.
pub(in crate::redis) const HEARTBEAT: Duration = Duration::from_secs(3);

/// The replies to the commands of a heartbeat.
pub type Replies = Vec<Result<Value, RedisError>>;

impl Session {
    /// Sends commands that every node but the right one rejects, unless a heartbeat is in progress.
    pub(in crate::redis) fn send_heartbeat(&mut self) {
        if std::mem::replace(&mut self.heartbeat_pending, true) {
            return;
        }
        let (link, finished) = (self.link.clone(), self.finished.clone());
        let mut query = match self.context.hub.source() {
            Source::Streams => growth_query(&self.context),
            Source::PubSub | Source::Alone => {
                agree("HSETNX", &self.context, self.token.or_else(Token::random))
            }
        };
        query.cmd("TIME");
        query.ignore_errors();
        tokio::task::spawn_local(async move {
            let replies = link.reply(async |to| query.query_async(to).await).await;
            finished.report(replies.map_err(|why| why.to_string()), Session::heartbeat_done);
        });
    }

    /// Processes the replies to a heartbeat.
    pub(in crate::redis) async fn heartbeat_done(
        &mut self,
        mut replies: Replies,
    ) -> Result<(), Ended> {
        self.heartbeat_pending = false;
        self.correct_time(&replies.pop().unwrap_or(Ok(Value::Nil)));
        // The last reply is about the settings, and shows nothing about the node.
        let agreed = replies.pop().unwrap_or(Ok(Value::Nil));
        // If the commands may not write, the node serves nevertheless.
        let errors = replies.iter().filter_map(|reply| reply.as_ref().err());
        if let Some(error) = errors.into_iter().find(|error| !is_alive(error)) {
            return Err(Ended::Lost(shown(error)));
        }
        match self.context.hub.source() {
            Source::Streams => self.switch_growth_source(&agreed),
            Source::PubSub | Source::Alone => {
                let set = replies.pop().unwrap_or(Ok(Value::Nil));
                self.take_token(Agreed::read(set, agreed));
                Ok(())
            }
        }
    }

    /// Corrects the time in Redis, whose clock may have been set, or may run at another speed.
    fn correct_time(&mut self, time: &Result<Value, RedisError>) {
        let Ok(time) = time else { return };
        let epoch = redis_epoch(time, self.context.now());
        self.context.hub.set_clock(self.holder.fence, epoch);
        // A smaller difference may be the delay of the reply.
        if epoch.abs_diff(self.redis_epoch) > HEARTBEAT.as_millis() as u64 {
            self.redis_epoch = epoch;
        }
    }

    /// Updates the token to that in Redis. If it has changed, messages are doubtful, and looked
    /// up, until all nginx instances agree again.
    pub(in crate::redis) fn take_token(&mut self, agreed: Agreed) {
        self.token = agreed.token();
        match agreed {
            Agreed::On(_) => {}
            Agreed::OnNone => self.replace_token(),
            Agreed::Refused(why) => self.log_no_token(why.as_ref()),
        }
    }

    /// Replaces an invalid token in Redis. All nginx instances read the new one with their next
    /// heartbeat.
    fn replace_token(&self) {
        let Some(token) = Token::random() else { return };
        let mut set = cmd("HSET");
        set.arg(self.context.names.history()).arg("token").arg(token.as_bytes());
        let mut connection = self.link.connection.clone();
        tokio::task::spawn_local(async move {
            // If this fails, the next heartbeat tries again.
            let _: Result<Value, _> = set.query_async(&mut connection).await;
        });
    }

    fn log_no_token(&mut self, why: Option<&RedisError>) {
        if std::mem::replace(&mut self.no_token_logged, true) {
            return;
        }
        let why = why.map_or_else(|| "Redis has none".to_owned(), shown);
        self.context.log(
            LogLevel::Warn,
            format_args!(
                "cannot agree with Redis on the secret of durable events: {why}; until then, \
                 each event is looked up in Redis before it is delivered"
            ),
        );
    }
}

/// Returns the commands that store the settings `history` and `runs` for the publish script, by
/// HSET or HSETNX, and the token unless there is one. The last reply is the token.
pub(in crate::redis) fn agree(
    command: &str,
    context: &HubContext,
    token: Option<Token>,
) -> Pipeline {
    let key = context.names.history();
    let (history, runs) = (context.hub.history(), context.hub.runs());
    let mut commands = pipe();
    commands.cmd(command).arg(&key).arg("count").arg(history.count);
    commands.cmd(command).arg(&key).arg("age").arg(history.age);
    commands.cmd(command).arg(&key).arg("runs").arg(runs.count);
    commands.cmd(command).arg(&key).arg("runs_age").arg(runs.age);
    if let Some(token) = token {
        commands.cmd("HSETNX").arg(&key).arg("token").arg(token.as_bytes());
    }
    commands.cmd("HMGET").arg(&key).arg("token");
    commands
}

/// Whether an error shows that the node is the right one and serves.
fn is_alive(error: &RedisError) -> bool {
    matches!(error.code(), Some("OOM" | "NOPERM" | "MISCONF" | "WRONGTYPE" | "NOREPLICAS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_rejects_only_writing_serves_nevertheless() {
        let is_alive = |code: &str| {
            is_alive(&::redis::make_extension_error(code.to_owned(), Some("why".to_owned())))
        };
        for code in ["OOM", "NOPERM", "MISCONF", "WRONGTYPE", "NOREPLICAS"] {
            assert!(is_alive(code), "{code}");
        }
        for code in ["READONLY", "MOVED", "LOADING", "CLUSTERDOWN", "MASTERDOWN", "ERR"] {
            assert!(!is_alive(code), "{code}");
        }
    }
}
