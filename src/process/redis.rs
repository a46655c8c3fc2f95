//! The Redis thread as this process knows it: what it has to say, and the requests that wait for it.

use crate::conf::Main;
use crate::hub::ReportedId;
use crate::hub::{self, Hub};
use crate::nginx::event::Event;
use crate::nginx::eventfd::Watch;
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
use crate::redis::script::{Command, ForgetCommand, PublishCommand, PublishTarget, ScriptResult};
use crate::redis::thread::Thread;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::sync::Arc;

/// What Redis made of a publish.
pub type Result = std::result::Result<Vec<ReportedId>, Refusal>;

/// What the thread has said is seen to in so many pieces a turn, each of which may end a request.
const HEARD: usize = 64;

/// What is called with the answer.
type Then = Box<dyn FnOnce(&mut TopLevel, std::result::Result<ScriptResult, Refusal>)>;

thread_local! {
    static REDIS: RefCell<Option<Redis>> = const { RefCell::new(None) };
}

struct Redis {
    // Dropped, and so joined, before what it writes to.
    thread: Thread,
    outbox: Arc<Outbox>,
    /// The hubs that are joined, by their numbers.
    joined: Vec<(usize, Keys)>,
    /// Publishes that wait for their answer.
    waiting: HashMap<u64, Then>,
    tickets: u64,
    /// Hubs whose subscription this process may still have to hand over.
    holding: usize,
    /// What the thread has said and nobody has seen to yet, and what goes on with it in the next turn.
    unheard: VecDeque<ThreadEvent>,
    soon: Event,
    _watch: Watch,
}

