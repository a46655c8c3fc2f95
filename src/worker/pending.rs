//! Streams that wait for their channels to be in sync with Redis. Their clients receive no event
//! before that, so that a client whose stream is open misses nothing that is published afterwards.
//! They wait only briefly, and not at all while Redis is unreachable. Only a stream of several
//! channels that begins with their past waits until all of them have caught up (`catching_up`).

use std::collections::VecDeque;

use super::backlog::Backlog;
use super::client_past::Past;
use super::end::End;
use super::keys::StreamKey;
use super::open::may_begin_early;
use super::socket::{Batch, Sent, Socket};
use super::stream::{Flow, StreamState, Waiting};
use super::Worker;
use crate::hub::{pattern_of, Budget, Locked, Membership, Now, ReplayStart, Resume};
use crate::sse::frame::Frame;

/// Maximum time in ms that a stream waits, and that its first bytes wait.
const MAX_WAIT: u64 = 1_000;
const MAX_OPENING_DELAY: u64 = 50;
/// Budget steps for checking a waiting stream with its channels, and for starting it.
const LOOKING: usize = 4;
const BEGINNING: usize = 32;

/// The streams that have not started, and how many of them are still to be checked.
#[derive(Debug, Default)]
pub struct WaitingList {
    streams: VecDeque<StreamKey>,
    unchecked: usize,
}

impl WaitingList {
    /// Adds a stream, or puts back one that was checked and still has to wait.
    pub fn add(&mut self, stream: StreamKey) {
        self.streams.push_back(stream);
    }

    /// Returns whether there is no stream.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Requires a check of all streams.
    fn check_all(&mut self) {
        self.unchecked = self.streams.len();
    }

    fn has_unchecked(&self) -> bool {
        self.unchecked > 0
    }

    /// Removes and returns the next stream to check.
    fn next_unchecked(&mut self) -> Option<StreamKey> {
        self.unchecked = self.unchecked.checked_sub(1)?;
        self.streams.pop_front()
    }
}

impl<S: Socket> Worker<S> {
    /// Whether a stream has not started yet.
    pub fn is_waiting(&self, key: StreamKey) -> bool {
        self.streams.get(key).is_some_and(|stream| matches!(stream.state, StreamState::Waiting(_)))
    }

    /// Requests subscriptions to those of the channels that are not in sync. Returns whether the
    /// stream has to wait for them.
    pub(super) fn request_sync(
        &mut self,
        members: &[Membership],
        now: Now,
    ) -> Result<bool, Locked> {
        if self.hub.in_sync(members) {
            return Ok(false);
        }
        for member in members {
            if let Some(bridge) = self.hub.request_sync(*member)? {
                self.wake(&[bridge], now);
            }
        }
        Ok(self.hub.may_sync_soon())
    }

    /// Returns whether a stream may start now, though its channels may not be in sync. Then it is
    /// not known where the newest run begins.
    pub(super) fn may_start(&self, resume: &Resume, members: &[Membership]) -> bool {
        !matches!(resume, Resume::InRun(_)) || self.hub.in_sync(members)
    }

