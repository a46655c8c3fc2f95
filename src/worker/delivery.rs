//! Serves a single stream: sends everything that is ready for it, in one call to its socket. Live
//! delivery, catching up, and the start of a stream all come through here.

use super::backlog::Backlog;
use super::end::{End, EndForm};
use super::event_ids::{later, Ids, LastId};
use super::keys::StreamKey;
use super::settings::{Naming, SlowClient, StreamSettings};
use super::socket::{Batch, Sent, Socket};
use super::stream::{Accounting, Behind, Flow, Stream, StreamState};
use super::timer_wheel::STEP;
use super::work_queue::StreamTask;
use super::Worker;
use crate::hub::{Counter, Kind, Locked, LogOrder, Now, ReplayBatch};
use crate::sse::frame::{self, Frame};

/// Maximum number of events, and of their bytes, that a stream reads from the hub in one hold of
/// the lock.
const SLICE_EVENTS: usize = 64;
const SLICE_BYTES: usize = 64 << 10;
/// An unfinished search for events that match a stream's patterns counts as this many writes.
const LOOKING: usize = 8;

impl<S: Socket> Worker<S> {
    /// Serves a stream according to its state.
    pub(super) fn serve(&mut self, key: StreamKey, now: Now) {
        let Some(stream) = self.streams.get(key) else { return };
        if stream.flow == Flow::Blocked {
            return;
        }
        match stream.state {
            StreamState::Live => self.serve_live(key, now),
            StreamState::Behind(_) => self.serve_behind(key, now),
            StreamState::Ending(end) => self.send_final_retry(key, end, now),
            StreamState::Leaving(end) => self.end_after_last_bytes(key, end, now),
            StreamState::Waiting(_) | StreamState::Ended => {}
        }
    }

    /// Sends a live stream the frames that it lacks.
    pub(super) fn serve_live(&mut self, key: StreamKey, now: Now) {
        let read = self.read;
        if !self.may_receive(key, now) {
            return;
        }
        let Some(stream) = self.streams.get_mut(key) else { return };
        let subscriptions = stream.channels.as_slice();
        if self.directory.holds_back(subscriptions) {
            // It is served when the channel has caught up.
            return;
        }
        if read < self.settled_at && self.directory.has_several(subscriptions) {
            return self.work.retry_later(key);
        }
        let whole = subscriptions.iter().all(|subscription| {
            self.directory.get(subscription.channel).is_some_and(|channel| {
                channel.complete_after <= stream.at
                    && !channel
                        .is_behind(stream.at, stream.past.as_ref().map(|past| &past.elsewhere))
            })
        });
        if !whole {
            self.fall_behind(key);
            self.work.add(StreamTask::Serve(key));
            return;
        }
        let (naming, runs) = (stream.settings.naming, stream.settings.finished.runs());
        let mut is_many_finishing = false;
        if let [subscription] = subscriptions {
            let (channel, at) = (&self.directory[subscription.channel], stream.at);
            let run_end = channel.run_end_after(at, runs);
            if run_end.is_some_and(|end| !channel.has_newer_until(at, end)) {
                return self.finish(key, End::Finished, now);
            }
            self.batch_cache.prepare_one(subscription.channel, channel, at, run_end, naming);
        } else {
            is_many_finishing = subscriptions.iter().any(|subscription| {
                self.directory[subscription.channel].run_end_after(stream.at, runs).is_some()
            });
            let channels = subscriptions.iter().map(|s| &self.directory[s.channel]);
            self.batch_cache.prepare_many(
                channels,
                stream.at,
                naming,
                Ids::for_channels(&self.hub, subscriptions),
            );
        }
        if self.batch_cache.places.is_empty() {
            stream.at = stream.at.max(read);
        } else {
            self.send_prepared(key, now);
        }
        if is_many_finishing {
            self.finish_if_over(key, now);
        }
    }

