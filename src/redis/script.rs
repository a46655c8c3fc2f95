//! The Lua scripts that publish and delete: how they are called, and what they return.
//!
//! Publishers load `lua/publish.lua`. nginx calls the core of the same file with another final
//! part, which accepts several events at once.

use std::sync::OnceLock;

use ::redis::aio::MultiplexedConnection;
use ::redis::{RedisError, Script, ScriptInvocation};

use crate::hub::ReportedId;
use crate::redis::keys::Keys;
use crate::sse::finish::RunAfterwards;

const PUBLISH: &str = include_str!("../../lua/publish.lua");
const BATCH: &str = include_str!("batch.lua");
const APPEND: &str = include_str!("append.lua");
const FORGET: &str = include_str!("forget.lua");
const FORGET_STREAM: &str = include_str!("forget_stream.lua");
const DISCONNECT: &str = include_str!("disconnect.lua");

/// The number of disconnected users that Redis keeps.
pub const KEPT: usize = 1000;

const CORE_BEGINS: &str = "-- core:";
const CORE_ENDS: &str = "-- end of core\n";

/// Where the events of a hub are stored (`redis_source`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishTarget {
    /// The hub's clock issues the ids; events are stored in a stream of the module, and sent with
    /// PUBLISH.
    Pubsub,
    /// Events are added to the application's stream, which is trimmed.
    Stream {
        /// About how many entries are kept, at least one.
        count: u64,
        /// About how many of them as long as the run is not finished.
        open: u64,
    },
}

/// Events that are published together: all of them or none.
#[derive(Clone, Debug)]
pub struct PublishCommand {
    /// The key of the channel's stream.
    pub key: Vec<u8>,
    /// Type and data of each event; an empty type means none.
    pub events: Vec<(Vec<u8>, Vec<u8>)>,
    /// What becomes of the channel's run after them.
    pub run: RunAfterwards,
    /// The key under which the result is stored, and for how long (ms).
    pub idempotency: Option<(Vec<u8>, u64)>,
    /// Where the events are stored.
    pub source: PublishTarget,
}

/// A channel whose events are to be deleted.
#[derive(Clone, Debug)]
pub struct ForgetCommand {
    /// The channel's name.
    pub channel: Vec<u8>,
    /// The names of keys and channels in Redis.
    pub names: Keys,
    /// Where the events are stored.
    pub source: PublishTarget,
}

/// A user that is to be disconnected. Times are in ms since 1970.
#[derive(Clone, Debug)]
pub struct DisconnectCommand {
    /// The name of the user.
    pub user: Vec<u8>,
    /// The time before which its revoked tokens were issued.
    pub issued_before: u64,
    /// The time until which they are revoked; 0 for no revocation.
    pub until: u64,
    /// The names of keys and channels in Redis.
    pub names: Keys,
}

impl Command {
    /// Returns the bytes of the longest type or data of the events; Redis limits the length of a
    /// string.
    pub fn longest(&self) -> usize {
        let longest = |(event_type, data): &(Vec<u8>, Vec<u8>)| event_type.len().max(data.len());
        match self {
            Command::Publish(publish) => {
                publish.events.iter().map(longest).max().unwrap_or_default()
            }
            Command::Forget(_) => 0,
            Command::Disconnect(disconnect) => disconnect.user.len(),
        }
    }

    /// Returns the bytes of all types and data.
    pub fn size(&self) -> usize {
        let bytes = |(event_type, data): &(Vec<u8>, Vec<u8>)| event_type.len() + data.len();
        match self {
            Command::Publish(publish) => publish.events.iter().map(bytes).sum(),
            Command::Forget(_) => 0,
            Command::Disconnect(disconnect) => disconnect.user.len(),
        }
    }
}

/// A request to Redis.
#[derive(Clone, Debug)]
pub enum Command {
    /// Publish events.
    Publish(PublishCommand),
    /// Delete a channel's events.
    Forget(ForgetCommand),
    /// Disconnect a user.
    Disconnect(DisconnectCommand),
}

/// What Redis did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptResult {
    /// Published events; their ids.
    Published(Vec<ReportedId>),
    /// Deleted a channel that had this many events.
    Forgotten(u64),
    /// Disconnected a user.
    Disconnected,
}

/// Sends a command and returns what Redis did.
pub async fn run(
    connection: &mut MultiplexedConnection,
    command: &Command,
) -> Result<ScriptResult, RedisError> {
    match command {
        Command::Publish(events) => publish(connection, events).await.map(ScriptResult::Published),
        Command::Forget(channel) => forget(connection, channel).await.map(ScriptResult::Forgotten),
        Command::Disconnect(user) => {
            disconnect(connection, user).await.map(|_| ScriptResult::Disconnected)
        }
    }
}

