//! One process's part of a hub: its streams by channel, their cursors, and the loop that serves
//! them in bounded turns.
//!
//! A stream is a cursor, not a queue: the events behind its cursor are what the client still has to
//! receive. Live streams receive frames that this process has just read, once for all of them. A
//! stream that has fallen behind, or that starts from an older id, reads from the hub until it has
//! caught up. Both go through `delivery`. Nothing here knows nginx: a client is a [`Socket`], the
//! time and the clock are arguments, and callers must call [`Worker::take_ended`] afterwards.
//!
//! # Layout
//!
//! - `stream`, `channel`, `keys`: a process's record of its streams and of the channels they
//!   subscribe to
//! - `directory`: the channels and patterns of a process, by key, name, and record
//! - `process_slot`: the process's slot in the hub, and wake-ups
//! - `resume_request`: what a request says about where its stream starts
//! - `outlook`: whether a request is answered with a stream
//! - `deadline`, `stream_limits`, `permission`, `user`: the maximum age of streams, when a client's
//!   permission ends, and disconnecting a user
//! - `open`, `pending`, `end`: how a stream starts, how it waits for Redis before that, and how it
//!   ends
//! - `log_reader`, `batch_cache`, `delivery`, `event_ids`: reads the log, frames events once for
//!   many streams, writes them to one client, and determines their ids
//! - `backlog`: the events that a stream lacks and has to read from the hub
//! - `client_past`, `id_claims`: what a client has received elsewhere, and ids that are ahead of
//!   this hub
//! - `catching_up`: streams of several channels that wait until a channel has caught up with Redis
//! - `pattern`: which patterns an event matches
//! - `run`, `run_ends`: how streams end where the runs of their channels were finished
//! - `channel_task`: work that concerns all streams of a channel
//! - `presence`, `admin`: presence events, and commands of an administrator
//! - `scheduler`: the work of one wake-up and of one tick
//! - `work_queue`, `timer_wheel`: what is to be done next, and deadlines
//! - `upkeep`, `counts`: what a process does for the hub besides, and increments of its counters
//! - `socket`, `settings`: the interface of a connection, and the settings of a location

mod admin;
mod backlog;
mod batch_cache;
mod catching_up;
mod channel;
mod channel_task;
mod client_past;
mod counts;
mod deadline;
mod delivery;
mod directory;
mod end;
mod event_ids;
mod expiry_list;
mod id_claims;
mod keys;
mod log_reader;
mod open;
mod outlook;
mod pattern;
mod pending;
mod permission;
mod presence;
mod process_slot;
mod resume_request;
mod run;
mod run_ends;
mod scheduler;
mod settings;
mod socket;
mod stream;
mod stream_limits;
mod timer_wheel;
mod upkeep;
mod user;
mod work_queue;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use slotmap::SlotMap;

use crate::hub::{Hub, MonotonicTime, NewEvent, Now, PublishError, Published, Wakers};
use crate::sse::frame;
use crate::sse::id::Id;
use batch_cache::BatchCache;
use channel_task::ChannelTask;
use counts::Counts;
use directory::Directory;
use expiry_list::ExpiryList;
use log_reader::FrameCache;
use outlook::Inquiries;
use pending::WaitingList;
use process_slot::ProcessSlot;
use stream::{Stream, StreamState};
use upkeep::Upkeep;
use user::UserStreams;
use work_queue::WorkQueue;

pub use admin::{ALL_STATUS_CHANNEL, STATUS_CHANNEL};
pub use end::{Closing, End, EndForm, Finish, Reconnect};
pub use keys::StreamKey;
pub use open::OpenError;
pub use outlook::{Arrival, InquiryKey, Outlook};
pub use permission::{Permission, PermittedUser};
pub use presence::Presence;
pub use resume_request::ResumeRequest;
pub use scheduler::Progress;
pub use settings::{
    ExpiryEvent, Finished, Jittered, Naming, Replay, SlowClient, StreamSettings, UnknownChannel,
};
pub use socket::{Batch, Sent, Socket};

