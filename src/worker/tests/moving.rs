//! Clients that move between two nginxes of one FakeRedis, by chance: each durable event reaches
//! each of them once, and plain messages too while they stay.

use std::collections::{BTreeMap, BTreeSet};

use super::joined::{id, Joint};
use super::*;
use crate::hub::{Loss, Membership, Provenance, RedisState, Source, SyncState};

const CHANNELS: [&str; 3] = ["a", "b", "c"];

/// Redis, as far as it matters: streams, and what was published on which channel in which order.
#[derive(Default)]
struct FakeRedis {
    clock: u64,
    streams: BTreeMap<&'static str, Vec<u64>>,
    published: Vec<(&'static str, Option<u64>)>,
}

/// One nginx and its position in what Redis delivers.
struct Nginx {
    joint: Joint,
    up: bool,
    read: usize,
    /// From which message on a channel is subscribed to.
    since: BTreeMap<&'static str, usize>,
    members: BTreeMap<&'static str, Membership>,
}

struct Visit {
    nginx: usize,
    key: StreamKey,
    wire: Rc<RefCell<Wire>>,
}

struct MovingClient {
    channels: Vec<&'static str>,
    began: usize,
    id: String,
    got: Vec<String>,
    visit: Option<Visit>,
    /// It has been on one nginx only, with its subscription unbroken.
    stayed: Option<usize>,
    moved: bool,
}

impl Nginx {
    fn new(tag: u32) -> Nginx {
        let joint = Joint::new(Source::PubSub, RedisState::Up, tag);
        let (since, members) = (BTreeMap::new(), BTreeMap::new());
        Nginx { joint, up: true, read: 0, since, members }
    }

    /// Reads up to `count` messages.
    fn take_in(&mut self, redis: &FakeRedis, count: usize) {
        for _ in 0..count {
            let Some((channel, number)) = redis.published.get(self.read) else { break };
            let index = self.read;
            self.read += 1;
            if self.since.get(channel).is_some_and(|since| index >= *since) {
                let born = self.joint.bench.now.mono;
                let (how, text) = match number {
                    Some(ms) => (Provenance::Live(id(*ms).into()), format!("{ms}")),
                    None => (Provenance::Plain, format!("p{index}")),
                };
                self.joint.come_born(channel, how, &text, born);
            }
        }
    }

    /// Subscribes to what is heard and not in step, and catches it up: merged by number.
    fn subscribe(&mut self, redis: &FakeRedis, judge: fn(SyncState) -> SyncState) {
        self.take_in(redis, usize::MAX);
        let (mut heard, mut from) = (Vec::new(), Some(0));
        while let Some(bucket) = from {
            let (some, next) = self.joint.bench.hub.subscribed_channels(bucket).unwrap();
            heard.extend(some);
            from = next;
        }
        let mut fetched = Vec::new();
        let mut members = Vec::new();
        for channel in CHANNELS.iter().filter(|name| heard.contains(&name.as_bytes().to_vec())) {
            let member = *self.members.entry(channel).or_insert_with(|| self.joint.join(channel));
            if self.joint.bench.hub.in_sync(&[member]) {
                continue;
            }
            let known = judge(self.joint.bench.hub.sync_state(member).unwrap());
            let seen = match known {
                SyncState::Nothing => 0,
                SyncState::Left(id) | SyncState::Interrupted(id) => id.ms(),
            };
            for ms in redis.streams.get(channel).into_iter().flatten().filter(|ms| **ms > seen) {
                let how = match known {
                    SyncState::Interrupted(_) => Provenance::Missed(id(*ms).into()),
                    _ => Provenance::Earlier(id(*ms).into()),
                };
                fetched.push((*ms, *channel, how));
            }
            self.since.entry(channel).or_insert(redis.published.len());
            members.push((member, known));
        }
        fetched.sort_by_key(|(ms, ..)| *ms);
        for (ms, channel, how) in fetched {
            self.joint.come_born(channel, how, &ms.to_string(), self.joint.bench.now.mono);
        }
        for (member, known) in members {
            let (hub, fence) = (&self.joint.bench.hub, self.joint.fence);
            hub.caught_up(fence, member, known, Loss::Nothing).unwrap();
        }
        self.joint.bench.settle();
        self.joint.bench.hub.check();
    }

    /// Leaves the channels that have no listeners any more.
    fn leave_quiet(&mut self) {
        for channel in CHANNELS {
            let Some(member) = self.members.get(channel) else { continue };
            if self.joint.bench.hub.leave_unsubscribed(self.joint.fence, *member).unwrap() {
                self.members.remove(channel);
                self.since.remove(channel);
            }
        }
    }

    fn goes_away(&mut self) {
        self.up = false;
        self.joint.bench.hub.set_link(self.joint.fence, RedisState::Down).unwrap();
    }

    fn comes_back(&mut self, redis: &FakeRedis) {
        self.up = true;
        self.read = redis.published.len();
        self.since.clear();
        self.joint.connect();
        self.subscribe(redis, |known| known);
    }
}

impl MovingClient {
    /// Takes over what the wire has brought.
    fn read(&mut self) {
        let Some(visit) = &self.visit else { return };
        let text = String::from_utf8(std::mem::take(&mut visit.wire.borrow_mut().bytes)).unwrap();
        for block in text.split("\n\n") {
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            if let Some(id) = field("id: ") {
                self.id = id.into();
            }
            if let (None, Some(data)) = (field("event: "), field("data: ")) {
                self.got.push(data.into());
            }
        }
    }

