//! Presence: telling on a channel of the hub who came to other channels and who went.

use std::collections::HashMap;

use super::socket::Socket;
use super::Worker;
use crate::hub::{pattern_of, Now};
use crate::sse::channel::is_own;

/// The channel on which it is told.
pub const CHANNEL: &[u8] = b"sse.presence";

/// What has not been told yet.
#[derive(Debug, Default)]
pub enum Presence {
    /// Nobody wants to know.
    #[default]
    Untold,
    /// Somebody may, so it is kept until it is told.
    Told(News),
}

/// Per channel: streams that came, and that went.
type News = HashMap<Box<[u8]>, (u64, u64)>;

impl Presence {
    /// That of a process which tells who comes and goes.
    pub fn told() -> Presence {
        Presence::Told(News::new())
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
        let counts = news.entry(name.into()).or_default();
        counts.0 += came;
        counts.1 += went;
    }

    fn take(&mut self) -> News {
        match self {
            Presence::Untold => News::new(),
            Presence::Told(news) => std::mem::take(news),
        }
    }
}

impl<S: Socket> Worker<S> {
    /// Tells what has changed since the last time, one event a channel.
    pub(super) fn tell_presence(&mut self, now: Now) {
        for (name, (came, went)) in self.presence.take() {
            let subscribers = self.hub.channel(&name).ok().flatten().map_or(0, |c| c.subscribers);
            let data = serde_json::json!({
                "channel": String::from_utf8_lossy(&name),
                "came": came,
                "went": went,
                "subscribers": subscribers,
            });
            // A hub that is locked or full of channels loses this news; the next has the counts.
            if self.publish_own(CHANNEL, data.to_string().as_bytes(), now).is_err() {
                break;
            }
        }
    }
}
