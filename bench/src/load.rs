//! The generator: a single thread that holds clients, publishes, and checks what arrives. It must
//! cost less than what it measures: one epoll, one `recv` per delivery, no allocation per event.
//!
//! It has three steps, each reported by one line of JSON on stdout: connecting clients; a warm-up,
//! until everything published has reached all clients; and the measured events, which `--times`
//! repeats. With `--steps`, it waits for a line on stdin before each further step and before it
//! exits, so that the server can be examined meanwhile.

mod check;
mod client;
mod config;
mod form;
mod pace;
mod publisher;
mod receive;

use crate::clock::{nanos, timespec};
use crate::flags::Flags;
use check::Check;
use client::{Came, Client};
use config::{Config, Idle};
use form::Form;
use pace::Course;
use publisher::Publisher;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::stdio::stdin;
use serde_json::{json, Value};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

/// The source of an epoll event: clients by their number, and these.
const PUBLISHERS: u64 = 1 << 40;
const TIMER: u64 = 1 << 41;
const STDIN: u64 = 1 << 42;

/// Maximum number of bytes read at once.
const BUFFER: usize = 256 << 10;

/// A generator.
struct Load {
    config: Config,
    epoll: OwnedFd,
    clients: Vec<Client>,
    check: Check,
    course: Course,
    form: Form,
    publishers: Vec<Publisher>,
    timer: OwnedFd,
    buffer: Vec<u8>,
    events: Vec<epoll::Event>,
    /// Clients that are still to connect, and the number of those that are connecting.
    waiting: VecDeque<usize>,
    dialing: usize,
    /// Clients that return at a time (ns).
    away: BinaryHeap<Reverse<(u64, usize)>>,
    /// Numbers of clients that are open, that were rejected, and of streams that the server ended.
    open: usize,
    refused: usize,
    ended: usize,
    /// Whether the server is expected to end the streams.
    expects_ends: bool,
    /// Number of publishes with a response.
    answered: u64,
    /// Number of events issued so far, which are distributed over the channels in turn.
    turns: u64,
    /// Lines read from stdin that no step has used yet.
    told: usize,
}