    fn opens(&mut self, redis: &FakeRedis, all: &mut [Nginx], nginx: usize) {
        self.moved |= self.stayed.is_some_and(|stayed| stayed != nginx);
        self.stayed = Some(nginx);
        let there = &mut all[nginx];
        let (key, wire) = there.joint.open(&self.channels, &self.id);
        if there.joint.bench.worker.is_waiting(key) {
            there.subscribe(redis, SyncState::for_newcomer);
        }
        assert!(!there.joint.bench.worker.is_waiting(key));
        self.visit = Some(Visit { nginx, key, wire });
    }

    fn leaves(&mut self, all: &mut [Nginx]) {
        self.read();
        if let Some(visit) = self.visit.take() {
            all[visit.nginx].joint.bench.worker.close(visit.key, End::Client);
        }
    }

    fn judge(&self, redis: &FakeRedis, seed: u64) {
        let mine = redis.published.iter().zip(0..).filter(|((channel, _), index)| {
            *index >= self.began && self.channels.contains(channel)
        });
        let (mut durable, mut plain) = (Vec::new(), BTreeSet::new());
        for ((_, number), index) in mine {
            match number {
                Some(ms) => durable.push(ms.to_string()),
                None => drop(plain.insert(format!("p{index}"))),
            }
        }
        let mut got: Vec<_> = self.got.iter().filter(|text| !text.starts_with('p')).collect();
        got.sort_by_key(|text| text.parse::<u64>().unwrap());
        assert_eq!(got, durable.iter().collect::<Vec<_>>(), "durable, seed {seed}");
        if !self.moved {
            let got: Vec<_> = self.got.iter().filter(|text| text.starts_with('p')).collect();
            let different: BTreeSet<_> = got.iter().map(|text| text.to_string()).collect();
            assert_eq!(got.len(), different.len(), "a plain one twice, seed {seed}");
            assert_eq!(different, plain, "plain, seed {seed}");
        }
    }
}

fn one(seed: u64, outages: bool) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut redis = FakeRedis { clock: 1_000, ..FakeRedis::default() };
    let mut all = [Nginx::new(7), Nginx::new(9)];
    let mut clients: Vec<MovingClient> = Vec::new();
    for _ in 0..120 {
        match random.u32(0..20) {
            0..6 => {
                let channel = CHANNELS[random.usize(0..3)];
                redis.clock += 1;
                redis.streams.entry(channel).or_default().push(redis.clock);
                redis.published.push((channel, Some(redis.clock)));
            }
            6..8 => redis.published.push((CHANNELS[random.usize(0..3)], None)),
            8..12 => {
                let nginx = &mut all[random.usize(0..2)];
                if nginx.up {
                    nginx.take_in(&redis, random.usize(0..6));
                }
            }
            12 => {
                let nginx = &mut all[random.usize(0..2)];
                if nginx.up && random.u8(0..8) == 0 {
                    nginx.leave_quiet();
                    // Plain messages are lost while no process here is subscribed, which is
                    // permitted.
                    clients.iter_mut().for_each(|client| client.moved = true);
                }
            }
            13 => all[random.usize(0..2)].joint.bench.settle(),
            14 if clients.len() < 5 => {
                let channels: Vec<_> = CHANNELS.iter().copied().filter(|_| random.bool()).collect();
                let nginx = random.usize(0..2);
                if channels.is_empty() || !all[nginx].up {
                    continue;
                }
                // Its first id is that of the beginning: everything published from now on is for
                // it.
                all[nginx].take_in(&redis, usize::MAX);
                let (id, began) = (String::new(), redis.published.len());
                let got = Vec::new();
                let (visit, stayed, moved) = (None, None, false);
                let mut client = MovingClient { channels, began, id, got, visit, stayed, moved };
                client.opens(&redis, &mut all, nginx);
                clients.push(client);
            }
            15 | 16 => {
                let nginx = random.usize(0..2);
                let Some(client) = random.choice(&mut clients) else { continue };
                match &client.visit {
                    Some(_) => client.leaves(&mut all),
                    None if all[nginx].up => client.opens(&redis, &mut all, nginx),
                    None => {}
                }
            }
            17 => {
                // A client that reads slowly.
                let Some(client) = random.choice(&mut clients) else { continue };
                let Some(visit) = &client.visit else { continue };
                visit.wire.borrow_mut().room = random.usize(0..4);
            }
            18 => {
                let Some(client) = random.choice(&mut clients) else { continue };
                client.read();
                let Some(visit) = &client.visit else { continue };
                visit.wire.borrow_mut().room = random.usize(1..9);
                let bench = &mut all[visit.nginx].joint.bench;
                bench.worker.writable(visit.key, bench.now);
            }
            19 if outages => {
                let nginx = &mut all[random.usize(0..2)];
                if nginx.up {
                    nginx.goes_away();
                    clients.iter_mut().for_each(|client| client.moved = true);
                } else {
                    nginx.comes_back(&redis);
                }
            }
            _ => {}
        }
    }
    for nginx in &mut all {
        if !nginx.up {
            nginx.comes_back(&redis);
        }
        nginx.take_in(&redis, usize::MAX);
        nginx.joint.bench.settle();
    }
    for client in &mut clients {
        client.leaves(&mut all);
        let nginx = client.stayed.filter(|_| !client.moved).unwrap_or(random.usize(0..2));
        client.opens(&redis, &mut all, nginx);
        all[nginx].joint.bench.settle();
        client.read();
        client.judge(&redis, seed);
    }
}

#[test]
fn durable_events_reach_clients_once_wherever_they_go() {
    (0..if cfg!(miri) { 2 } else { 600 }).for_each(|seed| one(seed, false));
}

#[test]
fn durable_events_reach_clients_once_over_outages() {
    (0..if cfg!(miri) { 2 } else { 600 }).for_each(|seed| one(seed, true));
}
