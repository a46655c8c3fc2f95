//! One client's stream: a cursor into the log, its socket, and what it is in the middle of.

use std::rc::Rc;

use super::backlog::Backlog;
use super::client_past::Past;
use super::end::End;
use super::keys::ChannelKey;
use super::settings::StreamSettings;
use crate::hub::{Kind, LogOrder, Resume};
use crate::sse::frame::Frame;

/// A stream's entry in a channel's list.
#[derive(Clone, Copy, Debug)]
pub struct Subscription {
    pub channel: ChannelKey,
    pub index: u32,
}

/// One open stream.
#[derive(Debug)]
pub struct Stream<S> {
    pub socket: S,
    pub settings: Rc<StreamSettings>,
    pub channels: Subscriptions,
    pub audience: Accounting,
    /// Everything on its channels up to this position has been handed to the socket, or lost.
    pub at: u64,
    pub state: StreamState,
    pub flow: Flow,
    /// The last id that it was sent.
    pub last: Option<(LogOrder, Kind)>,
    /// What the client has had elsewhere of what is still to come; it is rare that there is any.
    pub past: Option<Box<Past>>,
    pub events_sent: u32,
    /// When something was last written (ms).
    pub written: u64,
}

/// What a stream is doing.
#[derive(Debug)]
pub enum StreamState {
    /// It has not begun: its channels are not in step with Redis.
    Waiting(Box<Waiting>),
    /// It gets new frames as they come.
    Live,
    /// It reads what it lacks from the hub.
    Behind(Box<Behind>),
    /// It has been told to end, and waits for its socket.
    Ending(End),
    /// Its last frame is with the socket, which has not sent all of it.
    Leaving(End),
    /// Its last byte is sent; nginx will close it.
    Ended,
}

/// What a stream waits with.
#[derive(Debug)]
pub struct Waiting {
    /// What the client came with.
    pub resume: Resume,
    /// Since when (ms).
    pub since: u64,
    /// The end of the log when it was opened.
    pub opened_at: u64,
    /// Its first bytes, as long as they have not gone out.
    pub opening: Option<Frame>,
}

/// What a stream that is behind has to do.
#[derive(Debug)]
pub struct Behind {
    pub missed: Backlog,
    /// It gets its first events: what is lost before them is not its fault.
    pub begins: bool,
    /// Goes out before everything else: the stream's first bytes, unless it has them.
    pub preface: Option<Frame>,
    /// The id that the client came with, as long as it was sent none here.
    pub client_id: Box<[u8]>,
}

/// Who listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accounting {
    /// Somebody whom the figures are about.
    Client,
    /// Somebody who watches the figures: not counted, or watching would change them.
    Watcher,
}

/// Whether the socket takes more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Open,
    Blocked,
}

/// The channels of a stream; nearly always one.
#[derive(Debug)]
pub enum Subscriptions {
    One(Subscription),
    // Boxed twice: it is rare, and every stream pays for the larger of the two.
    #[allow(clippy::redundant_allocation)]
    Many(Box<Box<[Subscription]>>),
}

impl<S> Stream<S> {
    /// Whether it was opened before a position of the log was written, which its process has not read yet.
    pub fn is_older(&self, position: u64) -> bool {
        match &self.state {
            StreamState::Waiting(waiting) => waiting.opened_at < position,
            // It began behind the end of the log, and has been given nothing that is not read.
            _ => self.at < position,
        }
    }
}

impl Subscriptions {
    /// All of them.
    pub fn as_slice(&self) -> &[Subscription] {
        match self {
            Subscriptions::One(one) => std::slice::from_ref(one),
            Subscriptions::Many(many) => many,
        }
    }

    /// Enters where the stream now stands in a channel's list.
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
