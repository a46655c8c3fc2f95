//! Streams that wait for their channels to be in step with Redis: no event is sent to them before, so
//! that a client whose stream has opened misses nothing that is published from then on. They do not
//! wait for long, and not at all while Redis is away.

use super::backlog::Begun;
use super::client_past::Past;
use super::end::End;
use super::keys::StreamKey;
use super::socket::{Batch, Sent, Socket};
use super::stream::{Flow, StreamState, Waiting};
use super::Worker;
use crate::hub::{pattern_of, Budget, Locked, Membership, Now, Resume};
use crate::sse::frame::Frame;
use crate::sse::id::EntryId;

/// How long a stream waits at most, in ms, and how long its first bytes do.
const PATIENCE: u64 = 1_000;
const MOMENT: u64 = 50;
/// Steps that it takes to look at a stream that waits, with its channels, and to begin it.
const LOOKING: usize = 4;
const BEGINNING: usize = 32;

impl<S: Socket> Worker<S> {
    /// Whether a stream has not begun yet.
    pub fn is_waiting(&self, key: StreamKey) -> bool {
        self.streams.get(key).is_some_and(|stream| matches!(stream.state, StreamState::Waiting(_)))
    }

    /// Has the bridge subscribe to those of the channels that it has not; whether the stream has to wait
    /// for that.
    pub(super) fn must_wait(&mut self, members: &[Membership], now: Now) -> Result<bool, Locked> {
        if self.hub.in_sync(members) {
            return Ok(false);
        }
        for member in members {
            if let Some(bridge) = self.hub.request_sync(*member)? {
                self.ring(&[bridge], now);
            }
        }
        Ok(self.hub.may_sync_soon())
    }

    /// Puts a new stream among those that wait. Its first bytes wait for a moment, too: nearly always
    /// its channels are in step by then, and who sees a stream open knows that it misses nothing more.
    pub(super) fn let_wait(&mut self, key: StreamKey, resume: Resume, opening: Frame, now: Now) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let (since, opened_at, opening) = (now.mono, self.hub.head(), Some(opening));
        stream.state =
            StreamState::Waiting(Box::new(Waiting { resume, since, opened_at, opening }));
        self.waiting.push_back(key);
    }

    /// Its first bytes go out, for it has waited a moment.
    fn open_waiting(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let StreamState::Waiting(waiting) = &mut stream.state else { return };
        let Some(opening) = waiting.opening.take() else { return };
        match stream.socket.send(&Batch::of(vec![opening])) {
            Sent::All => {}
            Sent::Blocked { .. } => stream.flow = Flow::Blocked,
            Sent::Failed => self.end(key, End::Error),
        }
    }

    /// With each tick all that wait are looked at once.
    pub(super) fn look_at_waiting(&mut self) {
        self.overdue = self.waiting.len();
    }

    /// Those begin that have waited long enough, or for a Redis that is away. Whether there are more to
    /// look at in the next turn.
    pub(super) fn begin_overdue(&mut self, now: Now) -> bool {
        let all_may = !self.hub.may_sync_soon();
        let mut budget = Budget::for_turn();
        while self.overdue > 0 && budget.step() {
            self.overdue -= 1;
            let Some(key) = self.waiting.pop_front() else { break };
            let Some(StreamState::Waiting(waiting)) =
                self.streams.get(key).map(|stream| &stream.state)
            else {
                continue;
            };
            let waited = now.mono.saturating_sub(waiting.since);
            // It gets nothing of the past, and everything from the moment in which it opens.
            let is_new = matches!(waiting.resume, Resume::Fresh { newest: 0 });
            let longest = if is_new { MOMENT } else { PATIENCE };
            budget.spend(LOOKING);
            if all_may || waited >= longest || self.hub.in_sync(&self.memberships(key)) {
                budget.spend(BEGINNING);
                self.begin_now(key, now);
            } else if waited >= MOMENT {
                self.open_waiting(key);
            }
            if self.is_waiting(key) {
                self.waiting.push_back(key);
            }
        }
        self.overdue > 0
    }

    pub(super) fn begin_now(&mut self, key: StreamKey, now: Now) {
        if self.hub.is_stuck() {
            // Of all that wait only the first finds this out the slow way.
            return;
        }
        let members = self.memberships(key);
        let Some(stream) = self.streams.get(key) else { return };
        let StreamState::Waiting(waiting) = &stream.state else { return };
        if stream.flow == Flow::Blocked {
            return;
        }
        if members.iter().any(|member| stream.is_older(self.hub.ended_at(*member))) {
            // An administrator has ended it, and this process has not read that yet.
            self.finish(key, End::Admin, now);
            return;
        }
        let resume = waiting.resume.clone();
        let names = self.names(key);
        // Not to be had now: with the next tick.
        let Ok(begun) = self.where_to_begin(&names, &members, &resume, now) else { return };
        let Some(stream) = self.streams.get_mut(key) else { return };
        let waiting = match std::mem::replace(&mut stream.state, StreamState::Live) {
            StreamState::Waiting(waiting) => *waiting,
            other => return stream.state = other,
        };
        self.start(key, begun, waiting.resume, waiting.opening, now);
    }

    /// A stream begins where the hub says, with these bytes before everything else.
    pub(super) fn start(
        &mut self,
        key: StreamKey,
        begun: Begun,
        resume: Resume,
        opening: Option<Frame>,
        now: Now,
    ) {
        let in_step = self.hub.in_sync(&self.memberships(key));
        let Some(stream) = self.streams.get_mut(key) else { return };
        let subscriptions = stream.channels.as_slice();
        let mut channels = subscriptions.iter().filter_map(|s| self.channels.get(s.channel));
        let has_pattern = channels.any(|channel| pattern_of(&channel.name).is_some());
        stream.at = begun.end.position;
        let client_id: Box<[u8]> = match resume {
            Resume::From(id) => id.into(),
            Resume::Fresh { .. } => Box::default(),
        };
        // All that is to come is new to it, unless Redis brings it late, as it may of channels that
        // nobody named, or the client comes from another nginx that is ahead of this one.
        if !in_step || has_pattern || begun.seen.ahead > EntryId::default() {
            stream.past = Past::new(begun.seen, &client_id, self.hub.epoch(), now);
        }
        self.preface(key, begun, client_id, opening, now);
    }

    pub(super) fn memberships(&self, key: StreamKey) -> Vec<Membership> {
        let subscriptions = self.streams.get(key).map(|stream| stream.channels.as_slice());
        let channels = subscriptions.unwrap_or_default().iter();
        channels.filter_map(|s| self.channels.get(s.channel)).map(|c| c.membership).collect()
    }
}
