//! Presence: telling on a channel of the hub who came to other channels and who went.

use std::collections::{HashMap, VecDeque};

use super::socket::Socket;
use super::Worker;
use crate::hub::{pattern_of, Now, PublishError};
use crate::sse::channel::is_own;

/// The channel on which it is told.
pub const CHANNEL: &[u8] = b"sse.presence";

/// Channels of which one turn tells.
const CHANNELS: usize = 64;

/// What has not been told yet.
#[derive(Debug, Default)]
pub enum Presence {
    /// Nobody wants to know.
    #[default]
    Untold,
    /// Somebody may, so it is kept until it is told.
    Told(PresenceEvent),
}

/// Streams that came, and that went.
type Counts = (u64, u64);

/// What is to be told of channels, in the order in which they first had something.
#[derive(Debug, Default)]
pub struct PresenceEvent {
    names: VecDeque<Box<[u8]>>,
    counts: HashMap<Box<[u8]>, Counts>,
    /// Channels that are due to be told, from the first on.
    due: usize,
}

impl Presence {
    /// That of a process which tells who comes and goes.
    pub fn enabled() -> Presence {
        Presence::Told(PresenceEvent::default())
    }

    /// A stream of these channels was opened.
    pub fn came<'a>(&mut self, names: impl Iterator<Item = &'a Box<[u8]>>) {
        names.for_each(|name| self.add(name, 1, 0));
    }

    /// So many streams of a channel are gone.
    pub fn went(&mut self, name: &[u8], streams: u64) {
        self.add(name, 0, streams);
    }

    /// Streams that went with the processes that had them.
    pub fn lost(&mut self, lost: &[(Vec<u8>, u64)]) {
        lost.iter().for_each(|(name, streams)| self.went(name, *streams));
    }

    fn add(&mut self, name: &[u8], came: u64, went: u64) {
        let Presence::Told(news) = self else { return };
        // A pattern's streams are of no channel in particular.
        if is_own(name) || pattern_of(name).is_some() {
            return;
        }
        let counts = news.counts.entry(name.into()).or_insert_with(|| {
            news.names.push_back(name.into());
            (0, 0)
        });
        counts.0 += came;
        counts.1 += went;
    }

    /// Everything that is known now is due.
    pub(super) fn make_due(&mut self) {
        if let Presence::Told(news) = self {
            news.due = news.names.len();
        }
    }

    /// The next channel that is due, with what came and what went.
    fn next(&mut self) -> Option<(Box<[u8]>, Counts)> {
        let Presence::Told(news) = self else { return None };
        news.due = news.due.checked_sub(1)?;
        let name = news.names.pop_front()?;
        let counts = news.counts.remove(&name)?;
        Some((name, counts))
    }

    /// Nothing is due any more, until the next tick.
    fn put_off(&mut self) {
        if let Presence::Told(news) = self {
            news.due = 0;
        }
    }

    fn is_due(&self) -> bool {
        matches!(self, Presence::Told(news) if news.due > 0)
    }
}

impl<S: Socket> Worker<S> {
    /// Tells what is due, one event a channel, of a bounded number of channels. Whether there is more.
    pub(super) fn tell_presence(&mut self, now: Now) -> bool {
        for _ in 0..CHANNELS {
            let Some((name, (came, went))) = self.presence.next() else { return false };
            match self.tell_one(&name, came, went, now) {
                Ok(()) => {}
                Err(PublishError::Busy(_) | PublishError::Crowded) => {
                    self.presence.add(&name, came, went);
                    self.presence.put_off();
                }
                // A hub that is full of channels loses this news; the next has the counts.
                Err(PublishError::TooLarge | PublishError::NoRoom) => self.presence.put_off(),
            }
        }
        self.presence.is_due()
    }

    fn tell_one(
        &mut self,
        name: &[u8],
        came: u64,
        went: u64,
        now: Now,
    ) -> Result<(), PublishError> {
        let subscribers = self.hub.channel(name)?.map_or(0, |channel| channel.subscribers);
        let data = serde_json::json!({
            "channel": String::from_utf8_lossy(name),
            "came": came,
            "went": went,
            "subscribers": subscribers,
        });
        self.publish_own(CHANNEL, data.to_string().as_bytes(), now)
    }
}