    /// Sends a live stream the batch that was prepared last.
    pub(super) fn send_prepared(&mut self, key: StreamKey, now: Now) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let shared = &self.batch_cache;
        let sent = stream.socket.send(&shared.batch);
        let taken = self.counts.sent(sent, &shared.batch, stream.accounting);
        if let Some((place, kind)) = taken.checked_sub(1).and_then(|last| shared.places.get(last)) {
            stream.delivered(*place, *kind, taken as u32, now);
            self.counts.delivered(taken, stream.accounting);
        }
        match sent {
            Sent::All if shared.complete => stream.at = stream.at.max(self.read),
            Sent::All => self.work.add(StreamTask::Serve(key)),
            Sent::Blocked { .. } => stream.flow = Flow::Blocked,
            Sent::Failed => self.end(key, End::Error),
        }
    }

    /// Switches a stream to reading what it lacks from the hub.
    fn fall_behind(&mut self, key: StreamKey) {
        let Some(missed) = self.backlog_of(key) else { return };
        let Some(stream) = self.streams.get_mut(key) else { return };
        let client_id = Box::default();
        stream.state = StreamState::Behind(Box::new(Behind {
            missed,
            begins: false,
            may_have_gap: true,
            preface: None,
            client_id,
        }));
    }

    /// Returns what a live stream lacks of what this process has read.
    pub(super) fn backlog_of(&self, key: StreamKey) -> Option<Backlog> {
        let stream = self.streams.get(key)?;
        let channels = self.directory.of(stream.channels.as_slice());
        let elsewhere = stream.past.as_ref().map(|past| past.elsewhere).unwrap_or_default();
        let read = LogOrder { position: self.read, ..self.frame_cache.copied.place };
        let (received, runs) = ((stream.at, elsewhere), stream.settings.finished.runs());
        Some(Backlog::since(&self.hub, received, read, channels, runs))
    }

    /// Reads the next batch of events that a stream lacks. Returns `None` if it is not available
    /// now, or if the stream was ended because of a gap.
    fn next_batch(&mut self, key: StreamKey, now: Now) -> Option<ReplayBatch> {
        let stream = self.streams.get_mut(key)?;
        let StreamState::Behind(behind) = &mut stream.state else { return None };
        let replayed = match behind.missed.replayed(&self.hub, SLICE_EVENTS, SLICE_BYTES, now) {
            Ok(Some(replayed)) => replayed,
            Ok(None) => {
                self.counts.writes += LOOKING;
                self.work.add(StreamTask::Serve(key));
                return None;
            }
            Err(Locked::Held | Locked::Stopped) => {
                // Retry with the next tick.
                self.work.retry_later(key);
                return None;
            }
        };
        if replayed.gap.is_some() && !(behind.begins && behind.may_have_gap) {
            if stream.accounting == Accounting::Client {
                self.hub.count(Counter::SlowClients, 1);
            }
            if stream.settings.slow_client == SlowClient::Close || behind.begins {
                self.end(key, End::Slow);
                return None;
            }
        }
        Some(replayed)
    }

    /// Sends the next batch from the hub to a stream that is behind.
    fn serve_behind(&mut self, key: StreamKey, now: Now) {
        let Some(replayed) = self.next_batch(key, now) else { return };
        let Some(stream) = self.streams.get_mut(key) else { return };
        let reached = stream.reached();
        let StreamState::Behind(behind) = &mut stream.state else { return };
        let tag = self.hub.tag();
        let mut frames = Vec::with_capacity(replayed.events.len() + 2);
        frames.extend(behind.preface.clone());
        let preface = frames.len();
        frames.extend(gap_frame((stream.last, reached), &stream.settings, behind, &replayed, tag));
        let begins = replayed.begins.map(|place| (place, self.hub.own_kind()));
        let opening = begins.and_then(|begins| open_frame(&stream.settings, behind, begins, tag));
        let opened = begins.filter(|_| opening.is_some());
        frames.extend(opening);
        let extra = frames.len();
        let subscriptions = stream.channels.as_slice();
        let ids = Ids::for_channels(&self.hub, subscriptions);
        let mut last = reached;
        frames.extend(replayed.events.iter().map(|found| {
            let event = &found.event;
            let (place, kind) = later(last, (event.place, ids.kind(event.kind())));
            last = Some((place, kind));
            let id = place.id(kind, tag);
            let frame = Frame::event(event.event_type(), event.data(), &id);
            let joined =
                subscriptions.get(found.track()).and_then(|s| self.directory.get(s.channel));
            let channel = found.channel().or(joined.map(|channel| &*channel.name));
            match (stream.settings.naming, channel) {
                (Naming::ByChannel, Some(channel)) => frame.named(channel),
                _ => frame,
            }
        }));
        let batch = Batch::from_frames(frames);
        let sent = match batch.frames() {
            [] => Sent::All,
            _ => stream.socket.send(&batch),
        };
        let taken = self.counts.sent(sent, &batch, stream.accounting);
        let ended = sent == Sent::All && replayed.finished;
        let finished = sent == Sent::All && replayed.done;
        self.counts.delivered(taken.saturating_sub(extra), stream.accounting);
        stream.advance(&replayed, taken, (preface, extra), ids, now);
        if opened.is_some() && taken >= extra {
            stream.last = opened;
        }
        if replayed.gap.is_some() && taken >= extra {
            self.counts.gap_sent(stream.accounting);
        }
        match sent {
            Sent::All if ended => return self.finish(key, End::Finished, now),
            Sent::All if finished => {
                stream.finish_catching_up();
                if replayed.overtaken {
                    self.fall_behind(key);
                }
                self.finish_if_over(key, now);
            }
            Sent::All => {}
            Sent::Blocked { .. } => stream.flow = Flow::Blocked,
            Sent::Failed => return self.end(key, End::Error),
        }
        if sent == Sent::All {
            // There may be more: the rest of the backlog, or events that arrived meanwhile.
            self.work.add(StreamTask::Serve(key));
        }
    }

    /// Sends the last frame of a stream that this process ends.
    fn send_final_retry(&mut self, key: StreamKey, end: End, now: Now) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        // Spread over a second, so that clients whose streams end together do not reconnect
        // together.
        let spread = self.random.u64(0..=1000);
        let retry = match end {
            // Unlike after other ends, nothing may be waiting for the client.
            End::Finished => stream.settings.retry.random(&mut self.random) + spread,
            // The stream ends up to a step before the permission does. A client that returned
            // before that would be let in, to be sent away again.
            End::Expired => STEP + spread,
            _ => spread,
        };
        let batch = Batch::from_frames(vec![frame::final_retry(retry)]);
        let sent = stream.socket.send(&batch);
        self.counts.sent(sent, &batch, stream.accounting);
        match sent {
            Sent::All => {
                stream.state = StreamState::Leaving(end);
                self.end_after_last_bytes(key, end, now);
            }
            Sent::Blocked { .. } => {
                stream.flow = Flow::Blocked;
                stream.state = StreamState::Leaving(end);
            }
            Sent::Failed => self.end(key, End::Error),
        }
    }

    /// Ends a stream whose last bytes were sent. If a reset follows them, the client gets a moment
    /// to read them: Chromium discards what arrives together with a reset.
    fn end_after_last_bytes(&mut self, key: StreamKey, end: End, now: Now) {
        let Some(stream) = self.streams.get(key) else { return };
        let is_interrupted = end.closing(stream.settings.reconnect).form == EndForm::Interrupted;
        if is_interrupted && stream.socket.is_interrupted_by_reset() {
            self.work.add_at(now.mono + STEP, StreamTask::Cut(key, end));
        } else {
            self.end(key, end);
        }
    }

    /// Sends a heartbeat if nothing was sent for the stream's interval. Schedules the next one.
    pub(super) fn beat(&mut self, key: StreamKey, now: Now) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(interval) = stream.settings.heartbeat else { return };
        let silent = now.mono.saturating_sub(stream.written) >= interval;
        let may_beat = match &stream.state {
            StreamState::Live => true,
            StreamState::Waiting(waiting) => waiting.opening.is_none(),
            _ => false,
        };
        if silent && stream.flow == Flow::Open && may_beat {
            stream.written = now.mono;
            match stream.socket.send(&self.heartbeat) {
                Sent::All => {}
                Sent::Blocked { .. } => stream.flow = Flow::Blocked,
                Sent::Failed => return self.end(key, End::Error),
            }
        }
        let since = if silent { now.mono } else { stream.written };
        self.work.add_at(since + interval, StreamTask::Beat(key));
    }
}

