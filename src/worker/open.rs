//! How a stream begins, and how it is taken away.

use std::rc::Rc;

use super::admin::is_status;
use super::backlog::Begun;
use super::channel::{Channel, FanOut};
use super::end::End;
use super::keys::ChannelKey;
use super::keys::StreamKey;
use super::settings::{Replay, StreamSettings};
use super::socket::{Batch, Sent, Socket};
use super::stream::{Accounting, Behind, Flow, Stream, StreamState, Subscription, Subscriptions};
use super::{Task, Worker};
use crate::hub::{pattern_of, Counter, Hub, JoinError, Locked, Membership, Now, Resume, SlotClaim};
use crate::sse::frame::{self, Frame};

/// Deadlines that are looked at when a stream begins: more than it enters itself, so that those of
/// streams that are gone never are more than a small multiple of those of streams that are there.
const SWEPT_BY_OPENING: usize = 8;
/// Channels that one tick leaves of those that could not be left before.
const LEAVES: usize = 256;

/// Why a stream cannot begin now. The client is to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// This process is quitting.
    #[error("worker process is shutting down")]
    Draining,
    /// The lock could not be taken in time.
    #[error(transparent)]
    Busy(#[from] Locked),
    /// More has to leave the zone first than one attempt may wait for.
    #[error("zone is being cleared, try again")]
    Crowded,
    /// The zone has no room for the channel.
    #[error("zone has no room for another channel")]
    Full,
    /// One of its channels has as many streams as the location allows.
    #[error("channel has reached its subscriber limit")]
    TooMany,
    /// The process found no seat in the hub.
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
    /// Begins a stream of these channels, or of what `name_of_pattern` gave for patterns (different ones, at least one): subscribes it, sends its
    /// first bytes and the first of what it missed. `last_event_id` is what the client came with,
    /// empty for none.
    pub fn open(
        &mut self,
        socket: S,
        settings: &Rc<StreamSettings>,
        names: &[Box<[u8]>],
        last_event_id: &[u8],
        now: Now,
    ) -> Result<StreamKey, OpenError> {
        let resume = resume(settings.replay, last_event_id);
        let begun = self.begin(names, settings, &resume, now);
        let (keys, beginning) = begun.inspect_err(|_| self.hub.count(Counter::TurnedAway, 1))?;
        let audience = match names.iter().all(|name| is_status(name)) {
            true => Accounting::Watcher,
            false => Accounting::Client,
        };
        let key = self.streams.insert(Stream {
            socket,
            settings: settings.clone(),
            channels: Subscriptions::from(Vec::new()),
            audience,
            at: self.read,
            state: StreamState::Live,
            flow: Flow::Open,
            last: None,
            past: None,
            events_sent: 0,
            written: now.mono,
        });
        self.subscribe(key, &keys);
        match audience {
            Accounting::Client => {
                self.hub.count(Counter::Opened, 1);
                self.hub.count(Counter::Resumed, u64::from(!last_event_id.is_empty()));
            }
            Accounting::Watcher => self.watchers += 1,
        }
        self.presence.came(names.iter());
        if let Some(interval) = settings.heartbeat {
            self.wheel.enter(now.mono + interval, Task::Beat(key));
        }
        if let Some(max_age) = settings.max_age {
            let age = max_age.draw(&mut self.random);
            self.wheel.enter(now.mono + age, Task::End(key, End::Age));
        }
        self.forget_deadlines(SWEPT_BY_OPENING);
        let opening = frame::opening(settings.retry.draw(&mut self.random));
        match beginning {
            Some(beginning) => self.start(key, beginning, resume, Some(opening), now),
            None => self.let_wait(key, resume, opening, now),
        }
        self.flush_tally();
        Ok(key)
    }

    /// Joins the channels and finds out where the stream begins, or that it has to wait for that; all or
    /// nothing.
    fn begin(
        &mut self,
        names: &[Box<[u8]>],
        settings: &StreamSettings,
        resume: &Resume,
        now: Now,
    ) -> Result<(Vec<ChannelKey>, Option<Begun>), OpenError> {
        if self.draining.is_some() {
            return Err(OpenError::Draining);
        }
        let seat = self.seat.ok_or(OpenError::NoSlot)?;
        let mut keys = Vec::with_capacity(names.len());
        let mut result = Ok(());
        for name in names {
            let joined = self.channel(seat, name, now).map_err(OpenError::from);
            result = joined.and_then(|key| {
                keys.push(key);
                self.admit(seat, key, settings.max_subscribers)
            });
            if result.is_err() {
                break;
            }
        }
        let members: Vec<_> = keys.iter().map(|key| self.channels[*key].membership).collect();
        let begun = result.and_then(|()| match self.must_wait(&members, now)? {
            true => Ok(None),
            false => Ok(Some(self.where_to_begin(names, &members, resume, now)?)),
        });
        match begun {
            Ok(beginning) => Ok((keys, beginning)),
            Err(error) => {
                for key in keys {
                    set_streams(&self.hub, self.seat, &self.channels[key]);
                    self.leave_if_empty(key);
                }
                Err(error)
            }
        }
    }

    pub(super) fn where_to_begin(
        &self,
        names: &[Box<[u8]>],
        members: &[Membership],
        resume: &Resume,
        now: Now,
    ) -> Result<Begun, Locked> {
        Ok(match names.iter().any(|name| pattern_of(name).is_some()) {
            true => self.hub.begin_pattern_replay(names, resume, now)?.into(),
            false => self.hub.begin(members, resume, now)?.into(),
        })
    }

    /// The channel of a name, joined now if this process has no stream of it yet.
    fn channel(&mut self, seat: SlotClaim, name: &[u8], now: Now) -> Result<ChannelKey, JoinError> {
        if let Some(&key) = self.by_name.get(name) {
            return Ok(key);
        }
        let membership = self.hub.join(seat, name, now)?;
        let key = self.channels.insert(Channel {
            name: name.into(),
            membership,
            streams: Vec::new(),
            recent: Default::default(),
            whole_after: self.read,
            newest: self.read,
            born: now.mono,
            pass: FanOut::Rest,
        });
        self.by_name.insert(name.into(), key);
        self.by_record.insert(membership.channel(), key);
        self.patterns.joined(name, key);
        Ok(key)
    }

    /// Counts one more stream of the channel, if the location allows it.
    fn admit(&self, seat: SlotClaim, key: ChannelKey, most: u32) -> Result<(), OpenError> {
        let channel = &self.channels[key];
        let streams = channel.streams.len() as u32 + 1;
        if most == 0 {
            self.hub.set_streams(seat, channel.membership, streams);
        } else if !self.hub.admit(seat, channel.membership, streams, most)? {
            return Err(OpenError::TooMany);
        }
        Ok(())
    }

    fn subscribe(&mut self, key: StreamKey, channels: &[ChannelKey]) {
        let mut subscriptions = Vec::with_capacity(channels.len());
        for &channel_key in channels {
            let channel = &mut self.channels[channel_key];
            let index = channel.streams.len() as u32;
            channel.streams.push(key);
            subscriptions.push(Subscription { channel: channel_key, index });
        }
        if let Some(stream) = self.streams.get_mut(key) {
            stream.channels = subscriptions.into();
        }
    }

    /// The beginning of a stream: its first bytes if it has none yet, for a new client its first id.
    pub(super) fn preface(
        &mut self,
        key: StreamKey,
        begun: Begun,
        client_id: Box<[u8]>,
        opening: Option<Frame>,
        now: Now,
    ) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if let Some(missed) = begun.missed {
            let behind = Behind { missed, begins: true, preface: opening, client_id };
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
        if frames.is_empty() {
            return;
        }
        match stream.socket.send(&Batch::of(vec![Frame::joined(&frames)])) {
            Sent::All => {}
            Sent::Blocked { .. } => stream.flow = Flow::Blocked,
            Sent::Failed => self.end(key, End::Error),
        }
    }

    /// Takes a stream away: the one way out, from the cleanup of its request, and the one place where
    /// ended streams are counted. A stream that is not there any more is ignored.
    pub fn close(&mut self, key: StreamKey, end: End) {
        let Some(stream) = self.streams.remove(key) else { return };
        match stream.audience {
            Accounting::Client => self.hub.count(end.counter(), 1),
            Accounting::Watcher => self.watchers -= 1,
        }
        for subscription in stream.channels.as_slice() {
            let Some(channel) = self.channels.get_mut(subscription.channel) else { continue };
            let index = subscription.index as usize;
            if let Some(moved) = channel.remove(index) {
                if let Some(other) = self.streams.get_mut(moved) {
                    other.channels.moved(subscription.channel, index);
                }
            }
            set_streams(&self.hub, self.seat, channel);
            self.presence.went(&channel.name, 1);
            self.leave_if_empty(subscription.channel);
        }
        self.report();
    }

    /// Leaves a channel that has no stream here any more.
    fn leave_if_empty(&mut self, key: ChannelKey) {
        if !self.channels.get(key).is_some_and(|channel| channel.streams.is_empty()) {
            return;
        }
        let Some(channel) = self.channels.remove(key) else { return };
        self.by_name.remove(&channel.name);
        self.by_record.remove(&channel.membership.channel());
        self.patterns.left(&channel.name, key);
        // While others could not be left, this one is not even tried.
        if !self.unleft.is_empty() || self.hub.leave(channel.membership).is_err() {
            self.unleft.push_back(channel.membership);
        }
    }

    /// Leaves channels that could not be left when their last stream went, until the lock cannot be had
    /// or a bounded number is done.
    pub(super) fn leave_unleft(&mut self) {
        for _ in 0..LEAVES {
            let Some(membership) = self.unleft.pop_front() else { return };
            // Joined again meanwhile, a channel has the same membership.
            let is_left = !self.by_record.contains_key(&membership.channel());
            if is_left && self.hub.leave(membership).is_err() {
                self.unleft.push_front(membership);
                return;
            }
        }
    }
}

/// What a client asks for by its id, or by coming without one.
fn resume(replay: Replay, last_event_id: &[u8]) -> Resume {
    match (last_event_id, replay) {
        ([], Replay::Off) => Resume::Fresh { newest: 0 },
        ([], Replay::All) => Resume::Fresh { newest: u64::MAX },
        ([], Replay::Count(count)) => Resume::Fresh { newest: count },
        (id, _) => Resume::From(id.to_vec()),
    }
}

/// Tells the hub how many streams of the channel this process has.
fn set_streams(hub: &Hub, seat: Option<SlotClaim>, channel: &Channel) {
    if let Some(seat) = seat {
        hub.set_streams(seat, channel.membership, channel.streams.len() as u32);
    }
}
