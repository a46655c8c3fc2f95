//! Doubtful messages: they read as the publish script's and lack the hub's token. Somebody forged them, or
//! the token has been lost in Redis; the channel's stream knows which.

use std::collections::vec_deque::Iter;

use crate::hub::ReportedId;
use crate::redis::ended::Ended;
use crate::redis::inbox::Push;
use crate::redis::session::catch_up_in_order::MissedChannel;
use crate::redis::session::Session;
use crate::redis::subscription_table::{FollowedChannel, SubscriptionState};

/// Streams that are read at once in a second at most, since everything waits meanwhile. Others are read together
/// afterwards.
const AT_ONCE: u32 = 100;

impl Session {
    /// A doubtful message of a channel has come, with this id, before these messages.
    pub(in crate::redis) async fn doubt(
        &mut self,
        name: &[u8],
        id: ReportedId,
        later: Iter<'_, Push>,
    ) -> Result<(), Ended> {
        // While a holder and its successor count together nothing is held back.
        let may_be_asked = !self.is_frozen() && !self.repeats.skips();
        let may_be_asked_now = may_be_asked && self.asked_at_once < AT_ONCE;
        let fence = self.tenant.fence;
        let Some(channel) = self.named(name) else { return self.doubt_stray(name, id) };
        let member = channel.member;
        // Its stream may have started over, together with the loss of the token.
        let is_behind = id <= channel.last;
        channel.is_rewound |= is_behind;
        let at_once = channel.is_doubted(may_be_asked_now);
        if at_once {
            self.asked_at_once += 1;
            // Together with others, or their events would be appended after later ones.
            let mut open = self.doubtful_channels();
            open.push((name.into(), Vec::new()));
            self.catch_up_in_order(open, later).await
        } else if may_be_asked {
            Ok(())
        } else {
            // If this process does not come to it, the next one that holds the subscription does.
            self.with_lock(|| self.joined.hub.set_out_of_sync(fence, member)).await
        }
    }

    /// The same before live messages are taken: its stream is asked when all channels are in step.
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

    /// Has a channel's stream read, by this process or the next holder, because an event that was taken for a
    /// repetition may be the first one of a stream that has started over. It is not if the hub has it.
    pub(in crate::redis) async fn doubt_repetition(
        &mut self,
        name: &[u8],
        id: ReportedId,
    ) -> Result<(), Ended> {
        let (is_frozen, fence) = (self.is_frozen(), self.tenant.fence);
        let Some(member) = self.named(name).map(|channel| channel.member) else { return Ok(()) };
        if self.with_lock(|| self.joined.hub.has_event(member, id)).await? {
            return Ok(());
        }
        if let Some(channel) = self.named(name) {
            channel.is_doubted(false);
            channel.is_rewound = true;
        }
        if is_frozen {
            self.with_lock(|| self.joined.hub.set_out_of_sync(fence, member)).await?;
        }
        Ok(())
    }

    /// The channel, if its messages come by its own name.
    fn named(&mut self, name: &[u8]) -> Option<&mut FollowedChannel> {
        self.channels.get_mut(name).filter(|channel| channel.comes_by_name())
    }

    /// Asks the streams of channels of which doubtful messages have come since they were last asked.
    pub(in crate::redis) async fn settle_doubts(&mut self) -> Result<(), Ended> {
        self.asked_at_once = 0;
        if self.is_frozen() || self.repeats.skips() {
            return Ok(());
        }
        let open = self.doubtful_channels();
        self.catch_up_in_order(open, Iter::default()).await
    }

    /// Takes the channels that are in doubt, and in sync otherwise.
    fn doubtful_channels(&mut self) -> Vec<MissedChannel> {
        let mut open = Vec::new();
        for (name, channel) in self.channels.iter_mut() {
            if channel.is_doubtful && matches!(channel.state, SubscriptionState::InStep) {
                channel.is_doubtful = false;
                open.push((name.clone(), Vec::new()));
            }
        }
        open
    }
}
