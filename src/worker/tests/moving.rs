//! Clients that move at random between two nginxes that share a Redis: each client receives each
//! durable event once, and each plain message as long as it stays on one nginx.

use std::collections::{BTreeMap, BTreeSet};

use super::with_redis::{id, RedisSetup};
use super::*;
use crate::hub::{Loss, Membership, Provenance, RedisState, Source, SyncState};

const CHANNELS: [&str; 3] = ["a", "b", "c"];

/// A model of Redis: its streams, and all messages in the order of their publication.
#[derive(Default)]
struct FakeRedis {
    clock: u64,
    streams: BTreeMap<&'static str, Vec<u64>>,
    published: Vec<(&'static str, Option<u64>)>,
}

/// One nginx, and its position in the messages that Redis delivers.
struct Nginx {
    setup: RedisSetup,
    up: bool,
    read: usize,
    /// The first message that is delivered for each channel.
    since: BTreeMap<&'static str, usize>,
    members: BTreeMap<&'static str, Membership>,
}

struct ClientStream {
    nginx: usize,
    key: StreamKey,
    wire: Rc<RefCell<Wire>>,
}

struct MovingClient {
    channels: Vec<&'static str>,
    began: usize,
    id: String,
    received: Vec<String>,
    stream: Option<ClientStream>,
    /// The nginx that it was connected to last.
    last_nginx: Option<usize>,
    /// Whether it may have missed plain messages.
    moved: bool,
}

impl Nginx {
    fn new(tag: u32) -> Nginx {
        let setup = RedisSetup::new(Source::PubSub, RedisState::Up, tag);
        let (since, members) = (BTreeMap::new(), BTreeMap::new());
        Nginx { setup, up: true, read: 0, since, members }
    }

    /// Reads up to `count` messages.
    fn receive(&mut self, redis: &FakeRedis, count: usize) {
        for _ in 0..count {
            let Some((channel, number)) = redis.published.get(self.read) else { break };
            let index = self.read;
            self.read += 1;
            if self.since.get(channel).is_some_and(|since| index >= *since) {
                let born = self.setup.bench.now.mono;
                let (how, text) = match number {
                    Some(ms) => (Provenance::Live(id(*ms).into()), format!("{ms}")),
                    None => (Provenance::Plain, format!("p{index}")),
                };
                self.setup.ingest(channel, how, &text, born);
            }
        }
    }

    /// Subscribes to the channels that are listened to and not in sync, and catches them up, with
    /// their events merged by id.
    fn subscribe(&mut self, redis: &FakeRedis, judge: fn(SyncState) -> SyncState) {
        self.receive(redis, usize::MAX);
        let (mut subscribed, mut from) = (Vec::new(), Some(0));
        while let Some(bucket) = from {
            let (some, next) = self.setup.bench.hub.subscribed_channels(bucket).unwrap();
            subscribed.extend(some);
            from = next;
        }
        let mut fetched = Vec::new();
        let mut members = Vec::new();
        for channel in CHANNELS.iter().filter(|name| subscribed.contains(&name.as_bytes().to_vec()))
        {
            let member = *self.members.entry(channel).or_insert_with(|| self.setup.join(channel));
            if self.setup.bench.hub.in_sync(&[member]) {
                continue;
            }
            let known = judge(self.setup.bench.hub.sync_state(member).unwrap());
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
            self.setup.ingest(channel, how, &ms.to_string(), self.setup.bench.now.mono);
        }
        for (member, known) in members {
            let (hub, fence) = (&self.setup.bench.hub, self.setup.fence);
            hub.caught_up(fence, member, known, Loss::Nothing).unwrap();
        }
        self.setup.bench.settle();
        self.setup.bench.hub.check();
    }

    /// Leaves the channels that no longer have listeners.
    fn leave_unused(&mut self) {
        for channel in CHANNELS {
            let Some(member) = self.members.get(channel) else { continue };
            if self.setup.bench.hub.leave_unsubscribed(self.setup.fence, *member).unwrap() {
                self.members.remove(channel);
                self.since.remove(channel);
            }
        }
    }

    fn disconnect(&mut self) {
        self.up = false;
        self.setup.bench.hub.set_link(self.setup.fence, RedisState::Down).unwrap();
    }

    fn reconnect(&mut self, redis: &FakeRedis) {
        self.up = true;
        self.read = redis.published.len();
        self.since.clear();
        self.setup.connect();
        self.subscribe(redis, |known| known);
    }
}

impl MovingClient {
    /// Reads what the stream has received.
    fn read(&mut self) {
        let Some(stream) = &self.stream else { return };
        let text = String::from_utf8(std::mem::take(&mut stream.wire.borrow_mut().bytes)).unwrap();
        for block in text.split("\n\n") {
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            if let Some(id) = field("id: ") {
                self.id = id.into();
            }
            if let (None, Some(data)) = (field("event: "), field("data: ")) {
                self.received.push(data.into());
            }
        }
    }

