//! A process's view of a channel: the streams in this process, and the newest frames.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::keys::StreamKey;
use super::run_ends::RunEnds;
use super::settings::Naming;
use crate::hub::{Elsewhere, Kind, LogOrder, Membership, MonotonicTime, Runs};
use crate::sse::frame::Frame;

/// The frame of an event that was read from the log.
#[derive(Debug)]
pub struct CachedFrame {
    pub place: LogOrder,
    pub kind: Kind,
    /// The frame with the event's own type.
    pub frame: Frame,
    /// The name of the event's channel, if the frame is cached for a pattern.
    channel: Option<Rc<[u8]>>,
    /// The frame with the channel's name as its type, built when the first stream needs it.
    named: OnceCell<Frame>,
}

impl CachedFrame {
    /// Creates the frame of an event of the channel that caches it.
    pub fn new(place: LogOrder, kind: Kind, frame: Frame) -> CachedFrame {
        CachedFrame { place, kind, frame, channel: None, named: OnceCell::new() }
    }

    /// Returns a copy for the streams of a pattern, with the name of the event's channel.
    pub fn for_channel(&self, channel: Rc<[u8]>) -> CachedFrame {
        let frame = self.frame.clone();
        CachedFrame { channel: Some(channel), ..CachedFrame::new(self.place, self.kind, frame) }
    }

    /// Returns the frame in the form for this naming. `channel` is the channel or pattern that
    /// caches it.
    pub fn frame(&self, naming: Naming, channel: &[u8]) -> Frame {
        match naming {
            Naming::ByType => self.frame.clone(),
            Naming::ByChannel => {
                let channel = self.channel.as_deref().unwrap_or(channel);
                self.named.get_or_init(|| self.frame.clone().named(channel)).clone()
            }
        }
    }
}

/// The progress of fanning out new events to a channel's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FanOut {
    /// All streams have been served since the last event.
    Rest,
    /// In progress; `next` is the index of the next stream.
    Running { next: usize },
    /// In progress, and must start over from the first stream afterwards, because an event arrived
    /// or a stream moved meanwhile.
    RunningAgain { next: usize },
}

/// A channel or a pattern with at least one stream in this process.
#[derive(Debug)]
pub struct Channel {
    pub name: Box<[u8]>,
    pub membership: Membership,
    pub streams: Vec<StreamKey>,
    /// Cached frames, by rising position.
    pub frames: VecDeque<CachedFrame>,
    /// The cache is incomplete up to this position, and has every event of the channel after it.
    pub complete_after: u64,
    /// The position of the channel's newest log entry.
    pub newest: u64,
    pub fan_out: FanOut,
    /// When the oldest event was published that the current fan-out delivers; `None` if no time is
    /// to be measured.
    pub published_at: Option<MonotonicTime>,
    /// When the oldest event was published that arrived while streams were being served, and that
    /// the next fan-out delivers.
    pub next_published_at: Option<MonotonicTime>,
    /// Where its runs ended, as far as this process has read the log.
    pub run_ends: RunEnds,
    /// Whether the channel's events are being fetched from Redis, as far as this process has read
    /// the log.
    pub is_catching_up: bool,
    /// How many requests wait for the channel to be in sync, to learn whether a stream is opened.
    pub awaited: u32,
}

impl Channel {
    /// Returns where the run ends in which a stream at `at` is, if this process has read that it is
    /// finished.
    pub fn run_end_after(&self, at: u64, runs: Runs) -> Option<u64> {
        self.run_ends.after(at).filter(|_| runs != Runs::Joined)
    }

    /// Removes a stream. Returns the stream that has taken its index, if any.
    pub fn remove(&mut self, index: usize) -> Option<StreamKey> {
        self.streams.swap_remove(index);
        // The moved stream may have skipped from the unserved to the served part.
        if let FanOut::Running { next } = self.fan_out {
            if index < next {
                self.fan_out = FanOut::RunningAgain { next };
            }
        }
        self.streams.get(index).copied()
    }

    /// Records a new log entry. Returns whether the channel has to be queued for a fan-out.
    pub fn touch(&mut self, position: u64) -> bool {
        self.newest = position;
        match self.fan_out {
            FanOut::Rest => {
                self.fan_out = FanOut::Running { next: 0 };
                true
            }
            FanOut::Running { next } | FanOut::RunningAgain { next } => {
                self.fan_out = FanOut::RunningAgain { next };
                false
            }
        }
    }

    /// Records when an event was published, before [`Channel::touch`].
    pub fn measure_from(&mut self, published_at: MonotonicTime) {
        let oldest = match self.fan_out {
            FanOut::Rest | FanOut::Running { next: 0 } | FanOut::RunningAgain { next: 0 } => {
                &mut self.published_at
            }
            FanOut::Running { .. } | FanOut::RunningAgain { .. } => &mut self.next_published_at,
        };
        oldest.get_or_insert(published_at);
    }

    /// Returns when the oldest event was published that a fan-out has now delivered to all streams.
    pub fn take_published_at(&mut self) -> Option<MonotonicTime> {
        std::mem::replace(&mut self.published_at, self.next_published_at.take())
    }

    /// Returns the number of cached frames after a position.
    pub fn newer(&self, at: u64) -> usize {
        self.frames.iter().rev().take_while(|recent| recent.place.position > at).count()
    }

    /// Returns whether there are cached frames after `at`, up to the end of a run.
    pub fn has_newer_until(&self, at: u64, end: u64) -> bool {
        let first = self.frames.get(self.frames.len() - self.newer(at));
        first.is_some_and(|first| first.place.position <= end)
    }

    /// Whether the client may have received, from another nginx, one of the cached frames after
    /// `at`.
    pub fn is_behind(&self, at: u64, elsewhere: Option<&Elsewhere>) -> bool {
        let Some(elsewhere) = elsewhere else { return false };
        // Ids rise, so it is enough to check the first one.
        let first = || self.frames.get(self.frames.len() - self.newer(at));
        first().is_some_and(|first| elsewhere.reaches(first.place, first.kind))
    }

    /// Drops the oldest frame. Streams that still need it read it from the hub.
    pub fn drop_oldest(&mut self) {
        if let Some(oldest) = self.frames.pop_front() {
            // `complete_after` may be higher already, because of an event that was not cached.
            self.complete_after = self.complete_after.max(oldest.place.position);
        }
        if self.frames.is_empty() {
            self.frames = VecDeque::new();
        }
    }
}
