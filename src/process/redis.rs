//! The event loop's side of the Redis thread: processes its messages, and completes the requests
//! that wait for Redis.

use crate::conf::Main;
use crate::hub::ReportedId;
use crate::hub::{self, Hub};
use crate::nginx::event::Event;
use crate::nginx::eventfd::EventfdWatch;
use crate::nginx::log::{self, Level};
use crate::nginx::top_level::TopLevel;
use crate::nginx::wakers::eventfd;
use crate::nginx::{clock, thread};
use crate::process;
use crate::redis::context;
use crate::redis::context::{HubContext, Outbox, ThreadEvent};
use crate::redis::keys::Keys;
use crate::redis::publisher::PublisherRequest;
use crate::redis::refusal::Refusal;
use crate::redis::script::{
    Command, DisconnectCommand, ForgetCommand, PublishCommand, PublishTarget, ScriptResult,
};
use crate::redis::thread::Thread;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// The result of a publish through Redis.
pub type Result = std::result::Result<Vec<ReportedId>, Refusal>;

/// How long a process that is shutting down reads channels that are catching up, at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// Messages of the thread that are processed in one turn; each may end a request.
const MESSAGES_PER_TURN: usize = 64;

/// Called with Redis' reply.
type Callback = Box<dyn FnOnce(&mut TopLevel, std::result::Result<ScriptResult, Refusal>)>;

thread_local! {
    static REDIS: RefCell<Option<Redis>> = const { RefCell::new(None) };
}

struct Redis {
    // Dropped first, which joins the thread, because the thread uses the fields below.
    thread: Thread,
    outbox: Arc<Outbox>,
    /// The hubs that are connected to Redis, by number.
    joined: Vec<(usize, Keys)>,
    /// Requests that wait for Redis' reply, by ticket.
    waiting: HashMap<u64, Callback>,
    tickets: u64,
    /// Number of hubs whose subscription this process may still have to hand over.
    holding: usize,
    /// Messages of the thread that are not processed yet, and the event that continues in the next
    /// turn.
    messages: VecDeque<ThreadEvent>,
    soon: Event,
    _watch: EventfdWatch,
}

/// Starts the thread, if any hub is connected to Redis.
pub fn start(main: &Main) {
    let hubs: Vec<_> = main.hubs.iter().filter(|hub| hub.redis.is_some()).collect();
    if hubs.is_empty() {
        return;
    }
    if let Err(error) = begin(main) {
        log::write(Level::Crit, format_args!("sse: the thread for Redis did not start: {error}"));
    }
}

fn begin(main: &Main) -> io::Result<()> {
    let wake_fd = eventfd()?;
    let sender = wake_fd.try_clone()?;
    let outbox = Arc::new(Outbox::new(move || {
        // If an eventfd's counter is full, it is readable already.
        let _ = (&sender).write(&1u64.to_ne_bytes());
    }));
    let watch = EventfdWatch::new(wake_fd, |_, top| process_messages(top), |_, _| {}, 0)?;
    let mut hubs = Vec::new();
    for (number, conf) in main.hubs.iter().enumerate() {
        let (Some(redis), Some(resources)) = (&conf.redis, conf.resources()) else { continue };
        let hub = Hub::attach(resources.region.clone()).map_err(io::Error::other)?;
        let joined = HubContext {
            name: conf.name.clone(),
            hub,
            wakers: resources.wakers,
            address: redis.address.clone(),
            names: redis.names.clone(),
            clock: clock::now,
            outbox: outbox.clone(),
        };
        hubs.push((number, joined));
    }
    let joined: Vec<_> = hubs.iter().map(|(hub, joined)| (*hub, joined.names.clone())).collect();
    let holding = hubs.len();
    let thread = Thread::start(hubs, |main| thread::spawn("sse redis", main))?;
    let waiting = HashMap::new();
    let (messages, soon) = (VecDeque::new(), Event::new(|_, top| process_messages(top), 0));
    let (tickets, _watch) = (0, watch);
    let redis = Redis { thread, outbox, joined, waiting, tickets, holding, messages, soon, _watch };
    REDIS.with(|slot| *slot.borrow_mut() = Some(redis));
    Ok(())
}

/// Ends the thread.
pub fn stop() {
    let redis = REDIS.with(|slot| slot.borrow_mut().take());
    drop(redis);
}

/// Hands this process's subscriptions over to another process, because this one is shutting down.
/// `longest`: how long it may go on serving, in ms, if that is limited.
pub fn retire(longest: Option<u64>) {
    let patience = longest.map_or(PATIENCE, |longest| PATIENCE.min(Duration::from_millis(longest)));
    REDIS.with(|slot| {
        if let Some(redis) = &*slot.borrow() {
            redis.thread.retire(patience);
        }
    });
}

/// Whether this process may still have to hand over a subscription, or has requests that wait for
/// Redis.
pub fn is_holding() -> bool {
    REDIS.with(|slot| {
        let slot = slot.borrow();
        slot.as_ref().is_some_and(|redis| redis.holding > 0 || !redis.waiting.is_empty())
    })
}

/// How a hub publishes through Redis.
pub struct PublishRoute {
    /// The hub's names in Redis.
    pub names: Keys,
    /// Where Redis stores the events.
    pub source: PublishTarget,
}

/// Whether a channel's name is reserved in the Redis that a hub is connected to.
pub fn is_reserved(hub: usize, channel: &[u8]) -> bool {
    let Some(source) = process::with(hub, |worker| worker.hub().source()) else { return false };
    REDIS.with(|slot| {
        let slot = slot.borrow();
        let mut joined = slot.iter().flat_map(|redis| &redis.joined);
        joined.any(|(number, names)| *number == hub && names.is_reserved(channel, source))
    })
}

