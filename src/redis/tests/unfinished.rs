//! Reloads while channels are catching up: nothing is lost, neither durable events nor plain
//! messages, and no client receives a gap event.

use super::fake::Fault;
use super::nginx::{hub_of, Streams};
use super::*;
use crate::hub::History;

/// The name of the channel on which a successor publishes its marker.
const MARKER: &str = "PUBLISH sse:{sse}:ctl";
/// The stream of channel `a`.
const PAGE: &str = "XRANGE sse:{sse}:s:a";

/// Returns a Redis and a hub with room for several pages.
async fn spacious(source: Source) -> (FakeRedis, SharedHub) {
    let redis = FakeRedis::start().await;
    let hub = hub_of(&redis.url(), source, 2 << 20, History { count: 1_000, age: 0 });
    (redis, hub)
}

/// Returns a text of several kilobytes that begins with a number.
fn large(number: usize) -> String {
    format!("{number} {}", "x".repeat(3_500))
}

/// Returns the beginnings of these texts.
fn short(texts: &[String]) -> Vec<String> {
    let word = |text: &String| text.split(' ').next().unwrap_or_default().to_owned();
    texts.iter().map(word).collect()
}

/// Waits until a condition holds that takes long to evaluate.
async fn comes_true(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..100 {
        if condition() {
            return;
        }
        pass(100).await;
    }
    panic!("it never happened that {what}");
}

/// A process whose channel `a` has several pages to read, the first of which is held back.
struct Reading {
    redis: FakeRedis,
    hub: SharedHub,
    old: Nginx,
    streams: Streams,
    pattern: Streams,
    id: String,
    expected: Vec<String>,
}

impl Reading {
    async fn begin() -> Reading {
        let (redis, hub) = spacious(Source::PubSub).await;
        let old = hub.process();
        old.is_up().await;
        let streams = old.follow(&["a"]).await;
        let pattern = old.follow_pattern("a*").await;
        let id = streams.position();
        let mut expected = Vec::new();
        redis.plain("a", "p0");
        redis.publish("a", "d0");
        redis.plain("a", "p1");
        expected.extend(["p0", "d0", "p1"].map(str::to_owned));
        old.receives("a", 3).await;
        redis.fault(PAGE, Fault::Hold, usize::MAX);
        for number in 0..100 {
            redis.publish_unheard("a", &large(number));
            expected.push(number.to_string());
        }
        redis.publish("a", "d1");
        until("it is read", || redis.count(PAGE) > 0).await;
        redis.plain("a", "p2");
        expected.extend(["d1", "p2"].map(str::to_owned));
        Reading { redis, hub, old, streams, pattern, id, expected }
    }

    async fn publish(&mut self, texts: &[&str]) {
        for text in texts {
            if text.starts_with('d') {
                self.redis.publish("a", text);
            } else {
                self.redis.plain("a", text);
            }
            self.expected.push((*text).to_owned());
            pass(1).await;
        }
    }

    async fn arrives(&self) {
        let count = self.expected.len();
        until("it is in sync", || self.streams.are_in_sync()).await;
        let has_all = || self.streams.resumed(&self.id).1.len() >= count;
        comes_true("all arrives", has_all).await;
        pass(1_000).await;
        for streams in [&self.streams, &self.pattern] {
            let (gaps, texts) = streams.resumed(&self.id);
            assert_eq!((gaps, short(&texts)), (0, self.expected.clone()));
        }
    }
}

#[test]
fn a_channel_is_read_to_its_end_before_it_is_handed_over() {
    run(async {
        let mut reading = Reading::begin().await;
        let new = reading.hub.process();
        reading.old.retire();
        reading.publish(&["p3", "d2"]).await;
        pass(1_500).await;
        assert_eq!(reading.redis.count(MARKER), 0);
        reading.publish(&["p4"]).await;
        // Another channel is subscribed to meanwhile.
        let others = new.open(&["b"]);
        let id = others.position();
        until("it is subscribed to", || reading.redis.count("SUBSCRIBE b") > 0).await;
        pass(10).await;
        reading.redis.plain("b", "1");
        reading.redis.repair();
        until("the old one retires", || reading.old.has_retired()).await;
        reading.publish(&["d3", "p5"]).await;
        reading.redis.plain("b", "2");
        reading.arrives().await;
        assert_eq!(others.resumed(&id), (0, ["1", "2"].map(str::to_owned).to_vec()));
        assert!(new.lines().is_empty(), "{:?}", new.lines());
    });
}

