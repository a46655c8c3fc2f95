//! The holder's side of a handover of the subscription to another process.

use std::time::Duration;

use tokio::time::Instant;

use crate::hub::LeaseError;
use crate::redis::context::LogLevel;
use crate::redis::ended::Ended;
use crate::redis::inbox::Push;
use crate::redis::phase::Phase;
use crate::redis::session::handover_steps::{
    HandoverHolder, HandoverStage, HandoverStep, HolderView, UnreadChannels,
};
use crate::redis::session::Session;
use crate::redis::subscription_table::{FollowedChannel, SubscriptionState};

/// How long its marker may wait for channels that are being looked up; shorter than the successor
/// waits for the marker.
const MARKER_WAITS: Duration = Duration::from_secs(1);

impl Session {
    /// Returns whether the set of channels must not change, because a successor subscribes to the
    /// same ones.
    pub(in crate::redis) fn is_frozen(&self) -> bool {
        self.handover.as_ref().is_some_and(|handover| {
            matches!(handover.stage, HandoverStage::Waits(_) | HandoverStage::Frozen(_))
        })
    }

    /// Returns whether the hub counts the messages that are appended, for a successor.
    pub(in crate::redis) fn counts_for_successor(&self) -> bool {
        self.handover
            .as_ref()
            .is_some_and(|handover| matches!(handover.stage, HandoverStage::Frozen(_)))
    }

    /// Returns whether a message is the marker that a successor waits for.
    pub(in crate::redis) fn is_marker(&self, push: &Push) -> bool {
        let Push::Message { subject, payload } = push else { return false };
        let Some(HandoverHolder { stage: HandoverStage::Frozen(successor), .. }) = self.handover
        else {
            return false;
        };
        *subject == self.context.names.control() && *payload == successor.to_string().into_bytes()
    }

    /// Returns whether the marker has to wait: the successor looks up doubtful messages after it,
    /// but none before it.
    pub(in crate::redis) fn holds_marker(&self) -> bool {
        let since = self.handover.and_then(|handover| handover.marker);
        since.is_some_and(|since| since.elapsed() < MARKER_WAITS) && !self.strays.is_settled()
    }

    /// Handles the marker, which is the next message. Returns false if it has to wait.
    pub(in crate::redis) async fn reach_marker(&mut self) -> Result<bool, Ended> {
        if let Some(handover) = &mut self.handover {
            handover.marker.get_or_insert(Instant::now());
        }
        if self.holds_marker() {
            return Ok(false);
        }
        if !self.strays.is_settled() {
            self.give_up_strays().await?;
        }
        self.request_pattern_gaps().await?;
        Ok(true)
    }

    /// Handles the phase of the process: starts a handover when it quits.
    pub(in crate::redis) async fn retire(&mut self, phase: Phase) -> Result<(), Ended> {
        match phase {
            Phase::Serving => Ok(()),
            Phase::Stopping => Err(Ended::Stopped),
            Phase::Retiring { patience } => {
                let begin = || HandoverHolder::new(Instant::now(), patience);
                self.handover.get_or_insert_with(begin);
                Ok(())
            }
        }
    }

    /// Advances the handover; called every few milliseconds.
    pub(in crate::redis) async fn continue_handover(&mut self) -> Result<(), Ended> {
        let Some(handover) = self.handover else { return Ok(()) };
        let hub = &self.context.hub;
        if !hub.holds_token(self.holder.fence) {
            return Err(Ended::Fenced);
        }
        let view = HolderView {
            now: Instant::now(),
            successor: hub.successor(),
            has_others: hub.has_others(&[self.holder.claim]),
            unread: self.unread(),
        };
        match handover.step(view) {
            HandoverStep::Wait => Ok(()),
            HandoverStep::Leave => Err(Ended::Retired),
            HandoverStep::Announce => self.announce_retirement().await,
            HandoverStep::Admit(successor) => {
                self.enter_stage(HandoverStage::Waits(successor));
                Ok(())
            }
            HandoverStep::Freeze(successor) => self.freeze(successor).await,
            HandoverStep::ThawIfGone => self.thaw_without_successor().await,
        }
    }

    fn unread(&self) -> UnreadChannels {
        let is_subscribing = self.in_progress > 0 || !self.wanted.is_empty();
        if self.catch_ups.is_long() {
            UnreadChannels::Long
        } else if is_subscribing || !self.catch_ups.is_idle() {
            UnreadChannels::Brief
        } else if !self.strays.is_settled() {
            UnreadChannels::Lookups
        } else {
            UnreadChannels::Nothing
        }
    }

    fn enter_stage(&mut self, stage: HandoverStage) {
        if let Some(handover) = &mut self.handover {
            handover.enter(stage, Instant::now());
        }
    }

    /// Announces that this process wants to leave.
    async fn announce_retirement(&mut self) -> Result<(), Ended> {
        let (hub, fence) = (&self.context.hub, self.holder.fence);
        self.with_lock(|| hub.retire(fence)).await?;
        if let Some(handover) = &mut self.handover {
            handover.announce(Instant::now());
        }
        Ok(())
    }

    /// Freezes the subscription: the successor gets the channels that are in sync.
    async fn freeze(&mut self, successor: u64) -> Result<(), Ended> {
        let (hub, fence) = (self.context.hub.clone(), self.holder.fence);
        self.append_held().await?;
        self.end_interruptions().await?;
        for name in self.doubtful_channels() {
            // The successor reads their streams.
            self.set_out_of_sync(&name).await?;
        }
        let stays = |channel: &FollowedChannel| matches!(channel.state, SubscriptionState::InSync);
        let others = self.channels.values_mut().filter(|channel| !stays(channel));
        let (mut members, mut unread) = (Vec::new(), 0);
        for channel in others {
            unread += usize::from(!matches!(channel.state, SubscriptionState::Refused { .. }));
            members.push(channel.member);
        }
        self.log_unread(unread);
        for member in members {
            // Other processes do not request channels that this process has joined, so all of these
            // are left.
            self.with_lock(|| hub.leave(member)).await?;
        }
        self.channels.retain(|channel| stays(channel));
        self.wanted.clear();
        self.catch_ups.stop();
        self.with_lock(|| hub.freeze(fence, successor)).await?;
        self.enter_stage(HandoverStage::Frozen(successor));
        Ok(())
    }

    fn log_unread(&self, channels: usize) {
        if channels == 0 {
            return;
        }
        self.context.log(
            LogLevel::Notice,
            format_args!(
                "handing the subscription in Redis over before {} caught up; plain messages of \
                 these channels may be lost",
                match channels {
                    1 => "a channel has".to_owned(),
                    _ => format!("{channels} channels have"),
                }
            ),
        );
    }

    /// If the successor has died, this process continues until there is another one.
    async fn thaw_without_successor(&mut self) -> Result<(), Ended> {
        let (hub, fence) = (self.context.hub.clone(), self.holder.fence);
        let Some(held) = hub.try_succeed() else { return Ok(()) };
        match hub.forget_successor(fence, &held) {
            Ok(()) => {}
            Err(LeaseError::Fenced) => return Err(Ended::Fenced),
            Err(LeaseError::Busy(_)) => return Ok(()),
        }
        drop(held);
        self.enter_stage(HandoverStage::Announced);
        let names = self.channels_with_streams().await?;
        self.want(names).await
    }
}
