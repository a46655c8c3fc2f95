//! Decides what a process that holds the subscription and is about to exit does next.

use std::time::Duration;

use tokio::time::Instant;

/// How long the holder waits for a successor, and how long a handover may take from then on.
const WAIT: Duration = Duration::from_secs(3);
const HANDOVER: Duration = Duration::from_secs(20);
/// How long the holder does not look for a successor while channels are being subscribed to. On a
/// busy nginx, there are some all the time.
const BRIEF: Duration = Duration::from_secs(1);
/// How long a successor waits for channels that are being subscribed to or read.
pub const SETTLE: Duration = Duration::from_secs(5);
/// How long it waits if nothing else is left than channels that are being looked up.
const LOOKUPS: Duration = Duration::from_millis(200);

/// The state of a handover on the holder's side.
#[derive(Clone, Copy)]
pub struct HandoverHolder {
    /// The current stage.
    pub stage: HandoverStage,
    /// When this stage began.
    since: Instant,
    /// When the holder announced that it wants to leave.
    announced: Instant,
    /// How long channels that are catching up may be read before a successor takes over.
    patience: Duration,
    /// When the successor's marker arrived.
    pub marker: Option<Instant>,
}

/// The stage of a handover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverStage {
    /// The holder still serves, because channels are catching up. A successor would have to read
    /// them from their beginning, without the plain messages that have arrived since.
    Finishing,
    /// The holder has announced that it wants to leave. There is no successor yet.
    Announced,
    /// A successor waits for channels that are being subscribed to, read, or looked up; no others
    /// are subscribed to.
    Waits(u64),
    /// The subscription does not change any more.
    Frozen(u64),
}

/// What a successor would not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreadChannels {
    /// Nothing.
    Nothing,
    /// Channels that are being looked up. The marker waits for them, too.
    Lookups,
    /// Channels that are being subscribed to, or whose first page was just requested.
    Brief,
    /// Channels with several pages or slow ones, too.
    Long,
}

/// What a holder that is about to exit observes.
#[derive(Clone, Copy, Debug)]
pub struct HolderView {
    /// The current time.
    pub now: Instant,
    /// The successor that has announced itself.
    pub successor: Option<u64>,
    /// Whether another process can take the subscription over.
    pub has_others: bool,
    /// What a successor would not have.
    pub unread: UnreadChannels,
}

/// The next step of a handover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverStep {
    /// Nothing for now.
    Wait,
    /// Exit without a handover.
    Leave,
    /// Look for a successor.
    Announce,
    /// Admit a successor: from now on, no channel is subscribed to or left.
    Admit(u64),
    /// Hand the channels that are in sync over.
    Freeze(u64),
    /// If the successor has died, continue until there is another one.
    ThawIfGone,
}

impl HandoverHolder {
    /// Returns the first stage.
    pub fn new(now: Instant, patience: Duration) -> HandoverHolder {
        let stage = HandoverStage::Finishing;
        HandoverHolder { stage, since: now, announced: now, patience, marker: None }
    }

    /// Begins a stage.
    pub fn enter(&mut self, stage: HandoverStage, now: Instant) {
        (self.stage, self.since, self.marker) = (stage, now, None);
    }

    /// Begins to wait for a successor.
    pub fn announce(&mut self, now: Instant) {
        self.enter(HandoverStage::Announced, now);
        self.announced = now;
    }