#[test]
fn a_second_reload_before_the_first_is_complete_loses_nothing() {
    run(async {
        let mut reading = Reading::begin().await;
        let second = reading.hub.process();
        reading.old.retire();
        pass(500).await;
        let third = reading.hub.process();
        second.retire();
        reading.publish(&["p3", "d2", "p4"]).await;
        pass(500).await;
        reading.redis.repair();
        until("the old one retires", || reading.old.has_retired()).await;
        until("the second one does", || second.has_retired()).await;
        reading.publish(&["p5", "d3", "p6"]).await;
        reading.arrives().await;
        assert!(third.lines().is_empty(), "{:?}", third.lines());
    });
}

#[test]
fn a_process_that_is_killed_while_it_finishes_loses_no_durable_event() {
    run(async {
        let reading = Reading::begin().await;
        let new = reading.hub.process();
        reading.old.retire();
        pass(500).await;
        let Reading { redis, old, streams, id, expected, .. } = reading;
        old.kill().await;
        redis.repair();
        until("it is in sync", || streams.are_in_sync()).await;
        redis.publish("a", "d2");
        new.receives("a", 100).await;
        let has_all = || streams.resumed(&id).1.ends_with(&["d2".to_owned()]);
        comes_true("all arrives", has_all).await;
        let is_durable = |text: &&String| !text.starts_with('p');
        let mut durable: Vec<String> = expected.iter().filter(is_durable).cloned().collect();
        durable.push("d2".to_owned());
        let texts = short(&streams.resumed(&id).1);
        assert_eq!(texts.iter().filter(is_durable).cloned().collect::<Vec<_>>(), durable);
    });
}

#[test]
fn a_new_process_that_is_killed_while_the_old_one_finishes_changes_nothing() {
    run(async {
        let mut reading = Reading::begin().await;
        let new = reading.hub.process();
        reading.old.retire();
        pass(500).await;
        reading.publish(&["p3", "d2", "p4"]).await;
        new.kill().await;
        let newer = reading.hub.process();
        pass(500).await;
        reading.redis.repair();
        until("the old one retires", || reading.old.has_retired()).await;
        reading.publish(&["p5", "d3", "p6"]).await;
        reading.arrives().await;
        assert!(newer.lines().is_empty(), "{:?}", newer.lines());
    });
}

#[test]
fn a_first_page_that_is_slow_is_waited_for() {
    for source in [Source::PubSub, Source::Streams] {
        run(async {
            let (redis, hub) = stage(source).await;
            let old = hub.process();
            old.is_up().await;
            let is_plain = source == Source::PubSub;
            let publish = |text: &str| match source {
                Source::Streams => redis.append("a", text),
                Source::PubSub | Source::Alone => redis.publish("a", text),
            };
            publish("1");
            let new = hub.process();
            redis.fault("XREVRANGE", Fault::Hold, 1);
            let streams = new.open(&["a"]);
            let id = streams.position();
            until("it is read", || redis.count("XREVRANGE") > 0).await;
            old.retire();
            pass(600).await;
            let mut expected = vec!["1"];
            if is_plain {
                redis.plain("a", "2");
                expected.push("2");
            }
            pass(900).await;
            publish("3");
            redis.repair();
            until("the old one retires", || old.has_retired()).await;
            publish("4");
            expected.extend(["3", "4"]);
            until("it arrives", || new.texts("a").len() == expected.len()).await;
            assert_eq!(new.texts("a"), expected);
            pass(1_000).await;
            if is_plain {
                assert_eq!(streams.resumed(&id).0, 0);
            }
            assert!(new.lines().is_empty(), "{:?}", new.lines());
        });
    }
}

const CHANNELS: [&str; 3] = ["a1", "a2", "b"];

/// Processes that take over from each other, and what was published on each channel.
struct Schedule {
    redis: FakeRedis,
    hub: SharedHub,
    source: Source,
    random: fastrand::Rng,
    newest: Nginx,
    retiring: Vec<Nginx>,
    published: [Vec<String>; 3],
    bursts: usize,
    has_been_killed: bool,
}

