//! Generated operations on a small hub, compared with the model, with a check of all invariants
//! after each.

mod dying;
pub mod reading;

use std::collections::{BTreeSet, VecDeque};

use super::model::{self, Model, Wanted};
use super::random::Random;
use super::*;
use crate::hub::log::channels::record_blocks;
use crate::hub::memory::alloc::blocks_for_event;

/// The operations of one run.
const STEPS: usize = 250;

struct Run {
    hub: Hub,
    model: Model,
    random: Random,
    claims: Vec<SlotClaim>,
    max_event: usize,
    /// The position up to which a reader without the lock has read.
    read: u64,
    followed: Option<Followed>,
    /// The last operation that was to change the log has completed.
    is_settled: bool,
}

/// A replay that continues while the hub changes.
struct Followed {
    cursor: Box<ReplayCursor>,
    names: BTreeSet<String>,
    /// Positions that it still has to receive, or to learn to be lost.
    expected: VecDeque<u64>,
}

/// Events to publish.
struct NewPublish {
    channel: String,
    texts: Vec<String>,
    event_type: &'static [u8],
    key: Option<u8>,
    /// Whether the run is finished after them.
    finishes: bool,
}

impl NewPublish {
    fn publish(&self, hub: &Hub, now: Now) -> Result<Published, PublishError> {
        let event_type = self.event_type;
        let new: Vec<NewEvent<'_>> =
            self.texts.iter().map(|text| NewEvent { event_type, data: text.as_bytes() }).collect();
        let key = self.key.map(|key| [key]);
        let (channel, key) = (self.channel.as_bytes(), key.as_ref().map(|key| &key[..]));
        if self.finishes {
            hub.publish_and_finish(channel, &new, key, now)
        } else {
            hub.publish(channel, &new, key, now)
        }
    }

    fn key_name(&self) -> Option<(String, u8)> {
        self.key.map(|key| (self.channel.clone(), key))
    }

    /// Returns the texts, and how many bytes their events have.
    fn with_len(&self) -> Vec<(String, usize)> {
        let len = |text: &String| self.event_type.len() + text.len() + 7;
        self.texts.iter().map(|text| (text.clone(), len(text))).collect()
    }
}

fn new_runs(random: &mut Random) -> History {
    History { count: random.of(&[0, 0, 2, 20, 1_000]), age: random.of(&[0, 100, 3_000]) }
}

fn name_of(number: u64) -> String {
    match number {
        0..6 => format!("c{number}"),
        6..9 => format!("{number:0>60}"),
        _ => format!("{number:0>255}"),
    }
}

