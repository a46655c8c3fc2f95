//! This process: its worker for each hub, and the events of nginx's event loop that drive the
//! workers.
//!
//! Workers are used only through `with`, which lends one for a single call. Requests are finalized
//! outside such a call, because finalizing one closes its stream in the worker.

pub mod figures;
pub mod redis;
pub mod stream;

use crate::conf::hub::PresenceSetting;
use crate::conf::{HubConf, Main};
use crate::hub::{Counter, Hub};
use crate::metrics::HubFigures;
use crate::nginx::event::{Event, ExitHold};
use crate::nginx::eventfd::EventfdWatch;
use crate::nginx::log::{self, Level};
use crate::nginx::output::{self, Client};
use crate::nginx::top_level::TopLevel;
use crate::nginx::wakers::{eventfd, EventfdWakers};
use crate::nginx::{clock, core_conf, random};
use crate::redis::context::SharedWakers;
use crate::worker::{End, Presence, Progress, StreamKey, Worker};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;

/// Requests that are finalized, and released, in one turn.
const FINALIZED_PER_TURN: usize = 64;
const RELEASED_PER_TURN: usize = 64;
/// Minimum interval between two warnings about a hub, in ms.
const WARN_INTERVAL: u64 = 60_000;

thread_local! {
    /// The waker of this process.
    static WAKER: RefCell<Option<Waker>> = const { RefCell::new(None) };
    static PROCESS: RefCell<Vec<Option<Serving>>> = const { RefCell::new(Vec::new()) };
    /// Streams whose requests ended while the worker was in use.
    static ENDED: RefCell<Vec<(usize, StreamKey, End)>> = const { RefCell::new(Vec::new()) };
    /// Time over which streams are ended when this process shuts down, in ms.
    static DRAIN: Cell<u64> = const { Cell::new(0) };
}

/// A hub that this process serves.
struct Serving {
    worker: Worker<Client>,
    name: String,
    phase: Phase,
    /// Streams whose requests are to be released once their handlers have returned.
    lean_soon: Vec<StreamKey>,
    /// Work that takes many turns.
    jobs: VecDeque<Job>,
    // Events whose handlers receive the hub's number.
    tick: Event,
    turn: Event,
    /// When the last warning was written, in ms of the monotonic clock.
    warned: Option<u64>,
    wakers: &'static EventfdWakers,
}

/// Work that takes many turns of the event loop; called once in each of them.
type Job = Box<dyn FnMut(&mut TopLevel) -> JobStatus>;

/// Whether a job has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// Call the job again.
    More,
    /// The job is complete.
    Done,
}

/// The eventfd that wakes this process, for all of its hubs.
struct Waker {
    /// Its number among the wakers of all processes; `None` if none was free.
    number: Option<usize>,
    _watch: EventfdWatch,
}

