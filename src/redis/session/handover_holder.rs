//! The holder's side of a handover of the subscription to another process.

use std::time::Duration;

use tokio::time::Instant;

use crate::hub::LeaseError;
use crate::redis::ended::Ended;
use crate::redis::inbox::Push;
use crate::redis::phase::Phase;
use crate::redis::session::Session;
use crate::redis::subscription_table::{FollowedChannel, SubscriptionState};

/// How long the holder waits for a successor, and how long the successor may take.
const WAIT: Duration = Duration::from_secs(3);
const SUCCESSOR: Duration = Duration::from_secs(15);
/// How long a successor waits for channels that are being subscribed to or looked up.
const SETTLE: Duration = Duration::from_millis(200);
/// How long its marker may wait for channels that are being looked up; shorter than the successor
/// waits for the marker.
const MARKER_WAITS: Duration = Duration::from_secs(1);

/// The state of a handover on the holder's side.
#[derive(Clone, Copy)]
pub struct HandoverHolder {
    since: Instant,
    successor: SuccessorState,
    /// When the successor's marker arrived.
    marker: Option<Instant>,
}

/// The state of the successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SuccessorState {
    /// There is none yet.
    None,
    /// It waits for channels that are being subscribed to or looked up; no others are subscribed
    /// to.
    Waits(u64, Instant),
    /// The subscription does not change any more.
    Frozen(u64),
}

/// What a holder that is about to exit observes.
#[derive(Clone, Copy, Debug)]
struct Sight {
    now: Instant,
    /// The successor that has announced itself.
    successor: Option<u64>,
    /// Whether another process can take the subscription over.
    has_others: bool,
    /// Whether no channel is being subscribed to or looked up.
    is_settled: bool,
}

/// The next step of a handover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing for now.
    Wait,
    /// Exit without a handover.
    Leave,
    /// Admit a successor: from now on, no channel is subscribed to or left.
    Admit(u64),
    /// Hand the channels that are in sync over.
    Freeze(u64),
    /// If the successor has died, continue until there is another one.
    ThawIfGone,
}

impl HandoverHolder {
    /// Decides what happens next.
    fn step(&self, sight: Sight) -> Step {
        let elapsed = |since: Instant| sight.now.saturating_duration_since(since);
        let longest = if self.successor == SuccessorState::None { WAIT } else { SUCCESSOR };
        if elapsed(self.since) > longest || !sight.has_others {
            return Step::Leave;
        }
        match (self.successor, sight.successor) {
            (SuccessorState::None, None) => Step::Wait,
            (SuccessorState::Waits(known, since), Some(successor)) if known == successor => {
                if sight.is_settled || elapsed(since) >= SETTLE {
                    Step::Freeze(successor)
                } else {
                    Step::Wait
                }
            }
            (SuccessorState::Frozen(known), Some(successor)) if known == successor => {
                Step::ThawIfGone
            }
            (_, Some(successor)) => Step::Admit(successor),
            (_, None) => Step::ThawIfGone,
        }
    }
}

impl Session {
    /// Returns whether the set of channels must not change, because a successor subscribes to the
    /// same ones.
    pub(in crate::redis) fn is_frozen(&self) -> bool {
        self.handover
            .as_ref()
            .is_some_and(|handover| !matches!(handover.successor, SuccessorState::None))
    }

    /// Returns whether the hub counts the messages that are appended, for a successor.
    pub(in crate::redis) fn counts_for_successor(&self) -> bool {
        self.handover
            .as_ref()
            .is_some_and(|handover| matches!(handover.successor, SuccessorState::Frozen(_)))
    }

