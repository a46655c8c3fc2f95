//! This process: its worker for each hub, and the events of nginx's event loop that drive the
//! workers.
//!
//! Workers are used only through `with`, which borrows one for a single call. Requests are
//! finalized outside such a call, because finalizing one closes its stream in the worker.
//!
//! # Layout
//!
//! - `turn`: what a worker does when it is woken, at its deadlines, and on shutdown
//! - `inquiries`: requests that wait until it is known whether they are answered with a stream
//! - `jobs`: work of requests that takes many turns
//! - `position`: the id from which a page resumes that is rendered now
//! - `release`: releases the requests of lean streams
//! - `stream`: a stream as its request's context
//! - `figures`: the hubs' figures, and the stream of them
//! - `redis`: the event loop's side of the thread for Redis
//! - `waker`: the eventfd by which other processes wake this one

mod figures;
mod inquiries;
mod jobs;
pub mod position;
pub mod redis;
mod release;
pub mod stream;
mod turn;
mod waker;

use crate::conf::hub::PresenceSetting;
use crate::conf::{HubConf, Main};
use crate::hub::Hub;
use crate::metrics::{Health, HubFigures};
use crate::nginx::event::{Event, ExitHold};
use crate::nginx::log::{self, Level};
use crate::nginx::output::Client;
use crate::nginx::wakers::EventfdWakers;
use crate::nginx::{clock, random};
use crate::worker::{End, Presence, StreamKey, Worker};
pub use inquiries::inquire;
use jobs::Job;
pub use jobs::{run_in_turns, JobStatus};
pub use release::lean_soon;
use std::cell::RefCell;
use std::collections::VecDeque;

/// Minimum interval between two warnings about a hub, in ms.
const WARN_INTERVAL: u64 = 60_000;

thread_local! {
    /// The hubs that this process serves, by number; `None` if it failed to serve one.
    static PROCESS: RefCell<Vec<Option<Serving>>> = const { RefCell::new(Vec::new()) };
    /// Streams whose requests ended while the worker was in use.
    static ENDED: RefCell<Vec<(usize, StreamKey, End)>> = const { RefCell::new(Vec::new()) };
}

/// A hub that this process serves.
struct Serving {
    worker: Worker<Client>,
    /// The hub's name.
    name: String,
    lifecycle: Lifecycle,
    /// Streams whose requests are to be released once their handlers have returned.
    lean_soon: Vec<StreamKey>,
    /// Work that takes many turns, in the order in which it is continued.
    jobs: VecDeque<Job>,
    /// Requests that wait until it is known whether they are answered with a stream.
    inquiries: inquiries::InquiryAnswers,
    /// The timer of the worker's deadlines.
    tick: Event,
    /// The posted event of the next turn.
    turn: Event,
    /// When the last warning was written, in ms of the monotonic clock.
    warned: Option<u64>,
    wakers: &'static EventfdWakers,
}

/// Whether the process is shutting down.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lifecycle {
    Serving,
    Draining,
}

/// Starts serving all hubs. Called when a worker process starts.
pub fn start(main: &Main) {
    if !main.used.get() {
        return;
    }
    #[cfg(feature = "trace-blocking")]
    crate::nginx::turns::watch();
    turn::set_drain_time(main.drain.get());
    let resources = main.hubs.iter().find_map(|conf| conf.resources());
    if let Some(Err(error)) = resources.map(|resources| waker::claim(resources.wakers)) {
        log::write(Level::Crit, format_args!("sse: this process cannot serve any hub: {error}"));
        return;
    }
    let serving = main.hubs.iter().enumerate().map(|(number, conf)| {
        let serving = Serving::start(number, conf);
        if let Err(what) = &serving {
            log::write(
                Level::Crit,
                format_args!("sse: this process cannot serve hub \"{}\": {what}", conf.name),
            );
        }
        serving.ok()
    });
    let serving: Vec<_> = serving.collect();
    PROCESS.with(|process| *process.borrow_mut() = serving);
    position::start(main);
    redis::start(main);
}

/// Stops serving. Called when the process ends; frees its slots in the hubs.
pub fn stop() {
    redis::stop();
    let serving = PROCESS.with(|process| std::mem::take(&mut *process.borrow_mut()));
    for mut serving in serving.into_iter().flatten() {
        serving.worker.release(clock::now());
    }
    waker::stop();
    #[cfg(feature = "trace-blocking")]
    crate::nginx::turns::stop();
}

/// Schedules the deadlines of a stream that has been opened, and a turn that finalizes the stream
/// in case the worker has already ended it.
pub fn opened(hub: usize) {
    lend(hub, |serving| {
        if serving.worker.streams() == 1 {
            serving.arm();
        }
        serving.turn.post();
    });
}

/// Calls `call` with the worker of a hub. Returns `None` if this process does not serve the hub, or
/// if the worker is already in use.
pub fn with<R>(hub: usize, call: impl FnOnce(&mut Worker<Client>) -> R) -> Option<R> {
    let result = lend(hub, |serving| call(&mut serving.worker));
    close_ended();
    result
}

/// Returns a hub's figures, if this process serves it.
pub fn figures(hub: usize) -> Option<HubFigures> {
    lend(hub, |serving| serving.figures())
}

/// Returns the figures of all hubs that this process serves.
pub fn all_figures() -> Vec<HubFigures> {
    PROCESS.with(|process| {
        let Ok(process) = process.try_borrow() else { return Vec::new() };
        process.iter().flatten().map(Serving::figures).collect()
    })
}

