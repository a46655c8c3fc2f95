//! The part of a pattern replay that needs the lock: scanning some buckets, and building the next
//! batch.

use crate::hub::listeners::pattern_replay::{BatchOutcome, Candidate, PatternReplay, ReplayPhase};
use crate::hub::log::backward::{SearchBounds, SearchedRuns, Sought};
use crate::hub::log::position::{end, LowWatermark};
use crate::hub::log::received::Extent;
use crate::hub::log::replay::{ReplayBatch, ReplayedEvent};
use crate::hub::log::ring::EventCopy;
use crate::hub::memory::access::Guard;
use crate::hub::memory::budget::Budget;
use crate::hub::memory::layout::{channel, event, header, high, low};
use crate::hub::Now;

impl Guard<'_> {
    /// Continues the scan for matching channels. Returns true at the end of the table.
    pub(super) fn scan_on(
        &self,
        replay: &mut PatternReplay,
        now: Now,
        budget: &mut Budget,
    ) -> bool {
        let mut name = Vec::new();
        loop {
            let ReplayPhase::Scanning { bucket, pending, .. } = &mut replay.phase else {
                return true;
            };
            if budget.is_spent() {
                return false;
            }
            let Some(&record) = pending.last() else {
                if *bucket == self.hub.layout.buckets {
                    return true;
                }
                pending.extend(self.records_of(*bucket));
                budget.spend(1 + pending.len());
                *bucket += 1;
                continue;
            };
            // The record may have been removed since it was listed.
            if self.is_record(record) {
                self.name_into(record, &mut name);
                let is_done = !replay.matches(&name, budget)
                    || self.expire(record, now, budget)
                        && self.scan_channel(record, replay, now, budget);
                if !is_done {
                    return false;
                }
            }
            replay.finish_channel();
        }
    }

    /// Iterates over the records in a bucket.
    fn records_of(&self, bucket: usize) -> impl Iterator<Item = u32> + '_ {
        let mut next = self.get(self.hub.layout.bucket(bucket as u32)) as u32;
        std::iter::from_fn(move || {
            let record = (next != 0).then_some(next)?;
            next = low(self.word(record, channel::HASH));
            Some(record)
        })
    }

    /// Finds the first event of a channel that the stream lacks, and what the channel has lost.
    /// Returns false if the budget is spent first.
    fn scan_channel(
        &self,
        record: u32,
        replay: &mut PatternReplay,
        now: Now,
        budget: &mut Budget,
    ) -> bool {
        let Some(first) = self.first_of_channel(record, replay, budget) else { return false };
        let first = self.wanted_from(replay, first, budget);
        let low_watermark = self.low_watermark(record);
        let owes_nothing = match replay.extent {
            Extent::Nothing => true,
            Extent::Since(_) => self.get(header::COUNT) == 0,
            Extent::All | Extent::Newest(_) | Extent::Run => false,
        };
        if let Some(first) = first.filter(|_| !owes_nothing) {
            replay.keep_first(first);
        }
        match (replay.extent, first) {
            (Extent::Newest(_) | Extent::Run, _) => {}
            (_, Some(first)) if owes_nothing => {
                let (place, kind) = (self.place(first.block), self.kind(first.block));
                replay.record_loss(record, LowWatermark::default().raised(place, kind), now);
            }
            (Extent::Since(since), _) if !self.may_lack_since(record, &since) => {}
            (Extent::Nothing | Extent::All | Extent::Since(_), _) => {
                replay.record_loss(record, low_watermark, now);
            }
        }
        true
    }

    /// Returns the first event of a channel that the stream lacks, up to the end of the replay, or
    /// 0 if there is none. Returns `None` if the budget is spent first.
    fn first_of_channel(
        &self,
        record: u32,
        replay: &mut PatternReplay,
        budget: &mut Budget,
    ) -> Option<u32> {
        let count = match replay.extent {
            Extent::Newest(count) => count,
            Extent::All | Extent::Nothing | Extent::Since(_) | Extent::Run => u64::MAX,
        };
        let bounds = SearchBounds { until: replay.until(), count, runs: SearchedRuns::All };
        let sought = |block| match &replay.extent {
            _ if !replay.received.is_after(self.place(block), self.kind(block)) => {
                Sought::AllOlderUnwanted
            }
            Extent::Since(since) => self.sought_since(since, block),
            Extent::All | Extent::Nothing | Extent::Newest(_) | Extent::Run => Sought::Wanted,
        };
        match self.search_backwards(record, replay.stopped(), bounds, sought, budget) {
            Ok(first) => Some(first),
            Err(stopped) => {
                replay.pause_in_channel(stopped);
                None
            }
        }
    }

    /// Returns `block`, or the first event after it that the client has not received elsewhere, up
    /// to the end of the replay. If the budget is spent first, it returns an event that the client
    /// may have received, which is checked when its turn comes.
    fn wanted_from(
        &self,
        replay: &PatternReplay,
        block: u32,
        budget: &mut Budget,
    ) -> Option<Candidate> {
        let mut block = block;
        while block != 0 && !self.is_lacked(replay, block) && budget.step() {
            block = self.later(block);
        }
        let track = (block != 0).then(|| self.track(replay, block))?;
        (track.position <= replay.until()).then_some(track)
    }

    /// Records what was lost while patterns were not subscribed to in Redis.
    pub(super) fn record_pattern_losses(&self, replay: &mut PatternReplay, now: Now) {
        let names = std::mem::take(&mut replay.names);
        // The client already knows what was recorded before the position of this hub in its id.
        let gap_sent = Some(replay.received.position()).filter(|at| *at != u64::MAX).unwrap_or(0);
        for record in names.iter().filter_map(|name| self.find(name)) {
            let low_watermark = self.low_watermark(record);
            // A loss after `until` is reported when the stream gets there.
            if low_watermark.place.position > gap_sent
                && low_watermark.place.position <= replay.until()
            {
                replay.record_loss(record, low_watermark, now);
            }
        }
        replay.names = names;
    }

    /// Returns whether the client lacks an event that is after what it has received.
    fn is_lacked(&self, replay: &PatternReplay, block: u32) -> bool {
        replay.received.lacks_through_pattern(&self.facts(block))
    }

    fn track(&self, replay: &PatternReplay, block: u32) -> Candidate {
        let place = self.place(block);
        Candidate {
            key: replay.received.key(place, self.kind(block)),
            position: place.position,
            block,
        }
    }

    /// Returns the next batch of the channels that were found.
    pub(super) fn batch(
        &self,
        replay: &mut PatternReplay,
        events: usize,
        bytes: usize,
        now: Now,
        budget: &mut Budget,
    ) -> BatchOutcome {
        let mut found = Vec::new();
        let (mut size, mut stale, mut is_whole) = (0, false, true);
        while found.len() < events {
            let Some(track) = replay.upcoming(found.len()) else { break };
            if !self.is_there(track, now) {
                if replay.is_untouched() {
                    // It is as if the client had come now.
                    replay.until = end(&self.hub.region);
                } else {
                    replay.gap_due = true;
                }
                stale = true;
                break;
            }
            if !replay.was_given(found.len()) && !self.is_lacked(replay, track.block) {
                if !budget.step() {
                    is_whole = false;
                    break;
                }
                let later = self.wanted_from(replay, self.later(track.block), budget);
                replay.skip(later);
                continue;
            }
            let owner = self.word(track.block, event::OWNER);
            size += low(owner) as usize;
            if size > bytes && !found.is_empty() {
                break;
            }
            let later = self.wanted_from(replay, self.later(track.block), budget);
            replay.take(found.len(), later);
            let mut event = EventCopy::default();
            self.hub.copy_block(track.block, &mut event);
            found.push(ReplayedEvent::for_channel(event, track.block, self.name(high(owner))));
        }
        let (rest, more) = (replay.upcoming(found.len()).is_some(), replay.needs_another_scan());
        if found.is_empty() && !is_whole {
            return BatchOutcome::Unfinished;
        }
        if found.is_empty() && (stale || more) {
            return BatchOutcome::Restart;
        }
        let done = !stale && !rest && !more;
        let (until, tag) = (replay.until, self.hub.tag());
        let gap = replay.gap_due.then(|| match found.first() {
            Some(first) => first.event.place.id_before(first.event.kind(), tag),
            None => until.id(self.hub.own_kind(), tag),
        });
        let begins = (done && found.is_empty() && gap.is_none()).then_some(until);
        BatchOutcome::ReplayBatch(ReplayBatch {
            gap,
            events: found,
            done,
            begins,
            ..ReplayBatch::default()
        })
    }

    /// Returns whether an event still exists and is not too old.
    fn is_there(&self, track: Candidate, now: Now) -> bool {
        let record = high(self.word(track.block, event::OWNER));
        self.is_found(track.block, track.position) && !self.is_too_old(record, track.block, now)
    }

    /// Returns whether the event that was found in a block still exists at its position. As long as
    /// it does, its channel has a record.
    fn is_found(&self, block: u32, position: u64) -> bool {
        self.get(self.hub.layout.stamp(block)) == position
            && self.is_retained(high(self.word(block, event::OWNER)), block, position)
    }
}