impl Waker {
    /// Claims a waker and watches it. If none is free, watches an eventfd that no other process can
    /// write to, because the watch also reports that the process is shutting down.
    fn claim(wakers: &EventfdWakers) -> io::Result<Waker> {
        let (number, eventfd) = match wakers.claim() {
            Ok((number, eventfd)) => (Some(number), eventfd),
            Err(_) => (None, eventfd()?),
        };
        Ok(Waker { number, _watch: EventfdWatch::new(eventfd, on_wake, on_quit, 0)? })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
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
    DRAIN.set(main.drain.get());
    let wakers =
        main.hubs.iter().find_map(|conf| conf.resources()).map(|resources| resources.wakers);
    match wakers.map(Waker::claim).transpose() {
        Ok(waker) => WAKER.set(waker),
        Err(error) => {
            log::write(
                Level::Crit,
                format_args!("sse: this process cannot serve any hub: {error}"),
            );
            return;
        }
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
    redis::start(main);
}

/// Stops serving. Called when the process ends; frees its slots in the hubs.
pub fn stop() {
    redis::stop();
    let serving = PROCESS.with(|process| std::mem::take(&mut *process.borrow_mut()));
    for mut serving in serving.into_iter().flatten() {
        serving.worker.release(clock::now());
    }
    WAKER.set(None);
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

/// Closes a stream in its worker after its request has ended. Streams leave their worker only here.
pub fn close(hub: usize, key: StreamKey, end: End) {
    ENDED.with(|ended| ended.borrow_mut().push((hub, key, end)));
    close_ended();
}

fn lend<R>(hub: usize, call: impl FnOnce(&mut Serving) -> R) -> Option<R> {
    PROCESS.with(|process| {
        let mut process = process.try_borrow_mut().ok()?;
        process.get_mut(hub)?.as_mut().map(call)
    })
}

fn close_ended() {
    // One at a time: dropping a stream may end another one.
    while let Some((hub, key, end)) = ENDED.with(|ended| ended.borrow_mut().pop()) {
        let closed = PROCESS.with(|process| match process.try_borrow_mut() {
            Err(_) => false,
            Ok(mut process) => {
                if let Some(serving) = process.get_mut(hub).and_then(Option::as_mut) {
                    serving.worker.close(key, end);
                    serving.update_hold();
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
    fn start(number: usize, conf: &HubConf) -> Result<Serving, String> {
        let resources = conf.resources().ok_or("it has no zone")?;
        let hub = Hub::attach(resources.region.clone()).map_err(|error| error.to_string())?;
        let presence = match conf.presence {
            PresenceSetting::Off => Presence::default(),
            PresenceSetting::On => Presence::enabled(),
        };
        let (wakers, waker) = (resources.wakers, claimed_waker());
        let worker = Worker::new(hub, wakers, waker, presence, random::bits(), clock::now());
        let has_slot = worker.slot().is_some();
        let mut serving = Serving {
            worker,
            name: conf.name.clone(),
            phase: Phase::Serving,
            lean_soon: Vec::new(),
            jobs: VecDeque::new(),
            tick: Event::new(on_tick, number),
            turn: Event::new(on_turn, number),
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

    fn figures(&self) -> HubFigures {
        HubFigures { name: self.name.clone(), stats: self.worker.hub().stats() }
    }

    /// Arms the timer for the next tick.
    fn arm(&mut self) {
        if self.phase == Phase::Serving && !self.worker.has_waker() {
            self.claim_waker();
        }
        self.tick.arm(self.worker.tick_interval());
        self.update_hold();
    }

    /// Tries again to claim a waker, if this process has none.
    fn claim_waker(&mut self) {
        if claimed_waker().is_none() {
            if let Ok(waker @ Waker { number: Some(_), .. }) = Waker::claim(self.wakers) {
                WAKER.set(Some(waker));
            }
        }
        if let Some(waker) = claimed_waker() {
            self.worker.set_waker(waker);
        }
    }

    /// Holds a process that is shutting down for as long as it has streams, or a subscription in
    /// Redis that another process can take over; lets it exit otherwise.
    fn update_hold(&mut self) {
        let holding = self.worker.streams() > 0 || redis::is_holding();
        let busy = self.phase == Phase::Draining && holding;
        self.tick.hold_process(if busy { ExitHold::Yes } else { ExitHold::No });
    }
}

/// Returns the number of the waker that this process has claimed.
fn claimed_waker() -> Option<usize> {
    WAKER.with_borrow(|waker| waker.as_ref().and_then(|waker| waker.number))
}

/// Returns the number of hubs, including any that this process failed to serve.
fn hubs() -> usize {
    PROCESS.with(|process| process.borrow().len())
}

/// Handles a wake-up by another process that appended to the log.
fn on_wake(_: usize, top: &mut TopLevel) {
    for hub in 0..hubs() {
        if lend(hub, |serving| serving.worker.is_woken()) == Some(true) {
            on_turn(hub, top);
        }
    }
}

/// Handles a scheduled turn: there may be new events, or work that the last turn left.
fn on_turn(hub: usize, top: &mut TopLevel) {
    run(hub, top, |serving| serving.worker.turn(clock::now()));
}

/// Handles the timer.
fn on_tick(hub: usize, top: &mut TopLevel) {
    run(hub, top, |serving| {
        let now = clock::now();
        let turn = serving.worker.tick(now);
        serving.arm();
        turn
    });
    figures::feed(hub);
    #[cfg(feature = "trace-blocking")]
    crate::nginx::turns::report();
}

/// Handles nginx's request to shut down: ends all streams over the drain time, and serves them
/// meanwhile.
fn on_quit(_: usize, top: &mut TopLevel) {
    for hub in 0..hubs() {
        drain(hub, top);
    }
}

fn drain(hub: usize, top: &mut TopLevel) {
    run(hub, top, |serving| {
        let over = match core_conf::shutdown_timeout() {
            Some(timeout) => DRAIN.get().min(timeout / 5 * 4),
            None => DRAIN.get(),
        };
        serving.phase = Phase::Draining;
        let streams = serving.worker.streams();
        if streams > 0 {
            log::write(
                Level::Notice,
                format_args!(
                    "sse: hub \"{}\": ending {streams} streams over {over} ms",
                    serving.name
                ),
            );
        }
        serving.worker.drain(over, clock::now());
        redis::retire();
        serving.arm();
        Progress::Idle
    });
}

fn run(hub: usize, top: &mut TopLevel, call: impl FnOnce(&mut Serving) -> Progress) {
    lend(hub, |serving| {
        if call(serving) == Progress::More {
            serving.turn.post_next();
        }
    });
    close_ended();
    run_next_job(hub, top);
    output::run_posted(top);
    finalize_ended(hub, top);
    release_requests(hub, top);
}

/// Runs a job in the following turns of a hub, one step in each. Several jobs take turns.
pub fn run_in_turns(hub: usize, job: impl FnMut(&mut TopLevel) -> JobStatus + 'static) {
    lend(hub, |serving| {
        serving.jobs.push_back(Box::new(job));
        serving.turn.post();
    });
}

fn run_next_job(hub: usize, top: &mut TopLevel) {
    // Not within `lend`: the job may end a request.
    let Some(mut job) = lend(hub, |serving| serving.jobs.pop_front()).flatten() else { return };
    let progress = job(top);
    lend(hub, |serving| {
        if progress == JobStatus::More {
            serving.jobs.push_back(job);
        }
        if !serving.jobs.is_empty() {
            serving.turn.post_next();
        }
    });
}

/// Schedules the release of a stream's request, if that is possible, after its handler has
/// returned.
pub fn lean_soon(hub: usize, key: StreamKey) {
    lend(hub, |serving| {
        serving.lean_soon.push(key);
        serving.turn.post();
    });
}

fn release_requests(hub: usize, top: &mut TopLevel) {
    let soon: Vec<_> = lend(hub, |serving| {
        let count = serving.lean_soon.len().min(RELEASED_PER_TURN);
        serving.lean_soon.drain(..count).collect()
    })
    .unwrap_or_default();
    let mut is_any_released = false;
    for key in soon {
        let waits = lend(hub, |serving| {
            let waits = serving.worker.is_waiting(key);
            if waits {
                // Nothing has been sent yet. Try again in a later turn.
                serving.lean_soon.push(key);
            }
            waits
        });
        if waits == Some(true) {
            continue;
        }
        let output = lend(hub, |serving| match serving.worker.socket(key) {
            Some(Client::Request(output)) => Some(output.clone()),
            _ => None,
        });
        let Some(output) = output.flatten() else { continue };
        // Not within `lend`: the end of the request evaluates variables for the access log.
        let lean = stream::make_lean(top, &output, hub, key);
        lend(hub, |serving| {
            let counter = if lean.is_some() { Counter::Lean } else { Counter::NotLean };
            serving.worker.hub().count(counter, 1);
            if let (Some(lean), Some(client)) = (lean, serving.worker.socket(key)) {
                *client = Client::Lean(lean);
            }
        });
        is_any_released = true;
    }
    lend(hub, |serving| {
        if is_any_released && !serving.lean_soon.is_empty() {
            serving.turn.post_next();
        }
    });
}

/// Finalizes the requests of streams that the worker has ended.
fn finalize_ended(hub: usize, top: &mut TopLevel) {
    for finished in 0.. {
        let next = lend(hub, |serving| {
            if finished == FINALIZED_PER_TURN {
                // Leave the rest to the next turn.
                serving.turn.post_next();
                return None;
            }
            serving.worker.take_ended()
        });
        let Some((key, end)) = next.flatten() else { return };
        let client = lend(hub, |serving| {
            serving.worker.socket(key).map(|client| match client {
                Client::Request(output) => Client::Request(output.clone()),
                Client::Lean(lean) => Client::Lean(lean.clone()),
            })
        });
        match client.flatten() {
            Some(Client::Request(output)) => stream::finish(top, &output, end),
            Some(Client::Lean(lean)) => lean.finish(top, end),
            None => {}
        }
    }
}
