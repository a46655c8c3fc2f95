//! A model of a hub as plain collections: every event that was published, and how many of each
//! channel were lost.

mod eviction;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::hub::invariants::inspection::FoundStart;
use crate::hub::memory::alloc::blocks_for_event;
use crate::sse::id::EntryId;
pub use eviction::Wanted;

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
