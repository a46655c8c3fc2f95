//! One process's share of a hub: its streams by channel, their cursors, and the loop that serves
//! them in bounded turns.
//!
//! A stream is a cursor, not a queue: what a client still has to get is what lies in the log behind
//! its cursor. Live streams get frames that this process has just read, once for all of them;
//! a stream that lags, or that begins with an older id, reads from the hub until it has caught up.
//! Both go through `delivery`. Nothing here knows nginx: a client is a [`Socket`], the time is an argument,
//! and callers must look at [`Worker::take_ended`] afterwards.
//!
//! # Layout
//!
//! - `stream`, `channel`, `keys`: what a process knows of its streams and of the channels they listen to
//! - `open`, `pending`, `end`: how a stream starts, when it starts behind Redis, and how it ends
//! - `log_reader`, `batch_cache`, `delivery`, `event_ids`: reads the log, frames events once for many
//!   streams, writes them to one client, and writes their ids
//! - `backlog`: what a stream lacks, which is looked up in the hub
//! - `client_past`, `id_claims`: what a client has received elsewhere, and ids that are ahead of this hub
//! - `pattern`: which patterns an event matches
//! - `channel_task`: work that concerns all streams of a channel
//! - `presence`, `admin`: presence events, and what an administrator asks for
//! - `scheduler`, `timer_wheel`: what one wake-up and one tick do, and deadlines
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
    /// The waker of this process.
    waker: Option<usize>,
    seat: Option<SlotClaim>,
    streams: SlotMap<StreamKey, Stream<S>>,
    channels: SlotMap<ChannelKey, Channel>,
    by_name: HashMap<Box<[u8]>, ChannelKey>,
    by_record: HashMap<u32, ChannelKey, FxBuildHasher>,
    patterns: Patterns,
    /// The position up to which this process has read the log.
    read: u64,
    kept: FrameCache,
    /// Channels through whose streams something is on its way.
    passes: VecDeque<ChannelKey>,
    /// Streams that wait for a visit of their own.
    tasks: VecDeque<Task>,
    wheel: TimerWheel<Task>,
    /// When the last tick was, in ms: deadlines up to then are being met.
    ticked: u64,
    /// Streams that have not begun.
    waiting: VecDeque<StreamKey>,
    /// So many of them are still to be looked at in this tick.
    overdue: usize,
    errands: VecDeque<ChannelTask>,
    /// Streams, and channels to be left, that could not get the lock.
    stuck: Vec<StreamKey>,
    unleft: VecDeque<Membership>,
    /// Buckets of the channel table that are still to be swept after a death.
    unswept: usize,
    ended: VecDeque<(StreamKey, End)>,
    /// Streams that watch the figures, and are none of them.
    watchers: usize,
    shared: BatchCache,
    heartbeat: Batch,
    tally: Counts,
    /// Events of channels that were forgotten wait to be freed by this process.
    freeing: bool,
    presence: Presence,
    random: fastrand::Rng,
    draining: Option<Drain>,
    /// When the once-a-second look is due (ms).
    look_at: u64,
}

/// A visit that a stream waits for.
#[derive(Clone, Copy, Debug)]
enum Task {
    Serve(StreamKey),
    Beat(StreamKey),
    End(StreamKey, End),
    /// Its time to end is over, whatever its socket does.
    Cut(StreamKey, End),
}

impl Task {
    /// The stream that the task is about.
    fn stream(self) -> StreamKey {
        match self {
            Task::Serve(key) | Task::Beat(key) | Task::End(key, _) | Task::Cut(key, _) => key,
        }
    }
}

/// The streams of a process that quits are ended evenly.
struct Drain {
    from: u64,
    /// Until then (ms).
    until: u64,
    count: usize,
    /// Those whose end is not entered yet.
    streams: std::vec::IntoIter<StreamKey>,
}

/// What was done since the counters in the region were last raised.
#[derive(Default)]
struct Counts {
    events: u64,
    bytes: u64,
    gaps: u64,
    passes: u64,
    pass_ms: u64,
    writes: usize,
}

/// What is known of an open stream.
#[derive(Clone, Debug)]
pub struct StreamInfo {
    /// The last id that it was sent.
    pub last_id: Option<Id>,
    /// Events that it was sent.
    pub events_sent: u64,
}

