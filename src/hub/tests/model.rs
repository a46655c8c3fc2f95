//! A model of a hub as plain collections: every event that was published, and how many of each
//! channel were lost.
//!
//! The model does not predict what is evicted if memory is needed. It looks at what was evicted,
//! and checks whether that was allowed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::hub::invariants::FoundStart;
use crate::hub::log::channels::record_blocks;
use crate::hub::memory::alloc::blocks_for_event;
use crate::hub::memory::layout::header;
use crate::sse::id::EntryId;

/// An event as it was published.
#[derive(Clone, Debug)]
pub struct ModelEvent {
    pub place: LogOrder,
    pub text: String,
    pub born: u64,
    blocks: usize,
    /// Whether a run was finished after the event.
    pub ends_run: bool,
}

/// A channel, with or without a record in the hub.
#[derive(Default)]
pub struct ModelChannel {
    /// All its events; the first `lost` of them are lost.
    pub log: Vec<ModelEvent>,
    pub lost: usize,
    /// The newest lost event, or what was inherited.
    pub low_watermark: LogOrder,
    known: bool,
    /// What its record says about its runs.
    pub run: RunState,
    /// Where its newest run begins.
    pub start: FoundStart,
    /// Both, before the current operation.
    before: (RunState, FoundStart),
    /// The streams of each slot that has joined.
    pub joined: BTreeMap<usize, (Membership, u32)>,
}

impl ModelChannel {
    pub fn retained(&self) -> &[ModelEvent] {
        &self.log[self.lost..]
    }

    /// Returns the events of the newest run, if all of them are retained.
    pub fn whole_run(&self) -> Option<&[ModelEvent]> {
        let FoundStart::At(position) = self.start else { return None };
        let first = self.retained().iter().position(|event| event.place.position == position)?;
        Some(&self.retained()[first..])
    }

    /// Returns whether an event belonged to an unfinished run before the operation.
    fn was_in_open_run(&self, event: &ModelEvent) -> bool {
        let (run, start) = self.before;
        let first = match start {
            FoundStart::At(position) => position,
            FoundStart::Empty | FoundStart::Cut => run.position + 1,
        };
        !run.is_finished && event.place.position >= first
    }
}

