//! The settings of a location's streams.

use super::end::Reconnect;
use crate::hub::Runs;

/// How much history a client without an id receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Nothing.
    Off,
    /// Everything that history guarantees.
    All,
    /// At most this many events of each channel, within what history guarantees.
    Count(u64),
    /// The newest run of each channel from its first event, and never a part of one.
    Run,
}

/// What happens to a client that has fallen behind the retained history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowClient {
    /// It receives a gap event and continues with what is retained.
    Skip,
    /// Its stream ends.
    Close,
}

/// The type of events that were published without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// None; browsers use `message`.
    ByType,
    /// The name of the event's channel.
    ByChannel,
}

/// What streams of finished channels do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// They end. A client without an id that requests one is answered with 204.
    NoContent,
    /// They end. A client without an id that requests one receives the finished run.
    Replay,
    /// They pass over finishes.
    Ignored,
}

impl Finished {
    /// Returns how streams treat the runs of their channels.
    pub fn runs(self) -> Runs {
        match self {
            Finished::NoContent => Runs::InProgress,
            Finished::Replay => Runs::Separate,
            Finished::Ignored => Runs::Joined,
        }
    }
}

/// What clients without an id get from a channel of which nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownChannel {
    /// A stream that waits for events.
    Wait,
    /// The answer that there is nothing.
    NoContent,
}

/// A time in ms with a random part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jittered {
    /// The minimum.
    pub base: u64,
    /// The maximum of the random part.
    pub jitter: u64,
}

impl Jittered {
    /// Returns a random time between `base` and `base + jitter`.
    pub fn random(self, random: &mut fastrand::Rng) -> u64 {
        self.base.saturating_add(random.u64(0..=self.jitter))
    }
}

/// The event that a client receives before its permission ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiryEvent {
    /// Its type.
    pub name: Box<[u8]>,
    /// How long before.
    pub before: Jittered,
}

/// The settings of a location's streams.
#[derive(Clone, Debug)]
pub struct StreamSettings {
    /// How much history a client without an id receives.
    pub replay: Replay,
    /// A comment is sent if nothing was sent for this many ms.
    pub heartbeat: Option<u64>,
    /// The `retry:` at the start of a stream, in ms.
    pub retry: Jittered,
    /// Type of the event that gives a new client its first id; `None` if it is not sent.
    pub open_event: Option<Box<[u8]>>,
    /// Type of the event that reports lost events; `None` if it is not sent.
    pub gap_event: Option<Box<[u8]>>,
    /// What happens to a client that has fallen behind the retained history.
    pub slow_client: SlowClient,
    /// What streams of finished channels do.
    pub finished: Finished,
    /// What clients without an id get from a channel of which nothing is known.
    pub unknown_channel: UnknownChannel,
    /// The type of events that were published without one.
    pub naming: Naming,
    /// Maximum age of a stream.
    pub max_age: Option<Jittered>,
    /// The event before the end of a permission; `None` if it is not sent.
    pub expiry_event: Option<ExpiryEvent>,
    /// How the response ends if the client is to reconnect.
    pub reconnect: Reconnect,
    /// Maximum number of streams of one channel on this nginx; 0 means no limit.
    pub max_subscribers: u32,
}
