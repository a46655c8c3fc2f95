//! Publishing durable events: the Lua script, its calls and its answers.
//!
//! The script that publishers load is `redis/publish.lua`. What nginx calls is the core of the same
//! file with another end, which takes several events at once.

use std::sync::OnceLock;

use ::redis::aio::MultiplexedConnection;
use ::redis::{RedisError, Script, ScriptInvocation};

use crate::hub::ReportedId;

const PUBLISH: &str = include_str!("../../redis/publish.lua");
const BATCH: &str = include_str!("batch.lua");
const APPEND: &str = include_str!("append.lua");

const CORE_BEGINS: &str = "-- core:";
const CORE_ENDS: &str = "-- end of core\n";

/// Where the events of a hub are kept, `redis_source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
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
pub struct Publish {
    /// The key of the channel's stream.
    pub key: Vec<u8>,
    /// Type and data of each; an empty type is none.
    pub events: Vec<(Vec<u8>, Vec<u8>)>,
    /// The key under which the answer is kept, and for how many milliseconds.
    pub idempotency: Option<(Vec<u8>, u64)>,
    /// Where they go.
    pub source: Source,
}

/// Publishes, and answers the events' ids: those of the first time if this is a repetition.
pub async fn publish(
    connection: &mut MultiplexedConnection,
    publish: &Publish,
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

fn invocation(publish: &Publish) -> ScriptInvocation<'static> {
    let mut call = match publish.source {
        Source::Pubsub => batch().prepare_invoke(),
        Source::Stream { .. } => append().prepare_invoke(),
    };
    call.key(&publish.key);
    match &publish.idempotency {
        Some((key, ms)) => call.key(key).arg(ms),
        None => call.arg(0),
    };
    if let Source::Stream { count } = publish.source {
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

    const LIBRARY: &str = include_str!("../../redis/sse.lua");

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
