//! Opens and closes streams.

use std::rc::Rc;

use super::admin::is_status;
use super::backlog::Backlog;
use super::channel::{Channel, FanOut};
use super::end::End;
use super::keys::ChannelKey;
use super::keys::StreamKey;
use super::resume_request::ResumeRequest;
use super::run_ends::RunEnds;
use super::settings::{Replay, StreamSettings};
use super::socket::{Batch, Sent, Socket};
use super::stream::{Accounting, Behind, Flow, Stream, StreamState, Subscription, Subscriptions};
use super::work_queue::StreamTask;
use super::Worker;
use crate::hub::{
    pattern_of, Counter, Hub, JoinError, Locked, Membership, Now, ReplayStart, Resume, SlotClaim,
};
use crate::sse::frame::{self, Frame};

/// Deadlines checked for each stream that is opened. This is more than a stream adds, so that
/// deadlines of closed streams stay below a small multiple of those of open ones.
const DEADLINES_CHECKED_BY_OPENING: usize = 8;

/// Why a stream cannot be opened now. The client is to reconnect later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// This process is shutting down.
    #[error("worker process is shutting down")]
    Draining,
    /// The hub's lock was not available.
    #[error(transparent)]
    Busy(#[from] Locked),
    /// The zone is full, and one attempt may not evict as much as is needed.
    #[error("zone is being cleared, try again")]
    Crowded,
    /// The zone has no memory for the channel.
    #[error("zone has no room for another channel")]
    Full,
    /// One of the channels has reached `sse_max_subscribers`.
    #[error("channel has reached its subscriber limit")]
    TooMany,
    /// The user was disconnected while its request was being handled.
    #[error("user was disconnected")]
    Disconnected,
    /// The process has no slot in the hub.
    #[error("hub has no free slot for this worker process")]
    NoSlot,
}

impl From<JoinError> for OpenError {
    fn from(error: JoinError) -> OpenError {
        match error {
            JoinError::Busy(locked) => OpenError::Busy(locked),
            JoinError::Crowded => OpenError::Crowded,
            JoinError::Full => OpenError::Full,
        }
    }
}

impl<S: Socket> Worker<S> {
    /// Opens a stream of these channels and sends its first bytes and the first events that it
    /// missed. The names are distinct, and there is at least one; for patterns they are the results
    /// of `name_of_pattern`.
    pub fn open(
        &mut self,
        socket: S,
        settings: &Rc<StreamSettings>,
        names: &[Box<[u8]>],
        request: ResumeRequest<'_>,
        now: Now,
    ) -> Result<StreamKey, OpenError> {
        let resume = request.resume(settings.replay, self.hub.clock(now));
        let begun = self.begin(names, settings, &resume, now);
        let (keys, beginning) = begun.inspect_err(|_| self.hub.count(Counter::TurnedAway, 1))?;
        let accounting = if names.iter().all(|name| is_status(name)) {
            Accounting::Watcher
        } else {
            Accounting::Client
        };
        let key = self.streams.insert(Stream {
            socket,
            settings: settings.clone(),
            channels: Subscriptions::from(Vec::new()),
            accounting,
            at: self.read,
            state: StreamState::Live,
            flow: Flow::Open,
            last: None,
            limits: None,
            past: None,
            events_sent: 0,
            written: now.mono,
        });
        self.subscribe(key, &keys);
        match accounting {
            Accounting::Client => {
                self.hub.count(Counter::Opened, 1);
                self.hub.count(Counter::Resumed, u64::from(!request.is_new()));
            }
            Accounting::Watcher => self.watchers += 1,
        }
        self.presence.opened(names.iter());
        if let Some(interval) = settings.heartbeat {
            self.work.add_at(now.mono + interval, StreamTask::Beat(key));
        }
        if let Some(max_age) = settings.max_age {
            let age = max_age.random(&mut self.random);
            self.set_age(key, age, now);
        }
        self.forget_deadlines(DEADLINES_CHECKED_BY_OPENING);
        let opening = frame::opening(settings.retry.random(&mut self.random));
        match beginning {
            Some(beginning) => self.start(key, beginning, resume, Some(opening), now),
            None => self.make_wait(key, resume, opening, now),
        }
        self.flush_counts();
        Ok(key)
    }

