//! Streams whose client came with an id above everything that this hub has seen.
//!
//! Nearly always another nginx was faster by a moment: what comes here up to that id the client has had.
//! But the id may also be of another time: Redis came back with an older clock, or another stream's ids
//! were ahead. Then everything that comes here is below it, perhaps for hours, and the client has had
//! none of it. So what comes waits for a moment. If the hub reaches the id, the other nginx was faster;
//! if not, the id says nothing, and the client receives a gap event and then everything.

use super::backlog::Backlog;
use super::client_past::Claim;
use super::keys::StreamKey;
use super::socket::Socket;
use super::stream::{Behind, Stream, StreamState};
use super::Worker;
use crate::hub::{AlreadySeen, Kind, Now, RedisState, Source};

/// How long another nginx may have been faster, in ms, while all channels are in step with Redis; and how
/// long it is waited for that they are.
const APART: u64 = 2_000;
const OUT_OF_STEP: u64 = 10_000;

/// What became of a claim.
enum Judged {
    /// Nothing contradicts it, or it is true.
    Holds,
    /// It is too early to say.
    Open,
    /// It says nothing.
    Refuted,
}

impl<S: Socket> Worker<S> {
    /// Whether a live stream may be given what is new. If not, it is served again in a while, or as one that
    /// is behind.
    pub(super) fn may_go_on(&mut self, key: StreamKey, now: Now) -> bool {
        // What was read last says without the lock how far the hub is at least.
        let reached = self.kept.copied.place.entry_id;
        let claim = self.streams.get_mut(key).and_then(Stream::claim);
        if claim.is_some_and(|claim| claim.parked && reached < claim.entry_id) {
            return false;
        }
        match self.judge_claim(key, now) {
            Judged::Holds => true,
            Judged::Open => {
                self.tally.writes += 1;
                let claim = self.streams.get_mut(key).and_then(Stream::claim);
                let was_parked = claim.map(|claim| std::mem::replace(&mut claim.parked, true));
                if was_parked == Some(false) {
                    self.stuck.push(key);
                }
                false
            }
            Judged::Refuted => {
                self.refute(key);
                false
            }
        }
    }

    /// What could not be served is served again, in the turns that follow.
    pub(super) fn serve_stuck(&mut self) {
        for key in std::mem::take(&mut self.stuck) {
            if let Some(claim) = self.streams.get_mut(key).and_then(Stream::claim) {
                claim.parked = false;
            }
            self.tasks.push_back(super::Task::Serve(key));
        }
    }

    fn judge_claim(&mut self, key: StreamKey, now: Now) -> Judged {
        let members = match self.streams.get(key) {
            Some(stream) if stream.has_claim() && self.contradicts(stream) => self.memberships(key),
            _ => return Judged::Holds,
        };
        let Ok(mark) = self.hub.high_watermark() else { return Judged::Open };
        let (is_up, epoch) = (self.hub.link() == RedisState::Up, self.hub.epoch());
        let in_step = self.hub.in_sync(&members);
        let past = self.streams.get_mut(key).and_then(|stream| stream.past.as_mut());
        let Some(past) = past else { return Judged::Holds };
        let Some(claim) = &mut past.claim else { return Judged::Holds };
        if mark >= claim.entry_id {
            past.claim = None;
            return Judged::Holds;
        }
        if !is_up || claim.epoch != epoch {
            (claim.epoch, claim.since) = (epoch, now.mono);
        }
        let waited = now.mono.saturating_sub(claim.since);
        if waited >= if in_step { APART } else { OUT_OF_STEP } {
            Judged::Refuted
        } else {
            Judged::Open
        }
    }

    /// Whether a stream lacks something that Redis has numbered below the client's id. Plain messages have
    /// no number of their own.
    fn contradicts(&self, stream: &Stream<S>) -> bool {
        let numbered = |kind| kind == Kind::Durable || self.hub.source() == Source::Streams;
        let channels = stream.channels.as_slice().iter();
        channels.filter_map(|subscription| self.channels.get(subscription.channel)).any(|channel| {
            let mut newer = channel.recent.iter().rev().take(channel.newer(stream.at));
            channel.whole_after > stream.at || newer.any(|recent| numbered(recent.kind))
        })
    }

    /// The client's id says nothing: its stream goes on behind a gap event.
    fn refute(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let claim = stream.past.take().and_then(|past| past.claim);
        stream.last = None;
        let subscriptions = stream.channels.as_slice();
        let channels = subscriptions.iter().filter_map(|s| self.channels.get(s.channel));
        let mut missed = Backlog::since(stream.at, AlreadySeen::default(), self.read, channels);
        missed.require_gap();
        let client_id = claim.map(|claim| claim.client_id).unwrap_or_default();
        let behind = Behind { missed, begins: true, preface: None, client_id };
        stream.state = StreamState::Behind(Box::new(behind));
        self.tasks.push_back(super::Task::Serve(key));
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
