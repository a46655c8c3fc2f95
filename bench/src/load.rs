//! The generator: one thread that holds clients, publishes and checks what comes. It must cost less
//! than what it measures: one epoll, one `recv` per delivery, no allocation per event.
//!
//! Three steps, each told by one line of JSON on stdout: clients are connected; a warm-up has been
//! published and has come to all; the measured events have. With `--steps` it waits for a line on
//! stdin before each next one, and before its end, so that others can look at the server meanwhile.

mod client;
mod config;
mod pace;
mod publisher;
mod tally;

use crate::clock::{nanos, timespec};
use crate::flags::Flags;
use crate::socket::{dial, send_waiting, Buffer};
use client::{Answer, Came, Client};
use config::Config;
use pace::Course;
use publisher::{Form, Publisher};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::stdio::stdin;
use serde_json::{json, Value};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use tally::Tally;

/// What an epoll event is about: clients by their number, and these.
const PUBLISHERS: u64 = 1 << 40;
const TIMER: u64 = 1 << 41;
const STDIN: u64 = 1 << 42;

/// Bytes read at once.
const BUFFER: usize = 256 << 10;

/// One generator.
struct Load {
    config: Config,
    epoll: OwnedFd,
    clients: Vec<Client>,
    tally: Tally,
    course: Course,
    form: Form,
    publishers: Vec<Publisher>,
    timer: OwnedFd,
    buffer: Vec<u8>,
    events: Vec<epoll::Event>,
    dialing: usize,
    /// Clients that are open, and those that were not let in.
    open: usize,
    refused: usize,
    /// Requests to publish that were answered.
    answered: u64,
    /// Events issued so far: they go round the channels.
    turns: u64,
    /// Lines on stdin that no step has taken yet.
    told: usize,
}

