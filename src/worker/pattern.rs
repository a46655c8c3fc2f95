//! Streams of patterns: which of them an event is for.
//!
//! To a worker a pattern is a channel like any other, with streams, newest frames and passes of its
//! own; only that the events of every channel whose name matches are put there as well. Which
//! patterns match is remembered for each channel. A channel's record may be forgotten and used again
//! for another one, so the name is read with every event, and checked against what is remembered.

use std::collections::HashMap;
use std::mem::size_of;
use std::rc::Rc;

use rustc_hash::FxBuildHasher;

use super::channel::CachedFrame;
use super::keys::ChannelKey;
use super::socket::Socket;
use super::Worker;
use crate::hub::{pattern_of, reaches, Budget, Descriptor, Hub, Now};
use crate::sse::pattern::{cost, Subject};

/// Channels of which is remembered what matches.
const REMEMBERED: usize = 10_000;

/// The patterns that a process has streams of.
#[derive(Debug, Default)]
pub struct Patterns {
    /// In the order in which they came, each with its number.
    all: Vec<(u64, ChannelKey, Box<[u8]>)>,
    /// The number of the newest.
    newest: u64,
    known: HashMap<u32, Known, FxBuildHasher>,
    name: Vec<u8>,
}

/// What is known of a channel, by its record.
#[derive(Debug)]
struct Known {
    name: Rc<[u8]>,
    /// The patterns that match it, of those up to a number.
    matching: Vec<ChannelKey>,
    compared: u64,
}

/// What an event is of.
enum Of {
    /// A channel of this name, and the patterns that match it.
    Channel(Rc<[u8]>, Vec<ChannelKey>),
    /// Nobody can tell any more.
    Gone,
    /// There are more patterns to compare than the budget allows: some are done.
    Unfinished,
}

impl Patterns {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The first stream of a channel or a pattern was opened.
    pub fn joined(&mut self, name: &[u8], key: ChannelKey) {
        if pattern_of(name).is_some() {
            self.newest += 1;
            self.all.push((self.newest, key, name.into()));
        }
    }

    /// The last one was closed.
    pub fn left(&mut self, name: &[u8], key: ChannelKey) {
        if pattern_of(name).is_some() {
            self.all.retain(|(_, other, _)| *other != key);
        }
        if self.all.is_empty() {
            self.known = HashMap::default();
        }
    }

    /// What an event is of; `is_there` tells a pattern that still has streams.
    fn of(
        &mut self,
        event: Descriptor,
        hub: &Hub,
        is_there: impl Fn(ChannelKey) -> bool,
        budget: &mut Budget,
    ) -> Of {
        if !hub.channel_of(event, &mut self.name) {
            return Of::Gone;
        }
        if self.known.len() >= REMEMBERED && !self.known.contains_key(&event.channel) {
            self.known.clear();
        }
        let name = &self.name;
        let new = || Known { name: name.as_slice().into(), matching: Vec::new(), compared: 0 };
        let known = self.known.entry(event.channel).or_insert_with(new);
        if *known.name != **name {
            *known = new();
        }
        let from = self.all.partition_point(|(number, ..)| *number <= known.compared);
        let subject = Subject::new(name);
        for (number, key, pattern) in &self.all[from..] {
            if budget.is_spent() {
                return Of::Unfinished;
            }
            budget.spend(cost(pattern));
            if reaches(pattern, &subject) {
                known.matching.push(*key);
            }
            known.compared = *number;
        }
        known.matching.retain(|key| is_there(*key));
        Of::Channel(known.name.clone(), known.matching.clone())
    }

    fn keys(&self) -> Vec<ChannelKey> {
        self.all.iter().map(|(_, key, _)| *key).collect()
    }
}

impl<S: Socket> Worker<S> {
    /// Reads an event of a process that has streams of patterns. `exact` is its channel, if that has
    /// streams here. False: the budget is spent before it is known whom the event is for.
    pub(super) fn read_matching(
        &mut self,
        event: Descriptor,
        exact: Option<ChannelKey>,
        now: Now,
        budget: &mut Budget,
    ) -> bool {
        if self.hub.is_earlier(event) {
            // Streams of patterns have had it.
            exact.into_iter().for_each(|key| self.pass_over(key, event.position));
            return true;
        }
        let channels = &self.channels;
        let is_there = |key| channels.contains_key(key);
        let (name, matching) = match self.patterns.of(event, &self.hub, is_there, budget) {
            Of::Channel(name, matching) => (Some(name), matching),
            Of::Gone => (None, self.patterns.keys()),
            Of::Unfinished => return false,
        };
        // So many patterns may have to be told.
        budget.spend(1 + matching.len());
        if exact.is_none() && matching.is_empty() {
            return true;
        }
        let keys = exact.into_iter().chain(matching);
        let read = name.filter(|_| self.hub.copy(event, now, &mut self.kept.copied));
        match read {
            Some(name) => self.keep_for_all(keys, name),
            None => keys.for_each(|key| self.pass_over(key, event.position)),
        }
        true
    }

    fn keep_for_all(&mut self, keys: impl Iterator<Item = ChannelKey>, name: Rc<[u8]>) {
        let recent = self.kept.frame(&self.hub);
        for (key, i) in keys.zip(0..) {
            let recent = recent.of(name.clone());
            // The bytes are there once, for all of them.
            let len = if i == 0 { recent.frame.chunk().len() } else { size_of::<CachedFrame>() };
            let position = recent.place.position;
            self.keep(key, recent, len);
            self.touch(key, position);
        }
    }
}
