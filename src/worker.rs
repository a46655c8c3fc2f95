//! One process's part of a hub: its streams by channel, their cursors, and the loop that serves
//! them in bounded turns.
//!
//! A stream is a cursor, not a queue: the events behind its cursor are what the client still has to
//! receive. Live streams receive frames that this process has just read, once for all of them. A
//! stream that has fallen behind, or that starts from an older id, reads from the hub until it has
//! caught up. Both go through `delivery`. Nothing here knows nginx: a client is a [`Socket`], the
//! time is an argument, and callers must call [`Worker::take_ended`] afterwards.
//!
//! # Layout
//!
//! - `stream`, `channel`, `keys`: a process's record of its streams and of the channels they
//!   subscribe to
//! - `open`, `pending`, `end`: how a stream starts, how it waits for Redis before that, and how it
//!   ends
//! - `log_reader`, `batch_cache`, `delivery`, `event_ids`: reads the log, frames events once for
//!   many streams, writes them to one client, and determines their ids
//! - `backlog`: the events that a stream lacks and has to read from the hub
//! - `client_past`, `id_claims`: what a client has received elsewhere, and ids that are ahead of
//!   this hub
//! - `pattern`: which patterns an event matches
//! - `channel_task`: work that concerns all streams of a channel
//! - `presence`, `admin`: presence events, and commands of an administrator
//! - `scheduler`, `timer_wheel`: the work of one wake-up and of one tick, and deadlines
//! - `socket`, `settings`: the interface of a connection, and the settings of a location

mod admin;
mod backlog;
mod batch_cache;
mod channel;
mod channel_task;
mod client_past;
mod delivery;
mod end;
mod event_ids;
mod id_claims;
mod keys;
mod log_reader;
mod open;
mod pattern;
mod pending;
mod presence;
mod scheduler;
mod settings;
mod socket;
mod stream;
mod timer_wheel;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use rustc_hash::FxBuildHasher;
use slotmap::SlotMap;

use crate::hub::{Hub, Membership, NewEvent, Now, PublishError, Published, SlotClaim, Wakers};
use crate::sse::frame;
use crate::sse::id::Id;
use batch_cache::BatchCache;
use channel::Channel;
use channel_task::ChannelTask;
use keys::ChannelKey;
use log_reader::FrameCache;
use pattern::Patterns;
use stream::{Accounting, Stream, StreamState};
use timer_wheel::TimerWheel;

pub use admin::{ALL_STATUS_CHANNEL, STATUS_CHANNEL};
pub use end::{End, Finish};
pub use keys::StreamKey;
pub use open::OpenError;
pub use presence::Presence;
pub use scheduler::Progress;
pub use settings::{Jittered, Naming, Replay, SlowClient, StreamSettings};
pub use socket::{Batch, Sent, Socket};

/// One process's streams of one hub.
pub struct Worker<S: Socket> {
    hub: Hub,
    wakers: &'static dyn Wakers,
    /// This process's number among `wakers`.
    waker: Option<usize>,
    slot: Option<SlotClaim>,
    streams: SlotMap<StreamKey, Stream<S>>,
    channels: SlotMap<ChannelKey, Channel>,
    by_name: HashMap<Box<[u8]>, ChannelKey>,
    by_record: HashMap<u32, ChannelKey, FxBuildHasher>,
    patterns: Patterns,
    /// The position up to which this process has read the log.
    read: u64,
    frame_cache: FrameCache,
    /// Channels with a fan-out in progress, in the order in which they are served.
    fan_outs: VecDeque<ChannelKey>,
    /// Tasks for single streams.
    tasks: VecDeque<StreamTask>,
    wheel: TimerWheel<StreamTask>,
    /// Time of the last tick (ms). Deadlines up to then are due.
    last_tick: u64,
    /// Streams that have not started.
    waiting: VecDeque<StreamKey>,
    /// Number of waiting streams that are still to be checked in this tick.
    unchecked: usize,
    channel_tasks: VecDeque<ChannelTask>,
    /// Streams and channels whose work is to be retried because the lock was not available.
    to_retry: Vec<StreamKey>,
    to_leave: VecDeque<Membership>,
    /// Buckets of the channel table that are still to be cleared of the streams of dead processes.
    unswept_buckets: usize,
    ended: VecDeque<(StreamKey, End)>,
    /// Number of streams of figures, which are not counted as subscribers.
    watchers: usize,
    batch_cache: BatchCache,
    heartbeat: Batch,
    counts: Counts,
    /// Whether this process still has to free events of deleted channels.
    freeing: bool,
    presence: Presence,
    random: fastrand::Rng,
    draining: Option<Drain>,
    /// Time of the next housekeeping (ms).
    housekeeping_at: u64,
}

