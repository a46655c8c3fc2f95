//! Publishing durable events: the Lua script, its calls and its answers.
//!
//! The script that publishers load is `lua/publish.lua`. What nginx calls is the core of the same
//! file with another end, which takes several events at once.

use std::sync::OnceLock;

use ::redis::aio::MultiplexedConnection;
use ::redis::{RedisError, Script, ScriptInvocation};

use crate::hub::ReportedId;
use crate::redis::keys::Keys;

const PUBLISH: &str = include_str!("../../lua/publish.lua");
const BATCH: &str = include_str!("batch.lua");
const APPEND: &str = include_str!("append.lua");
const FORGET: &str = include_str!("forget.lua");
const FORGET_STREAM: &str = include_str!("forget_stream.lua");

const CORE_BEGINS: &str = "-- core:";
const CORE_ENDS: &str = "-- end of core\n";

/// Where the events of a hub are kept, `redis_source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishTarget {
    /// Ids are the hub's clock's; kept in a stream of our own and told by PUBLISH.
    Pubsub,
    /// The stream is an application's, and all there is; it is kept to about `count` entries.
    Stream {
        /// How many entries are kept, at least one.
        count: u64,
    },
}

/// Events to be published together: all of them or none.
#[derive(Clone, Debug)]
pub struct PublishCommand {
    /// The key of the channel's stream.
    pub key: Vec<u8>,
    /// Type and data of each; an empty type is none.
    pub events: Vec<(Vec<u8>, Vec<u8>)>,
    /// The key under which the answer is kept, and for how many milliseconds.
    pub idempotency: Option<(Vec<u8>, u64)>,
    /// Where they go.
    pub source: PublishTarget,
}

/// A channel that is to be forgotten.
#[derive(Clone, Debug)]
pub struct ForgetCommand {
    /// Its name.
    pub channel: Vec<u8>,
    /// What things are called in Redis.
    pub names: Keys,
    /// Where its events are.
    pub source: PublishTarget,
}

impl Command {
    /// Bytes of the longest type or data among its events, which Redis takes as one string.
    pub fn longest(&self) -> usize {
        let longest = |(event_type, data): &(Vec<u8>, Vec<u8>)| event_type.len().max(data.len());
        match self {
            Command::Publish(publish) => {
                publish.events.iter().map(longest).max().unwrap_or_default()
            }
            Command::Forget(_) => 0,
        }
    }

    /// Bytes of its events.
    pub fn size(&self) -> usize {
        let bytes = |(event_type, data): &(Vec<u8>, Vec<u8>)| event_type.len() + data.len();
        match self {
            Command::Publish(publish) => publish.events.iter().map(bytes).sum(),
            Command::Forget(_) => 0,
        }
    }
}

/// What Redis is asked for.
#[derive(Clone, Debug)]
pub enum Command {
    /// To publish events.
    Publish(PublishCommand),
    /// To forget a channel.
    Forget(ForgetCommand),
}

/// What Redis has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptResult {
    /// Published events with these ids.
    Published(Vec<ReportedId>),
    /// Forgotten a channel that had so many events.
    Forgotten(u64),
}

/// Asks Redis for something.
pub async fn run(
    connection: &mut MultiplexedConnection,
    command: &Command,
) -> Result<ScriptResult, RedisError> {
    match command {
        Command::Publish(events) => publish(connection, events).await.map(ScriptResult::Published),
        Command::Forget(channel) => forget(connection, channel).await.map(ScriptResult::Forgotten),
    }
}

/// Forgets a channel, and tells every nginx. Answers how many events it had. With `Source::Stream` the
/// application's stream stays as it is, and a low watermark is kept beside it.
async fn forget(
    connection: &mut MultiplexedConnection,
    forget: &ForgetCommand,
) -> Result<u64, RedisError> {
    let ForgetCommand { channel, names, source } = forget;
    let call = match source {
        PublishTarget::Pubsub => {
            let mut call = forget_script().prepare_invoke();
            call.key(names.stream(channel));
            call
        }
        PublishTarget::Stream { .. } => {
            let mut call = watermark_script().prepare_invoke();
            call.key(names.subject(channel)).key(names.forgotten());
            call.arg(names.control()).arg(channel);
            call
        }
    };
    call.invoke_async(connection).await
}

/// Publishes, and answers the events' ids: those of the first time if this is a repetition.
async fn publish(
    connection: &mut MultiplexedConnection,
    publish: &PublishCommand,
) -> Result<Vec<ReportedId>, RedisError> {
    let ids: Vec<Vec<u8>> = invocation(publish).invoke_async(connection).await?;
    let ids = ids.iter().map(|id| ReportedId::parse(id).ok_or_else(no_id));
    ids.collect()
}

/// What is kept under an idempotency key are no ids. It has a code, as all errors that are not the
/// connection's.
fn no_id() -> RedisError {
    let detail = "the publish script answered no id".to_owned();
    ::redis::make_extension_error("ERR".to_owned(), Some(detail))
}

fn invocation(publish: &PublishCommand) -> ScriptInvocation<'static> {
    let mut call = match publish.source {
        PublishTarget::Pubsub => batch().prepare_invoke(),
        PublishTarget::Stream { .. } => append().prepare_invoke(),
    };
    call.key(&publish.key);
    match &publish.idempotency {
        Some((key, ms)) => call.key(key).arg(ms),
        None => call.arg(0),
    };
    if let PublishTarget::Stream { count } = publish.source {
        call.arg(count);
    }
    for (event_type, data) in &publish.events {
        call.arg(event_type).arg(data);
    }
    call
}

fn batch() -> &'static Script {
    static SCRIPT: OnceLock<Script> = OnceLock::new();
    SCRIPT.get_or_init(|| Script::new(&[core(PUBLISH), BATCH].concat()))
}

fn forget_script() -> &'static Script {
    static SCRIPT: OnceLock<Script> = OnceLock::new();
    SCRIPT.get_or_init(|| Script::new(&[core(PUBLISH), FORGET].concat()))
}

fn watermark_script() -> &'static Script {
    static SCRIPT: OnceLock<Script> = OnceLock::new();
    SCRIPT.get_or_init(|| Script::new(FORGET_STREAM))
}

fn append() -> &'static Script {
    static SCRIPT: OnceLock<Script> = OnceLock::new();
    SCRIPT.get_or_init(|| Script::new(APPEND))
}

/// What publish.lua, sse.lua and nginx have in common.
fn core(file: &'static str) -> &'static str {
    let begin = file.find(CORE_BEGINS).unwrap_or(0);
    let end = file.find(CORE_ENDS).unwrap_or(file.len());
    file.get(begin..end).unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBRARY: &str = include_str!("../../lua/sse.lua");

    #[test]
    fn the_script_and_the_library_of_functions_are_one() {
        assert_eq!(core(PUBLISH), core(LIBRARY));
        assert!(core(PUBLISH).starts_with(CORE_BEGINS));
        assert!(PUBLISH.ends_with("-- end of core\n\nreturn sse_publish(KEYS, ARGV)\n"));
        assert!(LIBRARY.starts_with("#!lua name=sse\n"));
        let end = "-- end of core\n\nredis.register_function('sse_publish', sse_publish)\n";
        assert!(LIBRARY.ends_with(end));
    }

    #[test]
    fn what_nginx_calls_is_the_core_with_another_end() {
        assert_ne!(batch().get_hash(), append().get_hash());
        assert!(core(PUBLISH).contains("local function publish(at, events, repeat_key, repeat_ms)"));
        assert!(BATCH.contains("publish(at, events, KEYS[2], ARGV[1])"));
    }
}