    /// Returns whether a message is the marker that a successor waits for.
    pub(in crate::redis) fn is_marker(&self, push: &Push) -> bool {
        let Push::Message { subject, payload } = push else { return false };
        let Some(HandoverHolder { successor: SuccessorState::Frozen(successor), .. }) =
            self.handover
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
            Phase::Retiring => {
                let (hub, fence) = (&self.context.hub, self.holder.fence);
                self.with_lock(|| hub.retire(fence)).await?;
                self.handover = Some(HandoverHolder {
                    since: Instant::now(),
                    successor: SuccessorState::None,
                    marker: None,
                });
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
        let sight = Sight {
            now: Instant::now(),
            successor: hub.successor(),
            has_others: hub.has_others(&[self.holder.claim]),
            is_settled: !self.is_subscribing() && self.strays.is_settled(),
        };
        match handover.step(sight) {
            Step::Wait => Ok(()),
            Step::Leave => Err(Ended::Retired),
            Step::Admit(successor) => {
                self.set_successor(SuccessorState::Waits(successor, sight.now));
                Ok(())
            }
            Step::Freeze(successor) => self.freeze(successor).await,
            Step::ThawIfGone => self.thaw_without_successor().await,
        }
    }

    fn is_subscribing(&self) -> bool {
        self.in_progress > 0 || self.catch_ups.is_beginning()
    }

    fn set_successor(&mut self, successor: SuccessorState) {
        if let Some(handover) = &mut self.handover {
            (handover.successor, handover.marker) = (successor, None);
        }
    }

    /// Freezes the subscription: the successor gets the channels that are in sync.
    async fn freeze(&mut self, successor: u64) -> Result<(), Ended> {
        let (hub, fence) = (self.context.hub.clone(), self.holder.fence);
        self.append_held().await?;
        self.end_interruptions().await?;
        let stays = |channel: &FollowedChannel| matches!(channel.state, SubscriptionState::InSync);
        let others = self.channels.values_mut().filter(|channel| !stays(channel));
        let members: Vec<_> = others.map(|channel| channel.member).collect();
        for member in members {
            // Other processes do not request channels that this process has joined, so all of these
            // are left.
            self.with_lock(|| hub.leave(member)).await?;
        }
        self.channels.retain(|channel| stays(channel));
        self.wanted.clear();
        self.catch_ups.stop();
        self.with_lock(|| hub.freeze(fence, successor)).await?;
        self.set_successor(SuccessorState::Frozen(successor));
        Ok(())
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
        self.set_successor(SuccessorState::None);
        let names = self.channels_with_streams().await?;
        self.want(names).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_waits_for_a_successor_and_for_what_is_unsettled_but_not_for_ever() {
        let start = Instant::now();
        let came = start + Duration::from_secs(1);
        let (none, waits, frozen) =
            (SuccessorState::None, SuccessorState::Waits(7, came), SuccessorState::Frozen(7));
        let moment = Duration::from_millis(10);
        let (soon, settled) = (came + moment, came + SETTLE);
        let (late, too_late) = (start + WAIT + moment, start + SUCCESSOR + moment);
        // What the holder knows, when, the successor, whether all is settled; what it does.
        let table = [
            (none, soon, None, true, Step::Wait),
            (none, late, None, true, Step::Leave),
            (none, soon, Some(7), true, Step::Admit(7)),
            (none, late, Some(7), true, Step::Leave),
            (waits, soon, Some(7), false, Step::Wait),
            (waits, soon, Some(7), true, Step::Freeze(7)),
            (waits, settled, Some(7), false, Step::Freeze(7)),
            (waits, late, Some(7), true, Step::Freeze(7)),
            (waits, too_late, Some(7), true, Step::Leave),
            (waits, settled, Some(8), true, Step::Admit(8)),
            (waits, soon, None, true, Step::ThawIfGone),
            (frozen, late, Some(7), true, Step::ThawIfGone),
            (frozen, late, Some(8), true, Step::Admit(8)),
            (frozen, late, None, false, Step::ThawIfGone),
            (frozen, too_late, Some(7), true, Step::Leave),
        ];
        for (state, now, successor, is_settled, wanted) in table {
            let holder = HandoverHolder { since: start, successor: state, marker: None };
            let sight = Sight { now, successor, has_others: true, is_settled };
            assert_eq!(holder.step(sight), wanted, "{state:?} {sight:?}");
            let alone = Sight { has_others: false, ..sight };
            assert_eq!(holder.step(alone), Step::Leave, "{state:?}");
        }
    }
}
