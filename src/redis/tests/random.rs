//! Random schedules: events are published while connections are lost, replies are late, and
//! processes take over from each other. Each durable event arrives once and in order.

use super::fake::Fault;
use super::*;

const CHANNELS: [&str; 3] = ["a1", "a2", "b"];
const STEPS: usize = 60;

/// What was published on each channel, in order. Texts of durable events begin with d.
#[derive(Default)]
struct Published([Vec<String>; 3]);

impl Published {
    fn add(&mut self, redis: &FakeRedis, source: Source, random: &mut fastrand::Rng) {
        let which = random.usize(..3);
        if source == Source::Streams || random.u8(..3) > 0 {
            return self.add_durable(redis, source, which);
        }
        let text = format!("p{}", self.0[which].len());
        redis.plain(CHANNELS[which], &text);
        self.0[which].push(text);
    }

    fn add_durable(&mut self, redis: &FakeRedis, source: Source, which: usize) {
        let text = format!("d{}", self.0[which].len());
        match source {
            Source::Streams => _ = redis.append(CHANNELS[which], &text),
            Source::PubSub | Source::Alone => _ = redis.publish(CHANNELS[which], &text),
        }
        self.0[which].push(text);
    }

    /// Checks what a client of this channel has received since the beginning: each durable event
    /// once and in order, and no plain message twice. A plain message that waited while a stream
    /// was read can follow durable events that were published after it.
    fn check(&self, which: usize, received: &[String], what: &str) {
        let all = &self.0[which];
        let durable = |texts: &[String]| -> Vec<String> {
            texts.iter().filter(|text| text.starts_with('d')).cloned().collect()
        };
        assert_eq!(durable(received), durable(all), "{what}: {received:?} of {all:?}");
        let different: std::collections::BTreeSet<_> = received.iter().collect();
        assert_eq!(different.len(), received.len(), "{what}: {received:?} of {all:?}");
    }
}

async fn run_schedule(source: Source, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (redis, hub) = stage(source).await;
    if random.bool() {
        super::streams::notifies(&redis, "Kt");
    }
    let mut process = hub.process();
    process.is_up().await;
    let mut streams = Vec::new();
    for channel in CHANNELS {
        streams.push(process.follow(&[channel]).await);
    }
    let _pattern = match source {
        Source::PubSub if random.bool() => Some(process.follow_pattern("a*").await),
        _ => None,
    };
    let ids: Vec<String> = streams.iter().map(|one| one.position()).collect();
    let mut published = Published::default();
    let mut retired: Vec<Nginx> = Vec::new();
    let mut has_been_killed = false;
    for _ in 0..STEPS {
        match random.u8(..24) {
            0 => redis.disconnect(),
            1 => {
                redis.stop().await;
                for _ in 0..random.usize(..4) {
                    published.add(&redis, source, &mut random);
                    pass(random.u64(..50)).await;
                }
                redis.resume().await;
            }
            2 => redis.fault(
                ["XRANGE", "XREVRANGE", "SUBSCRIBE", "PING", "HSETNX", "XREAD"][random.usize(..6)],
                if random.bool() { Fault::Hold } else { Fault::Wait },
                1,
            ),
            3 => redis.repair(),
            4 => {
                // The first one has the streams.
                if retired.len() > 1 {
                    retired.remove(1).stop().await;
                }
                let next = hub.process();
                process.retire();
                retired.push(std::mem::replace(&mut process, next));
            }
            5 if !redis.state.borrow().store.hashes.is_empty() && random.u8(..3) == 0 => {
                redis.state.borrow_mut().store.hashes.clear();
            }
            6 => pass(random.u64(..1_500)).await,
            7 if !has_been_killed => {
                has_been_killed = true;
                let next = hub.process();
                std::mem::replace(&mut process, next).kill().await;
            }
            _ => {
                published.add(&redis, source, &mut random);
                pass(random.u64(..5)).await;
            }
        }
    }
    redis.repair();
    pass(5_000).await;
    until("the hub is connected", || hub.hub.link() == crate::hub::RedisState::Up).await;
    // A message shows what was missed before it.
    for which in 0..3 {
        published.add_durable(&redis, source, which);
    }
    until("all are in sync", || streams.iter().all(|one| one.are_in_sync())).await;
    pass(100).await;
    for which in 0..3 {
        let (gaps, received) = streams[which].resumed(&ids[which]);
        let what = format!("seed {seed}, channel {}", CHANNELS[which]);
        // Plain messages are lost in outages, and with some handovers.
        let lacks = received.len() < published.0[which].len();
        assert!(gaps == 0 || lacks, "{what}: {received:?} of {:?}", published.0[which]);
        published.check(which, &received, &what);
    }
}

#[test]
fn durable_events_arrive_once_and_in_order() {
    for seed in seeds() {
        run(run_schedule(Source::PubSub, seed));
    }
}

#[test]
fn entries_of_applications_streams_arrive_once_and_in_their_order() {
    for seed in seeds() {
        run(run_schedule(Source::Streams, seed));
    }
}

pub fn seeds() -> std::ops::Range<u64> {
    let wanted = std::env::var("SSE_SCHEDULES").unwrap_or("0..10".to_owned());
    let (first, end) = wanted.split_once("..").unwrap();
    first.parse().unwrap()..end.parse().unwrap()
}
