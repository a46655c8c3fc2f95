//! The invariants of a hub, checked over the whole region; for tests only.
//!
//! They are checked when no operation is in progress, and after a process has died, once `lock` has
//! completed its transaction. The checks share only names and the access to words with the code
//! that they check.

pub mod inspection;

use std::collections::BTreeSet;

use crate::hub::log::channels::{class, record_blocks, IDLE, IN_SURPLUS, PATTERNS, SURPLUS};
use crate::hub::log::position::{end, LogOrder};
use crate::hub::log::run_start::RunStart;
use crate::hub::memory::access::Guard;
use crate::hub::memory::alloc::blocks_for_event;
use crate::hub::memory::layout::{channel, event, header, high, key, low, more_pairs, pair};
use crate::hub::memory::linked_list::List;
use crate::hub::{Hub, Source};

impl Hub {
    /// Panics if an invariant is violated.
    pub fn check(&self) {
        let guard = self.lock_patiently();
        let mut check = Check {
            guard: &guard,
            users: vec![None; self.layout.blocks],
            records: Vec::new(),
            retained: 0,
        };
        check.free();
        check.channels();
        check.keys();
        check.detached();
        check.all_blocks_accounted_for();
        check.lists();
        assert_eq!(guard.get(header::RETAINED), check.retained);
        let channels = check.records.iter().filter(|record| !guard.is_pattern(**record)).count();
        assert_eq!(guard.get(header::CHANNELS), channels as u64);
        let pinned = check.records.iter().filter(|record| !guard.has_no_listeners(**record));
        let pinned: usize = pinned.map(|record| guard.record_size(*record)).sum();
        assert_eq!(guard.get(header::PINNED) as usize, pinned);
        assert_eq!(guard.get(header::REDO_LEN), 0);
        assert!(guard.get(header::RESERVED) >= guard.get(header::HEAD));
    }

    /// Panics if an invariant is violated that holds only if the last operation was completed.
    pub fn check_settled(&self) {
        self.check();
        let guard = self.lock_patiently();
        assert_eq!(guard.get(header::RESERVED), guard.get(header::HEAD));
        for record in guard.records() {
            let in_surplus = high(guard.word(record, channel::SIZE)) & IN_SURPLUS != 0;
            let events = guard.events(record);
            let surplus = u64::from(events) > guard.owed(record, events);
            assert_eq!(in_surplus, surplus, "surplus of {record}");
        }
    }
}

impl Guard<'_> {
    fn records(&self) -> Vec<u32> {
        let mut records = Vec::new();
        for bucket in 0..self.hub.layout.buckets {
            let mut record = self.get(self.hub.layout.bucket(bucket as u32)) as u32;
            while record != 0 {
                records.push(record);
                record = low(self.word(record, channel::HASH));
            }
        }
        records
    }

    fn chain(&self, record: u32) -> Vec<u32> {
        let mut events = Vec::new();
        let mut block = high(self.word(record, channel::EVENTS));
        while block != 0 {
            events.push(block);
            block = low(self.word(block, event::LINKS));
        }
        events
    }
}

struct Check<'a> {
    guard: &'a Guard<'a>,
    /// What each block is used for.
    users: Vec<Option<&'static str>>,
    records: Vec<u32>,
    retained: u64,
}