impl<S: Socket> Worker<S> {
    /// Takes a seat in the hub, and tells who comes and goes if `presence` says so. `waker` is the
    /// number of this process among `wakers`; `None` if nobody can wake it, and the log must be looked
    /// at every [`Worker::tick_interval`]. `seed` makes the random parts of times differ between
    /// processes.
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
            seat: None,
            streams: SlotMap::with_key(),
            channels: SlotMap::with_key(),
            by_name: HashMap::new(),
            by_record: HashMap::default(),
            patterns: Patterns::default(),
            kept: FrameCache::default(),
            passes: VecDeque::new(),
            tasks: VecDeque::new(),
            wheel: TimerWheel::new(now.mono),
            ticked: now.mono,
            waiting: VecDeque::new(),
            overdue: 0,
            errands: VecDeque::new(),
            stuck: Vec::new(),
            unleft: VecDeque::new(),
            unswept: 0,
            ended: VecDeque::new(),
            watchers: 0,
            shared: BatchCache::default(),
            heartbeat: Batch::of(vec![frame::heartbeat()]),
            tally: Counts::default(),
            freeing: false,
            presence,
            random: fastrand::Rng::with_seed(seed),
            draining: None,
            look_at: now.mono,
        };
        worker.claim_slot();
        // The slot's former tenant may have died between an append and the wake-ups.
        worker.bury(now);
        worker
    }

    /// Enters the number of this process among the wakers, once there is one for it.
    pub fn set_waker(&mut self, waker: usize) {
        self.waker = Some(waker);
        if let Some(seat) = self.seat {
            self.hub.set_waker(seat, self.waker);
        }
    }

    /// Whether this process can be woken.
    pub fn has_waker(&self) -> bool {
        self.waker.is_some()
    }

    fn claim_slot(&mut self) {
        self.seat = self.hub.claim_slot();
        if let Some(seat) = self.seat {
            self.hub.set_waker(seat, self.waker);
        }
    }

    /// Whether this process has been woken for this hub, or has to look at the log by itself.
    pub fn is_woken(&self) -> bool {
        self.seat.is_none_or(|seat| self.hub.is_woken(seat))
    }

    /// The slot of this process in the hub, if there was a free one.
    pub fn slot(&self) -> Option<usize> {
        self.seat.map(|seat| seat.slot)
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Publishes, and wakes everybody who listens but this process: it has to take a turn itself.
    pub fn publish(
        &mut self,
        channel: &[u8],
        events: &[NewEvent<'_>],
        key: Option<&[u8]>,
        now: Now,
    ) -> Result<Published, PublishError> {
        let published = self.hub.publish(channel, events, key, now)?;
        self.ring(&published.listeners, now);
        Ok(published)
    }

    /// The socket of a stream.
    pub fn socket(&mut self, key: StreamKey) -> Option<&mut S> {
        self.streams.get_mut(key).map(|stream| &mut stream.socket)
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// What is known of a stream.
    pub fn info(&self, key: StreamKey) -> Option<StreamInfo> {
        let stream = self.streams.get(key)?;
        Some(StreamInfo {
            last_id: stream.last.map(|(place, kind)| place.id(kind, self.hub.tag())),
            events_sent: u64::from(stream.events_sent),
        })
    }

    /// The names of a stream's channels, or its patterns as the hub knows them.
    pub fn names(&self, key: StreamKey) -> Vec<Box<[u8]>> {
        let stream = self.streams.get(key);
        let subscriptions = stream.map(|stream| stream.channels.as_slice()).unwrap_or_default();
        let channels = subscriptions.iter().filter_map(|s| self.channels.get(s.channel));
        channels.map(|channel| channel.name.clone()).collect()
    }

    /// A stream that this process has ended. Its last bytes are sent: the request is to be
    /// finalized, which closes the stream.
    pub fn take_ended(&mut self) -> Option<(StreamKey, End)> {
        self.ended.pop_front()
    }

    /// Gives the seat back; for the end of the process.
    pub fn release(&mut self, now: Now) {
        self.presence.make_due();
        while self.tell_presence(now) {}
        self.flush_tally();
        if let Some(seat) = self.seat.take() {
            self.hub.release_slot(seat);
        }
    }

    /// The stream gets no more bytes from here.
    fn end(&mut self, key: StreamKey, end: End) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if matches!(stream.state, StreamState::Ended) {
            return;
        }
        stream.state = StreamState::Ended;
        self.ended.push_back((key, end));
    }

    fn ring(&self, slots: &[usize], now: Now) {
        let own = slots.iter().position(|slot| Some(*slot) == self.slot());
        let (before, after) = slots.split_at(own.unwrap_or(slots.len()));
        self.hub.wake(before, now, self.wakers);
        self.hub.wake(after.get(1..).unwrap_or_default(), now, self.wakers);
    }
}

/// Bytes that count as one more write of a turn.
const BYTES_OF_A_WRITE: usize = 32 << 10;

impl Counts {
    /// Counts a write and its bytes; returns how many frames the socket has taken.
    fn sent(&mut self, sent: Sent, batch: &Batch, audience: Accounting) -> usize {
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
        if audience == Accounting::Client {
            self.bytes += bytes as u64;
        }
        taken
    }

    /// Counts events that the socket has taken.
    fn delivered(&mut self, events: usize, audience: Accounting) {
        if audience == Accounting::Client {
            self.events += events as u64;
        }
    }
}
