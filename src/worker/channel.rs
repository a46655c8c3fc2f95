//! A channel as one process sees it: its streams here, and the newest frames.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::keys::StreamKey;
use super::settings::Naming;
use crate::hub::{AlreadySeen, Kind, LogOrder, Membership};
use crate::sse::frame::Frame;

/// A frame that was just read from the log.
#[derive(Debug)]
pub struct CachedFrame {
    pub place: LogOrder,
    pub kind: Kind,
    /// The frame as published.
    pub frame: Frame,
    /// The name of its channel, where a pattern has it.
    channel: Option<Rc<[u8]>>,
    /// The frame with the channel's name as type, made when the first stream wants it.
    named: OnceCell<Frame>,
}

impl CachedFrame {
    /// A frame that was just read.
    pub fn new(place: LogOrder, kind: Kind, frame: Frame) -> CachedFrame {
        CachedFrame { place, kind, frame, channel: None, named: OnceCell::new() }
    }

    /// The same once more, of a channel with this name, for its streams or those of a pattern.
    pub fn of(&self, channel: Rc<[u8]>) -> CachedFrame {
        let frame = self.frame.clone();
        CachedFrame { channel: Some(channel), ..CachedFrame::new(self.place, self.kind, frame) }
    }

    /// The frame for streams that name events so; it was read for this channel or pattern.
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

/// The way of an event through a channel's streams, in slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FanOut {
    /// Every stream here has been looked at since the last event.
    Rest,
    /// The next stream to look at.
    Running { next: usize },
    /// The same, and something has come or moved meanwhile: once more from the first.
    RunningAgain { next: usize },
}

/// A channel, or a pattern, that has at least one stream in this process.
#[derive(Debug)]
pub struct Channel {
    pub name: Box<[u8]>,
    pub membership: Membership,
    pub streams: Vec<StreamKey>,
    /// Frames by rising position.
    pub recent: VecDeque<CachedFrame>,
    /// Up to this position `recent` has holes; behind it, it has every event of the channel.
    pub whole_after: u64,
    /// The newest position at which the channel had something.
    pub newest: u64,
    /// When the newest event came (ms of the monotonic clock).
    pub born: u64,
    pub pass: FanOut,
}

impl Channel {
    /// Takes a stream out of the list. Returns the stream that moved to its place.
    pub fn remove(&mut self, index: usize) -> Option<StreamKey> {
        self.streams.swap_remove(index);
        // The one that moved may have come from behind the pass to before it.
        if let FanOut::Running { next } = self.pass {
            if index < next {
                self.pass = FanOut::RunningAgain { next };
            }
        }
        self.streams.get(index).copied()
    }

    /// Something is new. True if the channel has to be put into the queue.
    pub fn touch(&mut self, position: u64) -> bool {
        self.newest = position;
        match self.pass {
            FanOut::Rest => {
                self.pass = FanOut::Running { next: 0 };
                true
            }
            FanOut::Running { next } | FanOut::RunningAgain { next } => {
                self.pass = FanOut::RunningAgain { next };
                false
            }
        }
    }

    /// How many of the newest frames come after a position.
    pub fn newer(&self, at: u64) -> usize {
        self.recent.iter().rev().take_while(|recent| recent.place.position > at).count()
    }

    /// Whether a client was further on another nginx than one of the newest frames is.
    pub fn is_behind(&self, at: u64, seen: Option<&AlreadySeen>) -> bool {
        let Some(seen) = seen else { return false };
        let elsewhere = LogOrder { entry_id: seen.entry_id, position: 0 };
        // Ids rise, so the first of them says it.
        let first = || self.recent.get(self.recent.len() - self.newer(at));
        first().is_some_and(|first| first.place.by_id(first.kind) <= elsewhere)
    }

    /// Drops the oldest frame; what is not there any more has to be read from the hub.
    pub fn drop_oldest(&mut self) {
        if let Some(oldest) = self.recent.pop_front() {
            // A hole that was found meanwhile lies behind it.
            self.whole_after = self.whole_after.max(oldest.place.position);
        }
        if self.recent.is_empty() {
            self.recent = VecDeque::new();
        }
    }
}
