//! A hub that is connected to Redis, as the Redis thread sees it, and the events that the thread
//! returns to nginx.
//!
//! The thread never touches nginx. It puts log lines and the results of publishes into an outbox,
//! and wakes nginx's own thread, which processes them.

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
    /// Claims a waker for the calling thread until that thread ends. Returns its number and a
    /// descriptor that becomes readable when it is woken (an eventfd). Fails if all are taken.
    fn claim(&self) -> io::Result<(usize, File)>;
}

/// Values of up to this length (bytes) are read, whatever `max_event_size` is.
const LEAST_LONGEST: usize = 64 << 10;
/// Minimum and maximum bytes of entries that are read at a time.
const LEAST_PAGE: usize = 128 << 10;
const MOST_PAGE: usize = 4 << 20;
/// The longest first line of a durable event's message, in bytes, with a margin.
const HEAD: usize = 512;

/// A hub that is connected to Redis.
pub struct HubContext {
    /// The hub's name, for log lines.
    pub name: String,
    /// The hub itself.
    pub hub: Hub,
    /// Wakes the processes that listen to the hub.
    pub wakers: &'static dyn SharedWakers,
    /// The address of Redis.
    pub address: Address,
    /// The names of keys and channels in Redis.
    pub names: Keys,
    /// Returns the current time.
    pub clock: fn() -> Now,
    /// Log lines and results for nginx's own thread.
    pub outbox: Arc<Outbox>,
}

impl HubContext {
    /// Returns the current time.
    pub fn now(&self) -> Now {
        (self.clock)()
    }

    /// Returns the key of a channel's stream.
    pub fn key(&self, channel: &[u8]) -> Vec<u8> {
        match self.hub.source() {
            Source::Streams => self.names.subject(channel),
            Source::PubSub | Source::Alone => self.names.stream(channel),
        }
    }

    /// Returns what is subscribed to for a channel (its messages, or keyspace notifications of its
    /// stream) or for the record of a pattern.
    pub fn subject(&self, channel: &[u8]) -> Vec<u8> {
        if let Some(pattern) = pattern_of(channel) {
            return self.names.subject_pattern(pattern);
        }
        match self.hub.source() {
            Source::Streams => [&self.keyspace(), &self.key(channel)[..]].concat(),
            Source::PubSub | Source::Alone => self.names.subject(channel),
        }
    }

    /// Returns the channel that a subject belongs to, if it belongs to one of this hub.
    pub fn channel_of<'a>(&self, subject: &'a [u8]) -> Option<&'a [u8]> {
        match self.hub.source() {
            Source::Streams => {
                self.names.channel_of_subject(subject.strip_prefix(&self.keyspace()[..])?)
            }
            Source::PubSub | Source::Alone => self.names.channel_of_subject(subject),
        }
    }

    /// Returns the maximum length in bytes of a value that is read. The event of a longer one would
    /// be too large.
    pub(super) fn longest(&self) -> usize {
        self.hub.max_event().max(LEAST_LONGEST) + HEAD
    }

    /// Returns the limits of what a connection may receive.
    pub(super) fn bounds(&self) -> Bounds {
        Bounds::for_values(self.longest())
    }

    /// Returns the bytes of entries that are read at a time: little compared with the zone, but at
    /// least one event.
    pub(super) fn most_of_page(&self) -> usize {
        (self.hub.bytes() / 16).clamp(LEAST_PAGE, MOST_PAGE).max(self.longest() + HEAD)
    }

    /// Returns the maximum bytes of messages that may wait until their channels have caught up.
    pub(super) fn most_held(&self) -> usize {
        4 * self.most_of_page()
    }

    fn keyspace(&self) -> Vec<u8> {
        format!("__keyspace@{}__:", self.address.db).into_bytes()
    }

    /// Wakes the processes that listen. Call this after the append.
    pub fn wake(&self, slots: &[usize]) {
        self.hub.wake(slots, self.now(), self.wakers);
    }

    /// Writes a line to nginx's error log, through the outbox.
    pub fn log(&self, level: LogLevel, what: fmt::Arguments<'_>) {
        let text = format!("sse: hub \"{}\": {what}", self.name);
        self.outbox.put(ThreadEvent::Log(level, text));
    }
}

/// The level of a log line, in nginx's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// A bug of the module.
    Alert,
    /// Something works less well than it should.
    Warn,
    /// A change of state.
    Notice,
    /// Details that help when something else goes wrong.
    Info,
}

/// A message of the thread to nginx's own thread.
#[derive(Debug)]
pub enum ThreadEvent {
    /// A line for the error log.
    Log(LogLevel, String),
    /// The result of a publish.
    Published {
        /// The ticket of the request.
        ticket: u64,
        /// The ids of the events, or the reason for the failure.
        result: Result<crate::redis::script::ScriptResult, crate::redis::refusal::Refusal>,
    },
    /// This process no longer holds the subscription of a hub.
    Retired,
    /// The thread has panicked.
    Died,
}

/// The messages that nginx's own thread has not processed.
pub struct Outbox {
    news: Mutex<Vec<ThreadEvent>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Outbox {
    /// Returns an empty outbox. The thread calls `wake` whenever it puts something into an empty
    /// outbox.
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

    /// Removes and returns all messages, in order.
    pub fn take(&self) -> Vec<ThreadEvent> {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn the_outbox_wakes_once_and_keeps_the_order() {
        let woken = Arc::new(AtomicUsize::new(0));
        let counted = woken.clone();
        let outbox = Outbox::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        assert!(outbox.take().is_empty());
        for round in 1..=2 {
            outbox.put(ThreadEvent::Retired);
            assert_eq!(woken.load(Ordering::SeqCst), round);
            outbox.put(ThreadEvent::Died);
            assert_eq!(woken.load(Ordering::SeqCst), round);
            let taken = outbox.take();
            assert!(matches!(taken[..], [ThreadEvent::Retired, ThreadEvent::Died]));
            assert!(outbox.take().is_empty());
        }
    }
}
