//! What a request for a stream is to be answered with, which is decided before the response's
//! header is sent: nothing is to come of channels that are finished, or of which nothing is known.
//!
//! In a hub that is connected to Redis, this is known only when the channels are in sync, and
//! everything has arrived that Redis has sent before the request: another publish may have been
//! answered already. The request waits for that: briefly, and not at all while Redis is
//! unreachable.

use std::collections::VecDeque;

use super::keys::ChannelKey;
use super::open::{set_streams, OpenError};
use super::resume_request::ResumeRequest;
use super::settings::{Finished, Replay, StreamSettings, UnknownChannel};
use super::socket::Socket;
use super::Worker;
use crate::hub::{pattern_of, Budget, Locked, Membership, Now, Resume, Runs, Source};

/// Maximum time in ms that a request waits.
const MAX_WAIT: u64 = 1_000;
/// Budget steps for checking a waiting request with its channels.
const LOOKING: usize = 4;

/// What a request for a stream is to be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// A stream.
    Stream,
    /// Nothing: no event is to come.
    Nothing,
    /// Nothing: a part of the run that the client would receive has left, and the location sends
    /// only whole runs.
    Incomplete,
    /// It is not known yet, because the channels are not in sync with Redis, or events of them may
    /// be about to arrive.
    Open,
}

/// What a hub that is connected to Redis has of what Redis has sent before a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Everything.
    Complete,
    /// Some may not have arrived.
    Unknown,
}

/// Identifies a request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InquiryKey(u64);

/// A request that waits for its channels to be in sync.
#[derive(Debug)]
struct Inquiry {
    key: InquiryKey,
    channels: Vec<ChannelKey>,
    /// The read barrier after which everything has arrived that was published before the request.
    barrier: u64,
    /// Since when it waits (ms).
    since: u64,
}

/// A request that need not wait any more. Its channels stay joined until it is released.
#[derive(Debug)]
pub struct ReadyInquiry {
    /// The request.
    pub key: InquiryKey,
    /// Whether everything that was published before it has arrived.
    pub arrival: Arrival,
    channels: Vec<ChannelKey>,
}

/// The requests that wait, and how many of them are still to be checked.
#[derive(Debug, Default)]
pub struct Inquiries {
    waiting: VecDeque<Inquiry>,
    unchecked: usize,
    last: u64,
    /// The newest read barrier that was passed when they were last checked.
    barrier: u64,
}

impl Inquiries {
    /// Returns whether none is waiting.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Requires a check of all of them.
    pub fn check_all(&mut self) {
        self.unchecked = self.waiting.len();
    }

    /// Requires a check if a read barrier has been passed since.
    pub fn check_after_barrier(&mut self, passed: u64) {
        if !self.is_empty() && passed > self.barrier {
            self.barrier = passed;
            self.check_all();
        }
    }
}

impl StreamSettings {
    /// Returns whether a location may answer with something other than a stream.
    fn may_have_nothing(&self) -> bool {
        self.finished.runs() != Runs::Joined
            || self.unknown_channel == UnknownChannel::NoContent
            || self.replay == Replay::Run
    }
}

impl<S: Socket> Worker<S> {
    /// Returns what a request for a stream of these channels is to be answered with, if this has
    /// arrived of what Redis has sent before the request.
    pub fn outlook(
        &self,
        names: &[Box<[u8]>],
        settings: &StreamSettings,
        request: ResumeRequest<'_>,
        arrival: Arrival,
        now: Now,
    ) -> Outlook {
        if !settings.may_have_nothing() || names.iter().any(|name| pattern_of(name).is_some()) {
            return Outlook::Stream;
        }
        // A client that is turned away is to come back.
        let outlook = self.would_be_opened(names, settings).and_then(|is_opened| {
            if !is_opened {
                Ok(Outlook::Stream)
            } else if !self.hub.in_sync_by_name(names)? {
                Ok(if self.hub.may_sync_soon() { Outlook::Open } else { Outlook::Stream })
            } else if self.has_nothing(names, settings, request, now)? {
                Ok(Outlook::Nothing)
            } else if self.is_incomplete(names, settings, request, now)? {
                Ok(Outlook::Incomplete)
            } else {
                Ok(Outlook::Stream)
            }
        });
        match outlook.unwrap_or(Outlook::Stream) {
            Outlook::Nothing | Outlook::Incomplete
                if arrival == Arrival::Unknown && self.hub.source() != Source::Alone =>
            {
                Outlook::Open
            }
            known => known,
        }
    }

