//! Streams of several channels that wait until one of the channels has caught up with Redis.
//!
//! The id of the last event that a client has received shows what it has received of all its
//! channels. While events of one channel are being fetched, such a stream receives none of the
//! others that are appended meanwhile. Afterwards it reads all of them from the hub, in the order
//! of their ids. Streams of patterns are streams of several channels, too. A stream of one channel
//! never waits.
//!
//! Which channels are catching up is read in the log, so that nothing is sent that comes after.

use super::directory::Directory;
use super::keys::{ChannelKey, StreamKey};
use super::socket::Socket;
use super::stream::Subscription;
use super::Worker;
use crate::hub::pattern_of;

impl Directory {
    /// Returns whether a stream of these channels has to wait.
    pub fn holds_back(&self, channels: &[Subscription]) -> bool {
        let is_catching_up = || self.of(channels).any(|channel| channel.is_catching_up);
        is_catching_up() && self.has_several(channels)
    }

    /// Returns whether a stream of these channels or patterns receives events of several channels.
    pub fn has_several(&self, channels: &[Subscription]) -> bool {
        channels.len() > 1 || self.of(channels).any(|one| pattern_of(&one.name).is_some())
    }
}

impl<S: Socket> Worker<S> {
    /// Returns whether a stream receives events of several channels.
    pub(super) fn has_several(&self, key: StreamKey) -> bool {
        let stream = self.streams.get(key);
        stream.is_some_and(|stream| self.directory.has_several(stream.channels.as_slice()))
    }

    /// Makes the channel's streams of several channels wait.
    pub(super) fn set_catching_up(&mut self, key: ChannelKey) {
        if let Some(channel) = self.directory.get_mut(key) {
            channel.is_catching_up = true;
        }
    }

    /// Lets the channel's streams of several channels go on.
    pub(super) fn set_caught_up(&mut self, key: ChannelKey, position: u64) {
        let Some(channel) = self.directory.get_mut(key) else { return };
        if std::mem::take(&mut channel.is_catching_up) {
            self.skip_cache(key, position);
        }
    }

    /// Finds out again which channels are catching up, because log entries were overwritten before
    /// this process had read them.
    pub(super) fn look_whether_catching_up(&mut self, key: ChannelKey) {
        let Some(channel) = self.directory.get_mut(key) else { return };
        channel.is_catching_up = self.hub.are_catching_up(&[channel.membership]);
        // This may already reflect entries that are still to be read.
        self.settled_at = self.hub.head();
    }
}
