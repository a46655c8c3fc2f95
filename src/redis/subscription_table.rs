//! The channels and patterns that a connection is or will be subscribed to.

use std::collections::hash_map::{HashMap, IterMut, Keys, ValuesMut};
use std::collections::BTreeSet;

use crate::hub::{pattern_of, Membership, ReportedId};
use crate::sse::pattern::matches;

use crate::redis::entry_counter::EntryCounter;
use crate::redis::waiting::WaitingMessages;

/// A channel, or a pattern.
pub struct FollowedChannel {
    /// The process's entry in the channel's record.
    pub member: Membership,
    /// The state of its subscription.
    pub state: SubscriptionState,
    /// The id up to which the channel's stream was read: that of its newest durable event.
    pub last: ReportedId,
    /// The number of entries that were added to its stream up to `last`, with `redis_source
    /// stream`.
    pub counter: EntryCounter,
    /// The lowest id that has arrived under the channel's name while its history was being read.
    pub first_by_name: Option<ReportedId>,
    /// Entries up to this id that are still being read were deleted.
    pub forgotten: ReportedId,
    /// Since when it has no listeners (ms).
    pub quiet: Option<u64>,
    /// Whether the stream has to be read because of a doubtful message.
    pub is_doubtful: bool,
    /// Whether the stream may have lost its newest entries, or be another one, when it is read the
    /// next time.
    pub is_rewound: bool,
}

/// The state of a subscription.
pub enum SubscriptionState {
    /// It is or will be requested: until it is confirmed, nothing arrives under the channel's own
    /// name.
    Requested,
    /// It is confirmed; messages wait until the channel's stream has been read.
    CatchingUp(WaitingMessages),
    /// All events of the channel have been appended.
    InSync,
    /// It was rejected.
    Refused {
        /// When it is requested again (ms).
        until: u64,
    },
}

impl FollowedChannel {
    /// Records a doubtful message. Returns true if the stream is to be read at once. If it must
    /// not be read now, it is read within a second.
    pub fn is_doubted(&mut self, may_be_read: bool) -> bool {
        let at_once = may_be_read && matches!(self.state, SubscriptionState::InSync);
        self.is_doubtful = !at_once;
        at_once
    }

    /// Records a message with an id that arrives under the channel's own name. Ids that `clock`
    /// had issued before the connection started are old, whatever a message claims.
    pub fn note_first_by_name(&mut self, id: ReportedId, clock: ReportedId) {
        if matches!(self.state, SubscriptionState::CatchingUp { .. }) && id > clock {
            let first = self.first_by_name.map_or(id, |first| first.min(id));
            self.first_by_name = Some(first);
        }
    }

    /// Whether messages arrive under the channel's own name, so that those received through
    /// patterns are duplicates.
    pub fn is_subscribed_by_name(&self) -> bool {
        matches!(self.state, SubscriptionState::CatchingUp(_) | SubscriptionState::InSync)
    }
}

/// All channels and patterns, by the names that the hub has for them.
#[derive(Default)]
pub struct SubscriptionTable {
    by_name: HashMap<Box<[u8]>, FollowedChannel>,
    /// The names of the patterns. All have the same prefix, so they sort as the patterns do.
    patterns: BTreeSet<Box<[u8]>>,
}

impl SubscriptionTable {
    pub fn get(&self, name: &[u8]) -> Option<&FollowedChannel> {
        self.by_name.get(name)
    }

    pub fn get_mut(&mut self, name: &[u8]) -> Option<&mut FollowedChannel> {
        self.by_name.get_mut(name)
    }

    /// Returns the number of channels and patterns.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Returns all names.
    pub fn names(&self) -> Keys<'_, Box<[u8]>, FollowedChannel> {
        self.by_name.keys()
    }

    pub fn iter_mut(&mut self) -> IterMut<'_, Box<[u8]>, FollowedChannel> {
        self.by_name.iter_mut()
    }

    pub fn values_mut(&mut self) -> ValuesMut<'_, Box<[u8]>, FollowedChannel> {
        self.by_name.values_mut()
    }

    /// Adds a channel or a pattern.
    pub fn insert(&mut self, name: Box<[u8]>, channel: FollowedChannel) {
        if pattern_of(&name).is_some() {
            self.patterns.insert(name.clone());
        }
        self.by_name.insert(name, channel);
    }

    /// Removes a channel or a pattern.
    pub fn remove(&mut self, name: &[u8]) -> Option<FollowedChannel> {
        self.patterns.remove(name);
        self.by_name.remove(name)
    }

    /// Keeps only those for which `keep` returns true.
    pub fn retain(&mut self, mut keep: impl FnMut(&mut FollowedChannel) -> bool) {
        self.by_name.retain(|_, channel| keep(channel));
        self.patterns.retain(|name| self.by_name.contains_key(name));
    }

    /// Returns the names of the patterns that match a channel.
    pub fn patterns_of(&self, name: &[u8]) -> Vec<Box<[u8]>> {
        let is_matching =
            |pattern: &[u8]| pattern_of(pattern).is_some_and(|pattern| matches(pattern, name));
        self.patterns.iter().filter(|pattern| is_matching(pattern)).cloned().collect()
    }

    /// Returns the first pattern, in byte order, that matches a channel.
    pub fn first_match(&self, name: &[u8]) -> Option<&[u8]> {
        let mut patterns = self.patterns.iter().filter_map(|name| pattern_of(name));
        patterns.find(|pattern| matches(pattern, name))
    }
}