impl<S> Stream<S> {
    fn delivered(&mut self, place: LogOrder, kind: Kind, events: u32, now: Now) {
        self.at = self.at.max(place.position);
        self.last = Some((place, kind));
        self.events_sent = self.events_sent.saturating_add(events);
        self.written = now.mono;
    }

    /// Records which part of a batch the socket has accepted. `extra` frames precede the events;
    /// the first `preface` of those are the start of the stream.
    fn advance(
        &mut self,
        replayed: &ReplayBatch,
        taken: usize,
        (preface, extra): (usize, usize),
        ids: Ids,
        now: Now,
    ) {
        let reached = self.reached();
        let StreamState::Behind(behind) = &mut self.state else { return };
        if taken >= preface {
            behind.preface = None;
        }
        if taken >= extra {
            behind.missed.gap_sent(replayed);
            behind.begins = false;
        }
        let events = replayed.events.get(..taken.saturating_sub(extra)).unwrap_or_default();
        for found in events {
            behind.missed.delivered(found);
        }
        if taken > 0 {
            self.written = now.mono;
        }
        let mut last = reached;
        for found in events {
            last = Some(later(last, (found.event.place, ids.kind(found.event.kind()))));
            self.last = last;
        }
        if !events.is_empty() {
            self.events_sent = self.events_sent.saturating_add(events.len() as u32);
        }
    }

