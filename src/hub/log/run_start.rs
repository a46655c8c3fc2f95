//! Where the newest run of a channel begins, and how much of it the channel is owed.
//!
//! In a hub with `runs`, a channel is owed the newest events of its run as long as the run is not
//! finished, besides its history. A client that receives the run from its first event needs all of
//! it: a run is *cut* if its first event has left the hub, or was never here.
//!
//! Events leave the oldest first, so it is enough to know how many of the retained events are older
//! than the run, and which one is the run's first. Both are in one word of the record.

use crate::hub::log::run::{RunState, CUT};
use crate::hub::memory::access::Guard;
use crate::hub::memory::layout::{channel, header, high, low, pair};
use crate::hub::memory::redo::Transaction;
use crate::hub::Now;

/// What is known of the place of an event in its run when it is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunPlace {
    /// Nothing: the event continues the run of which this hub knows, or begins one.
    Unknown,
    /// It is the first event of its run.
    First,
    /// Others precede it.
    Later,
}

/// Where the newest run of a channel begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum RunStart {
    /// The run has no event.
    Empty,
    /// With the event in this block.
    At(u32),
    /// With an event that has left the hub, or was never here.
    Cut,
}

/// The word RUN_START.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct StartWord {
    /// How many of the retained events are older than the run.
    before: u32,
    /// The block of the run's first event; 0 if it has none, or is cut.
    first: u32,
}

impl StartWord {
    fn from_word(word: u64) -> StartWord {
        StartWord { before: high(word), first: low(word) }
    }

    fn word(self) -> u64 {
        pair(self.before, self.first)
    }
}

