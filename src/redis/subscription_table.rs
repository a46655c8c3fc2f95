//! The channels and patterns that a connection is subscribed to, or will be.

use std::collections::hash_map::{HashMap, IterMut, Keys, ValuesMut};
use std::collections::BTreeSet;

use crate::hub::{pattern_of, Membership, ReportedId};
use crate::sse::pattern::matches;

use crate::redis::waiting::WaitingMessages;

/// What is to be done about doubtful messages of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// None has come for a while.
    None,
    /// The stream has been asked within the last second.
    Settled,
    /// More have come since.
    Open,
}

/// A channel, or a pattern.
pub struct FollowedChannel {
    /// The process's place in its record.
    pub member: Membership,
    /// How far its subscription is.
    pub state: SubscriptionState,
    /// How far its stream was read: the number of its newest durable event.
    pub last: ReportedId,
    /// The lowest id that has come by its name while its history was on its way.
    pub first_by_name: Option<ReportedId>,
    /// Entries up to this id that are still being fetched are forgotten.
    pub forgotten: ReportedId,
    /// Since when nobody listens (ms).
    pub quiet: Option<u64>,
    /// Whether its stream has to be asked because of a doubtful message.
    pub doubt: Doubt,
}

/// How far a subscription is.
pub enum SubscriptionState {
    /// It is subscribed to, or will be: until that is confirmed nothing comes by its name.
    Asked,
    /// It is subscribed to, and its history is on its way; messages wait for that.
    Joining(WaitingMessages),
    /// It has everything.
    InStep,
    /// It cannot be had.
    Refused {
        /// When it is asked for again (ms).
        until: u64,
    },
}

impl FollowedChannel {
    /// A doubtful message has come. True if the stream is to be asked at once; if somebody sends many, or
    /// it may not be asked now, it is asked once a second.
    pub fn is_doubted(&mut self, may_be_asked: bool) -> bool {
        let in_step = matches!(self.state, SubscriptionState::InStep);
        let at_once = may_be_asked && in_step && self.doubt == Doubt::None;
        self.doubt = if at_once { Doubt::Settled } else { Doubt::Open };
        at_once
    }

    /// A message with an id has come by its name. What `clock` had given before the connection began has
    /// not happened since, whatever a message claims.
    pub fn comes_while_joining(&mut self, id: ReportedId, clock: ReportedId) {
        if matches!(self.state, SubscriptionState::Joining { .. }) && id > clock {
            let first = self.first_by_name.map_or(id, |first| first.min(id));
            self.first_by_name = Some(first);
        }
    }

    /// Whether its messages come by its own name now, so that those which patterns bring are doubles.
    pub fn comes_by_name(&self) -> bool {
        matches!(self.state, SubscriptionState::Joining(_) | SubscriptionState::InStep)
    }
}

/// All of them, by the names that the hub has for them.
#[derive(Default)]
pub struct SubscriptionTable {
    by_name: HashMap<Box<[u8]>, FollowedChannel>,
    /// The names of those that are patterns. All begin alike, so they have the order of the patterns.
    patterns: BTreeSet<Box<[u8]>>,
}

impl SubscriptionTable {
    /// One of them.
    pub fn get(&self, name: &[u8]) -> Option<&FollowedChannel> {
        self.by_name.get(name)
    }

    /// One of them.
    pub fn get_mut(&mut self, name: &[u8]) -> Option<&mut FollowedChannel> {
        self.by_name.get_mut(name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// All names.
    pub fn names(&self) -> Keys<'_, Box<[u8]>, FollowedChannel> {
        self.by_name.keys()
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> IterMut<'_, Box<[u8]>, FollowedChannel> {
        self.by_name.iter_mut()
    }

    /// All of them.
    pub fn values_mut(&mut self) -> ValuesMut<'_, Box<[u8]>, FollowedChannel> {
        self.by_name.values_mut()
    }

    /// One more.
    pub fn insert(&mut self, name: Box<[u8]>, channel: FollowedChannel) {
        if pattern_of(&name).is_some() {
            self.patterns.insert(name.clone());
        }
        self.by_name.insert(name, channel);
    }

    /// One less.
    pub fn remove(&mut self, name: &[u8]) -> Option<FollowedChannel> {
        self.patterns.remove(name);
        self.by_name.remove(name)
    }

    /// Only those for which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&mut FollowedChannel) -> bool) {
        self.by_name.retain(|_, channel| keep(channel));
        self.patterns.retain(|name| self.by_name.contains_key(name));
    }

    /// The first pattern, in the order of their bytes, that matches a channel.
    pub fn first_match(&self, name: &[u8]) -> Option<&[u8]> {
        let mut patterns = self.patterns.iter().filter_map(|name| pattern_of(name));
        patterns.find(|pattern| matches(pattern, name))
    }
}
