//! Publishes durable events, with one connection of this process for each hub, which is made when
//! it is first needed, and a deadline for each publish.
//!
//! Every publish has an idempotency key, the client's or a generated one. If the connection is lost
//! before the reply arrives, the command is repeated on the next connection, and takes effect once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout_at, Instant};

use super::limits::RedisLimits;
use super::link::{self, is_elsewhere, is_not_ready, Link};
use super::refusal::Refusal;
use super::script::{self, Command, ScriptResult};
use crate::redis::context::{HubContext, ThreadEvent};

/// How long a publish may take.
const DEADLINE: Duration = Duration::from_millis(1_900);
/// The pause after a failed attempt to connect, or a reply that Redis is not ready.
const PAUSE: Duration = Duration::from_millis(100);
/// How much time must be left for another attempt: if its reply did not arrive in time, it would be
/// unknown whether the command was carried out.
const REPLY: Duration = Duration::from_millis(100);
/// How often a publish checks whether the hub is subscribed.
const STEP: Duration = Duration::from_millis(10);
/// Maximum number of publishes of one hub that wait for a reply, and maximum bytes of their events.
/// A single publish may always wait.
const MOST: usize = 10_000;
const MOST_BYTES: usize = 64 << 20;

/// A request to publish events, or to delete the events of a channel.
#[derive(Clone, Debug)]
pub struct PublisherRequest {
    /// The number that identifies the request when its result is reported.
    pub ticket: u64,
    /// The command.
    pub command: Command,
}

/// Reports the result of a publish when it is dropped, whatever the result is.
struct ResultReporter {
    context: Rc<HubContext>,
    ticket: u64,
    result: Result<ScriptResult, Refusal>,
}

impl Drop for ResultReporter {
    fn drop(&mut self) {
        let result = std::mem::replace(&mut self.result, Err(Refusal::Unanswered));
        self.context.outbox.put(ThreadEvent::Published { ticket: self.ticket, result });
    }
}

/// Publishes the events of one hub.
pub struct Publisher {
    context: Rc<HubContext>,
    /// The connection, and the epoch in which it was made.
    link: RefCell<Option<(Link, u64)>>,
    /// The limits of its node.
    limits: Cell<RedisLimits>,
    connecting: Cell<bool>,
    connected: Notify,
    failed: RefCell<Option<(Instant, String)>>,
    waiting: Cell<usize>,
    /// Bytes of the events of waiting publishes.
    waiting_bytes: Cell<usize>,
}

impl Publisher {
    /// Returns a publisher without a connection.
    pub fn new(context: Rc<HubContext>) -> Publisher {
        Publisher {
            context,
            link: RefCell::default(),
            limits: Cell::default(),
            connecting: Cell::new(false),
            connected: Notify::new(),
            failed: RefCell::default(),
            waiting: Cell::new(0),
            waiting_bytes: Cell::new(0),
        }
    }

    /// Runs a request and puts its result into the outbox, within two seconds.
    pub async fn publish(self: Rc<Self>, request: PublisherRequest) {
        let (context, ticket) = (self.context.clone(), request.ticket);
        let mut reporter = ResultReporter { context, ticket, result: Err(Refusal::Unanswered) };
        let bytes = request.command.size();
        if !has_room(self.waiting.get(), self.waiting_bytes.get(), bytes) {
            reporter.result = Err(Refusal::Busy);
            return;
        }
        self.waiting.set(self.waiting.get() + 1);
        self.waiting_bytes.set(self.waiting_bytes.get() + bytes);
        reporter.result = self.run(&request.command).await;
        self.waiting.set(self.waiting.get() - 1);
        self.waiting_bytes.set(self.waiting_bytes.get() - bytes);
    }

    async fn run(self: &Rc<Self>, command: &Command) -> Result<ScriptResult, Refusal> {
        let deadline = Instant::now() + DEADLINE;
        let mut was_sent = false;
        loop {
            let Some(epoch) = self.settled_epoch(deadline).await else {
                let why = "the hub is moving to another node";
                return Err(Refusal::Unreachable(why.into()).after(was_sent));
            };
            let connected = timeout_at(deadline, self.connection()).await;
            let mut link =
                match connected.unwrap_or_else(|_| Err("connecting took too long".into())) {
                    Ok(link) => link,
                    Err(why) => return Err(Refusal::Unreachable(why).after(was_sent)),
                };
            if let Some(most) = self.limits.get().exceeded_by(command) {
                return Err(Refusal::TooLarge { most }.after(was_sent));
            }
            let reply = timeout_at(deadline, script::run(&mut link.connection, command)).await;
            let error = match reply {
                // The node may have been demoted and lost the write. If the write has survived, the
                // next master returns the same ids.
                Ok(Ok(_)) if self.has_moved(epoch) => {
                    was_sent = true;
                    continue;
                }
                Ok(Ok(done)) => return Ok(done),
                Err(_) => {
                    self.give_up(&link);
                    return Err(Refusal::Unanswered);
                }
                Ok(Err(error)) => error,
            };
            if is_not_ready(&error) || is_elsewhere(&error) {
                if is_elsewhere(&error) {
                    self.give_up(&link);
                }
                if Instant::now() + PAUSE + REPLY > deadline {
                    let code = error.code().unwrap_or("not ready");
                    let why = format!("{} is not ready: {code}", link.address);
                    return Err(Refusal::Unreachable(why).after(was_sent));
                }
                sleep(PAUSE).await;
            } else if error.code().is_some() {
                return Err(Refusal::Refused(refusal(&error)).after(was_sent));
            } else {
                // The connection was lost, or its replies are invalid.
                was_sent = true;
                self.give_up(&link);
                if error.is_timeout() {
                    return Err(Refusal::Unanswered);
                }
            }
        }
    }