impl Schedule {
    async fn step(&mut self) {
        match self.random.u8(..32) {
            0..3 => self.reload().await,
            // While the two processes count messages together, no plain one is held back.
            3 if self.bursts < 8 && !self.hub.hub.is_retiring() => self.burst(),
            4 => {
                let command = ["XRANGE", "XREVRANGE"][self.random.usize(..2)];
                self.redis.fault(command, Fault::Hold, 1);
            }
            5 | 6 => self.redis.repair(),
            7 => pass(self.random.u64(..400)).await,
            8 if self.hub.hub.is_retiring() && !self.has_been_killed => {
                self.has_been_killed = true;
                let next = self.hub.process();
                std::mem::replace(&mut self.newest, next).kill().await;
            }
            _ => {
                let (which, is_durable) = (self.random.usize(..3), self.random.bool());
                self.publish(which, is_durable);
                pass(self.random.u64(..5)).await;
            }
        }
    }

    async fn reload(&mut self) {
        // The first one has the streams.
        while self.retiring.len() > 1 && self.retiring[1].has_retired() {
            self.retiring.remove(1).stop().await;
        }
        if self.retiring.len() < 2 {
            let next = self.hub.process();
            self.newest.retire();
            self.retiring.push(std::mem::replace(&mut self.newest, next));
        }
    }

    /// Publishes several pages of events whose messages are lost, and one whose message shows that.
    fn burst(&mut self) {
        self.bursts += 1;
        let which = self.random.usize(..3);
        for number in 0..self.random.usize(1..60) {
            let text = large(number);
            match self.source {
                Source::Streams => _ = self.redis.append(CHANNELS[which], &text),
                _ => _ = self.redis.publish_unheard(CHANNELS[which], &text),
            }
            self.published[which].push(text);
        }
        self.publish(which, true);
    }

    fn publish(&mut self, which: usize, is_durable: bool) {
        let number = self.published[which].len();
        let channel = CHANNELS[which];
        let text = match (self.source, is_durable) {
            (Source::Streams, _) | (_, true) => format!("d{number}"),
            _ => format!("p{number}"),
        };
        match (self.source, is_durable) {
            (Source::Streams, _) => _ = self.redis.append(channel, &text),
            (_, true) => _ = self.redis.publish(channel, &text),
            (_, false) => self.redis.plain(channel, &text),
        }
        self.published[which].push(text);
    }
}

async fn run_schedule(source: Source, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (redis, hub) = spacious(source).await;
    if random.bool() {
        super::streams::notifies(&redis, "Kt");
    }
    let newest = hub.process();
    newest.is_up().await;
    let mut streams = Vec::new();
    for channel in CHANNELS {
        streams.push(newest.follow(&[channel]).await);
    }
    let _pattern = match source {
        Source::PubSub if random.bool() => Some(newest.follow_pattern("a*").await),
        _ => None,
    };
    let ids: Vec<String> = streams.iter().map(|one| one.position()).collect();
    let (retiring, published) = (Vec::new(), Default::default());
    let (bursts, has_been_killed) = (0, false);
    let mut schedule = Schedule {
        redis,
        hub,
        source,
        random,
        newest,
        retiring,
        published,
        bursts,
        has_been_killed,
    };
    // What comes before the first durable event of a channel may belong to an earlier loss.
    (0..3).for_each(|which| schedule.publish(which, true));
    pass(1).await;
    for _ in 0..80 {
        schedule.step().await;
    }
    schedule.redis.repair();
    let Schedule { published, .. } = &schedule;
    let count = |which: usize| streams[which].resumed(&ids[which]).1.len();
    for which in 0..3 {
        let what = format!("seed {seed}: all of {} arrives", CHANNELS[which]);
        comes_true(&what, || count(which) >= published[which].len()).await;
    }
    pass(1_000).await;
    for which in 0..3 {
        let (gaps, received) = streams[which].resumed(&ids[which]);
        let what = format!("seed {seed}, channel {}", CHANNELS[which]);
        assert_eq!((gaps, short(&received)), (0, short(&published[which])), "{what}");
    }
}

#[test]
fn random_reloads_lose_nothing() {
    for seed in super::random::seeds() {
        run(run_schedule(Source::PubSub, seed));
    }
}

#[test]
fn random_reloads_lose_no_entry_of_an_applications_stream() {
    for seed in super::random::seeds() {
        run(run_schedule(Source::Streams, seed));
    }
}