pub fn main(flags: Flags) -> Result<ExitCode, String> {
    let mut load = Load::new(Config::read(flags)?)?;
    load.connect()?;
    load.wait()?;
    load.step("warm", load.config.warm_seconds)?;
    load.wait()?;
    load.step("done", load.config.seconds)?;
    load.wait()?;
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
        Ok(Self {
            epoll,
            clients: (0..clients).map(|_| Client::Closed).collect(),
            tally: Tally::new(run, clients, channels, config.lanes(), size),
            course: Course::over(),
            form: Form {
                to: config.to,
                host: config.host.clone(),
                path: config.publish.clone().unwrap_or_default(),
                size,
            },
            publishers: Vec::new(),
            timer,
            buffer: vec![0; BUFFER],
            events: Vec::with_capacity(512),
            dialing: 0,
            open: 0,
            refused: 0,
            answered: 0,
            turns: 0,
            told: 0,
            config,
        })
    }

    /// Opens all streams and the connections to publish on.
    fn connect(&mut self) -> Result<(), String> {
        let since = nanos();
        let mut next = 0;
        self.until(|load| {
            while next < load.config.clients && load.dialing < load.config.dialing {
                load.dial(next)?;
                next += 1;
            }
            Ok(load.open + load.refused == load.config.clients)
        })?;
        self.refused = self.config.clients - self.open;
        let seconds = seconds_since(since);
        for index in 0..self.config.publish.as_ref().map_or(0, |_| self.config.publishers()) {
            let publisher = Publisher::connect(&self.form)?;
            watch(&self.epoll, publisher.fd(), PUBLISHERS + index as u64)?;
            self.publishers.push(publisher);
        }
        tell(json!({
            "at": "connected", "clients": self.open, "refused": self.refused, "seconds": seconds,
        }));
        Ok(())
    }

    fn dial(&mut self, number: usize) -> Result<(), String> {
        let buffer = if self.config.is_silent(number) { Buffer::Small } else { Buffer::Ordinary };
        let fd = dial(self.config.to, self.config.first + number, buffer)
            .map_err(|error| format!("client {number}: {error}"))?;
        epoll::add(&self.epoll, &fd, EventData::new_u64(number as u64), EventFlags::OUT)
            .map_err(|error| format!("client {number}: {error}"))?;
        if let Some(client) = self.clients.get_mut(number) {
            *client = Client::Dialing(fd);
        }
        self.dialing += 1;
        Ok(())
    }

    /// Publishes for so long, waits until all of it has come, and tells what came of it.
    fn step(&mut self, name: &str, seconds: f64) -> Result<(), String> {
        let (since, delivered, answered) = (nanos(), self.tally.delivered, self.answered);
        self.tally.latency.clear();
        self.start_course(seconds)?;
        let mut published = seconds;
        self.until(|load| {
            if load.course.publishing() {
                published = seconds_since(since);
            }
            let quiet = load.publishers.iter().all(Publisher::idle);
            Ok(!load.course.publishing() && quiet && load.tally.delivered >= load.tally.owed)
        })?;
        let seconds = seconds_since(since);
        let deliveries = self.tally.delivered - delivered;
        let publishes = self.answered - answered;
        if name == "done" {
            self.tally.close();
        }
        tell(json!({
            "at": name, "seconds": seconds, "published_in": published,
            "events": self.course.issued(), "deliveries": deliveries, "publishes": publishes,
            "deliveries_per_s": deliveries as f64 / seconds,
            "publishes_per_s": publishes as f64 / seconds,
            "latency": self.tally.latency_json(), "faults": self.tally.faults.as_json(),
        }));
        Ok(())
    }

    /// Serves the sockets until a line comes on stdin, or, without steps, not at all.
    fn wait(&mut self) -> Result<(), String> {
        while self.config.steps && self.told == 0 {
            self.turn(u64::MAX)?;
        }
        self.told = self.told.saturating_sub(1);
        Ok(())
    }

    /// Serves the sockets until `done`, or until nothing has moved for as long as patience lasts.
    fn until(
        &mut self,
        mut done: impl FnMut(&mut Self) -> Result<bool, String>,
    ) -> Result<(), String> {
        let patience = (self.config.patience * 1e9) as u64;
        let (mut moved, mut since) = (self.progress(), nanos());
        while !done(self)? {
            self.turn(100_000_000)?;
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
        self.tally.delivered + self.answered + (self.open + self.refused) as u64
    }

    /// One turn of the loop, at most so many ns long when nothing happens.
    fn turn(&mut self, timeout: u64) -> Result<(), String> {
        let mut events = std::mem::take(&mut self.events);
        let timeout = (timeout != u64::MAX).then(|| timespec(timeout));
        match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(format!("epoll_wait: {error}")),
        }
        for event in events.drain(..) {
            match event.data.u64() {
                TIMER => self.timer_rang()?,
                STDIN => self.line_came()?,
                index if index >= PUBLISHERS => self.answer_came((index - PUBLISHERS) as usize)?,
                number => self.client_stirs(number as usize)?,
            }
        }
        self.events = events;
        Ok(())
    }

    fn line_came(&mut self) -> Result<(), String> {
        let mut bytes = [0; 64];
        match rustix::io::read(stdin(), &mut bytes) {
            Ok(0) | Err(_) => Err("whoever started this is gone".into()),
            Ok(len) => {
                self.told += bytes.iter().take(len).filter(|byte| **byte == b'\n').count();
                Ok(())
            }
        }
    }

    fn client_stirs(&mut self, number: usize) -> Result<(), String> {
        match self.clients.get(number) {
            Some(Client::Dialing(_)) => self.ask(number),
            Some(Client::Asked(..)) => self.hear(number),
            Some(Client::Open(..)) => self.read(number),
            _ => Ok(()),
        }
    }

    /// A connection is made, or has failed: sends the request.
    fn ask(&mut self, number: usize) -> Result<(), String> {
        let Some(client) = self.clients.get_mut(number) else { return Ok(()) };
        let Client::Dialing(fd) = std::mem::replace(client, Client::Closed) else { return Ok(()) };
        let path = self.config.stream.replace("%d", &self.config.channel_of(number).to_string());
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n\r\n",
            self.config.host
        );
        let data = EventData::new_u64(number as u64);
        let asked = send_waiting(&fd, request.as_bytes())
            .and_then(|()| epoll::modify(&self.epoll, &fd, data, EventFlags::IN));
        match asked {
            Ok(()) => *client = Client::Asked(fd, Vec::new()),
            Err(_) => {
                self.dialing -= 1;
                self.refused += 1;
            }
        }
        Ok(())
    }

    /// The answer's head has come, or a part of it.
    fn hear(&mut self, number: usize) -> Result<(), String> {
        let channel = self.config.channel_of(number);
        let Some(client) = self.clients.get_mut(number) else { return Ok(()) };
        match client.answer(&mut self.buffer, |_, _| ()) {
            Answer::NotYet => return Ok(()),
            Answer::Refused => {
                *client = Client::Closed;
                self.refused += 1;
            }
            Answer::Open => {
                self.open += 1;
                if self.config.is_silent(number) {
                    if let Some(fd) = client.fd() {
                        epoll::delete(&self.epoll, fd).map_err(|error| error.to_string())?;
                    }
                    client.silence();
                } else {
                    self.tally.opened(number, channel);
                }
            }
        }
        self.dialing -= 1;
        Ok(())
    }

    fn read(&mut self, number: usize) -> Result<(), String> {
        let Some(client) = self.clients.get_mut(number) else { return Ok(()) };
        let now = nanos();
        let (tally, course) = (&mut self.tally, &mut self.course);
        let came = client.read(&mut self.buffer, |stamp, size| {
            if tally.delivery(number, &stamp, size, now) {
                course.came_to_all(stamp.lane.into());
            }
        });
        match came {
            Came::Bytes | Came::Nothing => {}
            Came::End => {
                self.tally.faults.ended += 1;
                *client = Client::Closed;
            }
            Came::Malformed => {
                self.tally.faults.malformed += 1;
                *client = Client::Closed;
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