impl Check<'_> {
    fn claim(&mut self, block: u32, user: &'static str) {
        assert!(block != 0, "block 0 as {user}");
        let fresh = self.guard.get(header::FRESH);
        assert!(u64::from(block) < fresh, "block {block}, never taken, as {user}");
        let before = self.users[block as usize].replace(user);
        assert_eq!(before, None, "block {block} also as {user}");
        if user != "event" {
            assert_eq!(self.guard.get(self.guard.hub.layout.stamp(block)), 0, "stamp of {user}");
        }
    }

    /// Claims `count` linked blocks, starting with `first`.
    fn claim_chain(&mut self, first: u32, count: usize, user: &'static str) {
        let mut block = first;
        for _ in 0..count {
            self.claim(block, user);
            block = self.guard.get(self.guard.hub.layout.next(block)) as u32;
        }
    }

    fn free(&mut self) {
        let free = self.guard.get(header::FREE);
        assert!(self.guard.get(header::FRESH) as usize <= self.guard.hub.layout.blocks);
        self.claim_chain(high(free), low(free) as usize, "free");
    }

    fn all_blocks_accounted_for(&self) {
        let layout = &self.guard.hub.layout;
        for block in 1..layout.blocks as u32 {
            if u64::from(block) < self.guard.get(header::FRESH) {
                assert!(self.users[block as usize].is_some(), "block {block} is lost");
            } else {
                assert_eq!(self.guard.get(layout.stamp(block)), 0);
            }
        }
    }

    fn channels(&mut self) {
        self.records = self.guard.records();
        let mut names = BTreeSet::new();
        for record in self.records.clone() {
            let name = self.guard.name(record);
            let hash = self.guard.hash(&name) as u32;
            assert_eq!(high(self.guard.word(record, channel::HASH)), hash);
            assert_eq!(self.guard.find(&name), Some(record), "its bucket leads to it");
            self.claim(record, "record");
            let more = self.guard.word(record, channel::MORE);
            self.claim_chain(low(more), record_blocks(name.len()) - 1, "name");
            if self.guard.cursor_block(record) != 0 {
                self.claim(self.guard.cursor_block(record), "cursor");
            }
            let mut pairs = high(more);
            while pairs != 0 {
                self.claim(pairs, "more pairs");
                pairs = self.guard.word(pairs, more_pairs::NEXT) as u32;
            }
            assert!(names.insert(name), "two records of one name");
            self.events(record);
        }
    }

    fn events(&mut self, record: u32) {
        let (guard, layout) = (self.guard, &self.guard.hub.layout);
        let (mut earlier, mut blocks, mut count) = (0, 0, 0);
        let mut before = guard.low_watermark(record).place;
        // Evicted events can come back from Redis, and a new record inherits the losses of removed
        // ones.
        let alone = guard.hub.source() == Source::Alone;
        let mut before_by_id = if alone { before } else { LogOrder::START };
        for block in guard.chain(record) {
            let owner = guard.word(block, event::OWNER);
            assert_eq!(high(owner), record);
            assert_eq!(high(guard.word(block, event::LINKS)), earlier);
            self.claim(block, "event");
            let own = blocks_for_event(low(owner) as usize);
            if own > 1 {
                self.claim_chain(guard.get(layout.next(block)) as u32, own - 1, "data");
            }
            let place = LogOrder::from_event(&guard.hub.region, layout, block);
            // By id, an event with an id of Redis comes before those placed while that id was the
            // high watermark.
            let by_id = place.by_id(guard.kind(block));
            assert!(by_id > before_by_id && place.position > before.position, "places rise");
            before_by_id = by_id;
            assert!(place.position <= guard.get(header::HEAD));
            self.entry(place.position, record, block);
            before = place;
            earlier = block;
            blocks += own;
            count += 1;
        }
        assert!(before.entry_id <= end(&guard.hub.region).entry_id);
        let start = guard.word(record, channel::RUN_START);
        let chain = guard.chain(record);
        match guard.run_start(record) {
            RunStart::At(first) => assert_eq!(chain.get(high(start) as usize), Some(&first)),
            RunStart::Empty | RunStart::Cut => {
                assert!(low(start) == 0 && high(start) as usize <= chain.len());
            }
        }
        assert_eq!(low(guard.word(record, channel::EVENTS)), earlier);
        assert_eq!(guard.events(record), count);
        assert_eq!(low(guard.word(record, channel::SIZE)) as usize, blocks);
        self.retained += u64::from(count);
    }

    /// Checks the detached events: they are linked to each other, and their channels do not reach
    /// them.
    fn detached(&mut self) {
        let (guard, layout) = (self.guard, &self.guard.hub.layout);
        let ends = guard.get(header::DETACHED);
        let (mut block, mut last) = (high(ends), 0);
        while block != 0 {
            let position = guard.get(layout.stamp(block));
            let owner = guard.word(block, event::OWNER);
            assert!(position != 0 && guard.is_record(high(owner)));
            assert!(!guard.is_retained(high(owner), block, position));
            self.claim(block, "event");
            let more = blocks_for_event(low(owner) as usize) - 1;
            if more > 0 {
                self.claim_chain(guard.get(layout.next(block)) as u32, more, "data");
            }
            last = block;
            block = low(guard.word(block, event::LINKS));
        }
        assert_eq!(last, low(ends));
    }

    /// Checks that the ring leads to a retained event, if the ring reaches that far back.
    fn entry(&self, position: u64, record: u32, block: u32) {
        let layout = &self.guard.hub.layout;
        if self.guard.get(header::HEAD) - position < layout.ring as u64 {
            let at = layout.ring(position);
            assert_eq!(self.guard.get(at), position);
            assert_eq!(self.guard.get(at + 1), pair(record, block));
        }
    }

    fn keys(&mut self) {
        let guard = self.guard;
        let mut listed = Vec::new();
        let ends = guard.get(header::KEYS);
        let mut block = high(ends);
        while block != 0 {
            self.claim(block, "key");
            listed.push(block);
            block = low(guard.word(block, key::LINKS));
        }
        assert_eq!(listed.last().copied().unwrap_or(0), low(ends));
        assert_eq!(listed.len() as u64, guard.get(header::KEY_COUNT));
        let mut found = Vec::new();
        for bucket in 0..guard.hub.layout.key_buckets {
            let mut block = guard.get(guard.hub.layout.key_bucket(bucket as u64)) as u32;
            while block != 0 {
                let hash = guard.word(block, key::HASH) as usize;
                assert_eq!(hash & (guard.hub.layout.key_buckets - 1), bucket);
                found.push(block);
                block = high(guard.word(block, key::LINKS));
            }
        }
        listed.sort_unstable();
        found.sort_unstable();
        assert_eq!(listed, found, "keys in their list and in their buckets");
    }

    fn lists(&self) {
        let in_surplus = |record| high(self.guard.word(record, channel::SIZE)) & IN_SURPLUS != 0;
        self.list(SURPLUS, in_surplus);
        self.list(PATTERNS, |record| self.guard.is_pattern(record));
        let idle = |record| self.guard.events(record) == 0 && self.guard.has_no_listeners(record);
        self.list(IDLE, idle);
        for power in 0..header::CLASS_COUNT {
            let of_class = |record| {
                let blocks = low(self.guard.word(record, channel::SIZE));
                blocks > 0 && blocks.ilog2() as usize == power
            };
            self.list(class(1 << power), of_class);
        }
    }

    /// Checks that a list has exactly the members that belong to it, linked in both directions.
    fn list(&self, list: List, belongs: impl Fn(u32) -> bool) {
        let mut members = BTreeSet::new();
        let ends = self.guard.get(list.ends);
        let (mut before, mut record) = (0, high(ends));
        while record != 0 {
            let links = self.guard.word(record, list.link);
            assert_eq!(high(links), before);
            assert!(members.insert(record), "a list with a loop");
            (before, record) = (record, low(links));
        }
        assert_eq!(low(ends), before);
        let expected = self.records.iter().copied().filter(|record| belongs(*record)).collect();
        assert_eq!(members, expected, "members of the list at word {}", list.ends);
    }
}
