//! Whole runs: a client that must not miss a part of a run receives the newest run of each channel
//! from its first event. If that has left, or a part of what the client lacks has, it receives
//! nothing.

use crate::hub::log::replay::passing::Runs;
use crate::hub::log::replay::{ReplayCursor, Resume};
use crate::hub::log::run_start::RunStart;
use crate::hub::memory::access::{Guard, Locked};
use crate::hub::{Hub, Now};

/// What a client without an id receives of a channel's newest run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewestRun {
    /// All events from this block on.
    From(u32),
    /// Nothing: there is none, or it is finished and a part of it has left.
    Nothing,
    /// It is not complete any more.
    Incomplete,
}

impl Hub {
    /// Returns whether a client would receive a run of these channels of which a part has left.
    pub fn is_incomplete(
        &self,
        channels: &[Box<[u8]>],
        resume: &Resume,
        runs: Runs,
        now: Now,
    ) -> Result<bool, Locked> {
        let guard = self.lock()?;
        let records: Vec<u32> = channels.iter().filter_map(|name| guard.find(name)).collect();
        let is_forgotten = |name: &[u8]| {
            guard.find(name).is_none() && guard.has_forgotten_run(guard.hash(name) as u32, now)
        };
        Ok(channels.iter().any(|name| is_forgotten(name))
            || guard.begin(&records, resume, runs, now).is_incomplete)
    }
}

impl Guard<'_> {
    /// Returns what a client without an id receives of a channel's newest run. A finished run that
    /// is not complete any more does not keep the client from those of other channels, or from the
    /// next one.
    pub(super) fn newest_run(&self, record: u32, ends_at_finish: bool) -> NewestRun {
        match self.run_start(record) {
            RunStart::At(first) => NewestRun::From(first),
            RunStart::Empty => NewestRun::Nothing,
            RunStart::Cut if !self.run_state(record).is_finished => NewestRun::Incomplete,
            RunStart::Cut if ends_at_finish && self.events_of_run(record) > 0 => {
                NewestRun::Incomplete
            }
            RunStart::Cut => NewestRun::Nothing,
        }
    }

    /// Returns whether a part of what the client lacks has left, as far as that has been located.
    pub(super) fn is_incomplete(&self, cursor: &ReplayCursor, is_foreign: bool, now: Now) -> bool {
        if cursor.course.is_fresh || is_foreign {
            let ends_at_finish = cursor.ends_at_finish();
            return cursor.tracks.iter().any(|track| {
                self.newest_run(track.record, ends_at_finish) == NewestRun::Incomplete
            });
        }
        let candidates: Vec<u32> =
            cursor.tracks.iter().map(|track| self.candidate(track)).collect();
        self.gap(cursor, &candidates, now).is_some()
    }
}
