//! This process: its worker for each hub, and what nginx's event loop calls them for.
//!
//! All that reaches a worker goes through `with`, which lends it for one call. Requests are ended
//! outside of such a call, because that comes back as their streams' end.

pub mod figures;
pub mod redis;
pub mod stream;

use crate::conf::hub::PresenceSetting;
use crate::conf::{HubConf, Main};
use crate::hub::{Counter, Hub};
use crate::metrics::HubFigures;
use crate::nginx::event::{Event, ExitHold};
use crate::nginx::eventfd::Watch;
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

/// Requests of streams that one turn ends, and that one turn gives back.
const FINISHED: usize = 64;
const GIVEN_BACK: usize = 64;
/// How often the same trouble is told, in ms.
const WARN_EVERY: u64 = 60_000;

thread_local! {
    /// What wakes this process.
    static WAKER: RefCell<Option<Waker>> = const { RefCell::new(None) };
    static PROCESS: RefCell<Vec<Option<Serving>>> = const { RefCell::new(Vec::new()) };
    /// Streams whose requests ended while the worker was in use.
    static ENDED: RefCell<Vec<(usize, StreamKey, End)>> = const { RefCell::new(Vec::new()) };
    /// Over how long streams are ended when this process is to quit, in ms.
    static DRAIN: Cell<u64> = const { Cell::new(0) };
}

/// A hub that this process serves.
struct Serving {
    worker: Worker<Client>,
    name: String,
    phase: Phase,
    /// Streams whose requests are to be given back once their handlers have returned.
    lean_soon: Vec<StreamKey>,
    /// Work that takes many turns.
    jobs: VecDeque<Job>,
    // These call with the hub's number.
    tick: Event,
    turn: Event,
    /// When the last warning was written, in ms of the monotonic clock.
    warned: Option<u64>,
    wakers: &'static EventfdWakers,
}

/// Work that takes many turns of the event loop: called once in each of them.
type Job = Box<dyn FnMut(&mut TopLevel) -> JobStatus>;

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// It is to be called again.
    More,
    /// It is not.
    Done,
}

/// What wakes this process, for all of its hubs.
struct Waker {
    /// Its number among the wakers of all processes; `None` as long as there is none left.
    number: Option<usize>,
    _watch: Watch,
}

