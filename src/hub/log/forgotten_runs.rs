//! Remembers that an unfinished run was forgotten because the zone was full, so that the next event
//! of its channel is not taken for the first event of a run.
//!
//! There is one word for all channels of a bucket: when the newest event was published of a run
//! that was forgotten. Once that is longer ago than runs may be, the next event begins a run. In
//! a hub that is connected to Redis, nothing has to be remembered, because the entries that are
//! read again say where runs begin.

use crate::hub::log::run::CUT;
use crate::hub::log::run_start::RunStart;
use crate::hub::memory::access::Guard;
use crate::hub::memory::layout::{channel, header, high};
use crate::hub::memory::redo::Transaction;
use crate::hub::{Now, Source};

impl Guard<'_> {
    /// Returns the word RUN of a new record.
    pub(super) fn inherited_run(&self, hash: u32, now: Now) -> u64 {
        if self.has_forgotten_run(hash, now) {
            CUT
        } else {
            0
        }
    }

    /// Returns whether a channel with this hash may have had a run that is not finished, if nothing
    /// is known of it.
    pub(in crate::hub) fn has_forgotten_run(&self, hash: u32, now: Now) -> bool {
        let seconds = high(self.get(self.hub.layout.bucket(hash)));
        let age = self.get(header::RUNS_AGE);
        seconds != 0 && (age == 0 || u64::from(seconds) * 1000 + age > now.wall)
    }

    /// Remembers the run of a channel whose record is removed, unless it is finished.
    pub(super) fn remember_open_run(&self, change: &mut Transaction<'_>, record: u32) {
        let state = self.run_state(record);
        let is_begun = state.is_known || self.run_start(record) == RunStart::Cut;
        if !is_begun
            || state.is_finished
            || self.hub.source() != Source::Alone
            || self.is_pattern(record)
        {
            return;
        }
        let bucket = self.hub.layout.bucket(high(self.word(record, channel::HASH)));
        // The id of the newest event, which has left, has the time at which it was published.
        let ms = self.low_watermark(record).place.entry_id.ms;
        let seconds = u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX);
        change.set_high(bucket, high(change.get(bucket)).max(seconds));
    }
}
