//! Presence events: publishes on a channel of the hub how many streams of other channels were
//! opened and closed.

use std::collections::{HashMap, VecDeque};

use super::socket::Socket;
use super::Worker;
use crate::hub::{pattern_of, Now, PublishError};
use crate::sse::channel::is_own;

/// The channel on which presence events are published.
pub const CHANNEL: &[u8] = b"sse.presence";

/// Maximum number of presence events in one turn.
const CHANNELS: usize = 64;

/// Presence changes that have not been published yet.
#[derive(Debug, Default)]
pub enum Presence {
    /// Presence events are disabled.
    #[default]
    Off,
    /// Presence events are enabled.
    On(PendingPresence),
}

/// Numbers of streams opened and closed.
type StreamChanges = (u64, u64);

/// Changes by channel, in the order in which each channel first changed.
#[derive(Debug, Default)]
pub struct PendingPresence {
    names: VecDeque<Box<[u8]>>,
    counts: HashMap<Box<[u8]>, StreamChanges>,
    /// Number of channels, counted from the first, whose changes are due.
    due: usize,
}

impl Presence {
    /// Returns the value for a process that publishes presence events.
    pub fn enabled() -> Presence {
        Presence::On(PendingPresence::default())
    }

    /// Records that a stream of these channels was opened.
    pub fn opened<'a>(&mut self, names: impl Iterator<Item = &'a Box<[u8]>>) {
        names.for_each(|name| self.add(name, 1, 0));
    }

    /// Records that this many streams of a channel were closed.
    pub fn closed(&mut self, name: &[u8], streams: u64) {
        self.add(name, 0, streams);
    }

    /// Records the streams that were lost with their processes.
    pub fn lost(&mut self, lost: &[(Vec<u8>, u64)]) {
        lost.iter().for_each(|(name, streams)| self.closed(name, *streams));
    }

    fn add(&mut self, name: &[u8], came: u64, went: u64) {
        let Presence::On(pending) = self else { return };
        // Streams of patterns belong to no particular channel.
        if is_own(name) || pattern_of(name).is_some() {
            return;
        }
        let counts = pending.counts.entry(name.into()).or_insert_with(|| {
            pending.names.push_back(name.into());
            (0, 0)
        });
        counts.0 += came;
        counts.1 += went;
    }

    /// Makes all changes that are known now due.
    pub(super) fn make_due(&mut self) {
        if let Presence::On(pending) = self {
            pending.due = pending.names.len();
        }
    }

    /// Removes and returns the next channel that is due, with its changes.
    fn next(&mut self) -> Option<(Box<[u8]>, StreamChanges)> {
        let Presence::On(pending) = self else { return None };
        pending.due = pending.due.checked_sub(1)?;
        let name = pending.names.pop_front()?;
        let counts = pending.counts.remove(&name)?;
        Some((name, counts))
    }

    /// Postpones what is due to the next tick.
    fn postpone(&mut self) {
        if let Presence::On(pending) = self {
            pending.due = 0;
        }
    }

    fn is_due(&self) -> bool {
        matches!(self, Presence::On(pending) if pending.due > 0)
    }
}

impl<S: Socket> Worker<S> {
    /// Publishes what is due, one event for each channel, for a bounded number of channels. Returns
    /// whether there is more.
    pub(super) fn publish_presence(&mut self, now: Now) -> bool {
        for _ in 0..CHANNELS {
            let Some((name, (came, went))) = self.presence.next() else { return false };
            match self.publish_presence_event(&name, came, went, now) {
                Ok(()) => {}
                Err(PublishError::Busy(_) | PublishError::Crowded) => {
                    self.presence.add(&name, came, went);
                    self.presence.postpone();
                }
                // If the hub is too full, these changes are dropped; the next event has the current
                // count of subscribers.
                Err(PublishError::TooLarge | PublishError::NoRoom) => self.presence.postpone(),
            }
        }
        self.presence.is_due()
    }

    fn publish_presence_event(
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
