//! What a search does under the lock: a look into some buckets, and the next slice of what was found.

use crate::hub::budget::Budget;
use crate::hub::listeners::pattern_replay::{
    By, PatternReplay, Phase, Reach, Sliced, Track, Within,
};
use crate::hub::log::delivery::is_earlier;
use crate::hub::log::replay::{ReplayBatch, ReplayedEvent};
use crate::hub::log::ring::EventCopy;
use crate::hub::memory::access::Guard;
use crate::hub::memory::layout::{channel, event, header, high, low};
use crate::hub::Now;

impl Guard<'_> {
    /// Goes on looking for matching channels. True at the end of the table.
    pub(super) fn look_on(
        &self,
        search: &mut PatternReplay,
        now: Now,
        budget: &mut Budget,
    ) -> bool {
        let mut name = Vec::new();
        loop {
            let Phase::Looking { bucket, pending, .. } = &mut search.phase else { return true };
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
            // It may have been forgotten since it was listed.
            if self.is_record(record) {
                self.name_into(record, &mut name);
                let is_done = !search.wants(&name, budget)
                    || self.expire(record, now, budget)
                        && self.look_at(record, search, now, budget);
                if !is_done {
                    return false;
                }
            }
            search.looked_at();
        }
    }

    /// The records in a bucket.
    fn records_of(&self, bucket: usize) -> impl Iterator<Item = u32> + '_ {
        let mut next = self.get(self.hub.layout.bucket(bucket as u32)) as u32;
        std::iter::from_fn(move || {
            let record = (next != 0).then_some(next)?;
            next = low(self.word(record, channel::HASH));
            Some(record)
        })
    }

    /// Looks for the first event of a channel that the stream lacks, and for what it lost. False: the
    /// budget is spent before that.
    fn look_at(
        &self,
        record: u32,
        search: &mut PatternReplay,
        now: Now,
        budget: &mut Budget,
    ) -> bool {
        let Some(first) = self.first_of_channel(record, search, budget) else { return false };
        let first = self.wanted_from(search, first, budget);
        let floor = self.floor(record);
        if let Some(first) = first.filter(|_| search.reach != Reach::Loss) {
            search.find(first);
        }
        match (search.reach, first) {
            (Reach::Newest(_), _) => {}
            (Reach::Loss, Some(first)) => {
                search.lose(record, self.place(first.block), self.kind(first.block), now);
            }
            (Reach::Loss, None) | (Reach::All, _) => {
                search.lose(record, floor.place, floor.kind(), now);
            }
        }
        true
    }

    /// The first event of a channel that the stream lacks, up to where the search goes; 0 if there is
    /// none. `None`: the budget is spent before it is found.
    fn first_of_channel(
        &self,
        record: u32,
        search: &mut PatternReplay,
        budget: &mut Budget,
    ) -> Option<u32> {
        let events = self.word(record, channel::EVENTS);
        let (oldest, newest) = (high(events), low(events));
        let is_passed =
            |search: &PatternReplay, block| self.track(search, block).key <= search.after;
        let count = match search.reach {
            Reach::Newest(count) => count,
            Reach::All | Reach::Loss => u64::MAX,
        };
        // Often all of a channel is wanted: then nothing need be looked for.
        if oldest == 0 || !is_passed(search, oldest) && u64::from(self.events(record)) <= count {
            return Some(oldest);
        }
        let (mut block, mut first, mut left) = match search.within() {
            None => (newest, 0, count),
            Some(within) if self.is_retained(record, within.block, within.position) => {
                (within.block, within.first, within.left)
            }
            // All older ones have left as well.
            Some(_) => return Some(oldest),
        };
        while block != 0 && left > 0 && !is_passed(search, block) {
            if !budget.step() {
                let position = self.get(self.hub.layout.stamp(block));
                search.stop_within(Within { block, position, first, left });
                return None;
            }
            if self.place(block).position <= search.until() {
                first = block;
                left -= 1;
            }
            block = self.earlier(block);
        }
        Some(first)
    }

    /// This event or the first behind it that the client has not had elsewhere, if the search goes so
    /// far. With a spent budget it is one that the client has had: that shows when its turn comes.
    fn wanted_from(
        &self,
        search: &PatternReplay,
        block: u32,
        budget: &mut Budget,
    ) -> Option<Track> {
        let mut block = block;
        while block != 0 && self.is_passed_over(search, block) && budget.step() {
            block = self.later(block);
        }
        let track = (block != 0).then(|| self.track(search, block))?;
        (track.position <= search.until()).then_some(track)
    }

    /// What was missed while patterns were not subscribed to in Redis.
    pub(super) fn lose_of_patterns(&self, search: &mut PatternReplay, now: Now) {
        let names = std::mem::take(&mut search.names);
        // The client has been told of what was entered before a position of this hub that it names.
        let told = Some(search.after.position).filter(|at| *at != u64::MAX).unwrap_or(0);
        for record in names.iter().filter_map(|name| self.find(name)) {
            let floor = self.floor(record);
            // Behind `until` it is told when the stream gets there.
            if floor.place.position > told && floor.place.position <= search.until() {
                search.lose(record, floor.place, floor.kind(), now);
            }
        }
        search.names = names;
    }

    /// Whether the client has had an event elsewhere, or its stream when the event happened.
    fn is_passed_over(&self, search: &PatternReplay, block: u32) -> bool {
        self.was_had(search.had, block)
            || search.by == By::Position && is_earlier(self.word(block, event::BORN))
    }

    fn track(&self, search: &PatternReplay, block: u32) -> Track {
        let place = self.place(block);
        Track { key: search.key(place, self.kind(block)), position: place.position, block }
    }

    /// What comes next of that which was found.
    pub(super) fn slice(
        &self,
        search: &mut PatternReplay,
        events: usize,
        bytes: usize,
        now: Now,
        budget: &mut Budget,
    ) -> Sliced {
        let mut found = Vec::new();
        let (mut size, mut stale, mut is_whole) = (0, false, true);
        while found.len() < events {
            let Some(track) = search.upcoming(found.len()) else { break };
            if !self.is_there(track, now) {
                search.gap_due = true;
                stale = true;
                break;
            }
            if !search.was_given(found.len()) && self.is_passed_over(search, track.block) {
                if !budget.step() {
                    is_whole = false;
                    break;
                }
                let later = self.wanted_from(search, self.later(track.block), budget);
                search.skip(later);
                continue;
            }
            let owner = self.word(track.block, event::OWNER);
            size += low(owner) as usize;
            if size > bytes && !found.is_empty() {
                break;
            }
            let later = self.wanted_from(search, self.later(track.block), budget);
            search.take(found.len(), later);
            let mut event = EventCopy::default();
            self.hub.copy_block(track.block, &mut event);
            found.push(ReplayedEvent::of_channel(event, track.block, self.name(high(owner))));
        }
        let (rest, more) = (search.upcoming(found.len()).is_some(), search.goes_on());
        if found.is_empty() && !is_whole {
            return Sliced::Unfinished;
        }
        if found.is_empty() && (stale || more) {
            return Sliced::Anew;
        }
        let done = !stale && !rest && !more;
        let (until, tag) = (search.until.unwrap_or_default(), self.hub.tag());
        let gap = search.gap_due.then(|| match found.first() {
            Some(first) => first.event.place.id_before(first.event.kind(), tag),
            None => until.id(self.hub.own_kind(), tag),
        });
        let begins = (done && found.is_empty() && gap.is_none()).then_some(until);
        Sliced::ReplayBatch(ReplayBatch {
            gap,
            events: found,
            done,
            begins,
            ..ReplayBatch::default()
        })
    }

    /// Whether an event is still there, and young enough.
    fn is_there(&self, track: Track, now: Now) -> bool {
        let age = self.get(header::AGE);
        self.is_found(track.block, track.position)
            && (age == 0 || self.born(track.block).saturating_add(age) > now.mono)
    }

    /// Whether the event at a position that was found in this block still is one of its channel. As long
    /// as the event is there, the channel has its record.
    fn is_found(&self, block: u32, position: u64) -> bool {
        self.get(self.hub.layout.stamp(block)) == position
            && self.is_retained(high(self.word(block, event::OWNER)), block, position)
    }
}