    /// Returns the connection, and makes it if there is none. If the caller gives up waiting, the
    /// connection is made nevertheless, for the next caller.
    async fn connection(self: &Rc<Self>) -> Result<Link, String> {
        self.give_up_unusable();
        loop {
            if let Some((link, _)) = &*self.link.borrow() {
                return Ok(link.clone());
            }
            if let Some((when, why)) = &*self.failed.borrow() {
                if when.elapsed() < PAUSE {
                    return Err(why.clone());
                }
            }
            if !self.connecting.replace(true) {
                tokio::task::spawn_local(self.clone().connect());
            }
            self.connected.notified().await;
        }
    }

    async fn connect(self: Rc<Self>) {
        let context = &self.context;
        let epoch = context.hub.epoch();
        match link::connect(&context.address, &context.names.clock(), None, &context.bounds()).await
        {
            Ok(mut link) => {
                self.limits.set(RedisLimits::query(&mut link).await);
                *self.link.borrow_mut() = Some((link, epoch));
            }
            Err(error) => {
                *self.failed.borrow_mut() = Some((Instant::now(), error.to_string()));
            }
        }
        self.connecting.set(false);
        self.connected.notify_waiters();
    }

    /// Returns the hub's epoch once it is subscribed: until then, it is unknown which of several
    /// nodes holds the hub. `None` if that takes too long.
    async fn settled_epoch(&self, deadline: Instant) -> Option<u64> {
        let (hub, may_move) = (&self.context.hub, self.context.address.may_move());
        while may_move && hub.link() != crate::hub::RedisState::Up {
            if Instant::now() > deadline {
                return None;
            }
            sleep(STEP).await;
        }
        Some(hub.epoch())
    }

    /// Whether the hub may have moved to another node since this epoch, or is about to.
    fn has_moved(&self, epoch: u64) -> bool {
        let hub = &self.context.hub;
        self.context.address.may_move()
            && (hub.link() != crate::hub::RedisState::Up || hub.epoch() != epoch)
    }

    /// Gives up a connection that Redis has closed, on which a command would fail as if it had been
    /// sent; and one from before the last reconnection of the subscription, if the hub can move
    /// between nodes: a former master may not have noticed its demotion.
    fn give_up_unusable(&self) {
        let (epoch, may_move) = (self.context.hub.epoch(), self.context.address.may_move());
        let mut held = self.link.borrow_mut();
        let is_unusable =
            |(link, made): &(Link, u64)| link.is_closed() || may_move && *made != epoch;
        if held.as_ref().is_some_and(is_unusable) {
            *held = None;
        }
    }

    /// Closes a connection that failed, but not one that was made in the meantime.
    fn give_up(&self, link: &Link) {
        let mut held = self.link.borrow_mut();
        if held.as_ref().is_some_and(|(held, _)| held.made == link.made) {
            *held = None;
        }
    }
}

/// Whether another publish of this many bytes may wait, in addition to those that do.
fn has_room(waiting: usize, waiting_bytes: usize, bytes: usize) -> bool {
    waiting == 0 || waiting < MOST && waiting_bytes.saturating_add(bytes) <= MOST_BYTES
}

/// Returns the code and the shortened text of an error of Redis, without the command.
fn refusal(error: &::redis::RedisError) -> String {
    let detail: String = error.detail().unwrap_or_default().chars().take(200).collect();
    format!("{} {detail}", error.code().unwrap_or("ERR")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_publishes_are_bounded_in_number_and_in_bytes() {
        assert!(has_room(MOST - 1, 0, 1) && !has_room(MOST, 0, 1));
        assert!(has_room(1, MOST_BYTES - 1, 1) && !has_room(1, MOST_BYTES - 1, 2));
        assert!(!has_room(1, 1, usize::MAX) && has_room(0, 0, usize::MAX));
    }
    #[test]
    fn an_error_of_redis_is_shortened_and_loses_the_command() {
        let error = |code: &str, detail: Option<String>| {
            refusal(&::redis::make_extension_error(code.to_owned(), detail))
        };
        assert_eq!(error("OOM", Some("command not allowed".into())), "OOM command not allowed");
        assert_eq!(error("READONLY", None), "READONLY");
        assert_eq!(error("ERR", Some("x".repeat(300))), format!("ERR {}", "x".repeat(200)));
    }
}