impl Guard<'_> {
    /// Returns where the newest run of a channel begins.
    pub(in crate::hub) fn run_start(&self, record: u32) -> RunStart {
        let start = StartWord::from_word(self.word(record, channel::RUN_START));
        let state = self.run_state(record);
        match start.first {
            _ if self.word(record, channel::RUN) & CUT != 0 => RunStart::Cut,
            // A loss says that there is a run, but not where it begins.
            0 if state.is_known && !state.is_finished => RunStart::Cut,
            0 => RunStart::Empty,
            first => RunStart::At(first),
        }
    }

    /// Returns how many events of its newest run a channel retains.
    pub(in crate::hub) fn events_of_run(&self, record: u32) -> u32 {
        let start = StartWord::from_word(self.word(record, channel::RUN_START));
        self.events(record).saturating_sub(start.before)
    }

    /// Records that events are appended to a channel, of which `first` is the first: they belong to
    /// an open run, which they may begin. The caller appends them in the same transaction.
    pub(in crate::hub) fn continue_run(
        &self,
        change: &mut Transaction<'_>,
        record: u32,
        first: u32,
        place: RunPlace,
    ) {
        let (state, is_cut) = (self.run_state(record), self.run_start(record) == RunStart::Cut);
        let is_over = state.is_finished || !state.is_known;
        let begins = match place {
            RunPlace::Unknown => state.is_finished || !state.is_known && !is_cut,
            RunPlace::First => is_over || is_cut,
            RunPlace::Later => false,
        };
        self.set_run(change, record, RunState { is_finished: false, is_known: true, ..state });
        let before = self.events(record);
        if begins {
            self.set_start(change, record, StartWord { before, first });
            self.set_cut(change, record, false);
        } else if is_over || is_cut {
            let start = StartWord::from_word(self.word(record, channel::RUN_START));
            let before = if is_over { before } else { start.before };
            self.set_start(change, record, StartWord { before, first: 0 });
            self.set_cut(change, record, true);
        }
    }

    /// Records that a run of a channel is in progress of which this hub has no event.
    pub(in crate::hub) fn open_cut_run(&self, change: &mut Transaction<'_>, record: u32) {
        let state = self.run_state(record);
        self.set_run(change, record, RunState { is_finished: false, is_known: true, ..state });
        self.set_start(change, record, StartWord { before: self.events(record), first: 0 });
        self.set_cut(change, record, true);
        self.resize(change, record, 0, 0);
    }

    /// Records that the newest run of a channel begins with the event in this block, which `before`
    /// retained events precede.
    pub(in crate::hub) fn begin_run_at(
        &self,
        change: &mut Transaction<'_>,
        record: u32,
        first: u32,
        before: u32,
    ) {
        self.set_start(change, record, StartWord { before, first });
        self.set_cut(change, record, false);
    }

    /// Records that a channel loses its oldest event, which is in this block.
    pub(in crate::hub) fn evict_from_run(
        &self,
        change: &mut Transaction<'_>,
        record: u32,
        oldest: u32,
    ) {
        let start = StartWord::from_word(self.word(record, channel::RUN_START));
        if let Some(before) = start.before.checked_sub(1) {
            self.set_start(change, record, StartWord { before, ..start });
        } else if start.first == oldest {
            self.cut_run(change, record);
        }
    }

    /// Records that a channel loses all its events.
    pub(in crate::hub) fn evict_run(&self, change: &mut Transaction<'_>, record: u32) {
        match self.run_start(record) {
            RunStart::At(_) => self.cut_run(change, record),
            RunStart::Empty | RunStart::Cut => {
                self.set_start(change, record, StartWord::default());
            }
        }
    }

    /// Records that the beginning of a channel's newest run is gone, and so is everything before
    /// the run.
    pub(in crate::hub) fn cut_run(&self, change: &mut Transaction<'_>, record: u32) {
        self.set_start(change, record, StartWord::default());
        self.set_cut(change, record, true);
    }

    fn set_start(&self, change: &mut Transaction<'_>, record: u32, start: StartWord) {
        let at = self.hub.layout.block(record, channel::RUN_START);
        if change.get(at) != start.word() {
            change.set(at, start.word());
        }
    }

    fn set_cut(&self, change: &mut Transaction<'_>, record: u32, is_cut: bool) {
        let at = self.hub.layout.block(record, channel::RUN);
        let word = change.get(at);
        let new = if is_cut { word | CUT } else { word & !CUT };
        if new != word {
            change.set(at, new);
        }
    }

    /// Returns how many of its newest events a channel is owed that has this many: its history, and
    /// its unfinished run.
    pub(in crate::hub) fn owed(&self, record: u32, events: u32) -> u64 {
        let run = self.word(record, channel::RUN);
        self.owed_by(run, self.word(record, channel::RUN_START), events)
    }

    /// Returns the same for a channel as it will be after a transaction.
    pub(in crate::hub) fn owed_after(
        &self,
        change: &Transaction<'_>,
        record: u32,
        events: u32,
    ) -> u64 {
        let word = |word| change.get(self.hub.layout.block(record, word));
        self.owed_by(word(channel::RUN), word(channel::RUN_START), events)
    }

    fn owed_by(&self, run: u64, start: u64, events: u32) -> u64 {
        let is_open = !RunState::from_word(run).is_finished;
        let in_run = events.saturating_sub(StartWord::from_word(start).before);
        let of_run = if is_open { self.get(header::RUNS_COUNT).min(in_run.into()) } else { 0 };
        self.get(header::COUNT).max(of_run)
    }

    /// Returns whether the oldest event of a channel, which has one, has expired. Events of the
    /// history expire by its AGE. Those of an unfinished run do not as long as they are owed; after
    /// that, what the history does not owe expires as well.
    pub(in crate::hub) fn has_oldest_expired(&self, record: u32, oldest: u32, now: Now) -> bool {
        let has_passed_age = self.has_passed(header::AGE, oldest, now);
        if !self.is_in_open_run(record, oldest) {
            return has_passed_age;
        }
        let events = u64::from(self.events(record));
        let is_owed = events <= self.get(header::RUNS_COUNT)
            && !self.has_passed(header::RUNS_AGE, oldest, now);
        !is_owed
            && (has_passed_age
                || self.has_passed(header::RUNS_AGE, oldest, now)
                    && events > self.get(header::COUNT))
    }

    /// Returns whether an event is too old to be sent.
    pub(in crate::hub) fn is_too_old(&self, record: u32, event: u32, now: Now) -> bool {
        self.has_passed(header::AGE, event, now)
            && (!self.is_in_open_run(record, event)
                || self.has_passed(header::RUNS_AGE, event, now))
    }

    /// Returns whether an event belongs to a run that is not finished, in a hub with `runs`.
    fn is_in_open_run(&self, record: u32, event: u32) -> bool {
        let state = self.run_state(record);
        let position = |block| self.get(self.hub.layout.stamp(block));
        let is_after_start = match self.run_start(record) {
            RunStart::At(first) => position(event) >= position(first),
            RunStart::Cut | RunStart::Empty => position(event) > state.position,
        };
        self.get(header::RUNS_COUNT) > 0 && !state.is_finished && is_after_start
    }

    /// Returns whether an event has reached the age in a word of the header; 0 is no limit.
    fn has_passed(&self, age: usize, event: u32, now: Now) -> bool {
        let age = self.get(age);
        age != 0 && self.born(event).saturating_add(age) <= now.mono
    }
}