    /// Makes a new stream wait. Its first bytes are delayed briefly, too: nearly always, its
    /// channels are in sync by then, and a client that sees its stream open knows that it misses
    /// nothing from then on.
    pub(super) fn make_wait(&mut self, key: StreamKey, resume: Resume, opening: Frame, now: Now) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let (since, opened_at, opening) = (now.mono, self.hub.head(), Some(opening));
        stream.state =
            StreamState::Waiting(Box::new(Waiting { resume, since, opened_at, opening }));
        self.waiting.add(key);
    }

    /// Sends the first bytes of a stream that has waited for a moment.
    fn send_opening(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let StreamState::Waiting(waiting) = &mut stream.state else { return };
        let Some(opening) = waiting.opening.take() else { return };
        match stream.socket.send(&Batch::from_frames(vec![opening])) {
            Sent::All => {}
            Sent::Blocked { .. } => stream.flow = Flow::Blocked,
            Sent::Failed => self.end(key, End::Error),
        }
    }

    /// Schedules a check of all waiting streams. Called with each tick.
    pub(super) fn check_waiting(&mut self) {
        self.waiting.check_all();
    }

    /// Starts streams that have waited long enough, or whose Redis is unreachable. Returns whether
    /// more streams are to be checked in the next turn.
    pub(super) fn start_ready(&mut self, now: Now) -> bool {
        let all_may = !self.hub.may_sync_soon();
        let mut budget = Budget::for_turn();
        while self.waiting.has_unchecked() && budget.step() {
            let Some(key) = self.waiting.next_unchecked() else { break };
            let Some(StreamState::Waiting(waiting)) =
                self.streams.get(key).map(|stream| &stream.state)
            else {
                continue;
            };
            let waited = now.mono.saturating_sub(waiting.since);
            // Such a stream receives no past events, and everything from the moment when it opens.
            let is_new = matches!(waiting.resume, Resume::Fresh { newest: 0 });
            let longest = if is_new { MAX_OPENING_DELAY } else { MAX_WAIT };
            let resume = waiting.resume.clone();
            budget.spend(LOOKING);
            let members = self.memberships(key);
            let need_not_wait = (all_may || waited >= longest) && self.may_start(&resume, &members);
            let is_early = !is_new && self.has_several(key) && self.hub.are_catching_up(&members);
            if !is_early && (need_not_wait || self.hub.in_sync(&members)) {
                budget.spend(BEGINNING);
                self.start_waiting(key, now);
            } else if waited >= MAX_OPENING_DELAY {
                self.send_opening(key);
            }
            if self.is_waiting(key) {
                self.waiting.add(key);
            }
        }
        self.waiting.has_unchecked()
    }

    pub(super) fn start_waiting(&mut self, key: StreamKey, now: Now) {
        if self.hub.is_stuck() {
            // Only the first of the waiting streams spends time on finding out that the lock is
            // stuck.
            return;
        }
        let members = self.memberships(key);
        let Some(stream) = self.streams.get(key) else { return };
        let StreamState::Waiting(waiting) = &stream.state else { return };
        if stream.flow == Flow::Blocked {
            return;
        }
        if members.iter().any(|member| stream.is_older(self.hub.ended_at(*member))) {
            // An administrator has ended it, but this process has not read that entry of the log
            // yet.
            self.finish(key, End::Admin, now);
            return;
        }
        let resume = waiting.resume.clone();
        let names = self.names(key);
        let settings = stream.settings.clone();
        // The lock is not available. Try again with the next tick.
        let Ok(begun) = self.starting_point(&names, &members, &settings, &resume, now) else {
            return;
        };
        if begun.is_early && !may_begin_early(&names, &resume) {
            return;
        }
        let Some(stream) = self.streams.get_mut(key) else { return };
        let waiting = match std::mem::replace(&mut stream.state, StreamState::Live) {
            StreamState::Waiting(waiting) => *waiting,
            other => return stream.state = other,
        };
        self.start(key, begun, waiting.resume, waiting.opening, now);
    }

    /// Starts a stream at the position that the hub determined, beginning with the bytes in
    /// `opening`.
    pub(super) fn start(
        &mut self,
        key: StreamKey,
        begun: ReplayStart<Backlog>,
        resume: Resume,
        opening: Option<Frame>,
        now: Now,
    ) {
        let in_step = self.hub.in_sync(&self.memberships(key));
        let Some(stream) = self.streams.get_mut(key) else { return };
        let has_pattern = (self.directory.of(stream.channels.as_slice()))
            .any(|channel| pattern_of(&channel.name).is_some());
        stream.at = begun.end.position;
        let client_id: Box<[u8]> = resume.client_id().into();
        // Everything that arrives is new to the client, except in two cases: Redis may deliver
        // events late on channels that are not in sync or that a pattern matches, and the client
        // may come from another nginx that is ahead of this one.
        if !in_step || has_pattern || begun.claim.is_some() {
            let past = (begun.elsewhere, begun.claim);
            stream.past = Past::new(past, &client_id, self.hub.epoch(), now);
        }
        self.preface(key, begun, client_id, opening, now);
    }

    pub(super) fn memberships(&self, key: StreamKey) -> Vec<Membership> {
        let subscriptions = self.streams.get(key).map(|stream| stream.channels.as_slice());
        let channels = self.directory.of(subscriptions.unwrap_or_default());
        channels.map(|channel| channel.membership).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_is_checked_once_in_its_order() {
        let keys = [1, 2, 3].map(|number| StreamKey::from_raw(1 << 32 | number));
        let mut list = WaitingList::default();
        keys[..2].iter().for_each(|key| list.add(*key));
        assert!(!list.has_unchecked() && !list.is_empty());
        list.check_all();
        let first = list.next_unchecked().unwrap();
        // Streams that are put back or added meanwhile are left to the next check.
        list.add(first);
        list.add(keys[2]);
        assert_eq!(
            (first, list.next_unchecked(), list.next_unchecked()),
            (keys[0], Some(keys[1]), None)
        );
        list.check_all();
        let checked: Vec<_> = std::iter::from_fn(|| list.next_unchecked()).collect();
        assert_eq!(checked, [keys[0], keys[2]]);
        assert!(list.is_empty() && !list.has_unchecked());
    }
}