/// Work for a single stream.
#[derive(Clone, Copy, Debug)]
enum StreamTask {
    Serve(StreamKey),
    Beat(StreamKey),
    End(StreamKey, End),
    /// Ends the stream at once, even if its socket has unsent data.
    Cut(StreamKey, End),
}

impl StreamTask {
    /// Returns the stream that the task concerns.
    fn stream(self) -> StreamKey {
        match self {
            StreamTask::Serve(key)
            | StreamTask::Beat(key)
            | StreamTask::End(key, _)
            | StreamTask::Cut(key, _) => key,
        }
    }
}

/// A drain: ends the streams of a process that is shutting down, spread evenly over time.
struct Drain {
    from: u64,
    /// End of the drain (ms).
    until: u64,
    count: usize,
    /// Streams whose deadline is not on the timer wheel yet.
    streams: std::vec::IntoIter<StreamKey>,
}

/// Increments of the hub's counters that have not been added to shared memory yet.
#[derive(Default)]
struct Counts {
    events: u64,
    bytes: u64,
    gaps: u64,
    fan_outs: u64,
    fan_out_ms: u64,
    writes: usize,
}

/// A summary of an open stream.
#[derive(Clone, Debug)]
pub struct StreamInfo {
    /// The last id sent to the client.
    pub last_id: Option<Id>,
    /// Number of events sent to the client.
    pub events_sent: u64,
}

impl<S: Socket> Worker<S> {
    /// Claims a slot in the hub. `waker` is the number of this process among `wakers`, or `None` if
    /// no other process can wake it; the log must then be read every [`Worker::tick_interval`].
    /// `presence` determines whether presence events are published. `seed` makes the random parts
    /// of times differ between processes.
    pub fn new(
        hub: Hub,
        wakers: &'static dyn Wakers,
        waker: Option<usize>,
        presence: Presence,
        seed: u64,
        now: Now,
    ) -> Worker<S> {
        let mut worker = Worker {
            read: hub.head(),
            hub,
            wakers,
            waker,
            slot: None,
            streams: SlotMap::with_key(),
            channels: SlotMap::with_key(),
            by_name: HashMap::new(),
            by_record: HashMap::default(),
            patterns: Patterns::default(),
            frame_cache: FrameCache::default(),
            fan_outs: VecDeque::new(),
            tasks: VecDeque::new(),
            wheel: TimerWheel::new(now.mono),
            last_tick: now.mono,
            waiting: VecDeque::new(),
            unchecked: 0,
            channel_tasks: VecDeque::new(),
            to_retry: Vec::new(),
            to_leave: VecDeque::new(),
            unswept_buckets: 0,
            ended: VecDeque::new(),
            watchers: 0,
            batch_cache: BatchCache::default(),
            heartbeat: Batch::from_frames(vec![frame::heartbeat()]),
            counts: Counts::default(),
            freeing: false,
            presence,
            random: fastrand::Rng::with_seed(seed),
            draining: None,
            housekeeping_at: now.mono,
        };
        worker.claim_slot();
        // The slot's previous owner may have died between an append and its wake-ups.
        worker.reap_dead(now);
        worker
    }

    /// Sets the number of this process among the wakers, if it had none before.
    pub fn set_waker(&mut self, waker: usize) {
        self.waker = Some(waker);
        if let Some(slot) = self.slot {
            self.hub.set_waker(slot, self.waker);
        }
    }

    /// Whether other processes can wake this one.
    pub fn has_waker(&self) -> bool {
        self.waker.is_some()
    }

    fn claim_slot(&mut self) {
        self.slot = self.hub.claim_slot();
        if let Some(slot) = self.slot {
            self.hub.set_waker(slot, self.waker);
        }
    }

