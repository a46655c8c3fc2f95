//! What a search does under the lock: a look into some buckets, and the next slice of what was found.

use super::{Reach, Search, Track, EXPIRED};
use crate::hub::budget::Budget;
use crate::hub::guard::Guard;
use crate::hub::layout::{channel, event, header, high, low};
use crate::hub::pattern::reaches;
use crate::hub::read::Copied;
use crate::hub::replay::{Found, Slice};
use crate::hub::Now;
use crate::sse::pattern::Subject;

impl Guard<'_> {
    /// Looks for matching channels in some buckets. Returns how many channels there were.
    pub(super) fn look_into(
        &self,
        buckets: std::ops::Range<usize>,
        search: &mut Search,
        now: Now,
    ) -> usize {
        let (mut channels, mut budget) = (0, Budget::of(EXPIRED));
        let mut name = Vec::new();
        for bucket in buckets {
            let mut record = self.get(self.hub.layout.bucket(bucket as u32)) as u32;
            while record != 0 {
                channels += 1;
                self.name_into(record, &mut name);
                let subject = Subject::new(&name);
                if search.names.iter().any(|wanted| reaches(wanted, &subject)) {
                    self.expire(record, now, &mut budget);
                    self.look_at(record, search, now);
                }
                record = low(self.word(record, channel::HASH));
            }
        }
        channels
    }

    fn look_at(&self, record: u32, search: &mut Search, now: Now) {
        let first = self.first_of_channel(record, search);
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
    }

    /// The first event of a channel that the stream lacks, up to where the search goes.
    fn first_of_channel(&self, record: u32, search: &Search) -> Option<Track> {
        let events = self.word(record, channel::EVENTS);
        let (oldest, newest) = (high(events), low(events));
        let is_passed = |block| self.track(search, block).key <= search.after;
        let mut left = match search.reach {
            Reach::Newest(count) => count,
            Reach::All | Reach::Loss => u64::MAX,
        };
        if left == u64::MAX && oldest != 0 && !is_passed(oldest) {
            return self.wanted_from(search, oldest);
        }
        let (mut block, mut first) = (newest, 0);
        while block != 0 && left > 0 && !is_passed(block) {
            if self.place(block).position <= search.until() {
                first = block;
                left -= 1;
            }
            block = high(self.word(block, event::LINKS));
        }
        self.wanted_from(search, first)
    }

    /// This event or the first behind it that the client has not had elsewhere, if the search goes so
    /// far.
    fn wanted_from(&self, search: &Search, block: u32) -> Option<Track> {
        let mut block = block;
        while block != 0 && self.was_had(search.had, block) {
            block = low(self.word(block, event::LINKS));
        }
        let track = (block != 0).then(|| self.track(search, block))?;
        (track.position <= search.until()).then_some(track)
    }

    fn track(&self, search: &Search, block: u32) -> Track {
        let place = self.place(block);
        Track { key: search.key(place, self.kind(block)), position: place.position, block }
    }

    /// What comes next of that which was found. `None`: it has to be looked for anew.
    pub(super) fn slice(
        &self,
        search: &mut Search,
        events: usize,
        bytes: usize,
        now: Now,
    ) -> Option<Slice> {
        let mut found = Vec::new();
        let (mut size, mut stale) = (0, false);
        while found.len() < events {
            let Some(track) = search.upcoming(found.len()) else { break };
            if !self.is_there(track, now) {
                search.gap_due = true;
                stale = true;
                break;
            }
            let owner = self.word(track.block, event::OWNER);
            size += low(owner) as usize;
            if size > bytes && !found.is_empty() {
                break;
            }
            let later = self.wanted_from(search, low(self.word(track.block, event::LINKS)));
            search.take(found.len(), later);
            let mut event = Copied::default();
            self.hub.copy_block(track.block, &mut event);
            found.push(Found::of_channel(event, track.block, self.name(high(owner))));
        }
        let (rest, more) = (search.upcoming(found.len()).is_some(), search.goes_on());
        if found.is_empty() && (stale || more) {
            return None;
        }
        let done = !stale && !rest && !more;
        let (until, tag) = (search.until.unwrap_or_default(), self.hub.tag());
        let gap = search.gap_due.then(|| match found.first() {
            Some(first) => first.event.place.id_before(first.event.kind(), tag),
            None => until.id(self.hub.own_kind(), tag),
        });
        let begins = (done && found.is_empty() && gap.is_none()).then_some(until);
        Some(Slice { gap, events: found, done, begins, ..Slice::default() })
    }

    /// Whether an event is still there, and young enough.
    fn is_there(&self, track: Track, now: Now) -> bool {
        let age = self.get(header::AGE);
        self.is_found(track.block, track.position)
            && (age == 0 || self.born(track.block).saturating_add(age) > now.mono)
    }

    /// Whether the event at a position that was found in this block still is one of its channel. As long
    /// as it is, the channel has its record.
    fn is_found(&self, block: u32, position: u64) -> bool {
        let owner = || high(self.word(block, event::OWNER));
        self.get(self.hub.layout.stamp(block)) == position
            && (!self.hub.may_be_forgotten(position)
                || self.is_record(owner()) && self.is_retained(owner(), block, position))
    }
}