/// What an operation was about to do when it freed memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted<'a> {
    /// Nothing: only expired events may be removed.
    Nothing,
    /// It needed this many blocks for this channel.
    Blocks(usize, &'a str),
    /// It needed blocks for this channel, and died.
    Unknown(&'a str),
}

pub struct Model {
    pub history: History,
    pub runs: History,
    pub now: Now,
    pub head: u64,
    pub last: EntryId,
    pub channels: BTreeMap<String, ModelChannel>,
    pub keys: VecDeque<Key>,
    forgotten: LogOrder,
    /// When the newest event was published of a forgotten run that was not finished, in seconds, by
    /// the bucket of its channel.
    forgotten_runs: BTreeMap<usize, u64>,
    blocks: usize,
}

/// An idempotency key and what it has published.
pub struct Key {
    pub name: (String, u8),
    pub ids: Vec<Id>,
    born: u64,
}

/// What one operation evicted from one channel.
struct Left {
    name: String,
    /// The blocks of the channel's events before the operation appended any, without the evicted
    /// ones.
    rest: usize,
    /// The blocks of the newest evicted event.
    last: usize,
    any_old: bool,
    any_young: bool,
    any_owed: bool,
}

impl Model {
    pub fn new(history: History, runs: History, now: Now, blocks: usize) -> Model {
        Model {
            history,
            runs,
            now,
            head: 0,
            last: EntryId { ms: now.wall, seq: 0 },
            channels: BTreeMap::new(),
            keys: VecDeque::new(),
            forgotten: LogOrder::START,
            forgotten_runs: BTreeMap::new(),
            blocks,
        }
    }

    pub fn is_old(&self, event: &ModelEvent) -> bool {
        self.history.age > 0 && event.born + self.history.age <= self.now.mono
    }

    /// Returns whether an event expires that is the oldest of its channel, which has this many.
    pub fn has_expired(&self, channel: &ModelChannel, event: &ModelEvent, events: usize) -> bool {
        let is_old = self.is_old(event);
        if self.runs.count == 0 || !channel.was_in_open_run(event) {
            return is_old;
        }
        let is_old_in_run = self.runs.age > 0 && event.born + self.runs.age <= self.now.mono;
        let is_owed = events as u64 <= self.runs.count && !is_old_in_run;
        !is_owed && (is_old || is_old_in_run && events as u64 > self.history.count)
    }

    /// Returns how many of its newest events a channel is owed of these.
    fn owed(&self, channel: &ModelChannel, events: &[ModelEvent]) -> u64 {
        let in_run = events.iter().filter(|event| channel.was_in_open_run(event)).count() as u64;
        self.history.count.max(in_run.min(self.runs.count))
    }

    /// Appends what was published, and returns its ids. Then finishes the run, if that was wanted.
    pub fn append(&mut self, channel: &str, events: &[(String, usize)], finishes: bool) -> Vec<Id> {
        let first = self.next_stamp();
        let mut ids = Vec::new();
        for (i, (text, len)) in (0..).zip(events) {
            self.head += 1;
            self.last = EntryId { ms: first.ms, seq: first.seq + i };
            let place = LogOrder { entry_id: self.last, position: self.head };
            ids.push(place.id(Kind::Local, 7));
            let logged = ModelEvent {
                place,
                text: text.clone(),
                born: self.now.mono,
                blocks: blocks_for_event(*len),
                ends_run: false,
            };
            let known = self.channels.entry(channel.into()).or_default();
            known.log.push(logged);
            if known.run.is_finished || !known.run.is_known && known.start != FoundStart::Cut {
                known.start = FoundStart::At(self.head);
            }
            known.run = RunState { is_finished: false, is_known: true, ..known.run };
        }
        if finishes {
            self.finish(channel);
        }
        ids
    }

    fn finish(&mut self, channel: &str) {
        let known = self.channels.entry(channel.into()).or_default();
        if known.run.is_finished {
            return;
        }
        self.head += 1;
        known.run = RunState { position: self.head, is_finished: true, is_known: true };
        if let Some(last) = known.log.last_mut() {
            last.ends_run = true;
        }
    }

    /// Ends the streams of a channel, or deletes its events.
    pub fn end_streams(&mut self, name: &str) -> bool {
        let known = self.channels.get(name).is_some_and(|channel| channel.known);
        self.head += u64::from(known);
        known
    }

    pub fn forget(&mut self, name: &str) -> Option<u64> {
        self.last = self.next_stamp();
        let place = LogOrder { entry_id: self.last, position: self.head };
        let channel = self.channels.get_mut(name)?;
        let events = channel.retained().len() as u64;
        channel.lost = channel.log.len();
        if matches!(channel.start, FoundStart::At(_)) {
            channel.start = FoundStart::Cut;
        }
        channel.low_watermark = place;
        Some(events)
    }

    fn next_stamp(&self) -> EntryId {
        if self.now.wall > self.last.ms {
            EntryId { ms: self.now.wall, seq: 0 }
        } else {
            EntryId { ms: self.last.ms, seq: self.last.seq + 1 }
        }
    }

    /// Returns the ids of a key that must be remembered, and those that may be, because the key
    /// could have been dropped.
    pub fn key(&self, name: &(String, u8)) -> Option<&[Id]> {
        let young = |key: &&Key| key.born + 120_000 > self.now.mono;
        let key = self.keys.iter().rev().find(|key| key.name == *name).filter(young)?;
        Some(&key.ids)
    }

    pub fn remember(&mut self, name: (String, u8), ids: Vec<Id>) {
        self.keys.push_back(Key { name, ids, born: self.now.mono });
    }

    /// Returns whether this many blocks for this channel could be freed at all.
    pub fn could_fit(&self, hub: &Hub, wanted: usize, channel: &str) -> bool {
        let listened = self.channels.iter().filter(|(name, channel_of)| {
            !channel_of.joined.is_empty() || (*name == channel && channel_of.known)
        });
        let pinned: usize = listened.map(|(name, _)| hub.record_size_of(name.as_bytes())).sum();
        wanted + pinned < self.blocks
    }

    /// Takes over what the hub has evicted, and checks it. `appended` is the number of events that
    /// the operation added to the channel for which it needed blocks.
    pub fn sync(&mut self, hub: &Hub, wanted: Wanted<'_>, appended: usize) {
        let mut left = Vec::new();
        for name in self.channels.keys().cloned().collect::<Vec<_>>() {
            let new = if wanted_for(wanted) == Some(&name) { appended } else { 0 };
            left.extend(self.sync_channel(hub, &name, new));
        }
        let forgot = self.sync_records(hub, wanted);
        self.sync_keys(hub, wanted, appended);
        let young = left.iter().any(|left| left.any_young);
        if forgot > 0 || young {
            assert_ne!(wanted, Wanted::Nothing, "something left without need");
            self.judge(hub, wanted, appended, &left, forgot);
        }
        for channel in self.channels.values_mut() {
            channel.before = (channel.run, channel.start);
        }
    }

    fn sync_channel(&mut self, hub: &Hub, name: &str, new: usize) -> Option<Left> {
        let retained = hub.retained(name.as_bytes());
        let channel = self.channels.get(name)?;
        let (before, all) = (channel.lost, channel.log.len() - new);
        let lost = channel.log.len() - retained.len();
        let positions: Vec<u64> =
            channel.log[lost..].iter().map(|event| event.place.position).collect();
        assert_eq!(retained, positions, "what is retained of {name}");
        assert!((before..=all).contains(&lost), "{name}: {before} {lost} {all}");
        let gone = &channel.log[before..lost];
        let owed = self.owed(channel, &channel.log[before..all]);
        let owed = (all - before).min(owed as usize);
        let expired =
            gone.iter().zip(before..).map(|(event, i)| self.has_expired(channel, event, all - i));
        let expired: Vec<bool> = expired.collect();
        let left = gone.last().map(|last| Left {
            name: name.into(),
            rest: channel.log[lost..all].iter().map(|event| event.blocks).sum(),
            last: last.blocks,
            any_old: expired.contains(&true),
            any_young: expired.contains(&false),
            any_owed: all - lost < owed,
        });
        let low_watermark = gone.last().map(|last| last.place);
        let channel = self.channels.get_mut(name)?;
        channel.lost = lost;
        let has_left = |first| !positions.contains(&first);
        if matches!(channel.start, FoundStart::At(first) if has_left(first)) {
            channel.start = FoundStart::Cut;
        }
        channel.low_watermark = channel.low_watermark.max(low_watermark.unwrap_or_default());
        left
    }

    /// Finds which channels' records were removed, and which are new. Returns how many were
    /// removed.
    fn sync_records(&mut self, hub: &Hub, wanted: Wanted<'_>) -> usize {
        let mut forgot = 0;
        for (name, channel) in &mut self.channels {
            if channel.known && !hub.knows(name.as_bytes()) {
                assert!(channel.joined.is_empty(), "{name} has listeners and was removed");
                assert!(channel.retained().is_empty());
                channel.known = false;
                let (run, start) = channel.before;
                if !run.is_finished && (run.is_known || start == FoundStart::Cut) {
                    let seconds = channel.low_watermark.entry_id.ms.div_ceil(1000);
                    let newest = self.forgotten_runs.entry(hub.bucket_of(name.as_bytes()));
                    let newest = newest.or_default();
                    *newest = seconds.max(*newest);
                }
                (channel.run, channel.start) = Default::default();
                self.forgotten = self.forgotten.max(channel.low_watermark);
                forgot += 1;
            }
        }
        for (name, channel) in &mut self.channels {
            if !channel.known && hub.knows(name.as_bytes()) {
                assert_eq!(wanted_for(wanted), Some(name.as_str()));
                channel.known = true;
                channel.low_watermark = self.forgotten;
                let seconds = self.forgotten_runs.get(&hub.bucket_of(name.as_bytes()));
                let is_doubtful = |seconds: &u64| {
                    self.runs.age == 0 || seconds * 1000 + self.runs.age > self.now.wall
                };
                if seconds.is_some_and(is_doubtful) {
                    channel.start = FoundStart::Cut;
                }
            }
            if channel.known {
                assert_eq!(hub.run_state_of(name.as_bytes()), channel.run, "runs of {name}");
                let start = hub.run_start_of(name.as_bytes());
                assert_eq!(start, Some(channel.start), "the beginning of the run of {name}");
                let ends = channel.retained().iter().filter(|event| event.ends_run);
                let ends: Vec<u64> = ends.map(|event| event.place.position).collect();
                assert_eq!(hub.run_ends(name.as_bytes()), ends, "last events of runs of {name}");
            }
            let low_watermark = if channel.known { channel.low_watermark } else { self.forgotten };
            assert_eq!(
                hub.low_watermark_of(name.as_bytes()),
                low_watermark,
                "low watermark of {name}"
            );
        }
        forgot
    }

    /// The oldest keys may be dropped: by age, by their share of the zone, or if nothing else is
    /// left.
    fn sync_keys(&mut self, hub: &Hub, wanted: Wanted<'_>, appended: usize) {
        let count = hub.region.get(header::KEY_COUNT) as usize;
        assert!(count <= self.keys.len());
        let share = self.blocks / 16;
        while self.keys.len() > count {
            let key = self.keys.pop_front().unwrap();
            let old = key.born + 120_000 <= self.now.mono;
            let emptied = wanted != Wanted::Nothing
                && hub.stats().retained_events as usize == appended
                && self.channels.iter().all(|(name, channel)| {
                    !channel.known
                        || wanted_for(wanted) == Some(name)
                        || !hub.is_idle(name.as_bytes())
                });
            assert!(old || emptied || self.keys.len() + 1 >= share, "a key was dropped");
        }
        assert!(count <= share.max(1));
    }

    /// Checks that the right events were evicted: what is owed goes last.
    fn judge(&self, hub: &Hub, wanted: Wanted<'_>, appended: usize, left: &[Left], forgot: usize) {
        let Wanted::Blocks(blocks, target) = wanted else { return };
        let new = |name: &str| if name == target { appended } else { 0 };
        let rest = |name: &str, channel: &ModelChannel| channel.retained().len() - new(name);
        let owed_left = left.iter().any(|left| left.any_owed && left.any_young && !left.any_old);
        if forgot > 0 || owed_left {
            for (name, channel) in &self.channels {
                let rest = rest(name, channel);
                let owed = self.owed(channel, &channel.retained()[..rest]);
                assert!(rest as u64 <= owed, "{name} had surplus to give first");
            }
        }
        if owed_left {
            for (name, channel) in &self.channels {
                let just_emptied = left.iter().any(|left| left.name == *name);
                let keep = name == target || !channel.known || just_emptied;
                assert!(keep || !hub.is_idle(name.as_bytes()), "{name} was idle");
            }
        }
        let weights: Vec<(&str, usize)> = self
            .channels
            .iter()
            .map(|(name, channel)| {
                let rest = &channel.retained()[..rest(name, channel)];
                (name.as_str(), rest.iter().map(|event| event.blocks).sum())
            })
            .collect();
        for left in left.iter().filter(|left| left.any_owed && left.any_young && !left.any_old) {
            let weight = left.rest + left.last;
            for (name, other) in &weights {
                assert!(*other < 2 * weight, "{name} holds {other}, {} {weight}", left.name);
            }
        }
        self.no_more_than_needed(hub, blocks, left, forgot);
    }

    /// Checks that nothing was evicted once there was enough memory.
    fn no_more_than_needed(&self, hub: &Hub, blocks: usize, left: &[Left], forgot: usize) {
        if left.iter().any(|left| left.any_old) {
            return;
        }
        let free = crate::hub::memory::alloc::available(&hub.region, &hub.layout);
        let largest = left.iter().map(|left| left.last).max().unwrap_or(0);
        let record = if forgot > 0 { record_blocks(255) + 1 } else { 0 };
        assert!(free < largest.max(record), "{free} blocks free, {blocks} were wanted");
    }

    /// Returns what these channels retain after a position, in order.
    pub fn behind(
        &self,
        names: &BTreeSet<String>,
        after: impl Fn(LogOrder) -> bool,
    ) -> Vec<&ModelEvent> {
        let mut events: Vec<&ModelEvent> = names
            .iter()
            .flat_map(|name| self.channels[name].retained())
            .filter(|event| after(event.place))
            .collect();
        events.sort_by_key(|event| event.place);
        events
    }
}

fn wanted_for(wanted: Wanted<'_>) -> Option<&str> {
    match wanted {
        Wanted::Nothing => None,
        Wanted::Blocks(_, name) | Wanted::Unknown(name) => Some(name),
    }
}