/// Returns how a hub publishes through Redis; `None` if it is not connected to Redis.
pub fn publish_route(hub: usize) -> Option<PublishRoute> {
    let (source, history, runs) = process::with(hub, |worker| {
        let hub = worker.hub();
        (hub.source(), hub.history(), hub.runs())
    })?;
    let source = match source {
        hub::Source::Alone => return None,
        hub::Source::PubSub => PublishTarget::Pubsub,
        hub::Source::Streams => {
            let count = history.count.max(1);
            PublishTarget::Stream { count, open: count.max(runs.count) }
        }
    };
    let names = REDIS.with(|slot| {
        let slot = slot.borrow();
        let joined = slot.as_ref()?.joined.iter().find(|(number, _)| *number == hub)?;
        Some(joined.1.clone())
    });
    Some(PublishRoute { names: names.unwrap_or_else(|| Keys::new("")), source })
}

/// Publishes events through Redis. `then` is called later from the event loop with the result. If
/// the thread is not running, an error is returned and `then` is not called.
pub fn publish(
    hub: usize,
    publish: PublishCommand,
    then: impl FnOnce(&mut TopLevel, Result) + 'static,
) -> std::result::Result<(), Refusal> {
    ask(hub, Command::Publish(publish), |top, done| {
        let published = done.and_then(|done| match done {
            ScriptResult::Published(ids) => Ok(ids),
            ScriptResult::Forgotten(_) | ScriptResult::Disconnected => Err(Refusal::Unanswered),
        });
        then(top, published);
    })
}

/// Deletes a channel's events on every nginx. `then` is called later from the event loop with the
/// number of events deleted. If the thread is not running, an error is returned and `then` is not
/// called.
pub fn forget(
    hub: usize,
    forget: ForgetCommand,
    then: impl FnOnce(&mut TopLevel, std::result::Result<u64, Refusal>) + 'static,
) -> std::result::Result<(), Refusal> {
    ask(hub, Command::Forget(forget), |top, done| {
        let forgotten = done.and_then(|done| match done {
            ScriptResult::Forgotten(events) => Ok(events),
            ScriptResult::Published(_) | ScriptResult::Disconnected => Err(Refusal::Unanswered),
        });
        then(top, forgotten);
    })
}

/// Disconnects a user on every nginx. `then` is called later from the event loop. If the thread is
/// not running, an error is returned and `then` is not called.
pub fn disconnect(
    hub: usize,
    disconnect: DisconnectCommand,
    then: impl FnOnce(&mut TopLevel, std::result::Result<(), Refusal>) + 'static,
) -> std::result::Result<(), Refusal> {
    ask(hub, Command::Disconnect(disconnect), |top, done| then(top, done.map(|_| ())))
}

fn ask(
    hub: usize,
    command: Command,
    then: impl FnOnce(&mut TopLevel, std::result::Result<ScriptResult, Refusal>) + 'static,
) -> std::result::Result<(), Refusal> {
    let asked = REDIS.with(|slot| {
        let mut slot = slot.borrow_mut();
        let redis = slot.as_mut()?;
        redis.tickets += 1;
        let ticket = redis.tickets;
        if !redis.thread.publish(hub, PublisherRequest { ticket, command }) {
            return None;
        }
        redis.waiting.insert(ticket, Box::new(then));
        Some(())
    });
    process::update_holds();
    asked.ok_or_else(|| Refusal::Unreachable("the thread for Redis is not running".into()))
}

/// Processes messages of the thread, a bounded number in each turn.
fn process_messages(top: &mut TopLevel) {
    let with = |call: fn(&mut Redis) -> Option<ThreadEvent>| {
        REDIS.with(|slot| slot.borrow_mut().as_mut().and_then(call))
    };
    with(|redis| {
        redis.messages.extend(redis.outbox.take());
        None
    });
    for _ in 0..MESSAGES_PER_TURN {
        let Some(message) = with(|redis| redis.messages.pop_front()) else { return };
        match message {
            ThreadEvent::Log(level, text) => log::write(nginx_level(level), format_args!("{text}")),
            ThreadEvent::Published { ticket, result } => {
                let then = REDIS.with(|slot| {
                    slot.borrow_mut().as_mut().and_then(|redis| redis.waiting.remove(&ticket))
                });
                if let Some(then) = then {
                    then(top, result);
                    process::update_holds();
                }
            }
            ThreadEvent::Died => died(),
            ThreadEvent::Retired => {
                REDIS.with(|slot| {
                    if let Some(redis) = slot.borrow_mut().as_mut() {
                        redis.holding = redis.holding.saturating_sub(1);
                    }
                });
                process::update_holds();
            }
        }
    }
    with(|redis| {
        redis.soon.post_next();
        None
    });
}

/// Handles the death of the thread by a panic: all requests that wait for it are completed with an
/// error.
fn died() {
    log::write(Level::Alert, format_args!("sse: the thread for Redis has panicked"));
    REDIS.with(|slot| {
        let mut slot = slot.borrow_mut();
        let Some(redis) = slot.as_mut() else { return };
        redis.holding = 0;
        let unanswered = |ticket: &u64| ThreadEvent::Published {
            ticket: *ticket,
            result: Err(Refusal::Unanswered),
        };
        redis.messages.extend(redis.waiting.keys().map(unanswered));
    });
    process::update_holds();
}

fn nginx_level(level: context::LogLevel) -> Level {
    match level {
        context::LogLevel::Alert => Level::Alert,
        context::LogLevel::Warn => Level::Warn,
        context::LogLevel::Notice => Level::Notice,
        context::LogLevel::Info => Level::Info,
    }
}
