//! Streams of patterns: which patterns an event matches.
//!
//! To a worker, a pattern is a channel like any other, with its own streams, cached frames, and
//! fan-outs. It also receives the events of every channel whose name matches. The matching patterns
//! are cached for each channel. A channel's record may be freed and reused for another channel, so
//! the name is read with every event and compared with the cached one.

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

/// Maximum number of channels whose matching patterns are cached.
const CACHED_CHANNELS: usize = 10_000;

/// The patterns that this process has streams of.
#[derive(Debug, Default)]
pub struct Patterns {
    /// In the order of their first stream, each with a number.
    all: Vec<(u64, ChannelKey, Box<[u8]>)>,
    /// The highest number.
    newest: u64,
    known: HashMap<u32, CachedPatterns, FxBuildHasher>,
    name: Vec<u8>,
}

/// The cached patterns of a channel, by its record.
#[derive(Debug)]
struct CachedPatterns {
    name: Rc<[u8]>,
    /// The patterns that match, out of those with a number up to `compared`.
    matching: Vec<ChannelKey>,
    compared: u64,
}

/// The result of looking up an event's patterns.
pub enum PatternLookup {
    /// The channel's name, and the patterns that match it.
    Channel(Rc<[u8]>, Vec<ChannelKey>),
    /// The channel's record is gone, so its name is unknown.
    Gone,
    /// The budget was spent before all patterns were compared. The next call continues.
    Unfinished,
}

impl Patterns {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Adds a pattern when its first stream is opened. Ignores channels.
    pub fn joined(&mut self, name: &[u8], key: ChannelKey) {
        if pattern_of(name).is_some() {
            self.newest += 1;
            self.all.push((self.newest, key, name.into()));
        }
    }

    /// Removes a pattern when its last stream is closed. Ignores channels.
    pub fn left(&mut self, name: &[u8], key: ChannelKey) {
        if pattern_of(name).is_some() {
            self.all.retain(|(_, other, _)| *other != key);
        }
        if self.all.is_empty() {
            self.known = HashMap::default();
        }
    }

    /// Returns the patterns that an event matches. `is_there` returns whether a pattern still
    /// has streams.
    pub fn look_up(
        &mut self,
        event: Descriptor,
        hub: &Hub,
        is_there: impl Fn(ChannelKey) -> bool,
        budget: &mut Budget,
    ) -> PatternLookup {
        if !hub.channel_of(event, &mut self.name) {
            return PatternLookup::Gone;
        }
        if self.known.len() >= CACHED_CHANNELS && !self.known.contains_key(&event.channel) {
            self.known.clear();
        }
        let name = &self.name;
        let new =
            || CachedPatterns { name: name.as_slice().into(), matching: Vec::new(), compared: 0 };
        let known = self.known.entry(event.channel).or_insert_with(new);
        if *known.name != **name {
            *known = new();
        }
        let from = self.all.partition_point(|(number, ..)| *number <= known.compared);
        let subject = Subject::new(name);
        for (number, key, pattern) in &self.all[from..] {
            if budget.is_spent() {
                return PatternLookup::Unfinished;
            }
            budget.spend(cost(pattern));
            if reaches(pattern, &subject) {
                known.matching.push(*key);
            }
            known.compared = *number;
        }
        known.matching.retain(|key| is_there(*key));
        PatternLookup::Channel(known.name.clone(), known.matching.clone())
    }

    /// Returns the keys of all patterns.
    pub fn keys(&self) -> Vec<ChannelKey> {
        self.all.iter().map(|(_, key, _)| *key).collect()
    }
}

impl<S: Socket> Worker<S> {
    /// Reads an event in a process that has streams of patterns. `exact` is the event's channel, if
    /// it has streams here. Returns `false` if the budget was spent before all matching patterns
    /// were known.
    pub(super) fn read_matching(
        &mut self,
        event: Descriptor,
        exact: Option<ChannelKey>,
        now: Now,
        budget: &mut Budget,
    ) -> bool {
        if self.hub.is_earlier(event) {
            // Streams of patterns have received it already.
            exact.into_iter().for_each(|key| self.skip_cache(key, event.position));
            return true;
        }
        let (name, matching) = match self.directory.patterns_of(event, &self.hub, budget) {
            PatternLookup::Channel(name, matching) => (Some(name), matching),
            PatternLookup::Gone => (None, self.directory.patterns()),
            PatternLookup::Unfinished => return false,
        };
        // This many patterns may have to be notified.
        budget.spend(1 + matching.len());
        if exact.is_none() && matching.is_empty() {
            return true;
        }
        let keys = exact.into_iter().chain(matching);
        let read = name.filter(|_| self.hub.copy(event, now, &mut self.frame_cache.copied));
        match read {
            Some(name) => self.cache_for_all(keys, name),
            None => keys.for_each(|key| self.skip_cache(key, event.position)),
        }
        true
    }

    fn cache_for_all(&mut self, keys: impl Iterator<Item = ChannelKey>, name: Rc<[u8]>) {
        let recent = self.frame_cache.frame(&self.hub);
        for (key, i) in keys.zip(0..) {
            let recent = recent.for_channel(name.clone());
            // The memory of the bytes is shared, so it counts only once.
            let len = if i == 0 { recent.frame.chunk().len() } else { size_of::<CachedFrame>() };
            let position = recent.place.position;
            self.cache_frame(key, recent, len);
            self.touch(key, position);
        }
    }
}