impl Waker {
    /// Listens to a waker of its own. If there is none left, to one that nobody wakes: that still tells
    /// when the process is to quit.
    fn claim(wakers: &EventfdWakers) -> io::Result<Waker> {
        let (number, eventfd) = match wakers.claim() {
            Ok((number, eventfd)) => (Some(number), eventfd),
            Err(_) => (None, eventfd()?),
        };
        Ok(Waker { number, _watch: Watch::new(eventfd, on_wake, on_quit, 0)? })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
}

/// A process that serves requests begins.
pub fn start(main: &Main) {
    if !main.used.get() {
        return;
    }
    #[cfg(feature = "trace-blocking")]
    crate::nginx::turns::watch();
    DRAIN.set(main.drain.get());
    let wakers = main.hubs.iter().find_map(|conf| conf.place()).map(|place| place.wakers);
    match wakers.map(Waker::claim).transpose() {
        Ok(waker) => WAKER.set(waker),
        Err(error) => {
            log::write(Level::Crit, format_args!("sse: no hub is served by this process: {error}"));
            return;
        }
    }
    let serving = main.hubs.iter().enumerate().map(|(number, conf)| {
        let serving = Serving::begin(number, conf);
        if let Err(what) = &serving {
            log::write(
                Level::Crit,
                format_args!("sse: hub \"{}\" is not served by this process: {what}", conf.name),
            );
        }
        serving.ok()
    });
    let serving: Vec<_> = serving.collect();
    PROCESS.with(|process| *process.borrow_mut() = serving);
    redis::start(main);
}

/// The process ends: its seats become free for others.
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

/// A stream has been opened: its deadlines count from now on, and what its worker may have ended
/// already is seen to once its request is ready for that.
pub fn opened(hub: usize) {
    lend(hub, |serving| {
        if serving.worker.streams() == 1 {
            serving.arm();
        }
        serving.turn.post();
    });
}

/// Lends the worker of a hub. None when this process does not serve the hub, or when the call
/// comes from within another one.
pub fn with<R>(hub: usize, call: impl FnOnce(&mut Worker<Client>) -> R) -> Option<R> {
    let result = lend(hub, |serving| call(&mut serving.worker));
    close_ended();
    result
}

/// What a hub has to say of itself.
pub fn figures(hub: usize) -> Option<HubFigures> {
    lend(hub, |serving| serving.figures())
}

/// What all hubs have to say of themselves that this process serves.
pub fn all_figures() -> Vec<HubFigures> {
    PROCESS.with(|process| {
        let Ok(process) = process.try_borrow() else { return Vec::new() };
        process.iter().flatten().map(Serving::figures).collect()
    })
}

/// Tells in the log that a hub does not do what it should, at most once a minute for as long as
/// that lasts: many clients may meet with the same.
pub fn warn(hub: usize, what: std::fmt::Arguments<'_>) {
    lend(hub, |serving| {
        let now = clock::now().mono;
        if serving.warned.is_some_and(|warned| now < warned + WARN_EVERY) {
            return;
        }
        serving.warned = Some(now);
        log::write(Level::Warn, format_args!("sse: hub \"{}\": {what}", serving.name));
    });
}

/// Has the worker of a hub look at the log in this turn of the loop, and end what it has ended.
pub fn turn_soon(hub: usize) {
    lend(hub, |serving| serving.turn.post());
}

/// What keeps a process that is to quit has become less.
pub fn let_all_go() {
    for hub in 0..hubs() {
        lend(hub, Serving::let_go);
    }
}

/// A stream's request has ended: the one place where a stream leaves its worker.
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
    // One at a time: what is dropped with a stream may end another.
    while let Some((hub, key, end)) = ENDED.with(|ended| ended.borrow_mut().pop()) {
        let closed = PROCESS.with(|process| match process.try_borrow_mut() {
            Err(_) => false,
            Ok(mut process) => {
                if let Some(serving) = process.get_mut(hub).and_then(Option::as_mut) {
                    serving.worker.close(key, end);
                    serving.let_go();
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
    fn begin(number: usize, conf: &HubConf) -> Result<Serving, String> {
        let place = conf.place().ok_or("it has no zone")?;
        let hub = Hub::attach(place.region.clone()).map_err(|error| error.to_string())?;
        let presence = match conf.presence {
            PresenceSetting::Off => Presence::default(),
            PresenceSetting::On => Presence::told(),
        };
        let (wakers, waker) = (place.wakers, own_waker());
        let worker = Worker::new(hub, wakers, waker, presence, random::bits(), clock::now());
        let has_seat = worker.slot().is_some();
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
        if !has_seat {
            log::write(
                Level::Warn,
                format_args!("sse: hub \"{}\" has no seat for this process yet", conf.name),
            );
        }
        serving.arm();
        Ok(serving)
    }

    fn figures(&self) -> HubFigures {
        HubFigures { name: self.name.clone(), stats: self.worker.hub().stats() }
    }

    /// Waits for the next tick.
    fn arm(&mut self) {
        if self.phase == Phase::Serving && !self.worker.has_waker() {
            self.claim_waker();
        }
        self.tick.arm(self.worker.tick_interval());
        self.let_go();
    }

    /// Tries again to get a waker for this process, in place of one that nobody wakes.
    fn claim_waker(&mut self) {
        if own_waker().is_none() {
            if let Ok(waker @ Waker { number: Some(_), .. }) = Waker::claim(self.wakers) {
                WAKER.set(Some(waker));
            }
        }
        if let Some(waker) = own_waker() {
            self.worker.set_waker(waker);
        }
    }

    /// A process that is to quit stays for as long as it has streams, or a subscription in Redis that
    /// another process can take over.
    fn let_go(&mut self) {
        let holding = self.worker.streams() > 0 || redis::is_holding();
        let busy = self.phase == Phase::Draining && holding;
        self.tick.hold_process(if busy { ExitHold::Yes } else { ExitHold::No });
    }
}

/// The waker that this process has claimed.
fn own_waker() -> Option<usize> {
    WAKER.with_borrow(|waker| waker.as_ref().and_then(|waker| waker.number))
}

/// How many hubs this process serves, or could not.
fn hubs() -> usize {
    PROCESS.with(|process| process.borrow().len())
}

/// Another process has something for streams of this one.
fn on_wake(_: usize, top: &mut TopLevel) {
    for hub in 0..hubs() {
        if lend(hub, |serving| serving.worker.is_woken()) == Some(true) {
            on_turn(hub, top);
        }
    }
}

/// There may be something in the log, or there is more to do than one turn could.
fn on_turn(hub: usize, top: &mut TopLevel) {
    after(hub, top, |serving| serving.worker.turn(clock::now()));
}

/// The timer.
fn on_tick(hub: usize, top: &mut TopLevel) {
    after(hub, top, |serving| {
        let now = clock::now();
        let turn = serving.worker.tick(now);
        serving.arm();
        turn
    });
    figures::feed(hub);
    #[cfg(feature = "trace-blocking")]
    crate::nginx::turns::report();
}

/// nginx tells this process to quit: it serves on while its streams are ended.
fn on_quit(_: usize, top: &mut TopLevel) {
    for hub in 0..hubs() {
        drain(hub, top);
    }
}

fn drain(hub: usize, top: &mut TopLevel) {
    after(hub, top, |serving| {
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

fn after(hub: usize, top: &mut TopLevel, call: impl FnOnce(&mut Serving) -> Progress) {
    lend(hub, |serving| {
        if call(serving) == Progress::More {
            serving.turn.post_next();
        }
    });
    close_ended();
    go_on_with_a_job(hub, top);
    output::run_posted(top);
    finish_ended(hub, top);
    give_requests_back(hub, top);
}

/// Has work done in the turns of a hub's event loop that follow, a piece in each. With many such jobs
/// each has its turn.
pub fn do_in_turns(hub: usize, job: impl FnMut(&mut TopLevel) -> JobStatus + 'static) {
    lend(hub, |serving| {
        serving.jobs.push_back(Box::new(job));
        serving.turn.post();
    });
}

fn go_on_with_a_job(hub: usize, top: &mut TopLevel) {
    // Outside of a loan: the job may end a request.
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

/// Has the request of a stream given back, if it can be, after its handler has returned.
pub fn lean_soon(hub: usize, key: StreamKey) {
    lend(hub, |serving| {
        serving.lean_soon.push(key);
        serving.turn.post();
    });
}

fn give_requests_back(hub: usize, top: &mut TopLevel) {
    let soon: Vec<_> = lend(hub, |serving| {
        let count = serving.lean_soon.len().min(GIVEN_BACK);
        serving.lean_soon.drain(..count).collect()
    })
    .unwrap_or_default();
    let mut is_rest_due = false;
    for key in soon {
        let waits = lend(hub, |serving| {
            let waits = serving.worker.is_waiting(key);
            if waits {
                // Nothing has gone out yet; when it has.
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
        // Outside of a loan: the request's end evaluates variables for the access log.
        let lean = stream::make_lean(top, &output, hub, key);
        lend(hub, |serving| {
            let counter = if lean.is_some() { Counter::Lean } else { Counter::NotLean };
            serving.worker.hub().count(counter, 1);
            if let (Some(lean), Some(client)) = (lean, serving.worker.socket(key)) {
                *client = Client::Lean(lean);
            }
        });
        is_rest_due = true;
    }
    lend(hub, |serving| {
        if is_rest_due && !serving.lean_soon.is_empty() {
            serving.turn.post_next();
        }
    });
}

/// Ends the requests of streams that the worker has ended.
fn finish_ended(hub: usize, top: &mut TopLevel) {
    for finished in 0.. {
        let next = lend(hub, |serving| {
            if finished == FINISHED {
                // The rest in the next turn.
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
