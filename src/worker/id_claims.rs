//! Clients whose id is higher than every id that this hub has seen.
//!
//! Nearly always, another nginx was slightly ahead: the client has received the events up to that
//! id, and they are about to arrive here. But the id may also come from a different history: Redis
//! restarted with an older clock, or another stream's ids were ahead. Then every event that arrives
//! here has a lower id, perhaps for hours, and the client has received none of them. So events are
//! withheld for a moment. If the hub reaches the id, the other nginx was ahead. If not, the id is
//! invalid, and the client receives a gap event followed by everything.

use super::client_past::Claim;
use super::end::End;
use super::keys::StreamKey;
use super::settings::Replay;
use super::socket::Socket;
use super::stream::{Behind, Stream, StreamState};
use super::work_queue::StreamTask;
use super::Worker;
use crate::hub::{Budget, Kind, Now, RedisState, Resume, Source};

/// Maximum time in ms by which another nginx may be ahead while all channels are in sync with
/// Redis, and the maximum time to wait for the channels to be in sync.
const MAX_LEAD: u64 = 2_000;
const MAX_SYNC_WAIT: u64 = 10_000;

/// The verdict on a claim.
enum Verdict {
    /// Nothing contradicts the claim, or it has been confirmed.
    Holds,
    /// It is too early to decide.
    Open,
    /// The id is invalid.
    Refuted,
}

impl<S: Socket> Worker<S> {
    /// Whether a live stream may receive new events. If not, it is served later, or has been
    /// switched to reading from the hub.
    pub(super) fn may_receive(&mut self, key: StreamKey, now: Now) -> bool {
        // The id of the last event read is a lower bound for the hub's position, and needs no lock.
        let reached = self.frame_cache.copied.place.entry_id;
        let claim = self.streams.get_mut(key).and_then(Stream::claim);
        if claim.is_some_and(|claim| claim.parked && reached < claim.entry_id) {
            return false;
        }
        match self.check_claim(key, now) {
            Verdict::Holds => true,
            Verdict::Open => {
                self.counts.writes += 1;
                let claim = self.streams.get_mut(key).and_then(Stream::claim);
                let was_parked = claim.map(|claim| std::mem::replace(&mut claim.parked, true));
                if was_parked == Some(false) {
                    self.work.retry_later(key);
                }
                false
            }
            Verdict::Refuted => {
                self.reject_claim(key, now);
                false
            }
        }
    }

    /// Schedules the streams that could not be served before, within the budget.
    pub(super) fn continue_retries(&mut self, budget: &mut Budget) {
        while budget.step() {
            let Some(key) = self.work.next_retry() else { return };
            if let Some(claim) = self.streams.get_mut(key).and_then(Stream::claim) {
                claim.parked = false;
            }
            self.work.add(StreamTask::Serve(key));
        }
    }

    fn check_claim(&mut self, key: StreamKey, now: Now) -> Verdict {
        let members = match self.streams.get(key) {
            Some(stream) if stream.has_claim() && self.contradicts(stream) => self.memberships(key),
            _ => return Verdict::Holds,
        };
        let Ok(mark) = self.hub.high_watermark() else { return Verdict::Open };
        let (is_up, epoch) = (self.hub.link() == RedisState::Up, self.hub.epoch());
        let in_step = self.hub.in_sync(&members);
        let past = self.streams.get_mut(key).and_then(|stream| stream.past.as_mut());
        let Some(past) = past else { return Verdict::Holds };
        let Some(claim) = &mut past.claim else { return Verdict::Holds };
        if mark >= claim.entry_id {
            past.claim = None;
            return Verdict::Holds;
        }
        if !is_up || claim.epoch != epoch {
            (claim.epoch, claim.since) = (epoch, now.mono);
        }
        let waited = now.mono.saturating_sub(claim.since);
        if waited >= if in_step { MAX_LEAD } else { MAX_SYNC_WAIT } {
            Verdict::Refuted
        } else {
            Verdict::Open
        }
    }

    /// Whether a stream lacks an event that Redis has numbered below the client's id. Plain
    /// messages have no number of their own.
    fn contradicts(&self, stream: &Stream<S>) -> bool {
        let numbered = |kind| kind == Kind::Durable || self.hub.source() == Source::Streams;
        self.directory.of(stream.channels.as_slice()).any(|channel| {
            let mut newer = channel.frames.iter().rev().take(channel.newer(stream.at));
            channel.complete_after > stream.at || newer.any(|recent| numbered(recent.kind))
        })
    }

    /// Discards the client's id: the stream continues with a gap event, and in a location that
    /// sends whole runs with the newest one from its first event.
    fn reject_claim(&mut self, key: StreamKey, now: Now) {
        let Some(stream) = self.streams.get(key) else { return };
        let settings = stream.settings.clone();
        let mut whole_run = None;
        if settings.replay == Replay::Run {
            let (names, members) = (self.names(key), self.memberships(key));
            let resume = Resume::InRun(Vec::new());
            match self.starting_point(&names, &members, &settings, &resume, now) {
                Ok(begun) if begun.is_incomplete => return self.end(key, End::Slow),
                Ok(begun) => whole_run = begun.cursor,
                // The lock is not available. Try again with the next tick.
                Err(_) => return self.work.retry_later(key),
            }
        }
        let Some(stream) = self.streams.get_mut(key) else { return };
        let claim = stream.past.take().and_then(|past| past.claim);
        stream.last = None;
        let client_id = claim.map(|claim| claim.client_id).unwrap_or_default();
        let Some(mut missed) = whole_run.or_else(|| self.backlog_of(key)) else { return };
        missed.require_gap();
        let may_have_gap = true;
        let behind = Behind { missed, begins: true, may_have_gap, preface: None, client_id };
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.state = StreamState::Behind(Box::new(behind));
        self.work.add(StreamTask::Serve(key));
    }
}

impl<S> Stream<S> {
    fn claim(&mut self) -> Option<&mut Claim> {
        self.past.as_mut().and_then(|past| past.claim.as_mut())
    }

    fn has_claim(&self) -> bool {
        self.past.as_ref().is_some_and(|past| past.claim.is_some())
    }
}