    fn would_be_opened(
        &self,
        names: &[Box<[u8]>],
        settings: &StreamSettings,
    ) -> Result<bool, Locked> {
        if self.work.drained_at().is_some() || self.process.claim().is_none() {
            return Ok(false);
        }
        let most = u64::from(settings.max_subscribers);
        if most > 0 {
            for name in names {
                if self.hub.subscribers_of(name)? >= most {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn has_nothing(
        &self,
        names: &[Box<[u8]>],
        settings: &StreamSettings,
        request: ResumeRequest<'_>,
        now: Now,
    ) -> Result<bool, Locked> {
        let activity = self.hub.activity(names)?;
        let is_new = request.is_new();
        let is_unknown_enough = activity.unknown == 0
            || is_new && settings.unknown_channel == UnknownChannel::NoContent;
        if activity.running > 0 || !is_unknown_enough {
            return Ok(false);
        }
        if activity.finished == 0 {
            return Ok(true);
        }
        let resume = request.resume(settings.replay, self.hub.clock(now));
        match settings.finished {
            Finished::Ignored => Ok(false),
            Finished::NoContent if is_new => Ok(true),
            Finished::Replay if resume == (Resume::Fresh { newest: 0 }) => Ok(true),
            Finished::NoContent | Finished::Replay => self.hub.is_over(names, &resume, now),
        }
    }

    fn is_incomplete(
        &self,
        names: &[Box<[u8]>],
        settings: &StreamSettings,
        request: ResumeRequest<'_>,
        now: Now,
    ) -> Result<bool, Locked> {
        if settings.replay != Replay::Run {
            return Ok(false);
        }
        let resume = request.resume(settings.replay, self.hub.clock(now));
        self.hub.is_incomplete(names, &resume, settings.finished.runs(), now)
    }

    /// Makes a request wait until its channels are in sync with Redis, and everything has arrived
    /// that Redis has sent before.
    pub fn inquire(&mut self, names: &[Box<[u8]>], now: Now) -> Result<InquiryKey, OpenError> {
        let slot = self.process.claim().ok_or(OpenError::NoSlot)?;
        let mut channels = Vec::with_capacity(names.len());
        let mut result = Ok(());
        for name in names {
            match self.channel(slot, name, now) {
                Ok(key) => channels.push(key),
                Err(error) => {
                    result = Err(OpenError::from(error));
                    break;
                }
            }
        }
        for key in &channels {
            if let Some(channel) = self.directory.get_mut(*key) {
                channel.awaited += 1;
                set_streams(&self.hub, Some(slot), channel);
            }
        }
        let members: Vec<Membership> =
            channels.iter().map(|key| self.directory[*key].membership).collect();
        let requested = result.and_then(|()| Ok(self.request_sync(&members, now)?));
        if let Err(error) = requested {
            self.release_channels(&channels);
            return Err(error);
        }
        let barrier = self.hub.request_read_barrier();
        self.wake(self.hub.holder_slot().as_slice(), now);
        self.inquiries.last += 1;
        let key = InquiryKey(self.inquiries.last);
        self.inquiries.waiting.push_back(Inquiry { key, channels, barrier, since: now.mono });
        Ok(key)
    }

    /// Returns whether requests wait.
    pub fn has_inquiries(&self) -> bool {
        !self.inquiries.is_empty()
    }

    /// Returns a request that need not wait any more. The caller answers it, and then calls
    /// [`Worker::release_inquiry`].
    pub fn take_inquiry(&mut self, now: Now) -> Option<ReadyInquiry> {
        let mut budget = Budget::for_turn();
        let need_not_wait = !self.hub.may_sync_soon() || self.work.drained_at().is_some();
        while self.inquiries.unchecked > 0 && !budget.is_spent() {
            self.inquiries.unchecked -= 1;
            let inquiry = self.inquiries.waiting.pop_front()?;
            budget.spend(LOOKING + inquiry.channels.len());
            let channels = inquiry.channels.iter().filter_map(|key| self.directory.get(*key));
            let members: Vec<Membership> = channels.map(|channel| channel.membership).collect();
            let waited = now.mono.saturating_sub(inquiry.since);
            let is_complete = self.hub.passed_read_barrier() >= inquiry.barrier;
            let is_known = is_complete && self.hub.in_sync(&members);
            if need_not_wait || waited >= MAX_WAIT || is_known {
                let arrival = if is_complete { Arrival::Complete } else { Arrival::Unknown };
                return Some(ReadyInquiry {
                    key: inquiry.key,
                    arrival,
                    channels: inquiry.channels,
                });
            }
            self.inquiries.waiting.push_back(inquiry);
        }
        None
    }

    /// Leaves the channels of a request that has been answered, unless they have streams.
    pub fn release_inquiry(&mut self, ready: ReadyInquiry) {
        self.release_channels(&ready.channels);
    }

    fn release_channels(&mut self, channels: &[ChannelKey]) {
        for key in channels {
            let Some(channel) = self.directory.get_mut(*key) else { continue };
            channel.awaited = channel.awaited.saturating_sub(1);
            set_streams(&self.hub, self.process.claim(), channel);
            self.leave_if_empty(*key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_barrier_that_is_passed_causes_one_check_of_what_waits() {
        let mut inquiries = Inquiries::default();
        inquiries.check_after_barrier(5);
        assert!(inquiries.is_empty());
        for number in 1..=2 {
            let (key, channels) = (InquiryKey(number), Vec::new());
            inquiries.waiting.push_back(Inquiry { key, channels, barrier: 5, since: 0 });
        }
        let mut checks = |passed| {
            inquiries.check_after_barrier(passed);
            std::mem::take(&mut inquiries.unchecked)
        };
        assert_eq!([5, 5, 4, 6, 6].map(&mut checks), [2, 0, 0, 2, 0]);
    }
}
