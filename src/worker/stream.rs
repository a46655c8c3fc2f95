//! A client's stream: a cursor into the log, its socket, and its state.

use std::rc::Rc;

use super::backlog::Backlog;
use super::client_past::Past;
use super::end::End;
use super::keys::ChannelKey;
use super::settings::StreamSettings;
use super::stream_limits::StreamLimits;
use crate::hub::{Kind, LogOrder, Resume};
use crate::sse::frame::Frame;

/// A stream's entry in the list of a channel's streams.
#[derive(Clone, Copy, Debug)]
pub struct Subscription {
    pub channel: ChannelKey,
    pub index: u32,
}

/// An open stream.
#[derive(Debug)]
pub struct Stream<S> {
    pub socket: S,
    pub settings: Rc<StreamSettings>,
    pub channels: Subscriptions,
    pub accounting: Accounting,
    /// All events of its channels up to this position have been passed to the socket, or lost.
    pub at: u64,
    pub state: StreamState,
    pub flow: Flow,
    /// The last id sent to the client.
    pub last: Option<(LogOrder, Kind)>,
    /// When the stream ends, and the user that it belongs to, if these are known.
    pub limits: Option<Box<StreamLimits>>,
    /// What the client has received elsewhere of events that are still to arrive here; rarely
    /// present.
    pub past: Option<Box<Past>>,
    pub events_sent: u32,
    /// When something was last sent (ms).
    pub written: u64,
}

/// The state of a stream.
#[derive(Debug)]
pub enum StreamState {
    /// Not started: its channels are not in sync with Redis.
    Waiting(Box<Waiting>),
    /// Receives new frames as they are read.
    Live,
    /// Reads what it lacks from the hub.
    Behind(Box<Behind>),
    /// About to end; the final `retry` has not been sent yet.
    Ending(End),
    /// The final `retry` has been passed to the socket, which has not sent all of it.
    Leaving(End),
    /// Everything has been sent; nginx is about to close it.
    Ended,
}

/// The data of a stream that has not started.
#[derive(Debug)]
pub struct Waiting {
    /// Where the client wants to start.
    pub resume: Resume,
    /// Since when it waits (ms).
    pub since: u64,
    /// The end of the log when the stream was opened.
    pub opened_at: u64,
    /// The first bytes of the stream, if they have not been sent.
    pub opening: Option<Frame>,
}

/// The data of a stream that is behind.
#[derive(Debug)]
pub struct Behind {
    pub missed: Backlog,
    /// Whether the stream has received no events yet. Events lost before its first ones are not
    /// because of a slow client.
    pub begins: bool,
    /// Whether it may begin with a gap event.
    pub may_have_gap: bool,
    /// The first bytes of the stream, if they have not been sent.
    pub preface: Option<Frame>,
    /// The id that the client sent, until it has received one here.
    pub client_id: Box<[u8]>,
}

/// Whether a stream counts in the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accounting {
    /// An ordinary stream, which counts.
    Client,
    /// A stream of the figures. It does not count, because watching would otherwise change the
    /// figures.
    Watcher,
}

/// Whether the socket accepts more data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Open,
    Blocked,
}

/// A stream's channels; nearly always one.
#[derive(Debug)]
pub enum Subscriptions {
    One(Subscription),
    // Boxed twice: this variant is rare, and every stream pays for the larger variant.
    #[allow(clippy::redundant_allocation)]
    Many(Box<Box<[Subscription]>>),
}

impl<S> Stream<S> {
    /// Whether the stream was opened before a log entry was written that this process has not read
    /// yet.
    pub fn is_older(&self, position: u64) -> bool {
        match &self.state {
            StreamState::Waiting(waiting) => waiting.opened_at < position,
            // It started at the end of the log, and has received nothing beyond what this process
            // has read.
            _ => self.at < position,
        }
    }
}

impl Subscriptions {
    pub fn as_slice(&self) -> &[Subscription] {
        match self {
            Subscriptions::One(one) => std::slice::from_ref(one),
            Subscriptions::Many(many) => many,
        }
    }

    /// Updates the stream's index in a channel's list.
    pub fn moved(&mut self, channel: ChannelKey, index: usize) {
        let all = match self {
            Subscriptions::One(one) => std::slice::from_mut(one),
            Subscriptions::Many(many) => many,
        };
        for subscription in all {
            if subscription.channel == channel {
                subscription.index = index as u32;
            }
        }
    }
}

impl From<Vec<Subscription>> for Subscriptions {
    fn from(all: Vec<Subscription>) -> Subscriptions {
        match all.as_slice() {
            [one] => Subscriptions::One(*one),
            _ => Subscriptions::Many(Box::new(all.into_boxed_slice())),
        }
    }
}