/// Returns the health of one hub, if this process serves it.
pub fn health(hub: usize) -> Option<Health> {
    lend(hub, |serving| serving.health())
}

/// Returns the health of the hub that is worst, of all hubs that this process serves.
pub fn worst_health() -> Option<Health> {
    PROCESS.with(|process| {
        let process = process.try_borrow().ok()?;
        process.iter().flatten().map(Serving::health).max()
    })
}

/// Logs a warning that a hub does not work as it should, at most once a minute, because many
/// clients may be affected at once.
pub fn warn(hub: usize, what: std::fmt::Arguments<'_>) {
    lend(hub, |serving| {
        let now = clock::now().mono;
        if serving.warned.is_some_and(|warned| now < warned + WARN_INTERVAL) {
            return;
        }
        serving.warned = Some(now);
        log::write(Level::Warn, format_args!("sse: hub \"{}\": {what}", serving.name));
    });
}

/// Schedules a turn of a hub's worker in this iteration of the event loop.
pub fn turn_soon(hub: usize) {
    lend(hub, |serving| serving.turn.post());
}

/// Lets the process exit if nothing holds it any more. Called when something that could hold it has
/// ended.
pub fn update_holds() {
    for hub in 0..hubs() {
        lend(hub, Serving::update_hold);
    }
}

/// Closes a stream in its worker after its request has ended, or its response is complete. Streams
/// leave their worker only here.
pub fn close(hub: usize, key: StreamKey, end: End) {
    ENDED.with(|ended| ended.borrow_mut().push((hub, key, end)));
    close_ended();
}

/// Calls `call` with a hub's state. Returns `None` if this process does not serve the hub, or if
/// its state is already in use.
fn lend<R>(hub: usize, call: impl FnOnce(&mut Serving) -> R) -> Option<R> {
    PROCESS.with(|process| {
        let mut process = process.try_borrow_mut().ok()?;
        process.get_mut(hub)?.as_mut().map(call)
    })
}

/// Closes the streams whose requests have ended, unless a worker is in use.
fn close_ended() {
    // One at a time, because dropping a stream may end another one.
    while let Some((hub, key, end)) = ENDED.with(|ended| ended.borrow_mut().pop()) {
        let closed = PROCESS.with(|process| match process.try_borrow_mut() {
            Err(_) => false,
            Ok(mut process) => {
                if let Some(serving) = process.get_mut(hub).and_then(Option::as_mut) {
                    // A process that is shutting down exits after the next tick, so that nginx can
                    // send what the end of its last stream has queued on an HTTP/2 connection.
                    serving.worker.close(key, end);
                }
                true
            }
        });
        if !closed {
            ENDED.with(|ended| ended.borrow_mut().push((hub, key, end)));
            return;
        }
    }
}

impl Serving {
    /// Attaches to a hub and starts a worker for it.
    fn start(number: usize, conf: &HubConf) -> Result<Serving, String> {
        let resources = conf.resources().ok_or("it has no zone")?;
        let hub = Hub::attach(resources.region.clone()).map_err(|error| error.to_string())?;
        let presence = match conf.presence {
            PresenceSetting::Off => Presence::default(),
            PresenceSetting::On => Presence::enabled(),
        };
        let (wakers, waker) = (resources.wakers, waker::number());
        let (seed, now) = (random::bits(), clock::now());
        let worker = Worker::new(hub, wakers, waker, presence, seed, now, clock::monotonic);
        let has_slot = worker.slot().is_some();
        let mut serving = Serving {
            worker,
            name: conf.name.clone(),
            lifecycle: Lifecycle::Serving,
            lean_soon: Vec::new(),
            jobs: VecDeque::new(),
            inquiries: inquiries::InquiryAnswers::default(),
            tick: Event::new(turn::on_tick, number),
            turn: Event::new(turn::on_turn, number),
            warned: None,
            wakers,
        };
        if !has_slot {
            log::write(
                Level::Warn,
                format_args!("sse: hub \"{}\" has no free slot for this process yet", conf.name),
            );
        }
        serving.arm();
        Ok(serving)
    }

    fn health(&self) -> Health {
        if self.lifecycle == Lifecycle::Draining {
            return Health::Draining;
        }
        if self.worker.is_locked() {
            return Health::Locked;
        }
        Health::with_redis(self.worker.hub().stats().redis)
    }

    fn figures(&self) -> HubFigures {
        HubFigures { name: self.name.clone(), stats: self.worker.hub().stats() }
    }

    /// Arms the timer for the next tick.
    fn arm(&mut self) {
        if self.lifecycle == Lifecycle::Serving && !self.worker.has_waker() {
            if let Some(number) = waker::claim_again(self.wakers) {
                self.worker.set_waker(number);
            }
        }
        self.tick.arm(self.worker.tick_interval());
        self.update_hold();
    }

    /// Holds a process that is shutting down for as long as it has streams, work of requests, or a
    /// subscription in Redis that another process can take over; lets it exit otherwise.
    fn update_hold(&mut self) {
        let is_working = !self.jobs.is_empty() || !self.inquiries.is_empty();
        let holding = self.worker.streams() > 0 || is_working || redis::is_holding();
        let busy = self.lifecycle == Lifecycle::Draining && holding;
        self.tick.hold_process(if busy { ExitHold::Yes } else { ExitHold::No });
    }
}

/// Returns the number of hubs, including any that this process failed to serve.
fn hubs() -> usize {
    PROCESS.with(|process| process.borrow().len())
}
