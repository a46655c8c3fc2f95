//! A hub that is joined to Redis, as the thread knows it, and what the thread gives back.
//!
//! The thread never sees nginx: what it wants to have logged, and the answers of publishers, go into
//! an outbox, and nginx's own thread is woken to take them out.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::hub::{pattern_of, Hub, Now, Source, Wakers};
use crate::redis::address::Address;
use crate::redis::keys::Keys;
use crate::redis::link::Bounds;

/// The wakers of the threads of all processes.
pub trait SharedWakers: Wakers + Send + Sync {
    /// Claims a waker for the calling thread, until that ends: its number, and a descriptor that becomes
    /// readable when it is woken (an eventfd). Fails when all are taken.
    fn claim(&self) -> io::Result<(usize, File)>;
}

/// Values of this length (bytes) are read whatever max_event_size is.
const LEAST_LONGEST: usize = 64 << 10;
/// Bytes of entries that are read at a time, at least and at most.
const LEAST_PAGE: usize = 128 << 10;
const MOST_PAGE: usize = 4 << 20;
/// The longest first line of a durable event's message, with a margin.
const HEAD: usize = 512;

/// A hub that is joined to Redis.
pub struct HubContext {
    /// Its name, for log lines.
    pub name: String,
    /// The hub itself.
    pub hub: Hub,
    /// What wakes the processes that listen to it.
    pub wakers: &'static dyn SharedWakers,
    /// Where Redis is.
    pub address: Address,
    /// What things are called there.
    pub names: Keys,
    /// What time it is.
    pub clock: fn() -> Now,
    /// Where log lines and answers go.
    pub outbox: Arc<Outbox>,
}

impl HubContext {
    /// The time.
    pub fn now(&self) -> Now {
        (self.clock)()
    }

    /// The key of a channel's stream.
    pub fn key(&self, channel: &[u8]) -> Vec<u8> {
        match self.hub.source() {
            Source::Streams => self.names.subject(channel),
            Source::PubSub | Source::Alone => self.names.stream(channel),
        }
    }

    /// What is subscribed to for a channel: its messages, or the news that its stream has grown; and for
    /// the record of a pattern.
    pub fn subject(&self, channel: &[u8]) -> Vec<u8> {
        if let Some(pattern) = pattern_of(channel) {
            return self.names.subject_pattern(pattern);
        }
        match self.hub.source() {
            Source::Streams => [&self.keyspace(), &self.key(channel)[..]].concat(),
            Source::PubSub | Source::Alone => self.names.subject(channel),
        }
    }

    /// The channel whose subject this is.
    pub fn channel_of<'a>(&self, subject: &'a [u8]) -> Option<&'a [u8]> {
        match self.hub.source() {
            Source::Streams => {
                self.names.channel_of_subject(subject.strip_prefix(&self.keyspace()[..])?)
            }
            Source::PubSub | Source::Alone => self.names.channel_of_subject(subject),
        }
    }

    /// The longest value (bytes) that is read: a longer one makes an event which is too large anyway.
    pub(super) fn longest(&self) -> usize {
        self.hub.max_event().max(LEAST_LONGEST) + HEAD
    }

    /// What a connection may bring.
    pub(super) fn bounds(&self) -> Bounds {
        Bounds::of_values(self.longest())
    }

    /// Bytes of entries that are read at a time: few beside what the zone has, and one event at least.
    pub(super) fn most_of_page(&self) -> usize {
        (self.hub.bytes() / 16).clamp(LEAST_PAGE, MOST_PAGE).max(self.longest() + HEAD)
    }

    /// Bytes of messages that may wait for their channels.
    pub(super) fn most_held(&self) -> usize {
        4 * self.most_of_page()
    }

    fn keyspace(&self) -> Vec<u8> {
        format!("__keyspace@{}__:", self.address.db).into_bytes()
    }

    /// Wakes the processes that listen; to be called after the append.
    pub fn wake(&self, slots: &[usize]) {
        self.hub.wake(slots, self.now(), self.wakers);
    }

    /// Has a line written to nginx's error log.
    pub fn log(&self, level: LogLevel, what: fmt::Arguments<'_>) {
        let text = format!("sse: hub \"{}\": {what}", self.name);
        self.outbox.put(ThreadEvent::Log(level, text));
    }
}

/// How important a log line is, in nginx's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// A fault in the module itself.
    Alert,
    /// Something works less well than it should.
    Warn,
    /// A change of state.
    Notice,
    /// What can be of interest when something else is wrong.
    Info,
}

/// What the thread has to say.
#[derive(Debug)]
pub enum ThreadEvent {
    /// A line for the error log.
    Log(LogLevel, String),
    /// What became of a publish.
    Published {
        /// The number that it was given.
        ticket: u64,
        /// The events' numbers, or why there are none.
        result: Result<crate::redis::script::ScriptResult, crate::redis::refusal::Refusal>,
    },
    /// This process holds no subscription any more that another one could take over.
    Retired,
    /// The thread has ended by a fault of its own.
    Died,
}

/// What the thread has to say and nginx's own thread has not taken yet.
pub struct Outbox {
    news: Mutex<Vec<ThreadEvent>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Outbox {
    /// An empty one; `wake` is called from the thread whenever it is not empty any more.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Outbox {
        Outbox { news: Mutex::default(), wake: Box::new(wake) }
    }

    pub(super) fn put(&self, news: ThreadEvent) {
        let mut all = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(news);
        let first = all.len() == 1;
        drop(all);
        if first {
            (self.wake)();
        }
    }

    /// Takes out all that is there.
    pub fn take(&self) -> Vec<ThreadEvent> {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