pub fn main(flags: Flags) -> Result<ExitCode, String> {
    let mut load = Load::new(Config::read(flags)?)?;
    load.connect()?;
    load.wait()?;
    load.step("warm", load.config.warm_seconds)?;
    load.wait()?;
    for _ in 0..load.config.times {
        load.step("done", load.config.seconds)?;
        load.wait()?;
    }
    if load.config.returning {
        load.return_when_ended()?;
        load.wait()?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Load {
    fn new(config: Config) -> Result<Self, String> {
        let epoll =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| error.to_string())?;
        let timer = pace::timer().map_err(|error| error.to_string())?;
        watch(&epoll, &timer, TIMER)?;
        if config.steps {
            watch(&epoll, &stdin(), STDIN)?;
        }
        let Config { run, clients, channels, size, .. } = config;
        let form = Form::new(&config.way, config.to, &config.host, size)?;
        Ok(Self {
            epoll,
            clients: (0..clients).map(|_| Client::Closed).collect(),
            check: Check::new(run, clients, channels, config.lanes(), size),
            course: Course::over(),
            form,
            publishers: Vec::new(),
            timer,
            buffer: vec![0; BUFFER],
            events: Vec::with_capacity(512),
            waiting: (0..clients).collect(),
            dialing: 0,
            away: BinaryHeap::new(),
            open: 0,
            refused: 0,
            ended: 0,
            expects_ends: false,
            answered: 0,
            turns: 0,
            told: 0,
            config,
        })
    }

    /// Publishes for this long, waits until everything has arrived, and reports the results.
    fn step(&mut self, name: &str, seconds: f64) -> Result<(), String> {
        let (since, delivered, answered) = (nanos(), self.check.delivered, self.answered);
        self.check.latency.clear();
        self.start_course(seconds)?;
        let mut published = seconds;
        self.until(|load| {
            if load.course.publishing() {
                published = seconds_since(since);
            }
            let quiet = load.publishers.iter().all(Publisher::idle);
            Ok(!load.course.publishing() && quiet && load.check.delivered >= load.check.owed)
        })?;
        let seconds = seconds_since(since);
        let deliveries = self.check.delivered - delivered;
        let publishes = self.answered - answered;
        if name == "done" {
            self.check.close();
        }
        tell(json!({
            "at": name, "seconds": seconds, "published_in": published,
            "events": self.course.issued(), "deliveries": deliveries, "publishes": publishes,
            "deliveries_per_s": deliveries as f64 / seconds,
            "publishes_per_s": publishes as f64 / seconds,
            "latency": self.check.latency_json(), "errors": self.check.errors.as_json(),
        }));
        Ok(())
    }

    /// Serves the sockets until a line arrives on stdin. Without steps, returns at once.
    fn wait(&mut self) -> Result<(), String> {
        while self.config.steps && self.told == 0 {
            self.turn(u64::MAX)?;
        }
        self.told = self.told.saturating_sub(1);
        Ok(())
    }

    /// Serves the sockets until `done` returns true. Fails if nothing has happened for `patience`.
    fn until(
        &mut self,
        mut done: impl FnMut(&mut Self) -> Result<bool, String>,
    ) -> Result<(), String> {
        let patience = (self.config.patience * 1e9) as u64;
        let (mut moved, mut since) = (self.progress(), nanos());
        while !done(self)? {
            self.turn(match self.config.idle {
                Idle::Sleep => 100_000_000,
                Idle::Spin => 0,
            })?;
            let (now, time) = (self.progress(), nanos());
            if now != moved || self.course.publishing() {
                (moved, since) = (now, time);
            } else if time - since > patience {
                break;
            }
        }
        Ok(())
    }

    fn progress(&self) -> u64 {
        self.check.delivered + self.answered + (self.open + self.refused) as u64
    }

    /// Waits for and handles events once; waits at most `timeout` ns.
    fn turn(&mut self, timeout: u64) -> Result<(), String> {
        self.dial_waiting()?;
        let timeout = timeout.min(self.dial_due()?);
        let mut events = std::mem::take(&mut self.events);
        let timeout = (timeout != u64::MAX).then(|| timespec(timeout));
        match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(format!("epoll_wait: {error}")),
        }
        for event in events.drain(..) {
            match event.data.u64() {
                TIMER => self.on_timer()?,
                STDIN => self.line_came()?,
                index if index >= PUBLISHERS => self.on_response((index - PUBLISHERS) as usize)?,
                number => self.client_stirs(number as usize)?,
            }
        }
        self.events = events;
        Ok(())
    }

    fn line_came(&mut self) -> Result<(), String> {
        let mut bytes = [0; 64];
        match rustix::io::read(stdin(), &mut bytes) {
            Ok(0) | Err(_) => Err("the driver has exited".into()),
            Ok(len) => {
                self.told += bytes.iter().take(len).filter(|byte| **byte == b'\n').count();
                Ok(())
            }
        }
    }

    fn client_stirs(&mut self, number: usize) -> Result<(), String> {
        match self.clients.get(number) {
            Some(Client::Dialing(_)) => {
                self.ask(number);
                Ok(())
            }
            Some(Client::Asked(..)) => self.read_head(number),
            Some(Client::Open(..)) => self.read(number),
            _ => Ok(()),
        }
    }

    fn read(&mut self, number: usize) -> Result<(), String> {
        let Some(client) = self.clients.get_mut(number) else { return Ok(()) };
        let now = nanos();
        let (check, course) = (&mut self.check, &mut self.course);
        let came = client.read(&mut self.buffer, |stamp, size| {
            if check.delivery(number, &stamp, size, now) {
                course.came_to_all(stamp.lane.into());
            }
        });
        match came {
            Came::Bytes if self.config.leaving => self.leave(number),
            Came::End | Came::Malformed if self.config.leaving => self.turned_away(number),
            Came::Bytes | Came::Nothing => {}
            Came::End => self.stream_ended(number),
            Came::Malformed => {
                self.check.errors.malformed += 1;
                self.stream_ended(number);
            }
        }
        self.refill()
    }
}

fn watch(epoll: &OwnedFd, fd: &impl std::os::fd::AsFd, index: u64) -> Result<(), String> {
    epoll::add(epoll, fd, EventData::new_u64(index), EventFlags::IN)
        .map_err(|error| format!("epoll: {error}"))
}

fn seconds_since(since: u64) -> f64 {
    (nanos() - since) as f64 / 1e9
}

fn tell(value: Value) {
    println!("{value}");
}
