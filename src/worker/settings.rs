//! What a location says about its streams.

/// What a client without an id gets first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Nothing.
    Off,
    /// All that history owes.
    All,
    /// At most so many events of each channel, of what history owes.
    Count(u64),
}

/// What happens to a client that history has overtaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowClient {
    /// It is told a gap and goes on with what is retained.
    Skip,
    /// Its stream ends.
    Close,
}

/// The type of an event that was published without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// None: browsers call it `message`.
    ByType,
    /// The name of its channel.
    ByChannel,
}

/// A time with a random part, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jittered {
    /// The least.
    pub base: u64,
    /// How much may come on top.
    pub jitter: u64,
}

impl Jittered {
    /// One draw.
    pub fn draw(self, random: &mut fastrand::Rng) -> u64 {
        self.base.saturating_add(random.u64(0..=self.jitter))
    }
}

/// The settings of a location's streams.
#[derive(Clone, Debug)]
pub struct StreamSettings {
    /// What a client without an id gets first.
    pub replay: Replay,
    /// A comment after so many ms of silence.
    pub heartbeat: Option<u64>,
    /// The `retry:` that a stream begins with, in ms.
    pub retry: Jittered,
    /// Type of the event that gives a new client its first id.
    pub open_event: Option<Box<[u8]>>,
    /// Type of the event that tells that history was lost.
    pub gap_event: Option<Box<[u8]>>,
    /// What happens to a client that history has overtaken.
    pub slow_client: SlowClient,
    /// The type of events that have none.
    pub naming: Naming,
    /// The longest that a stream may last.
    pub max_age: Option<Jittered>,
    /// Most streams of one channel on this nginx; 0 for no limit.
    pub max_subscribers: u32,
}
