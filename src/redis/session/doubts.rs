//! Doubtful messages look like durable events, but lack the hub's token. Either they are forged, or
//! Redis has lost the token; the channel's stream shows which.

use crate::hub::ReportedId;
use crate::redis::ended::Ended;
use crate::redis::session::Session;
use crate::redis::subscription_table::{FollowedChannel, SubscriptionState};

/// Maximum number of streams that are read at once in a second, because anybody who may publish can
/// send such messages. Others are read together afterwards.
const AT_ONCE: u32 = 100;

impl Session {
    /// Handles a doubtful message of a channel, with this id.
    pub(in crate::redis) async fn doubt(
        &mut self,
        name: &[u8],
        id: ReportedId,
    ) -> Result<(), Ended> {
        // While a holder and its successor count messages together, none is held back.
        let may_be_asked = !self.is_frozen() && !self.repeats.skips();
        let may_be_asked_now = may_be_asked && self.read_at_once < AT_ONCE;
        let Some(channel) = self.named(name) else { return self.doubt_stray(name, id) };
        // Its stream may have started over, together with the loss of the token.
        let is_behind = id <= channel.last;
        channel.is_rewound |= is_behind;
        let at_once = channel.is_doubted(may_be_asked_now);
        if at_once {
            self.read_at_once += 1;
            self.catch_up_again(name, Vec::new()).await
        } else if may_be_asked {
            Ok(())
        } else {
            // Its stream is read by this process, or by the next holder.
            self.set_out_of_sync(name).await
        }
    }

    /// Handles a doubtful message that arrived before live messages are processed: its stream is
    /// read once all channels are in sync.
    pub(in crate::redis) fn doubt_later(
        &mut self,
        name: &[u8],
        id: ReportedId,
    ) -> Result<(), Ended> {
        let Some(channel) = self.named(name) else { return self.doubt_stray(name, id) };
        channel.is_doubted(false);
        channel.is_rewound |= id <= channel.last;
        Ok(())
    }

    /// Requests that a channel's stream is read, by this process or the next holder: an event
    /// that was treated as a repetition may be the first one of a stream that has started over,
    /// unless the hub has it.
    pub(in crate::redis) async fn doubt_repetition(
        &mut self,
        name: &[u8],
        id: ReportedId,
    ) -> Result<(), Ended> {
        let is_frozen = self.is_frozen();
        let Some(member) = self.named(name).map(|channel| channel.member) else { return Ok(()) };
        if self.with_lock(|| self.context.hub.has_event(member, id)).await? {
            return Ok(());
        }
        if let Some(channel) = self.named(name) {
            channel.is_doubted(false);
            channel.is_rewound = true;
        }
        if is_frozen {
            self.set_out_of_sync(name).await?;
        }
        Ok(())
    }

    /// Returns the channel if it has a subscription of its own.
    fn named(&mut self, name: &[u8]) -> Option<&mut FollowedChannel> {
        self.channels.get_mut(name).filter(|channel| channel.is_subscribed_by_name())
    }

    /// Reads the streams of channels with doubtful messages since they were last read.
    pub(in crate::redis) async fn settle_doubts(&mut self) -> Result<(), Ended> {
        self.read_at_once = 0;
        if self.is_frozen() || self.repeats.skips() {
            return Ok(());
        }
        let mut open = Vec::new();
        for name in self.doubtful_channels() {
            open.extend(self.interrupt(&name, Vec::new()).await?);
        }
        self.catch_up(open);
        Ok(())
    }

    /// Reads a channel that has caught up once more if doubtful messages have arrived meanwhile.
    pub(in crate::redis) async fn settle_doubt(&mut self, name: &[u8]) -> Result<(), Ended> {
        if self.is_frozen() || self.repeats.skips() || self.read_at_once >= AT_ONCE {
            return Ok(());
        }
        let Some(channel) = self.named(name).filter(|channel| channel.is_doubtful) else {
            return Ok(());
        };
        channel.is_doubtful = false;
        self.read_at_once += 1;
        self.catch_up_again(name, Vec::new()).await
    }

    /// Removes and returns the channels that are in doubt, but otherwise in sync.
    pub(in crate::redis) fn doubtful_channels(&mut self) -> Vec<Box<[u8]>> {
        let mut open = Vec::new();
        for (name, channel) in self.channels.iter_mut() {
            if channel.is_doubtful && matches!(channel.state, SubscriptionState::InSync) {
                channel.is_doubtful = false;
                open.push(name.clone());
            }
        }
        open
    }
}
