//! What an administrator asks of a channel, and the module's own channels.

use super::socket::Socket;
use super::Worker;
use crate::hub::{Locked, NewEvent, Now, PublishError};

/// How often the figures are published to those who watch them, in ms.
const FEED: u64 = 1000;
/// The channel of the figures.
pub const STATUS_CHANNEL: &[u8] = b"sse.status";

impl<S: Socket> Worker<S> {
    /// Ends all streams of a channel, on all processes. Returns how many; `None` if there is no such
    /// channel. This process has to take a turn afterwards.
    pub fn end_streams(&mut self, channel: &[u8], now: Now) -> Result<Option<u64>, Locked> {
        let Some((streams, listeners)) = self.hub.end_streams(channel)? else { return Ok(None) };
        self.ring(&listeners, now);
        Ok(Some(streams))
    }

    /// Whether this process is to publish the figures now: somebody watches them here, and no other
    /// process has published them within the last second.
    pub fn feed_is_due(&self, now: Now) -> bool {
        self.by_name.contains_key(STATUS_CHANNEL) && self.hub.feed_is_due(FEED, now)
    }

    /// Publishes on one of the module's own channels.
    pub fn publish_own(
        &mut self,
        channel: &[u8],
        data: &[u8],
        now: Now,
    ) -> Result<(), PublishError> {
        let event = NewEvent { event_type: b"", data };
        let published = self.hub.publish_own(channel, event, now)?;
        self.ring(&published.listeners, now);
        Ok(())
    }
}