    /// Whether this process has been woken for this hub, or has no slot and therefore has to poll.
    pub fn is_woken(&self) -> bool {
        self.slot.is_none_or(|slot| self.hub.is_woken(slot))
    }

    /// Returns the index of this process's slot in the hub; `None` if no slot was free.
    pub fn slot(&self) -> Option<usize> {
        self.slot.map(|slot| slot.slot)
    }

    /// Returns the hub that this worker serves.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Publishes events and wakes all other processes that listen. This process must take a turn
    /// itself.
    pub fn publish(
        &mut self,
        channel: &[u8],
        events: &[NewEvent<'_>],
        key: Option<&[u8]>,
        now: Now,
    ) -> Result<Published, PublishError> {
        let published = self.hub.publish(channel, events, key, now)?;
        self.wake(&published.listeners, now);
        Ok(published)
    }

    /// Returns the socket of a stream.
    pub fn socket(&mut self, key: StreamKey) -> Option<&mut S> {
        self.streams.get_mut(key).map(|stream| &mut stream.socket)
    }

    /// Returns the number of open streams.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Returns a summary of a stream.
    pub fn info(&self, key: StreamKey) -> Option<StreamInfo> {
        let stream = self.streams.get(key)?;
        Some(StreamInfo {
            last_id: stream.last.map(|(place, kind)| place.id(kind, self.hub.tag())),
            events_sent: u64::from(stream.events_sent),
        })
    }

    /// Returns the names of a stream's channels, or its patterns in the hub's form.
    pub fn names(&self, key: StreamKey) -> Vec<Box<[u8]>> {
        let stream = self.streams.get(key);
        let subscriptions = stream.map(|stream| stream.channels.as_slice()).unwrap_or_default();
        let channels = subscriptions.iter().filter_map(|s| self.channels.get(s.channel));
        channels.map(|channel| channel.name.clone()).collect()
    }

    /// Returns a stream that this process has ended and whose last bytes have been sent. The caller
    /// must finalize the request, which closes the stream.
    pub fn take_ended(&mut self) -> Option<(StreamKey, End)> {
        self.ended.pop_front()
    }

    /// Publishes pending presence events and frees the slot. Called when the process ends.
    pub fn release(&mut self, now: Now) {
        self.presence.make_due();
        while self.publish_presence(now) {}
        self.flush_counts();
        if let Some(slot) = self.slot.take() {
            self.hub.release_slot(slot);
        }
    }

    /// Ends a stream. The worker sends nothing more to it.
    fn end(&mut self, key: StreamKey, end: End) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if matches!(stream.state, StreamState::Ended) {
            return;
        }
        stream.state = StreamState::Ended;
        self.ended.push_back((key, end));
    }

    fn wake(&self, slots: &[usize], now: Now) {
        let own = slots.iter().position(|slot| Some(*slot) == self.slot());
        let (before, after) = slots.split_at(own.unwrap_or(slots.len()));
        self.hub.wake(before, now, self.wakers);
        self.hub.wake(after.get(1..).unwrap_or_default(), now, self.wakers);
    }
}

/// This many bytes count as one more write in a turn's budget.
const BYTES_OF_A_WRITE: usize = 32 << 10;

impl Counts {
    /// Counts a write and its bytes. Returns the number of frames that the socket accepted.
    fn sent(&mut self, sent: Sent, batch: &Batch, accounting: Accounting) -> usize {
        self.writes += 1 + batch.body_len() / BYTES_OF_A_WRITE;
        let frames = batch.frames();
        let (taken, bytes) = match sent {
            Sent::All => (frames.len(), batch.body_len()),
            Sent::Blocked { taken } => {
                let taken = frames.get(..taken).unwrap_or(frames);
                (taken.len(), taken.iter().map(|frame| frame.body().len()).sum())
            }
            Sent::Failed => (0, 0),
        };
        if accounting == Accounting::Client {
            self.bytes += bytes as u64;
        }
        taken
    }

    /// Counts events that the socket accepted.
    fn delivered(&mut self, events: usize, accounting: Accounting) {
        if accounting == Accounting::Client {
            self.events += events as u64;
        }
    }
}