    fn open(&mut self, redis: &FakeRedis, all: &mut [Nginx], nginx: usize) {
        self.moved |= self.last_nginx.is_some_and(|last_nginx| last_nginx != nginx);
        self.last_nginx = Some(nginx);
        let there = &mut all[nginx];
        let (key, wire) = there.setup.open(&self.channels, &self.id);
        if there.setup.bench.worker.is_waiting(key) {
            there.subscribe(redis, SyncState::for_newcomer);
        }
        assert!(!there.setup.bench.worker.is_waiting(key));
        self.stream = Some(ClientStream { nginx, key, wire });
    }

    fn close(&mut self, all: &mut [Nginx]) {
        self.read();
        if let Some(stream) = self.stream.take() {
            all[stream.nginx].setup.bench.worker.close(stream.key, End::Client);
        }
    }

    fn check(&self, redis: &FakeRedis, seed: u64) {
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
        let mut received: Vec<_> =
            self.received.iter().filter(|text| !text.starts_with('p')).collect();
        received.sort_by_key(|text| text.parse::<u64>().unwrap());
        assert_eq!(received, durable.iter().collect::<Vec<_>>(), "durable, seed {seed}");
        if !self.moved {
            let received: Vec<_> =
                self.received.iter().filter(|text| text.starts_with('p')).collect();
            let different: BTreeSet<_> = received.iter().map(|text| text.to_string()).collect();
            assert_eq!(received.len(), different.len(), "a plain message twice, seed {seed}");
            assert_eq!(different, plain, "plain, seed {seed}");
        }
    }
}

fn run(seed: u64, outages: bool) {
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
                    nginx.receive(&redis, random.usize(0..6));
                }
            }
            12 => {
                let nginx = &mut all[random.usize(0..2)];
                if nginx.up && random.u8(0..8) == 0 {
                    nginx.leave_unused();
                    // Plain messages are lost while no process here is subscribed, which is
                    // permitted.
                    clients.iter_mut().for_each(|client| client.moved = true);
                }
            }
            13 => all[random.usize(0..2)].setup.bench.settle(),
            14 if clients.len() < 5 => {
                let channels: Vec<_> = CHANNELS.iter().copied().filter(|_| random.bool()).collect();
                let nginx = random.usize(0..2);
                if channels.is_empty() || !all[nginx].up {
                    continue;
                }
                // It starts without an id, so it receives everything that is published from now on.
                all[nginx].receive(&redis, usize::MAX);
                let (id, began) = (String::new(), redis.published.len());
                let received = Vec::new();
                let (stream, last_nginx, moved) = (None, None, false);
                let mut client =
                    MovingClient { channels, began, id, received, stream, last_nginx, moved };
                client.open(&redis, &mut all, nginx);
                clients.push(client);
            }
            15 | 16 => {
                let nginx = random.usize(0..2);
                let Some(client) = random.choice(&mut clients) else { continue };
                match &client.stream {
                    Some(_) => client.close(&mut all),
                    None if all[nginx].up => client.open(&redis, &mut all, nginx),
                    None => {}
                }
            }
            17 => {
                // A client that reads slowly.
                let Some(client) = random.choice(&mut clients) else { continue };
                let Some(stream) = &client.stream else { continue };
                stream.wire.borrow_mut().room = random.usize(0..4);
            }
            18 => {
                let Some(client) = random.choice(&mut clients) else { continue };
                client.read();
                let Some(stream) = &client.stream else { continue };
                stream.wire.borrow_mut().room = random.usize(1..9);
                let bench = &mut all[stream.nginx].setup.bench;
                bench.worker.writable(stream.key, bench.now);
            }
            19 if outages => {
                let nginx = &mut all[random.usize(0..2)];
                if nginx.up {
                    nginx.disconnect();
                    clients.iter_mut().for_each(|client| client.moved = true);
                } else {
                    nginx.reconnect(&redis);
                }
            }
            _ => {}
        }
    }
    for nginx in &mut all {
        if !nginx.up {
            nginx.reconnect(&redis);
        }
        nginx.receive(&redis, usize::MAX);
        nginx.setup.bench.settle();
    }
    for client in &mut clients {
        client.close(&mut all);
        let nginx = client.last_nginx.filter(|_| !client.moved).unwrap_or(random.usize(0..2));
        client.open(&redis, &mut all, nginx);
        all[nginx].setup.bench.settle();
        client.read();
        client.check(&redis, seed);
    }
}

#[test]
fn durable_events_reach_clients_once_wherever_they_go() {
    (0..if cfg!(miri) { 2 } else { 600 }).for_each(|seed| run(seed, false));
}

#[test]
fn durable_events_reach_clients_once_despite_outages() {
    (0..if cfg!(miri) { 2 } else { 600 }).for_each(|seed| run(seed, true));
}