    /// Decides what happens next.
    pub fn step(&self, view: HolderView) -> HandoverStep {
        let elapsed = |since: Instant| view.now.saturating_duration_since(since);
        let here = elapsed(self.since);
        let is_over = self.stage != HandoverStage::Finishing && elapsed(self.announced) > HANDOVER;
        if !view.has_others || is_over {
            return HandoverStep::Leave;
        }
        match (self.stage, view.successor) {
            (HandoverStage::Finishing, _) => match view.unread {
                UnreadChannels::Nothing | UnreadChannels::Lookups => HandoverStep::Announce,
                UnreadChannels::Brief if here >= BRIEF.min(self.patience) => HandoverStep::Announce,
                UnreadChannels::Long if here >= self.patience => HandoverStep::Announce,
                UnreadChannels::Brief | UnreadChannels::Long => HandoverStep::Wait,
            },
            (HandoverStage::Announced, None) if here > WAIT => HandoverStep::Leave,
            (HandoverStage::Announced, None) => HandoverStep::Wait,
            (HandoverStage::Waits(known), Some(successor)) if known == successor => {
                let longest = match view.unread {
                    UnreadChannels::Nothing => Duration::ZERO,
                    UnreadChannels::Lookups => LOOKUPS,
                    UnreadChannels::Brief | UnreadChannels::Long => SETTLE,
                };
                if here >= longest.min(self.patience.max(LOOKUPS)) {
                    HandoverStep::Freeze(successor)
                } else {
                    HandoverStep::Wait
                }
            }
            (HandoverStage::Frozen(known), Some(successor)) if known == successor => {
                HandoverStep::ThawIfGone
            }
            (_, Some(successor)) => HandoverStep::Admit(successor),
            (_, None) => HandoverStep::ThawIfGone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_waits_for_a_successor_and_for_what_is_unread_but_not_for_ever() {
        use UnreadChannels::{Brief, Long, Lookups, Nothing};
        let announced = Instant::now();
        let since = announced + Duration::from_secs(1);
        let moment = Duration::from_millis(10);
        let patience = Duration::from_secs(60);
        let (finishing, none) = (HandoverStage::Finishing, HandoverStage::Announced);
        let (waits, frozen) = (HandoverStage::Waits(7), HandoverStage::Frozen(7));
        let (soon, late) = (since + moment, since + WAIT + moment);
        let (settled, too_late) = (since + SETTLE, announced + HANDOVER + moment);
        // The stage, when, the successor, what is unread; what the holder does.
        let table = [
            (finishing, soon, None, Nothing, HandoverStep::Announce),
            (finishing, soon, None, Lookups, HandoverStep::Announce),
            (finishing, soon, None, Brief, HandoverStep::Wait),
            (finishing, since + BRIEF, None, Brief, HandoverStep::Announce),
            (finishing, since + BRIEF, Some(7), Long, HandoverStep::Wait),
            (finishing, since + patience - moment, None, Long, HandoverStep::Wait),
            (finishing, since + patience, None, Long, HandoverStep::Announce),
            (none, soon, None, Nothing, HandoverStep::Wait),
            (none, late, None, Nothing, HandoverStep::Leave),
            (none, soon, Some(7), Nothing, HandoverStep::Admit(7)),
            (none, late, Some(7), Nothing, HandoverStep::Admit(7)),
            (waits, soon, Some(7), Lookups, HandoverStep::Wait),
            (waits, since + LOOKUPS, Some(7), Lookups, HandoverStep::Freeze(7)),
            (waits, since + LOOKUPS, Some(7), Brief, HandoverStep::Wait),
            (waits, soon, Some(7), Long, HandoverStep::Wait),
            (waits, soon, Some(7), Nothing, HandoverStep::Freeze(7)),
            (waits, settled, Some(7), Brief, HandoverStep::Freeze(7)),
            (waits, settled, Some(7), Long, HandoverStep::Freeze(7)),
            (waits, too_late, Some(7), Nothing, HandoverStep::Leave),
            (waits, settled, Some(8), Nothing, HandoverStep::Admit(8)),
            (waits, soon, None, Nothing, HandoverStep::ThawIfGone),
            (frozen, late, Some(7), Nothing, HandoverStep::ThawIfGone),
            (frozen, late, Some(8), Nothing, HandoverStep::Admit(8)),
            (frozen, late, None, Brief, HandoverStep::ThawIfGone),
            (frozen, too_late, Some(7), Nothing, HandoverStep::Leave),
        ];
        for (stage, now, successor, unread, wanted) in table {
            let holder = HandoverHolder { stage, since, announced, patience, marker: None };
            let view = HolderView { now, successor, has_others: true, unread };
            assert_eq!(holder.step(view), wanted, "{stage:?} {view:?}");
            let alone = HolderView { has_others: false, ..view };
            assert_eq!(holder.step(alone), HandoverStep::Leave, "{stage:?}");
        }
    }

    #[test]
    fn a_process_that_has_to_exit_soon_finishes_less() {
        let since = Instant::now();
        let patience = Duration::from_millis(40);
        let finishing = (HandoverStage::Finishing, patience, HandoverStep::Announce);
        for (stage, longest, step) in
            [finishing, (HandoverStage::Waits(7), LOOKUPS, HandoverStep::Freeze(7))]
        {
            let holder = HandoverHolder { stage, ..HandoverHolder::new(since, patience) };
            for unread in [UnreadChannels::Brief, UnreadChannels::Long] {
                let now = since + longest;
                let view = HolderView { now, successor: Some(7), has_others: true, unread };
                assert_eq!(holder.step(view), step);
            }
        }
    }
}
