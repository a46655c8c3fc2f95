//! A holder of the subscription leaves it to another process: its side of the takeover.

use std::time::Duration;

use tokio::time::Instant;

use crate::hub::LeaseError;
use crate::redis::ended::Ended;
use crate::redis::inbox::Push;
use crate::redis::phase::Phase;
use crate::redis::session::Session;
use crate::redis::subscription_table::{FollowedChannel, SubscriptionState};

/// How long a successor is waited for, and how long one that has come may take.
const WAIT: Duration = Duration::from_secs(3);
const HEIR: Duration = Duration::from_secs(15);
/// How long a successor waits for channels that are being joined or looked up.
const SETTLE: Duration = Duration::from_millis(200);
/// How long its marker may wait for channels that are being looked up: shorter than it waits itself.
const MARKER_WAITS: Duration = Duration::from_secs(1);

/// How far a holder that wants to leave has come.
#[derive(Clone, Copy)]
pub struct HandoverHolder {
    since: Instant,
    heir: Heir,
    /// Since when the successor's marker has been there.
    marker: Option<Instant>,
}

/// The successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heir {
    /// None has come.
    None,
    /// It waits for channels that are being joined or looked up; no others are joined.
    Waits(u64, Instant),
    /// The subscription stays as it is.
    Frozen(u64),
}

/// What a holder that wants to leave sees.
#[derive(Clone, Copy, Debug)]
struct Sight {
    now: Instant,
    /// The successor that has come.
    successor: Option<u64>,
    /// Whether another process can take the subscription over.
    has_others: bool,
    /// Whether no channel is being joined or looked up.
    is_settled: bool,
}

/// What a holder that wants to leave does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing for now.
    Wait,
    /// It leaves without having handed over.
    Leave,
    /// A successor has come: from now on no channel is joined or left.
    Admit(u64),
    /// It lets the successor have the channels that are in step.
    Freeze(u64),
    /// If the successor is gone, it goes on until another comes.
    ThawIfGone,
}

impl HandoverHolder {
    /// Decides what happens next.
    fn step(&self, sight: Sight) -> Step {
        let elapsed = |since: Instant| sight.now.saturating_duration_since(since);
        let longest = if self.heir == Heir::None { WAIT } else { HEIR };
        if elapsed(self.since) > longest || !sight.has_others {
            return Step::Leave;
        }
        match (self.heir, sight.successor) {
            (Heir::None, None) => Step::Wait,
            (Heir::Waits(known, since), Some(heir)) if known == heir => {
                if sight.is_settled || elapsed(since) >= SETTLE {
                    Step::Freeze(heir)
                } else {
                    Step::Wait
                }
            }
            (Heir::Frozen(known), Some(heir)) if known == heir => Step::ThawIfGone,
            (_, Some(heir)) => Step::Admit(heir),
            (_, None) => Step::ThawIfGone,
        }
    }
}

impl Session {
    /// Whether no channel is to be joined or left, for a successor that subscribes to the same.
    pub(in crate::redis) fn is_frozen(&self) -> bool {
        self.retiring.as_ref().is_some_and(|retiring| !matches!(retiring.heir, Heir::None))
    }

    /// Whether a successor counts what is appended.
    pub(in crate::redis) fn counts_for_heir(&self) -> bool {
        self.retiring.as_ref().is_some_and(|retiring| matches!(retiring.heir, Heir::Frozen(_)))
    }

    /// Whether a message is the marker that a successor waits for.
    pub(in crate::redis) fn is_marker(&self, push: &Push) -> bool {
        let Push::Message { subject, payload } = push else { return false };
        let Some(HandoverHolder { heir: Heir::Frozen(heir), .. }) = self.retiring else {
            return false;
        };
        *subject == self.joined.names.control() && *payload == heir.to_string().into_bytes()
    }

    /// Whether the marker waits: the successor looks up what is doubtful behind it, and nothing before it.
    pub(in crate::redis) fn keeps_marker(&self) -> bool {
        let since = self.retiring.and_then(|retiring| retiring.marker);
        since.is_some_and(|since| since.elapsed() < MARKER_WAITS) && !self.strays.is_settled()
    }

    /// The marker is next. False: it has to wait.
    pub(in crate::redis) async fn comes_to_marker(&mut self) -> Result<bool, Ended> {
        if let Some(retiring) = &mut self.retiring {
            retiring.marker.get_or_insert(Instant::now());
        }
        if self.keeps_marker() {
            return Ok(false);
        }
        if !self.strays.is_settled() {
            self.give_up_strays().await?;
        }
        self.tell_gaps_of_patterns().await?;
        Ok(true)
    }

