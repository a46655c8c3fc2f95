//! Runs: what is published on a channel between two finishes. A publisher finishes the current run;
//! the next event begins a new one.
//!
//! A finish is a mark and not an event: it takes no block, does not count as history, does not
//! expire, and clients receive no id for it. It consists of a control entry in the ring, which
//! tells processes that read the log in what order it came; of the word RUN in the channel's
//! record, which stays as long as the record; and of a flag of the event before it, which shows to
//! readers of older events where a run ends. One transaction sets all of it. Finishing a finished
//! channel changes nothing.

use crate::hub::memory::access::{Guard, Locked};
use crate::hub::memory::layout::{channel, event, low};
use crate::hub::memory::redo::Transaction;
use crate::hub::replication::lease::{FencingToken, LeaseError};
use crate::hub::replication::reported::ReportedId;
use crate::hub::{Hub, Membership};

/// Whether a publish ends the current run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum RunEnd {
    /// The run goes on.
    Open,
    /// The run is finished after the published events.
    Finished,
}

/// What a channel's record says about its runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunState {
    /// The position of the newest finish; 0 if there was none.
    pub position: u64,
    /// Whether nothing was published since.
    pub is_finished: bool,
    /// Whether the channel has had an event or a finish in this hub.
    pub is_known: bool,
}

const FINISHED: u64 = 1 << 63;
const KNOWN: u64 = 1 << 62;
/// The bit of the word RUN that is set if the newest run has lost its beginning, see `run_start`.
pub(in crate::hub) const CUT: u64 = 1 << 61;
/// The flag of an event after which its run was finished.
const LAST_OF_RUN: u8 = 16;

impl RunState {
    pub(in crate::hub) fn from_word(word: u64) -> RunState {
        RunState {
            position: word & !(FINISHED | KNOWN | CUT),
            is_finished: word & FINISHED != 0,
            is_known: word & KNOWN != 0,
        }
    }

    fn word(self) -> u64 {
        let finished = if self.is_finished { FINISHED } else { 0 };
        let known = if self.is_known { KNOWN } else { 0 };
        self.position | finished | known
    }
}

/// Returns whether an event is the last of a finished run, by its word BORN.
pub(in crate::hub) fn is_last_of_run(born: u64) -> bool {
    (born >> 8) as u8 & LAST_OF_RUN != 0
}

/// Returns the word BORN of the last event of a finished run.
pub(in crate::hub) fn as_last_of_run(born: u64) -> u64 {
    born | u64::from(LAST_OF_RUN) << 8
}

/// How many of some channels are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Channels of which nothing is known: neither an event nor a finish, ever.
    pub unknown: usize,
    /// Channels whose run is finished.
    pub finished: usize,
    /// Channels with a run in progress.
    pub running: usize,
}

impl Hub {
    /// Returns the states of channels.
    pub fn activity(&self, channels: &[Box<[u8]>]) -> Result<Activity, Locked> {
        let guard = self.lock()?;
        let mut activity = Activity::default();
        for name in channels {
            let state = guard.find(name).map(|record| guard.run_state(record)).unwrap_or_default();
            let count = match (state.is_known, state.is_finished) {
                (false, _) => &mut activity.unknown,
                (true, true) => &mut activity.finished,
                (true, false) => &mut activity.running,
            };
            *count += 1;
        }
        Ok(activity)
    }

    /// Records that a channel has an entry with this id in Redis. If the hub has no event and no
    /// finish that is as new, a run is in progress of which it has nothing.
    pub fn note_entry(
        &self,
        token: FencingToken,
        member: Membership,
        entry: ReportedId,
    ) -> Result<(), LeaseError> {
        let guard = self.lock_fenced(token)?;
        let mut change = guard.change();
        if guard.run_state(member.record).is_known {
            guard.reopen_run(&mut change, member.record, Some(entry));
        } else {
            guard.open_cut_run(&mut change, member.record);
        }
        change.commit();
        Ok(())
    }

    /// Returns the state of a channel's runs. Does not need the lock.
    pub fn run_state(&self, member: Membership) -> RunState {
        RunState::from_word(self.region.get(self.layout.block(member.record, channel::RUN)))
    }
}

impl Guard<'_> {
    /// Returns the state of a channel's runs.
    pub(in crate::hub) fn run_state(&self, record: u32) -> RunState {
        RunState::from_word(self.word(record, channel::RUN))
    }

    /// Returns whether an event is the last of a finished run.
    pub(in crate::hub) fn ends_run(&self, block: u32) -> bool {
        is_last_of_run(self.word(block, event::BORN))
    }

    /// Returns whether a finish changes anything, if this many events are appended before it.
    pub(in crate::hub) fn can_finish(&self, record: u32, events: usize) -> bool {
        events > 0 || !self.run_state(record).is_finished
    }

    /// Records that a channel's run was finished at a position.
    pub(in crate::hub) fn finish_run(
        &self,
        change: &mut Transaction<'_>,
        record: u32,
        position: u64,
    ) {
        self.set_run(change, record, RunState { position, is_finished: true, is_known: true });
    }

    /// Records that a channel has lost everything up to an entry. If its run was finished before
    /// that, another one may have begun.
    pub(in crate::hub) fn reopen_run(
        &self,
        change: &mut Transaction<'_>,
        record: u32,
        lost: Option<ReportedId>,
    ) {
        // The finish is the newest entry.
        let finish = self.newest_entry(record);
        let is_finished = self.run_state(record).is_finished;
        if is_finished && lost.is_none_or(|lost| finish.is_none_or(|finish| lost > finish)) {
            self.open_cut_run(change, record);
        }
    }

    /// Records that a channel's newest event, if it has one, is the last of its run.
    pub(in crate::hub) fn flag_newest(&self, change: &mut Transaction<'_>, record: u32) {
        let newest = low(self.word(record, channel::EVENTS));
        if newest != 0 {
            let at = self.hub.layout.block(newest, event::BORN);
            change.set(at, as_last_of_run(self.get(at)));
        }
    }

    /// Sets the state of a channel's runs.
    pub(in crate::hub) fn set_run(
        &self,
        change: &mut Transaction<'_>,
        record: u32,
        state: RunState,
    ) {
        let at = self.hub.layout.block(record, channel::RUN);
        let word = state.word() | change.get(at) & CUT;
        if change.get(at) != word {
            change.set(at, word);
        }
    }
}