impl Run {
    fn new(mut random: Random) -> Run {
        let max_event = random.of(&[200, 600, 2_000]);
        let least = Plan::minimum_bytes(8, max_event);
        let bytes = least + random.below(3) as usize * (40 << 10);
        let count = random.of(&[0, 1, 3, 10, 1_000]);
        let age = random.of(&[0, 0, 40, 3_000]);
        let (history, runs) = (History { count, age }, new_runs(&mut random));
        let hub = hub_of(bytes, max_event, count, age);
        hub.set_history(history, runs).unwrap();
        let model = Model::new(history, runs, at(0), hub.layout.blocks);
        let claims = vec![hub.claim_slot().unwrap(), hub.claim_slot().unwrap()];
        Run { hub, model, random, claims, max_event, read: 0, followed: None, is_settled: true }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..40 => self.publish(),
            40..50 => self.join(),
            50..55 => self.leave(),
            55..59 => self.set_streams(),
            59..61 => self.slot_changes(),
            61..66 => self.sweep(),
            66..74 => self.time_passes(),
            74..76 => self.history_changes(),
            76 => self.administer(),
            77..82 => self.resume(),
            82 => self.begin_fresh(),
            83 => self.begin_since(),
            84 => self.begin_in_run(),
            85..87 => self.follow(),
            87..93 => self.give_on(),
            93 => self.die(),
            _ => self.read_on(),
        }
        if self.is_settled {
            self.hub.check_settled();
        } else {
            self.hub.check();
        }
    }

    fn name(&mut self) -> String {
        // Mostly few channels, so that they grow; sometimes many.
        let below = self.random.of(&[3, 3, 6, 14]);
        name_of(self.random.below(below))
    }

    fn publish(&mut self) {
        let new = self.new_publish();
        self.publish_now(&new);
    }

    fn new_publish(&mut self) -> NewPublish {
        let channel = self.name();
        let finishes = self.random.below(4) == 0;
        let counts: &[usize] = if finishes { &[0, 0, 1, 2, 5, 30] } else { &[1, 1, 1, 2, 5, 30] };
        let count = self.random.of(counts);
        let mut texts = Vec::new();
        for i in 0..count {
            let most = self.max_event - 7 - 5;
            let size = self.random.of(&[0, 10, 60, 81, 82, 209, most / 2, most]).min(most);
            let text = format!("{}.{i}:", self.model.head);
            texts.push(format!("{text:=<size$}").chars().take(most).collect::<String>());
        }
        let event_type: &[u8] = self.random.of(&[b"", b"", b"trade"]);
        let key = (self.random.below(4) == 0).then(|| self.random.below(30) as u8);
        NewPublish { channel, texts, event_type, key, finishes }
    }

    fn publish_now(&mut self, new: &NewPublish) {
        let done = new.publish(&self.hub, self.model.now);
        self.publish_done(new, done);
    }

    fn publish_done(&mut self, new: &NewPublish, done: Result<Published, PublishError>) {
        let name = new.key_name();
        if let Some(ids) = name.as_ref().and_then(|name| self.model.key(name)) {
            assert_eq!(done.unwrap().ids, ids, "a key that is known");
            self.model.sync(&self.hub, Wanted::Nothing, 0);
            return;
        }
        let with_len = new.with_len();
        let mut wanted: usize = with_len.iter().map(|(_, len)| blocks_for_event(*len)).sum();
        wanted += usize::from(new.key.is_some());
        self.publish_ended(new, done, &with_len, name, wanted);
    }

    fn publish_ended(
        &mut self,
        new: &NewPublish,
        done: Result<Published, PublishError>,
        events: &[(String, usize)],
        key: Option<(String, u8)>,
        mut wanted: usize,
    ) {
        let channel = &*new.channel;
        let known = self.model.channels.contains_key(channel) && self.hub.knows(channel.as_bytes());
        if !known {
            wanted += record_blocks(channel.len());
        }
        self.model.channels.entry(channel.into()).or_default();
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                assert_eq!(error, PublishError::NoRoom);
                assert!(!self.model.could_fit(&self.hub, wanted, channel), "refused what fits");
                // Keys may have been dropped by age or number, before the hub found that there is
                // no memory.
                self.model.sync(&self.hub, Wanted::Nothing, 0);
                return;
            }
        };
        let ids = self.model.append(channel, events, new.finishes);
        assert_eq!(done.ids, ids);
        self.is_settled = true;
        if let Some(key) = key {
            self.model.remember(key, ids);
        }
        let joined = &self.model.channels[channel].joined;
        assert_eq!(done.subscribers, joined.values().map(|(_, n)| u64::from(*n)).sum::<u64>());
        let listeners: BTreeSet<usize> = done.listeners.iter().copied().collect();
        let with_streams = joined.iter().filter(|(_, (_, streams))| *streams > 0);
        assert_eq!(listeners, with_streams.map(|(slot, _)| *slot).collect());
        self.model.sync(&self.hub, Wanted::Blocks(wanted, channel), events.len());
    }

    fn join(&mut self) {
        let (channel, claim) = (self.name(), self.random.of(&self.claims.clone()));
        let known = self.model.channels.entry(channel.clone()).or_default();
        if known.joined.contains_key(&claim.slot) {
            return;
        }
        let had_record = self.hub.knows(channel.as_bytes());
        let wanted = if had_record { 1 } else { record_blocks(channel.len()) };
        match self.hub.join(claim, channel.as_bytes(), self.model.now) {
            Ok(member) => {
                let known = self.model.channels.get_mut(&channel).unwrap();
                self.hub.set_streams(claim, member, 1);
                known.joined.insert(claim.slot, (member, 1));
            }
            Err(error) => {
                assert_eq!(error, JoinError::Full);
                assert!(!self.model.could_fit(&self.hub, wanted, &channel), "refused what fits");
            }
        }
        self.model.sync(&self.hub, Wanted::Blocks(wanted, &channel), 0);
    }

    fn some_member(&mut self) -> Option<(String, SlotClaim, Membership)> {
        let claims = self.claims.clone();
        let all: Vec<(String, SlotClaim, Membership)> = self
            .model
            .channels
            .iter()
            .flat_map(|(name, channel)| {
                channel.joined.iter().map(|(slot, (member, _))| {
                    let claim = claims.iter().find(|claim| claim.slot == *slot).unwrap();
                    (name.clone(), *claim, *member)
                })
            })
            .collect();
        (!all.is_empty()).then(|| self.random.of(&all))
    }

    fn leave(&mut self) {
        let Some((name, claim, member)) = self.some_member() else { return };
        self.hub.leave(member).unwrap();
        self.model.channels.get_mut(&name).unwrap().joined.remove(&claim.slot);
        self.forget_what_is_followed();
        self.model.sync(&self.hub, Wanted::Nothing, 0);
    }

    fn set_streams(&mut self) {
        let Some((name, claim, member)) = self.some_member() else { return };
        let streams = self.random.below(5) as u32;
        self.hub.set_streams(claim, member, streams);
        let joined = &mut self.model.channels.get_mut(&name).unwrap().joined;
        joined.insert(claim.slot, (member, streams));
        let sum = joined.values().map(|(_, n)| u64::from(*n)).sum::<u64>();
        assert_eq!(self.hub.subscribers(member).unwrap(), sum);
    }

    /// A process starts, or one ends and leaves its pairs behind.
    fn slot_changes(&mut self) {
        if self.claims.len() > 1 && self.random.below(2) == 0 {
            let number = self.random.below(self.claims.len() as u64) as usize;
            let claim = self.claims.swap_remove(number);
            self.hub.release_slot(claim);
            for channel in self.model.channels.values_mut() {
                channel.joined.remove(&claim.slot);
            }
            self.forget_what_is_followed();
        } else if let Some(claim) = self.hub.claim_slot() {
            self.claims.push(claim);
        }
    }

    fn sweep(&mut self) {
        if self.random.below(2) == 0 {
            self.sweep_all();
        } else {
            self.hub.sweep(self.model.now).unwrap();
            self.model.sync(&self.hub, Wanted::Nothing, 0);
        }
    }

    fn sweep_all(&mut self) {
        let now = self.model.now;
        // Two rounds: the first may have begun in the middle.
        while !self.hub.sweep(now).unwrap().round {}
        while !self.hub.sweep(now).unwrap().round {}
        self.model.sync(&self.hub, Wanted::Nothing, 0);
        for channel in self.model.channels.values() {
            let events = channel.retained().len();
            let oldest = channel.retained().first();
            let expired = |event| self.model.has_expired(channel, event, events);
            assert!(!oldest.is_some_and(expired), "old after a sweep");
        }
    }

    fn time_passes(&mut self) {
        let ms = self.random.of(&[0, 1, 1, 5, 30, 200, 4_000, 121_000]);
        self.model.now.mono += ms;
        // The system clock may stop or go back.
        let wall = self.random.of(&[-50, 0, ms as i64, ms as i64, ms as i64]);
        self.model.now.wall = self.model.now.wall.saturating_add_signed(wall);
    }

    fn administer(&mut self) {
        let name = self.name();
        if !self.hub.knows(name.as_bytes()) {
            assert_eq!(self.hub.end_streams(name.as_bytes()), Ok(None));
            assert_eq!(self.hub.forget_channel(name.as_bytes(), self.model.now), Ok(None));
        } else if self.random.below(2) == 0 {
            assert!(self.hub.end_streams(name.as_bytes()).unwrap().is_some());
            assert!(self.model.end_streams(&name));
        } else {
            let forgotten = self.hub.forget_channel(name.as_bytes(), self.model.now).unwrap();
            assert_eq!(forgotten.map(|forgotten| forgotten.events), self.model.forget(&name));
        }
        self.model.sync(&self.hub, Wanted::Nothing, 0);
    }

    fn new_history(&mut self) -> History {
        let count = self.random.of(&[0, 1, 3, 10, 1_000]);
        History { count, age: self.random.of(&[0, 40, 3_000]) }
    }

    fn history_changes(&mut self) {
        let (history, runs) = (self.new_history(), new_runs(&mut self.random));
        (self.model.history, self.model.runs) = (history, runs);
        self.hub.set_history(history, runs).unwrap();
        self.model.sync(&self.hub, Wanted::Nothing, 0);
    }
}
