//! The configuration of a generator.

use crate::event::STAMP;
use crate::flags::Flags;
use std::net::{SocketAddr, ToSocketAddrs};

/// How events are paced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// This many events per second, over all channels, whatever the server does.
    Rate(f64),
    /// This many at a time: the next one when an event is confirmed and has reached all its
    /// clients.
    Flat(usize),
}

/// How events are published.
#[derive(Clone, Debug, PartialEq)]
pub enum Way {
    /// By another process, which publishes the same events.
    None,
    /// POSTed to this path of the server; `%d` stands for the channel.
    Post(String),
    /// As plain messages of this Redis.
    Plain(SocketAddr),
    /// By the module's script in this Redis.
    Durable(SocketAddr),
}

/// What a generator does while nothing arrives.
#[derive(Clone, Copy, PartialEq)]
pub enum Idle {
    /// Sleeps; senders pay for waking it.
    Sleep,
    /// Polls; for a generator that has a processor of its own.
    Spin,
}

/// When a client whose stream has ended returns.
#[derive(Clone, Copy, PartialEq)]
pub enum ReturnTime {
    /// At once, or when fewer than `--dialing` clients are connecting.
    AtOnce,
    /// After the time that the server has asked for with `retry`.
    AfterRetry,
}

/// The request for a stream.
pub struct StreamRequest {
    /// The path; `%d` stands for the channel.
    path: String,
    /// A further header line, without its end; empty if there is none.
    header: String,
}

impl StreamRequest {
    /// Returns the bytes of the request for a channel.
    pub fn write(&self, host: &str, channel: u32) -> String {
        let path = self.path.replace("%d", &channel.to_string());
        let end = if self.header.is_empty() { "" } else { "\r\n" };
        let header = &self.header;
        format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n{header}{end}\r\n"
        )
    }
}

/// The configuration of a generator.
pub struct Config {
    pub to: SocketAddr,
    pub host: String,
    /// The request for a stream, and that of a client whose stream has ended.
    pub request: StreamRequest,
    pub returning_request: StreamRequest,
    pub way: Way,
    pub clients: usize,
    /// Number of other generators' clients; source addresses continue from there.
    pub first: usize,
    pub channels: usize,
    pub size: usize,
    pub pace: Pace,
    pub warm_seconds: f64,
    pub seconds: f64,
    /// Number of repetitions of the measured step.
    pub times: usize,
    /// One client in this many never reads; 0 means none.
    pub silent_in: usize,
    /// Number of clients that connect at the same time.
    pub dialing: usize,
    pub run: u32,
    /// What it does while nothing arrives.
    pub idle: Idle,
    /// Waits for a line on stdin before each step.
    pub steps: bool,
    /// Clients close their streams when the first bytes have arrived.
    pub leaving: bool,
    /// Adds a last step that waits until the server has ended all streams, and all have been opened
    /// again.
    pub returning: bool,
    /// When clients return.
    pub return_time: ReturnTime,
    /// Seconds without any progress after which the generator gives up.
    pub patience: f64,
}

impl Config {
    pub fn read(mut flags: Flags) -> Result<Self, String> {
        let to = flags.value("to")?.ok_or("--to HOST:PORT is needed")?;
        let rate = flags.parsed("rate")?;
        let path = flags.value("stream")?.unwrap_or_else(|| "/s?c=%d".into());
        let header = flags.value("header")?.unwrap_or_default();
        let returning_request = StreamRequest {
            path: flags.value("return-stream")?.unwrap_or_else(|| path.clone()),
            header: flags.value("return-header")?.unwrap_or_else(|| header.clone()),
        };
        let pace = match flags.parsed("in-flight")? {
            Some(events) => Pace::Flat(events),
            None => Pace::Rate(rate.unwrap_or(10.0)),
        };
        let config = Self {
            to: resolve(&to)?,
            host: to,
            request: StreamRequest { path, header },
            returning_request,
            way: way(&mut flags)?,
            clients: flags.parsed("clients")?.unwrap_or(1_000),
            first: flags.parsed("first")?.unwrap_or(0),
            channels: flags.parsed("channels")?.unwrap_or(1),
            size: flags.parsed("size")?.unwrap_or(64),
            pace,
            warm_seconds: flags.parsed("warm")?.unwrap_or(1.0),
            seconds: flags.parsed("seconds")?.unwrap_or(5.0),
            times: flags.parsed("times")?.unwrap_or(1),
            silent_in: flags.parsed("silent-in")?.unwrap_or(0),
            dialing: flags.parsed("dialing")?.unwrap_or(64),
            run: flags.parsed("run")?.unwrap_or_else(std::process::id),
            idle: if flags.switch("spin") { Idle::Spin } else { Idle::Sleep },
            steps: flags.switch("steps"),
            leaving: flags.switch("leaving"),
            returning: flags.switch("returning"),
            return_time: if flags.switch("obey-retry") {
                ReturnTime::AfterRetry
            } else {
                ReturnTime::AtOnce
            },
            patience: flags.parsed("patience")?.unwrap_or(10.0),
        };
        flags.finish()?;
        config.check()
    }

    fn check(self) -> Result<Self, String> {
        if self.size < STAMP {
            return Err(format!("--size must be at least {STAMP}"));
        }
        if self.channels == 0
            || matches!(self.pace, Pace::Flat(events) if !(1..=1024).contains(&events))
        {
            return Err("--channels must be at least 1, --in-flight 1 to 1024".into());
        }
        if matches!(self.pace, Pace::Rate(rate) if rate.is_nan() || rate <= 0.0) {
            return Err("--rate must be more than 0".into());
        }
        Ok(self)
    }

    /// Returns the number of independent sequences of events on one channel.
    pub fn lanes(&self) -> usize {
        match self.pace {
            Pace::Rate(_) => 1,
            Pace::Flat(events) => events,
        }
    }

    /// Returns the number of connections that publish.
    pub fn publishers(&self) -> usize {
        match self.pace {
            _ if self.way == Way::None => 0,
            Pace::Rate(_) => self.channels.min(8),
            Pace::Flat(events) => events,
        }
    }

    pub fn channel_of(&self, client: usize) -> u32 {
        ((self.first + client) % self.channels) as u32
    }

    pub fn is_silent(&self, client: usize) -> bool {
        self.silent_in > 0 && client.is_multiple_of(self.silent_in)
    }
}

fn way(flags: &mut Flags) -> Result<Way, String> {
    let (path, durable) = (flags.value("publish")?, flags.switch("durable"));
    let Some(redis) = flags.value("redis")? else { return Ok(path.map_or(Way::None, Way::Post)) };
    let redis = resolve(&redis)?;
    Ok(if durable { Way::Durable(redis) } else { Way::Plain(redis) })
}

fn resolve(name: &str) -> Result<SocketAddr, String> {
    let mut found = name.to_socket_addrs().map_err(|error| format!("{name}: {error}"))?;
    found.next().ok_or_else(|| format!("{name} has no address"))
}
