//! The heartbeat of a connection: whether the node still answers and is the right one, and whether what
//! was agreed upon with Redis still holds.
//!
//! With `redis_source pubsub` that is what history owes and the token, with `redis_source stream`
//! whether Redis reports which streams have grown.

use std::time::Duration;

use ::redis::{cmd, pipe, Pipeline, RedisError, Value};

use crate::hub::Source;
use crate::redis::context::{HubContext, LogLevel};
use crate::redis::ended::{shown, Ended};
use crate::redis::session::clock::redis_epoch;
use crate::redis::session::stream_reader::ask_way;
use crate::redis::session::Session;
use crate::redis::token::{Agreed, Token};

/// How often the connection is tried.
pub(in crate::redis) const HEARTBEAT: Duration = Duration::from_secs(3);

/// The answers to the commands of a heartbeat.
pub type Answers = Vec<Result<Value, RedisError>>;

impl Session {
    /// Asks what any node but the right one refuses, unless such a question is on its way.
    pub(in crate::redis) fn beat(&mut self) {
        if std::mem::replace(&mut self.beating, true) {
            return;
        }
        let (link, finished) = (self.link.clone(), self.finished.clone());
        let mut question = match self.joined.hub.source() {
            Source::Streams => ask_way(&self.joined),
            Source::PubSub | Source::Alone => {
                agree("HSETNX", &self.joined, self.token.or_else(Token::random))
            }
        };
        question.cmd("TIME");
        question.ignore_errors();
        tokio::task::spawn_local(async move {
            let answers = link.answer(async |to| question.query_async(to).await).await;
            finished.report(answers.map_err(|why| why.to_string()), Session::beaten);
        });
    }

    /// Takes the answers to a heartbeat.
    pub(in crate::redis) async fn beaten(&mut self, mut answers: Answers) -> Result<(), Ended> {
        self.beating = false;
        self.set_right_time(&answers.pop().unwrap_or(Ok(Value::Nil)));
        // The last answer is about what was agreed upon, and says nothing about the node.
        let agreed = answers.pop().unwrap_or(Ok(Value::Nil));
        // What may not be written says that the node serves all the same.
        let errors = answers.iter().filter_map(|answer| answer.as_ref().err());
        if let Some(error) = errors.into_iter().find(|error| !is_alive(error)) {
            return Err(Ended::Lost(shown(error)));
        }
        match self.joined.hub.source() {
            Source::Streams => self.switch_way(&agreed),
            Source::PubSub | Source::Alone => {
                let set = answers.pop().unwrap_or(Ok(Value::Nil));
                self.take_token(Agreed::read(set, agreed));
                Ok(())
            }
        }
    }

    /// Somebody may have set the clock of Redis' machine, and the two do not run equally fast.
    fn set_right_time(&mut self, time: &Result<Value, RedisError>) {
        let Ok(time) = time else { return };
        let epoch = redis_epoch(time, self.joined.now());
        // By less the answer may have been late.
        if epoch.abs_diff(self.redis_epoch) > HEARTBEAT.as_millis() as u64 {
            self.redis_epoch = epoch;
        }
    }

    /// Takes the token that Redis has by now. Another one, or none at all, makes messages doubtful until
    /// all agree again, and these are looked up.
    pub(in crate::redis) fn take_token(&mut self, agreed: Agreed) {
        self.token = agreed.token();
        match agreed {
            Agreed::On(_) => {}
            Agreed::OnNone => self.replace_token(),
            Agreed::Refused(why) => self.tell_no_token(why.as_ref()),
        }
    }

    /// Writes a token over something that is none. All read it with their next heartbeats.
    fn replace_token(&self) {
        let Some(token) = Token::random() else { return };
        let mut set = cmd("HSET");
        set.arg(self.joined.names.history()).arg("token").arg(token.as_bytes());
        let mut connection = self.link.connection.clone();
        tokio::task::spawn_local(async move {
            // If it may not, the next heartbeat finds the same as this one.
            let _: Result<Value, _> = set.query_async(&mut connection).await;
        });
    }

    fn tell_no_token(&mut self, why: Option<&RedisError>) {
        if std::mem::replace(&mut self.told_no_token, true) {
            return;
        }
        let why = why.map_or_else(|| "it has none".to_owned(), shown);
        self.joined.log(
            LogLevel::Warn,
            format_args!(
                "no secret for durable messages can be agreed upon with Redis: {why}; until one can, \
                 each is looked up before it is delivered"
            ),
        );
    }
}

/// Writes down for the publish script what history owes, by HSET or HSETNX, and the token unless there
/// is one; the last answer is the token.
pub(in crate::redis) fn agree(
    command: &str,
    joined: &HubContext,
    token: Option<Token>,
) -> Pipeline {
    let (key, history) = (joined.names.history(), joined.hub.history());
    let mut tell = pipe();
    tell.cmd(command).arg(&key).arg("count").arg(history.count);
    tell.cmd(command).arg(&key).arg("age").arg(history.age);
    if let Some(token) = token {
        tell.cmd("HSETNX").arg(&key).arg("token").arg(token.as_bytes());
    }
    tell.cmd("HMGET").arg(&key).arg("token");
    tell
}

/// Whether an error says that the node is the right one and serves.
fn is_alive(error: &RedisError) -> bool {
    matches!(error.code(), Some("OOM" | "NOPERM" | "MISCONF" | "WRONGTYPE" | "NOREPLICAS"))
}