    /// Returns the position from which the client would resume: the last one sent here, or the one
    /// reached elsewhere if that is higher.
    fn reached(&self) -> LastId {
        let Some(past) = &self.past else { return self.last };
        let elsewhere = LogOrder { entry_id: past.elsewhere.entry_id(), position: 0 };
        let ahead = |last: (LogOrder, Kind)| last.0.by_id(last.1) > elsewhere;
        self.last.filter(|last| ahead(*last)).or(Some((elsewhere, Kind::Durable)))
    }

    /// Marks a stream as live after its backlog has been sent.
    fn finish_catching_up(&mut self) {
        if let StreamState::Behind(behind) = &self.state {
            self.at = self.at.max(behind.missed.until());
            self.state = StreamState::Live;
        }
    }
}

/// Returns the gap event, if there is a gap and the location has gap events. If it has none, a
/// client that receives nothing else gets its first id, as a new client would.
fn gap_frame(
    (last, reached): (LastId, LastId),
    settings: &StreamSettings,
    behind: &Behind,
    replayed: &ReplayBatch,
    tag: u32,
) -> Option<Frame> {
    let (place, kind) = later(reached, LogOrder::from_id(replayed.gap?));
    let id = place.id(kind, tag);
    let Some(name) = &settings.gap_event else {
        let nothing = behind.begins && replayed.events.is_empty();
        let name = settings.open_event.as_ref().filter(|_| nothing)?;
        return Some(frame::open_event(name, &id));
    };
    let mut after = Vec::new();
    match last {
        Some((place, kind)) => place.id(kind, tag).write(&mut after),
        None => after.extend_from_slice(&behind.client_id),
    }
    Some(frame::gap_event(name, &after, &id))
}

/// Returns the open event for a new client, if a search has found no events for it.
fn open_frame(
    settings: &StreamSettings,
    behind: &Behind,
    (place, kind): (LogOrder, Kind),
    tag: u32,
) -> Option<Frame> {
    let is_new = behind.begins && behind.client_id.is_empty();
    let name = settings.open_event.as_ref().filter(|_| is_new)?;
    Some(frame::open_event(name, &place.id(kind, tag)))
}
