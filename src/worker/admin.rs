//! Commands of an administrator, and the module's own channels.

use super::socket::Socket;
use super::Worker;
use crate::hub::{Forgotten, Locked, NewEvent, Now, PublishError};

/// Interval in ms at which figures are published to streams that watch them.
const FEED_INTERVAL: u64 = 1000;
/// The channel of the hub's figures.
pub const STATUS_CHANNEL: &[u8] = b"sse.status";
/// The channel of all hubs' figures; one of the hubs carries it.
pub const ALL_STATUS_CHANNEL: &[u8] = b"sse.status.all";

/// Whether a channel carries figures.
pub(super) fn is_status(channel: &[u8]) -> bool {
    channel == STATUS_CHANNEL || channel == ALL_STATUS_CHANNEL
}

impl<S: Socket> Worker<S> {
    /// Ends all streams of a channel, in all processes. Returns their number, or `None` if the
    /// channel does not exist. This process must take a turn afterwards.
    pub fn end_streams(&mut self, channel: &[u8], now: Now) -> Result<Option<u64>, Locked> {
        let Some((streams, listeners)) = self.hub.end_streams(channel)? else { return Ok(None) };
        self.wake(&listeners, now);
        Ok(Some(streams))
    }

    /// Deletes the events of a channel; their memory is freed in later turns. Returns `None` if the
    /// channel does not exist. This process must take a turn afterwards.
    pub fn forget_channel(&mut self, name: &[u8], now: Now) -> Result<Option<Forgotten>, Locked> {
        let forgotten = self.hub.forget_channel(name, now)?;
        self.upkeep.require_freeing();
        Ok(forgotten)
    }

    /// Deletes the events of a channel, unless an event was appended after a position of the log.
    pub fn forget_up_to(&mut self, name: &[u8], position: u64, now: Now) -> Result<(), Locked> {
        self.hub.forget_up_to(name, position, now)?;
        self.upkeep.require_freeing();
        Ok(())
    }

    /// Whether this process is to publish the figures now: a stream of this process watches them,
    /// and no process has published them within the last second.
    pub fn feed_is_due(&self, now: Now) -> bool {
        let here = |channel: &[u8]| self.directory.by_name(channel).is_some();
        (here(STATUS_CHANNEL) || here(ALL_STATUS_CHANNEL))
            && self.hub.feed_is_due(FEED_INTERVAL, now)
    }

    /// Whether the hub's lock is not available. Waits for it at most as long as the opening of a
    /// stream does.
    pub fn is_locked(&self) -> bool {
        self.hub.channel(STATUS_CHANNEL).is_err()
    }

    /// Whether a channel has subscribers on this nginx.
    pub fn has_watchers(&self, channel: &[u8]) -> bool {
        let known = self.hub.channel(channel).ok().flatten();
        known.is_some_and(|channel| channel.subscribers > 0)
    }

    /// Publishes figures, replacing earlier ones, which are of no use any more.
    pub fn publish_figures(
        &mut self,
        channel: &[u8],
        data: &[u8],
        now: Now,
    ) -> Result<(), PublishError> {
        let event = NewEvent { event_type: b"", data };
        let published = self.hub.publish_latest(channel, event, now)?;
        self.wake(&published.listeners, now);
        Ok(())
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
        self.wake(&published.listeners, now);
        Ok(())
    }
}