    /// The process is told to quit, or to end.
    pub(in crate::redis) async fn retire(&mut self, phase: Phase) -> Result<(), Ended> {
        match phase {
            Phase::Serving => Ok(()),
            Phase::Stopping => Err(Ended::Stopped),
            Phase::Retiring => {
                let (hub, fence) = (&self.joined.hub, self.tenant.fence);
                self.with_lock(|| hub.retire(fence)).await?;
                self.retiring =
                    Some(HandoverHolder { since: Instant::now(), heir: Heir::None, marker: None });
                Ok(())
            }
        }
    }

    /// One step further, every few milliseconds.
    pub(in crate::redis) async fn retire_further(&mut self) -> Result<(), Ended> {
        let Some(retiring) = self.retiring else { return Ok(()) };
        let hub = &self.joined.hub;
        if !hub.holds_token(self.tenant.fence) {
            return Err(Ended::Fenced);
        }
        let sight = Sight {
            now: Instant::now(),
            successor: hub.successor(),
            has_others: hub.has_others(&[self.tenant.seat]),
            is_settled: !self.is_joining_any() && self.strays.is_settled(),
        };
        match retiring.step(sight) {
            Step::Wait => Ok(()),
            Step::Leave => Err(Ended::Retired),
            Step::Admit(heir) => {
                self.set_heir(Heir::Waits(heir, sight.now));
                Ok(())
            }
            Step::Freeze(heir) => self.freeze(heir).await,
            Step::ThawIfGone => self.thaw_without_heir().await,
        }
    }

    fn is_joining_any(&self) -> bool {
        self.on_the_way > 0 || self.catching.is_beginning()
    }

    fn set_heir(&mut self, heir: Heir) {
        if let Some(retiring) = &mut self.retiring {
            (retiring.heir, retiring.marker) = (heir, None);
        }
    }

    /// The successor gets the channels that are in step.
    async fn freeze(&mut self, heir: u64) -> Result<(), Ended> {
        let (hub, fence) = (self.joined.hub.clone(), self.tenant.fence);
        self.append_held().await?;
        let stays = |channel: &FollowedChannel| matches!(channel.state, SubscriptionState::InStep);
        let others = self.channels.values_mut().filter(|channel| !stays(channel));
        let members: Vec<_> = others.map(|channel| channel.member).collect();
        for member in members {
            // What this process has joined is not asked for again, so all are left, or none is forgotten.
            self.with_lock(|| hub.leave(member)).await?;
        }
        self.channels.retain(|channel| stays(channel));
        self.wanted.clear();
        self.catching.stop();
        self.with_lock(|| hub.freeze(fence, heir)).await?;
        self.set_heir(Heir::Frozen(heir));
        Ok(())
    }

    /// The successor may be gone: then this process goes on until another comes.
    async fn thaw_without_heir(&mut self) -> Result<(), Ended> {
        let (hub, fence) = (self.joined.hub.clone(), self.tenant.fence);
        let Some(held) = hub.try_succeed() else { return Ok(()) };
        match hub.forget_successor(fence, &held) {
            Ok(()) => {}
            Err(LeaseError::Fenced) => return Err(Ended::Fenced),
            Err(LeaseError::Busy(_)) => return Ok(()),
        }
        drop(held);
        self.set_heir(Heir::None);
        let heard = self.heard().await?;
        self.want(heard).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_waits_for_a_successor_and_for_what_is_unsettled_but_not_for_ever() {
        let start = Instant::now();
        let came = start + Duration::from_secs(1);
        let (none, waits, frozen) = (Heir::None, Heir::Waits(7, came), Heir::Frozen(7));
        let moment = Duration::from_millis(10);
        let (soon, settled) = (came + moment, came + SETTLE);
        let (late, too_late) = (start + WAIT + moment, start + HEIR + moment);
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
        for (heir, now, successor, is_settled, wanted) in table {
            let holder = HandoverHolder { since: start, heir, marker: None };
            let sight = Sight { now, successor, has_others: true, is_settled };
            assert_eq!(holder.step(sight), wanted, "{heir:?} {sight:?}");
            let alone = Sight { has_others: false, ..sight };
            assert_eq!(holder.step(alone), Step::Leave, "{heir:?}");
        }
    }
}