    /// Subscribes to the channels and determines where the stream starts; `None` if it must wait
    /// for Redis. If this fails, nothing has been subscribed to.
    fn begin(
        &mut self,
        names: &[Box<[u8]>],
        settings: &StreamSettings,
        resume: &Resume,
        now: Now,
    ) -> Result<(Vec<ChannelKey>, Option<ReplayStart<Backlog>>), OpenError> {
        if self.work.drained_at().is_some() {
            return Err(OpenError::Draining);
        }
        let slot = self.process.claim().ok_or(OpenError::NoSlot)?;
        let mut keys = Vec::with_capacity(names.len());
        let mut result = Ok(());
        for name in names {
            let joined = self.channel(slot, name, now).map_err(OpenError::from);
            result = joined.and_then(|key| {
                keys.push(key);
                self.admit(slot, key, settings.max_subscribers)
            });
            if result.is_err() {
                break;
            }
        }
        let members: Vec<_> = keys.iter().map(|key| self.directory[*key].membership).collect();
        let begun = result.and_then(|()| {
            if self.request_sync(&members, now)? || !self.may_start(resume, &members) {
                return Ok(None);
            }
            let begun = self.starting_point(names, &members, settings, resume, now)?;
            Ok(Some(begun).filter(|begun| !begun.is_early || may_begin_early(names, resume)))
        });
        match begun {
            Ok(beginning) => Ok((keys, beginning)),
            Err(error) => {
                for key in keys {
                    set_streams(&self.hub, self.process.claim(), &self.directory[key]);
                    self.leave_if_empty(key);
                }
                Err(error)
            }
        }
    }

    pub(super) fn starting_point(
        &self,
        names: &[Box<[u8]>],
        members: &[Membership],
        settings: &StreamSettings,
        resume: &Resume,
        now: Now,
    ) -> Result<ReplayStart<Backlog>, Locked> {
        if names.iter().any(|name| pattern_of(name).is_some()) {
            Ok(self.hub.begin_pattern_replay(names, resume, now)?.map(Backlog::Matching))
        } else {
            let runs = settings.finished.runs();
            Ok(self.hub.begin(members, resume, runs, now)?.map(Backlog::Of))
        }
    }

    /// Returns the channel with this name. Joins it in the hub if this process has no stream of it
    /// yet.
    pub(super) fn channel(
        &mut self,
        slot: SlotClaim,
        name: &[u8],
        now: Now,
    ) -> Result<ChannelKey, JoinError> {
        if let Some(key) = self.directory.by_name(name) {
            return Ok(key);
        }
        let membership = self.hub.join(slot, name, now)?;
        Ok(self.directory.insert(Channel {
            name: name.into(),
            membership,
            streams: Vec::new(),
            frames: Default::default(),
            complete_after: self.read,
            newest: self.read,
            fan_out: FanOut::Rest,
            published_at: None,
            next_published_at: None,
            run_ends: RunEnds::of_channel(self.hub.run_state(membership).position),
            is_catching_up: self.hub.are_catching_up(&[membership]),
            awaited: 0,
        }))
    }

    /// Counts one more stream of the channel. Fails if that would exceed `most`; 0 means no limit.
    fn admit(&self, slot: SlotClaim, key: ChannelKey, most: u32) -> Result<(), OpenError> {
        let channel = &self.directory[key];
        let streams = channel.streams.len() as u32 + 1;
        if most == 0 {
            self.hub.set_streams(slot, channel.membership, streams);
        } else if !self.hub.admit(slot, channel.membership, streams, most)? {
            return Err(OpenError::TooMany);
        }
        Ok(())
    }

    fn subscribe(&mut self, key: StreamKey, channels: &[ChannelKey]) {
        let mut subscriptions = Vec::with_capacity(channels.len());
        for &channel_key in channels {
            let channel = &mut self.directory[channel_key];
            let index = channel.streams.len() as u32;
            channel.streams.push(key);
            subscriptions.push(Subscription { channel: channel_key, index });
        }
        if let Some(stream) = self.streams.get_mut(key) {
            stream.channels = subscriptions.into();
        }
    }

