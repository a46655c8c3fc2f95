//! What a hub evicts. The model does not predict that: it looks at what was evicted, and checks
//! whether it was allowed.

use super::*;
use crate::hub::log::channels::record_blocks;
use crate::hub::memory::layout::header;

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
}

fn wanted_for(wanted: Wanted<'_>) -> Option<&str> {
    match wanted {
        Wanted::Nothing => None,
        Wanted::Blocks(_, name) | Wanted::Unknown(name) => Some(name),
    }
}
