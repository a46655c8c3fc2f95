//! The channels and patterns of a process, which are found by key, by name, and by the number of
//! their record in the hub.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};

use rustc_hash::FxBuildHasher;
use slotmap::SlotMap;

use super::channel::Channel;
use super::keys::ChannelKey;
use super::pattern::{PatternLookup, Patterns};
use super::stream::Subscription;
use crate::hub::{Budget, Descriptor, Hub};

/// The channels and patterns that have at least one stream in this process.
#[derive(Debug, Default)]
pub struct Directory {
    channels: SlotMap<ChannelKey, Channel>,
    by_name: HashMap<Box<[u8]>, ChannelKey>,
    by_record: HashMap<u32, ChannelKey, FxBuildHasher>,
    patterns: Patterns,
}

impl Directory {
    /// Adds a channel that this process has just joined.
    pub fn insert(&mut self, channel: Channel) -> ChannelKey {
        let (name, record) = (channel.name.clone(), channel.membership.channel());
        let key = self.channels.insert(channel);
        self.patterns.joined(&name, key);
        self.by_name.insert(name, key);
        self.by_record.insert(record, key);
        key
    }

    /// Removes a channel.
    pub fn remove(&mut self, key: ChannelKey) -> Option<Channel> {
        let channel = self.channels.remove(key)?;
        self.by_name.remove(&channel.name);
        self.by_record.remove(&channel.membership.channel());
        self.patterns.left(&channel.name, key);
        Some(channel)
    }

    pub fn get(&self, key: ChannelKey) -> Option<&Channel> {
        self.channels.get(key)
    }

    pub fn get_mut(&mut self, key: ChannelKey) -> Option<&mut Channel> {
        self.channels.get_mut(key)
    }

    /// Returns the key of the channel with this name.
    pub fn by_name(&self, name: &[u8]) -> Option<ChannelKey> {
        self.by_name.get(name).copied()
    }

    /// Returns the key of the channel with this record.
    pub fn by_record(&self, record: u32) -> Option<ChannelKey> {
        self.by_record.get(&record).copied()
    }

    /// Returns the channels of a stream.
    pub fn of<'a>(
        &'a self,
        subscriptions: &'a [Subscription],
    ) -> impl Iterator<Item = &'a Channel> + Clone {
        subscriptions.iter().filter_map(|subscription| self.channels.get(subscription.channel))
    }

    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    pub fn keys(&self) -> impl Iterator<Item = ChannelKey> + '_ {
        self.channels.keys()
    }

    /// Returns whether a stream of this process receives events through a pattern.
    pub fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Returns the keys of all patterns.
    pub fn patterns(&self) -> Vec<ChannelKey> {
        self.patterns.keys()
    }

    /// Returns the patterns that an event matches.
    pub fn patterns_of(
        &mut self,
        event: Descriptor,
        hub: &Hub,
        budget: &mut Budget,
    ) -> PatternLookup {
        let channels = &self.channels;
        self.patterns.look_up(event, hub, |key| channels.contains_key(key), budget)
    }

    /// Returns all channels.
    #[cfg(test)]
    pub fn values(&self) -> impl Iterator<Item = &Channel> {
        self.channels.values()
    }

    /// Returns the number of channels, which is the same in all of the tables.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        assert_eq!(self.channels.len(), self.by_name.len());
        assert_eq!(self.channels.len(), self.by_record.len());
        self.channels.len()
    }
}

impl Index<ChannelKey> for Directory {
    type Output = Channel;

    fn index(&self, key: ChannelKey) -> &Channel {
        &self.channels[key]
    }
}

impl IndexMut<ChannelKey> for Directory {
    fn index_mut(&mut self, key: ChannelKey) -> &mut Channel {
        &mut self.channels[key]
    }
}

#[cfg(test)]
mod tests {
    use super::super::channel::FanOut;
    use super::super::tests::small_hub;
    use super::*;
    use crate::hub::{name_of_pattern, Now};

    fn channel(hub: &Hub, name: &[u8]) -> Channel {
        let claim = hub.claim_slot().unwrap();
        let membership = hub.join(claim, name, Now::default()).unwrap();
        hub.release_slot(claim);
        Channel {
            name: name.into(),
            membership,
            streams: Vec::new(),
            frames: Default::default(),
            complete_after: 0,
            newest: 0,
            fan_out: FanOut::Rest,
            published_at: None,
            next_published_at: None,
            run_ends: Default::default(),
            is_catching_up: false,
            awaited: 0,
        }
    }

    #[test]
    fn a_channel_is_found_in_three_ways_until_it_is_removed() {
        let hub = small_hub();
        let mut directory = Directory::default();
        let [a, b] = [&b"a"[..], b"b"].map(|name| channel(&hub, name));
        let records = [a.membership.channel(), b.membership.channel()];
        let keys = [directory.insert(a), directory.insert(b)];
        assert_eq!(
            [&b"a"[..], b"b", b"c"].map(|name| directory.by_name(name)),
            [Some(keys[0]), Some(keys[1]), None]
        );
        assert_eq!(records.map(|record| directory.by_record(record)), keys.map(Some));
        let subscriptions = keys.map(|channel| Subscription { channel, index: 0 });
        let names = |directory: &Directory| -> Vec<_> {
            directory.of(&subscriptions).map(|channel| channel.name.clone()).collect()
        };
        assert_eq!(names(&directory), [Box::from(&b"a"[..]), Box::from(&b"b"[..])]);
        assert_eq!(*directory.remove(keys[0]).unwrap().name, *b"a");
        assert!(directory.remove(keys[0]).is_none() && directory.get(keys[0]).is_none());
        assert_eq!((directory.by_name(b"a"), directory.by_record(records[0])), (None, None));
        assert_eq!(names(&directory), [Box::from(&b"b"[..])]);
        // The key of a channel that was removed does not find one that is added later.
        let again = directory.insert(channel(&hub, b"a"));
        assert!(again != keys[0] && directory.get(keys[0]).is_none());
        assert_eq!(directory.len(), 2);
    }

    #[test]
    fn patterns_are_channels_that_are_matched_as_well() {
        let hub = small_hub();
        let mut directory = Directory::default();
        assert!(directory.is_empty());
        directory.insert(channel(&hub, b"a"));
        assert!(!directory.has_patterns());
        let key = directory.insert(channel(&hub, &name_of_pattern(b"a*")));
        assert_eq!((directory.patterns(), directory.has_patterns()), (vec![key], true));
        directory.remove(key);
        assert!(!directory.has_patterns() && !directory.is_empty());
    }
}