    /// Sends the start of a stream: its first bytes if they have not been sent, and for a new
    /// client the open event. If the client has missed events, delivery starts with those.
    pub(super) fn preface(
        &mut self,
        key: StreamKey,
        begun: ReplayStart<Backlog>,
        client_id: Box<[u8]>,
        opening: Option<Frame>,
        now: Now,
    ) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if begun.is_incomplete {
            // The client returns, and receives the answer then.
            return self.end(key, End::Slow);
        }
        if let Some(missed) = begun.cursor {
            let may_have_gap = stream.settings.replay != Replay::Run || begun.may_have_gap;
            let behind = Behind { missed, begins: true, may_have_gap, preface: opening, client_id };
            stream.state = StreamState::Behind(Box::new(behind));
            self.serve(key, now);
            return;
        }
        let mut frames: Vec<Frame> = opening.into_iter().collect();
        if let Some(name) = &stream.settings.open_event {
            let kind = self.hub.own_kind();
            frames.push(frame::open_event(name, &begun.end.id(kind, self.hub.tag())));
            stream.last = Some((begun.end, kind));
        }
        if !frames.is_empty() {
            match stream.socket.send(&Batch::from_frames(vec![Frame::joined(&frames)])) {
                Sent::All => {}
                Sent::Blocked { .. } => stream.flow = Flow::Blocked,
                Sent::Failed => self.end(key, End::Error),
            }
        }
        if begun.is_over {
            self.finish(key, End::Finished, now);
        }
    }

    /// Removes a stream. Called from the cleanup of its request; streams are removed and counted as
    /// ended nowhere else. Does nothing if the stream does not exist.
    pub fn close(&mut self, key: StreamKey, end: End) {
        let Some(stream) = self.streams.remove(key) else { return };
        if let Some(limits) = stream.limits {
            if let Some(user) = limits.user {
                self.remove_from_user(user);
            }
            if let Some(index) = limits.expiry_index {
                self.remove_from_expiries(index);
            }
        }
        match stream.accounting {
            Accounting::Client => self.hub.count(end.counter(), 1),
            Accounting::Watcher => self.watchers -= 1,
        }
        for subscription in stream.channels.as_slice() {
            let Some(channel) = self.directory.get_mut(subscription.channel) else { continue };
            let index = subscription.index as usize;
            if let Some(moved) = channel.remove(index) {
                if let Some(other) = self.streams.get_mut(moved) {
                    other.channels.moved(subscription.channel, index);
                }
            }
            set_streams(&self.hub, self.process.claim(), channel);
            self.presence.closed(&channel.name, 1);
            self.leave_if_empty(subscription.channel);
        }
        self.report();
    }

    /// Leaves a channel in the hub if it has no stream in this process any more.
    pub(super) fn leave_if_empty(&mut self, key: ChannelKey) {
        let is_unused = |channel: &Channel| channel.streams.is_empty() && channel.awaited == 0;
        if !self.directory.get(key).is_some_and(is_unused) {
            return;
        }
        if let Some(channel) = self.directory.remove(key) {
            self.upkeep.leave(&self.hub, channel.membership);
        }
    }
}

/// Returns whether a stream may begin while events of one of its channels are being fetched: it
/// does not begin with the past of several channels.
pub(super) fn may_begin_early(names: &[Box<[u8]>], resume: &Resume) -> bool {
    let has_several = names.len() > 1 || names.iter().any(|name| pattern_of(name).is_some());
    !has_several || matches!(resume, Resume::Fresh { newest: 0 })
}

/// Sets the number of this process's streams of a channel in the hub, and whether requests wait for
/// the channel.
pub(super) fn set_streams(hub: &Hub, slot: Option<SlotClaim>, channel: &Channel) {
    let Some(slot) = slot else { return };
    let streams = channel.streams.len() as u32;
    if channel.awaited > 0 {
        hub.set_awaited(slot, channel.membership, streams);
    } else {
        hub.set_streams(slot, channel.membership, streams);
    }
}