/// Starts the thread, if any hub is joined to a Redis.
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
    let bell = eventfd()?;
    let wake = bell.try_clone()?;
    let outbox = Arc::new(Outbox::new(move || {
        // An eventfd that cannot take one more is readable already.
        let _ = (&wake).write(&1u64.to_ne_bytes());
    }));
    let watch = Watch::new(bell, |_, top| hear(top), |_, _| {}, 0)?;
    let mut hubs = Vec::new();
    for (number, conf) in main.hubs.iter().enumerate() {
        let (Some(redis), Some(place)) = (&conf.redis, conf.place()) else { continue };
        let hub = Hub::attach(place.region.clone()).map_err(io::Error::other)?;
        let joined = HubContext {
            name: conf.name.clone(),
            hub,
            wakers: place.wakers,
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
    let (unheard, soon) = (VecDeque::new(), Event::new(|_, top| hear(top), 0));
    let (tickets, _watch) = (0, watch);
    let redis = Redis { thread, outbox, joined, waiting, tickets, holding, unheard, soon, _watch };
    REDIS.with(|place| *place.borrow_mut() = Some(redis));
    Ok(())
}

/// Ends the thread.
pub fn stop() {
    let redis = REDIS.with(|place| place.borrow_mut().take());
    drop(redis);
}

/// The process is to quit: its subscriptions go to another.
pub fn retire() {
    REDIS.with(|place| {
        if let Some(redis) = &*place.borrow() {
            redis.thread.retire();
        }
    });
}

/// Whether this process may still have a subscription to hand over, or publishers that wait.
pub fn is_holding() -> bool {
    REDIS.with(|place| {
        let place = place.borrow();
        place.as_ref().is_some_and(|redis| redis.holding > 0 || !redis.waiting.is_empty())
    })
}

/// How a hub publishes through Redis.
pub struct PublishRoute {
    /// What things are called there.
    pub names: Keys,
    /// Where events are kept.
    pub source: PublishTarget,
}

/// Whether a channel's name is taken in the Redis that a hub is joined to.
pub fn is_taken(hub: usize, channel: &[u8]) -> bool {
    let Some(source) = process::with(hub, |worker| worker.hub().source()) else { return false };
    REDIS.with(|place| {
        let place = place.borrow();
        let mut joined = place.iter().flat_map(|redis| &redis.joined);
        joined.any(|(number, names)| *number == hub && names.is_taken(channel, source))
    })
}

/// How events are published on a hub; `None` if it is not joined to Redis.
pub fn terms(hub: usize) -> Option<PublishRoute> {
    let (source, history) =
        process::with(hub, |worker| (worker.hub().source(), worker.hub().history()))?;
    let source = match source {
        hub::Source::Alone => return None,
        hub::Source::PubSub => PublishTarget::Pubsub,
        hub::Source::Streams => PublishTarget::Stream { count: history.count.max(1) },
    };
    let names = REDIS.with(|place| {
        let place = place.borrow();
        let joined = place.as_ref()?.joined.iter().find(|(number, _)| *number == hub)?;
        Some(joined.1.clone())
    });
    Some(PublishRoute { names: names.unwrap_or_else(|| Keys::new("")), source })
}

/// Publishes events; `then` is called with the answer, later and from the event loop. Fails if the
/// thread does not run, and then `then` is not called.
pub fn publish(
    hub: usize,
    publish: PublishCommand,
    then: impl FnOnce(&mut TopLevel, Result) + 'static,
) -> std::result::Result<(), Refusal> {
    ask(hub, Command::Publish(publish), |top, done| {
        let published = done.and_then(|done| match done {
            ScriptResult::Published(ids) => Ok(ids),
            ScriptResult::Forgotten(_) => Err(Refusal::Unanswered),
        });
        then(top, published);
    })
}

/// Forgets a channel, on every nginx. `then` is called with the number of events that it had, later and
/// from the event loop. Fails if the thread does not run, and then `then` is not called.
pub fn forget(
    hub: usize,
    forget: ForgetCommand,
    then: impl FnOnce(&mut TopLevel, std::result::Result<u64, Refusal>) + 'static,
) -> std::result::Result<(), Refusal> {
    ask(hub, Command::Forget(forget), |top, done| {
        let forgotten = done.and_then(|done| match done {
            ScriptResult::Forgotten(events) => Ok(events),
            ScriptResult::Published(_) => Err(Refusal::Unanswered),
        });
        then(top, forgotten);
    })
}

fn ask(
    hub: usize,
    command: Command,
    then: impl FnOnce(&mut TopLevel, std::result::Result<ScriptResult, Refusal>) + 'static,
) -> std::result::Result<(), Refusal> {
    let asked = REDIS.with(|place| {
        let mut place = place.borrow_mut();
        let redis = place.as_mut()?;
        redis.tickets += 1;
        let ticket = redis.tickets;
        if !redis.thread.publish(hub, PublisherRequest { ticket, command }) {
            return None;
        }
        redis.waiting.insert(ticket, Box::new(then));
        Some(())
    });
    process::let_all_go();
    asked.ok_or_else(|| Refusal::Unreachable("the thread for Redis does not run".into()))
}

/// The thread has something to say: many publishers may have their answers at once.
fn hear(top: &mut TopLevel) {
    let with = |call: fn(&mut Redis) -> Option<ThreadEvent>| {
        REDIS.with(|place| place.borrow_mut().as_mut().and_then(call))
    };
    with(|redis| {
        redis.unheard.extend(redis.outbox.take());
        None
    });
    for _ in 0..HEARD {
        let Some(news) = with(|redis| redis.unheard.pop_front()) else { return };
        match news {
            ThreadEvent::Log(level, text) => log::write(nginx_level(level), format_args!("{text}")),
            ThreadEvent::Published { ticket, result } => {
                let then = REDIS.with(|place| {
                    place.borrow_mut().as_mut().and_then(|redis| redis.waiting.remove(&ticket))
                });
                if let Some(then) = then {
                    then(top, result);
                    process::let_all_go();
                }
            }
            ThreadEvent::Died => died(),
            ThreadEvent::Retired => {
                REDIS.with(|place| {
                    if let Some(redis) = place.borrow_mut().as_mut() {
                        redis.holding = redis.holding.saturating_sub(1);
                    }
                });
                process::let_all_go();
            }
        }
    }
    with(|redis| {
        redis.soon.post_next();
        None
    });
}

/// The thread has ended by a fault: nobody is kept waiting for it.
fn died() {
    log::write(
        Level::Alert,
        format_args!("sse: the thread for Redis has ended by a fault of its own"),
    );
    REDIS.with(|place| {
        let mut place = place.borrow_mut();
        let Some(redis) = place.as_mut() else { return };
        redis.holding = 0;
        let unanswered = |ticket: &u64| ThreadEvent::Published {
            ticket: *ticket,
            result: Err(Refusal::Unanswered),
        };
        redis.unheard.extend(redis.waiting.keys().map(unanswered));
    });
    process::let_all_go();
}

fn nginx_level(level: context::LogLevel) -> Level {
    match level {
        context::LogLevel::Alert => Level::Alert,
        context::LogLevel::Warn => Level::Warn,
        context::LogLevel::Notice => Level::Notice,
        context::LogLevel::Info => Level::Info,
    }
}