/// One process's streams of one hub.
pub struct Worker<S: Socket> {
    hub: Hub,
    process: ProcessSlot,
    streams: SlotMap<StreamKey, Stream<S>>,
    directory: Directory,
    /// The position up to which this process has read the log.
    read: u64,
    /// The position from which on this process knows again which channels are catching up, after
    /// it was overtaken.
    settled_at: u64,
    frame_cache: FrameCache,
    batch_cache: BatchCache,
    heartbeat: Batch,
    work: WorkQueue,
    /// Streams that have not started.
    waiting: WaitingList,
    /// Requests for which it is not known yet whether a stream is opened.
    inquiries: Inquiries,
    channel_tasks: VecDeque<ChannelTask>,
    upkeep: Upkeep,
    ended: VecDeque<(StreamKey, End)>,
    /// Number of streams of figures, which are not counted as subscribers.
    watchers: usize,
    /// How far the wall clock is ahead of the monotonic one (ms), as far as it is known.
    clock_ahead: u64,
    expiries: ExpiryList,
    counts: Counts,
    users: UserStreams,
    presence: Presence,
    random: fastrand::Rng,
    clock: fn() -> MonotonicTime,
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
    /// of times differ between processes. `clock` is read when events have been delivered, to
    /// measure how long that took.
    pub fn new(
        hub: Hub,
        wakers: &'static dyn Wakers,
        waker: Option<usize>,
        presence: Presence,
        seed: u64,
        now: Now,
        clock: fn() -> MonotonicTime,
    ) -> Worker<S> {
        let mut worker = Worker {
            users: UserStreams::new(hub.disconnections()),
            process: ProcessSlot::new(&hub, wakers, waker),
            read: hub.head(),
            settled_at: 0,
            hub,
            streams: SlotMap::with_key(),
            directory: Directory::default(),
            frame_cache: FrameCache::default(),
            batch_cache: BatchCache::default(),
            heartbeat: Batch::from_frames(vec![frame::heartbeat()]),
            work: WorkQueue::new(now.mono),
            waiting: WaitingList::default(),
            inquiries: Inquiries::default(),
            channel_tasks: VecDeque::new(),
            upkeep: Upkeep::default(),
            ended: VecDeque::new(),
            watchers: 0,
            clock_ahead: now.wall.wrapping_sub(now.mono),
            expiries: ExpiryList::default(),
            counts: Counts::default(),
            presence,
            random: fastrand::Rng::with_seed(seed),
            clock,
        };
        // The slot's previous owner may have died between an append and its wake-ups.
        worker.reap_dead(now);
        worker
    }

    /// Sets the number of this process among the wakers, if it had none before.
    pub fn set_waker(&mut self, waker: usize) {
        self.process.set_waker(&self.hub, waker);
    }

    /// Whether other processes can wake this one.
    pub fn has_waker(&self) -> bool {
        self.process.has_waker()
    }

    /// Whether this process has been woken for this hub, or has no slot and therefore has to poll.
    pub fn is_woken(&self) -> bool {
        self.process.is_woken(&self.hub)
    }

    /// Returns the index of this process's slot in the hub; `None` if no slot was free.
    pub fn slot(&self) -> Option<usize> {
        self.process.index()
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

    /// Publishes events, finishes the channel's run, and wakes all other processes that listen.
    /// This process must take a turn itself.
    pub fn publish_and_finish(
        &mut self,
        channel: &[u8],
        events: &[NewEvent<'_>],
        key: Option<&[u8]>,
        now: Now,
    ) -> Result<Published, PublishError> {
        let published = self.hub.publish_and_finish(channel, events, key, now)?;
        self.wake(&published.listeners, now);
        Ok(published)
    }

    /// Returns the socket of a stream.
    pub fn socket(&mut self, key: StreamKey) -> Option<&mut S> {
        self.streams.get_mut(key).map(|stream| &mut stream.socket)
    }

    /// Returns how a stream's response ends if its client is to reconnect.
    pub fn reconnect(&self, key: StreamKey) -> Option<Reconnect> {
        self.streams.get(key).map(|stream| stream.settings.reconnect)
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
        self.directory.of(subscriptions).map(|channel| channel.name.clone()).collect()
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
        self.process.release(&self.hub);
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

    /// Wakes all other processes.
    fn wake_all(&self, now: Now) {
        let all: Vec<usize> = (0..self.hub.slots()).collect();
        self.wake(&all, now);
    }

    fn wake(&self, slots: &[usize], now: Now) {
        self.process.wake_others(&self.hub, slots, now);
    }
}