/// Deletes a channel's events and notifies every nginx. Returns how many events it had. With
/// `PublishTarget::Stream`, the application's stream is not modified, and a low watermark is stored
/// instead.
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

/// Disconnects a user on every nginx. Returns the number of the disconnection.
async fn disconnect(
    connection: &mut MultiplexedConnection,
    disconnect: &DisconnectCommand,
) -> Result<u64, RedisError> {
    let mut call = disconnect_script().prepare_invoke();
    call.key(disconnect.names.users()).arg(&disconnect.user);
    call.arg(disconnect.issued_before).arg(disconnect.until).arg(KEPT);
    call.invoke_async(connection).await
}

/// Publishes events and returns their ids, or those of the first publish if this one repeats it.
async fn publish(
    connection: &mut MultiplexedConnection,
    publish: &PublishCommand,
) -> Result<Vec<ReportedId>, RedisError> {
    ids(invocation(publish).invoke_async(connection).await?)
}

/// Parses the result of a publish: the ids of its events.
pub(super) fn ids(reply: Vec<Vec<u8>>) -> Result<Vec<ReportedId>, RedisError> {
    reply.iter().map(|id| ReportedId::parse(id).ok_or_else(no_id)).collect()
}

/// Returns the error for an idempotency key without ids. Like all errors that are not about the
/// connection, it has a code.
fn no_id() -> RedisError {
    let detail = "the publish script returned no id".to_owned();
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
    if let PublishTarget::Stream { count, open } = publish.source {
        call.arg(count).arg(open);
    }
    call.arg(match publish.run {
        RunAfterwards::Open => "",
        RunAfterwards::Finished => "finish",
    });
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

fn disconnect_script() -> &'static Script {
    static SCRIPT: OnceLock<Script> = OnceLock::new();
    SCRIPT.get_or_init(|| Script::new(DISCONNECT))
}

fn append() -> &'static Script {
    static SCRIPT: OnceLock<Script> = OnceLock::new();
    SCRIPT.get_or_init(|| Script::new(APPEND))
}

/// Returns what publish.lua, sse.lua, and nginx's own scripts have in common.
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
        let end = "redis.register_function('sse_publish', sse_publish)\n\
                   redis.register_function('sse_finish', sse_finish)\n";
        assert!(LIBRARY.ends_with(end));
    }

    #[test]
    fn what_nginx_calls_is_the_core_with_another_end() {
        assert_ne!(batch().get_hash(), append().get_hash());
        assert!(core(PUBLISH)
            .contains("local function publish(at, events, repeat_key, repeat_ms, finish)"));
        assert!(BATCH.contains("publish(at, events, KEYS[2], ARGV[1], "));
    }

    #[test]
    fn the_result_of_a_publish_is_the_ids_of_all_its_events_or_an_error() {
        let reply = |ids_of: &[&str]| ids(ids_of.iter().map(|id| id.as_bytes().to_vec()).collect());
        let id = |text: &str| ReportedId::parse(text.as_bytes()).unwrap();
        assert_eq!(reply(&["5-1", "5-2"]).unwrap(), [id("5-1"), id("5-2")]);
        assert_eq!(reply(&[]).unwrap(), []);
        for junk in [&["five"][..], &["5-1", ""], &["", "5-1"]] {
            // With a code, it is not taken for a lost connection.
            assert_eq!(reply(junk).unwrap_err().code(), Some("ERR"), "{junk:?}");
        }
    }

    #[test]
    fn a_command_is_as_large_as_its_strings_together_and_its_longest_is_known() {
        let text = |length| vec![b'x'; length];
        let publish = |events: Vec<(usize, usize)>| {
            let events = events.into_iter().map(|(kind, data)| (text(kind), text(data))).collect();
            let (key, source) = (text(1_000), PublishTarget::Pubsub);
            let run = RunAfterwards::Open;
            Command::Publish(PublishCommand { key, events, run, idempotency: None, source })
        };
        let size = |command: Command| (command.longest(), command.size());
        assert_eq!(size(publish(vec![(3, 5), (7, 2)])), (7, 17));
        assert_eq!(size(publish(vec![(3, 9), (7, 2)])), (9, 21));
        assert_eq!(size(publish(vec![])), (0, 0));
        let (names, source) = (Keys::new(""), PublishTarget::Pubsub);
        let channel = text(9);
        assert_eq!(size(Command::Forget(ForgetCommand { channel, names, source })), (0, 0));
        let (user, names) = (text(11), Keys::new(""));
        let disconnect = DisconnectCommand { user, issued_before: 1, until: 2, names };
        assert_eq!(size(Command::Disconnect(disconnect)), (11, 11));
    }
}
