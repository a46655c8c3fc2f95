//! A worker with sockets that take as much as a test lets them, over a hub in ordinary memory.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::hub::{format, History, Plan, Region};

const START: Now = Now { mono: 1_000, wall: 1_700_000_000_000 };

/// What one client has received, and how many more frames its socket takes before it blocks.
#[derive(Default)]
struct Wire {
    bytes: Vec<u8>,
    room: usize,
    sends: usize,
    dead: bool,
}

struct Client(Rc<RefCell<Wire>>);

impl Socket for Client {
    fn send(&mut self, batch: &Batch) -> Sent {
        let mut wire = self.0.borrow_mut();
        if wire.dead {
            return Sent::Failed;
        }
        wire.sends += 1;
        // At least one frame is always taken, as the trait says.
        let taken = batch.frames().len().min(wire.room.max(1));
        for frame in &batch.frames()[..taken] {
            wire.bytes.extend_from_slice(frame.body());
        }
        wire.room = wire.room.saturating_sub(taken);
        if wire.room == 0 {
            Sent::Blocked { taken }
        } else {
            Sent::All
        }
    }
}

struct NoBells;

impl Bells for NoBells {
    fn ring(&self, _slot: usize) {}
}

struct Bench {
    hub: Hub,
    worker: Worker<Client>,
    now: Now,
}

fn bench(bytes: usize, history: History) -> Bench {
    let region = Region::in_memory(bytes);
    let plan = Plan { bytes, slots: 4, max_event: 1 << 10, history };
    format(&region, &plan, 7, START).unwrap();
    let hub = Hub::attach(region).unwrap();
    let worker = Worker::new(hub.clone(), Box::new(NoBells), Presence::default(), 1, START);
    Bench { hub, worker, now: START }
}

fn settings() -> StreamSettings {
    StreamSettings {
        replay: Replay::Off,
        heartbeat: Some(15_000),
        retry: Jittered { base: 3_000, jitter: 0 },
        open_event: Some((*b"sse.open").into()),
        gap_event: Some((*b"sse.gap").into()),
        slow_client: SlowClient::Skip,
        naming: Naming::ByType,
        max_age: None,
        max_subscribers: 0,
    }
}

impl Bench {
    fn open(
        &mut self,
        settings: StreamSettings,
        channels: &[&str],
        id: &str,
    ) -> (StreamKey, Rc<RefCell<Wire>>) {
        let wire = Rc::new(RefCell::new(Wire { room: usize::MAX, ..Wire::default() }));
        let names: Vec<Box<[u8]>> = channels.iter().map(|name| name.as_bytes().into()).collect();
        let client = Client(wire.clone());
        let key =
            self.worker.open(client, &Rc::new(settings), &names, id.as_bytes(), self.now).unwrap();
        self.settle();
        (key, wire)
    }

    fn publish(&mut self, channel: &str, data: &str) -> String {
        let event = NewEvent { event_type: b"", data: data.as_bytes() };
        let published = self.worker.publish(channel.as_bytes(), &[event], None, self.now).unwrap();
        published.ids[0].to_string()
    }

    fn settle(&mut self) {
        while self.worker.turn(self.now) == Turn::More {}
    }

    fn pass_time(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.now.mono += 100;
            self.now.wall += 100;
            self.worker.tick(self.now);
            self.settle();
        }
    }
}

/// The data lines that a client has got, and the types of the module's own events.
fn heard(wire: &Rc<RefCell<Wire>>) -> Vec<String> {
    let wire = wire.borrow();
    let text = String::from_utf8(wire.bytes.clone()).unwrap();
    let mut heard = Vec::new();
    for block in text.split("\n\n") {
        let line =
            |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_string);
        match (line("event: "), line("data: ")) {
            (Some(event), _) => heard.push(event),
            (None, Some(data)) => heard.push(data),
            (None, None) => {}
        }
    }
    heard
}

fn last_id(wire: &Rc<RefCell<Wire>>) -> String {
    let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
    text.lines().rev().find_map(|line| line.strip_prefix("id: ")).unwrap().to_string()
}

const HISTORY: History = History { count: 10, age: 600_000 };

#[test]
fn a_new_stream_begins_with_retry_a_comment_and_its_first_id() {
    let mut bench = bench(1 << 20, HISTORY);
    let (_, wire) = bench.open(settings(), &["a"], "");
    let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
    assert!(text.starts_with("retry: 3000\n:\nevent: sse.open\ndata: {}\nid: "), "{text}");
    assert!(text.ends_with("-7\n\n"), "{text}");
}

#[test]
fn events_reach_the_streams_of_their_channel_once_and_in_order() {
    let mut bench = bench(1 << 20, HISTORY);
    let (_, a) = bench.open(settings(), &["a"], "");
    let (_, b) = bench.open(settings(), &["b"], "");
    let (_, both) = bench.open(settings(), &["a", "b"], "");
    for i in 0..6 {
        bench.publish(if i % 2 == 0 { "a" } else { "b" }, &format!("{i}"));
        if i % 3 == 0 {
            bench.settle();
        }
    }
    bench.settle();
    assert_eq!(heard(&a), ["sse.open", "0", "2", "4"]);
    assert_eq!(heard(&b), ["sse.open", "1", "3", "5"]);
    assert_eq!(heard(&both), ["sse.open", "0", "1", "2", "3", "4", "5"]);
}

#[test]
fn what_waits_goes_out_in_one_send() {
    let mut bench = bench(1 << 20, HISTORY);
    let (_, wire) = bench.open(settings(), &["a"], "");
    let before = wire.borrow().sends;
    for i in 0..50 {
        bench.publish("a", &format!("{i}"));
    }
    bench.settle();
    assert_eq!(wire.borrow().sends, before + 1);
    assert_eq!(heard(&wire).len(), 51);
}

#[test]
fn a_burst_beyond_history_reaches_a_fast_client_whole() {
    let mut bench = bench(4 << 20, HISTORY);
    let (_, wire) = bench.open(settings(), &["a"], "");
    for i in 0..1_000 {
        bench.publish("a", &format!("{i}"));
    }
    bench.settle();
    let expected: Vec<String> = (0..1_000).map(|i| i.to_string()).collect();
    assert_eq!(heard(&wire)[1..], expected);
}

#[test]
fn resume_gets_what_came_after_the_id_on_all_channels() {
    let mut bench = bench(1 << 20, HISTORY);
    bench.publish("a", "0");
    let id = bench.publish("b", "1");
    bench.publish("a", "2");
    bench.publish("c", "not mine");
    bench.publish("b", "3");
    let (_, wire) = bench.open(settings(), &["a", "b"], &id);
    bench.publish("a", "4");
    bench.settle();
    assert_eq!(heard(&wire), ["2", "3", "4"]);
    // From the end of the log: nothing, and no gap.
    let end = last_id(&wire);
    let (_, wire) = bench.open(settings(), &["a", "b"], &end);
    assert_eq!(heard(&wire), Vec::<String>::new());
}

#[test]
fn the_first_id_of_a_stream_resumes_before_its_first_event() {
    let mut bench = bench(1 << 20, HISTORY);
    let (key, wire) = bench.open(settings(), &["a"], "");
    bench.worker.close(key);
    bench.publish("a", "missed");
    let (_, again) = bench.open(settings(), &["a"], &last_id(&wire));
    assert_eq!(heard(&again), ["missed"]);
}

#[test]
fn replay_shows_the_newest_that_history_owes() {
    let mut bench = bench(1 << 20, HISTORY);
    for i in 0..20 {
        bench.publish("a", &format!("{i}"));
    }
    let with = |replay| StreamSettings { replay, ..settings() };
    let (_, all) = bench.open(with(Replay::All), &["a"], "");
    assert_eq!(heard(&all), (10..20).map(|i| i.to_string()).collect::<Vec<_>>());
    let (_, three) = bench.open(with(Replay::Count(3)), &["a"], "");
    assert_eq!(heard(&three), ["17", "18", "19"]);
    let (_, empty) = bench.open(with(Replay::All), &["b"], "");
    assert_eq!(heard(&empty), ["sse.open"]);
}

#[test]
fn an_id_that_is_not_ours_gets_a_gap_and_all_that_is_owed() {
    let mut bench = bench(1 << 20, HISTORY);
    for i in 0..12 {
        bench.publish("a", &format!("{i}"));
    }
    let wide: Vec<String> =
        std::iter::once("sse.gap".into()).chain((2..12).map(|i| i.to_string())).collect();
    for id in ["0-0-0", "x", "1700000000000-0-8", "1-2", "99999999999999-0-7", "\u{fffd}-1"] {
        let (_, wire) = bench.open(settings(), &["a"], id);
        assert_eq!(heard(&wire), wide, "{id}");
    }
    // The gap's own id resumes at the first event that followed it.
    let (key, wire) = bench.open(settings(), &["a"], "x");
    bench.worker.close(key);
    let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
    let gap_id = text.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_string();
    let (_, again) = bench.open(settings(), &["a"], &gap_id);
    assert_eq!(heard(&again), wide[1..]);
}

#[test]
fn a_quiet_channel_whose_last_event_aged_out_tells_no_gap() {
    let mut bench = bench(1 << 20, HISTORY);
    let old = bench.publish("a", "old");
    let last = bench.publish("a", "last");
    bench.pass_time(700_000);
    let (_, wire) = bench.open(settings(), &["a"], &last);
    assert_eq!(heard(&wire), Vec::<String>::new());
    let (_, wire) = bench.open(settings(), &["a"], &old);
    assert_eq!(heard(&wire), ["sse.gap"]);
}

#[test]
fn a_client_that_stops_reading_goes_on_from_history() {
    let mut bench = bench(1 << 20, HISTORY);
    let (key, slow) = bench.open(settings(), &["a"], "");
    let (_, fast) = bench.open(settings(), &["a"], "");
    slow.borrow_mut().room = 1;
    for i in 0..500 {
        bench.publish("a", &format!("{i}"));
        bench.settle();
    }
    assert_eq!(heard(&slow), ["sse.open", "0"]);
    assert_eq!(heard(&fast).len(), 501);
    slow.borrow_mut().room = usize::MAX;
    bench.worker.writable(key, bench.now);
    bench.settle();
    assert_eq!(heard(&slow), heard(&fast));
}

#[test]
fn a_client_that_history_overtook_is_told_once_and_goes_on() {
    let mut bench = bench(220 << 10, HISTORY);
    let (key, slow) = bench.open(settings(), &["a"], "");
    slow.borrow_mut().room = 1;
    for i in 0..2_000 {
        bench.publish("a", &format!("{i:0>400}"));
        bench.settle();
    }
    slow.borrow_mut().room = usize::MAX;
    bench.worker.writable(key, bench.now);
    bench.settle();
    let heard = heard(&slow);
    assert_eq!(heard[2], "sse.gap");
    assert_eq!(heard.iter().filter(|what| *what == "sse.gap").count(), 1);
    let first: usize = heard[3].parse().unwrap();
    let rest: Vec<usize> = heard[3..].iter().map(|n| n.parse().unwrap()).collect();
    assert_eq!(rest, (first..2_000).collect::<Vec<_>>());
    assert!(rest.len() >= 10);
    assert_eq!(bench.hub.stats().of(Counter::SlowClients), 1);
}

#[test]
fn a_location_may_close_clients_that_history_overtook() {
    let mut bench = bench(220 << 10, HISTORY);
    let closing = StreamSettings { slow_client: SlowClient::Close, ..settings() };
    let (key, slow) = bench.open(closing, &["a"], "");
    slow.borrow_mut().room = 1;
    for i in 0..2_000 {
        bench.publish("a", &format!("{i:0>400}"));
        bench.settle();
    }
    bench.worker.writable(key, bench.now);
    bench.settle();
    assert_eq!(bench.worker.take_ended(), Some((key, End::Slow)));
}

#[test]
fn heartbeats_come_in_silence_and_only_then() {
    let mut bench = bench(1 << 20, HISTORY);
    let (_, wire) = bench.open(settings(), &["a"], "");
    let before = wire.borrow().bytes.len();
    bench.pass_time(14_000);
    assert_eq!(wire.borrow().bytes.len(), before);
    bench.publish("a", "noise");
    bench.settle();
    let before = wire.borrow().bytes.len();
    bench.pass_time(14_000);
    assert_eq!(wire.borrow().bytes.len(), before);
    bench.pass_time(2_000);
    assert_eq!(&wire.borrow().bytes[before..], b":\n");
    bench.pass_time(30_000);
    assert_eq!(&wire.borrow().bytes[before..], b":\n:\n:\n");
}

#[test]
fn drain_ends_streams_evenly_and_serves_them_until_then() {
    let mut bench = bench(1 << 20, HISTORY);
    let wires: Vec<_> = (0..10).map(|_| bench.open(settings(), &["a"], "").1).collect();
    bench.worker.drain(1_000, bench.now);
    let mut ended = Vec::new();
    for _ in 0..12 {
        bench.pass_time(100);
        bench.publish("a", "news");
        bench.settle();
        let mut count = 0;
        while let Some((key, end)) = bench.worker.take_ended() {
            assert_eq!(end, End::Drain);
            bench.worker.close(key);
            count += 1;
        }
        ended.push(count);
    }
    assert_eq!(ended.iter().sum::<i32>(), 10);
    assert!(ended.iter().all(|count| *count <= 2), "{ended:?}");
    for wire in wires {
        let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
        let retry = text.trim_end().lines().last().unwrap().strip_prefix("retry: ").unwrap();
        assert!(retry.parse::<u64>().unwrap() <= 1_000);
    }
    let names = [Box::from(&b"a"[..])];
    let refused =
        bench.worker.open(Client(Rc::default()), &Rc::new(settings()), &names, b"", bench.now);
    assert_eq!(refused.err(), Some(OpenError::Draining));
}

#[test]
fn a_blocked_stream_is_cut_when_the_drain_is_over() {
    let mut bench = bench(1 << 20, HISTORY);
    let (key, wire) = bench.open(settings(), &["a"], "");
    wire.borrow_mut().room = 0;
    bench.publish("a", "fills the socket");
    bench.settle();
    bench.worker.drain(500, bench.now);
    bench.pass_time(500);
    assert_eq!(bench.worker.take_ended(), None);
    bench.pass_time(200);
    assert_eq!(bench.worker.take_ended(), Some((key, End::Drain)));
}

#[test]
fn a_dead_socket_ends_its_stream_and_no_other() {
    let mut bench = bench(1 << 20, HISTORY);
    let (_, a) = bench.open(settings(), &["a"], "");
    let (dead_key, dead) = bench.open(settings(), &["a"], "");
    let (_, c) = bench.open(settings(), &["a"], "");
    dead.borrow_mut().dead = true;
    bench.publish("a", "1");
    bench.settle();
    assert_eq!(bench.worker.take_ended(), Some((dead_key, End::Error)));
    bench.worker.close(dead_key);
    bench.publish("a", "2");
    bench.settle();
    assert_eq!(heard(&a), ["sse.open", "1", "2"]);
    assert_eq!(heard(&c), ["sse.open", "1", "2"]);
    assert_eq!(bench.worker.streams(), 2);
}

#[test]
fn streams_that_come_and_go_during_a_pass_miss_nothing() {
    let mut bench = bench(8 << 20, HISTORY);
    let mut open: Vec<_> = (0..1_500).map(|_| bench.open(settings(), &["a"], "")).collect();
    let mut random = fastrand::Rng::with_seed(3);
    for i in 0..40 {
        bench.publish("a", &format!("{i}"));
        bench.worker.turn(bench.now);
        for _ in 0..20 {
            let gone = open.swap_remove(random.usize(0..open.len()));
            bench.worker.close(gone.0);
        }
    }
    bench.settle();
    let expected: Vec<String> = (0..40).map(|i| i.to_string()).collect();
    for (_, wire) in &open {
        assert_eq!(heard(wire)[1..], expected);
    }
    assert_eq!(bench.hub.stats().subscribers, open.len() as u64);
    for (key, _) in open {
        bench.worker.close(key);
    }
    assert_eq!(bench.hub.stats().subscribers, 0);
    assert_eq!(bench.worker.by_name.len() + bench.worker.channels.len(), 0);
}

#[test]
fn an_event_without_a_type_can_bear_its_channels_name() {
    let mut bench = bench(1 << 20, HISTORY);
    let by_channel = StreamSettings { naming: Naming::ByChannel, ..settings() };
    let (_, plain) = bench.open(settings(), &["a", "error"], "");
    let (key, named) = bench.open(by_channel.clone(), &["a", "error"], "");
    let id = last_id(&named);
    bench.publish("a", "1");
    bench.publish("error", "2");
    let typed = NewEvent { event_type: b"own", data: b"3" };
    bench.worker.publish(b"a", &[typed], None, bench.now).unwrap();
    bench.settle();
    assert_eq!(heard(&plain), ["sse.open", "1", "2", "own"]);
    assert_eq!(heard(&named), ["sse.open", "a", "2", "own"]);
    bench.worker.close(key);
    let (_, again) = bench.open(by_channel, &["a", "error"], &id);
    assert_eq!(heard(&again), ["a", "2", "own"]);
}

#[test]
fn a_stream_ends_at_its_age_and_the_client_is_told_to_return() {
    let mut bench = bench(1 << 20, HISTORY);
    let max_age = Some(Jittered { base: 2_000, jitter: 1_000 });
    let (key, wire) = bench.open(StreamSettings { max_age, ..settings() }, &["a"], "");
    bench.pass_time(1_900);
    assert_eq!(bench.worker.take_ended(), None);
    bench.pass_time(1_200);
    assert_eq!(bench.worker.take_ended(), Some((key, End::Age)));
    assert!(String::from_utf8_lossy(&wire.borrow().bytes).trim_end().contains("\nretry: "));
}

#[test]
fn a_channel_has_no_more_subscribers_than_allowed() {
    let mut bench = bench(1 << 20, HISTORY);
    let two = StreamSettings { max_subscribers: 2, ..settings() };
    let (first, _) = bench.open(two.clone(), &["a"], "");
    bench.open(two.clone(), &["a"], "");
    let refused = |bench: &mut Bench| {
        let names = [Box::from(&b"b"[..]), Box::from(&b"a"[..])];
        let client = Client(Rc::new(RefCell::new(Wire { room: 9, ..Wire::default() })));
        bench.worker.open(client, &Rc::new(two.clone()), &names, b"", bench.now).err()
    };
    assert_eq!(refused(&mut bench), Some(OpenError::TooMany));
    assert_eq!(bench.worker.channels.len(), 1);
    bench.worker.close(first);
    assert_eq!(refused(&mut bench), None);
    assert_eq!(refused(&mut bench), Some(OpenError::TooMany));
}

#[test]
fn one_turn_is_bounded() {
    let mut bench = bench(8 << 20, HISTORY);
    let wires: Vec<_> = (0..2_000).map(|_| bench.open(settings(), &["a"], "").1).collect();
    let sends = || wires.iter().map(|wire| wire.borrow().sends).sum::<usize>();
    let before = sends();
    bench.publish("a", "x");
    assert_eq!(bench.worker.turn(bench.now), Turn::More);
    assert!(sends() - before <= 512);
    bench.settle();
    assert_eq!(sends() - before, 2_000);
}

#[test]
fn a_ring_that_was_overtaken_loses_nothing_that_is_retained() {
    let mut bench = bench(4 << 20, History { count: 5_000, age: 0 });
    let (_, wire) = bench.open(settings(), &["a"], "");
    // More than the ring has entries, before this process reads again.
    for i in 0..9_000 {
        bench.publish(if i % 3 == 0 { "a" } else { "b" }, &format!("{i}"));
    }
    bench.settle();
    let expected: Vec<String> = (0..9_000).step_by(3).map(|i| i.to_string()).collect();
    assert_eq!(heard(&wire)[1..], expected);
}

#[test]
fn an_administrator_ends_the_streams_of_a_channel_and_only_those() {
    let mut bench = bench(1 << 20, HISTORY);
    let (kicked, _) = bench.open(settings(), &["a"], "");
    let (both, _) = bench.open(settings(), &["b", "a"], "");
    let (_, other) = bench.open(settings(), &["b"], "");
    assert_eq!(bench.worker.end_streams(b"none", bench.now), Ok(None));
    assert_eq!(bench.worker.end_streams(b"a", bench.now), Ok(Some(2)));
    let (later, _) = bench.open(settings(), &["a"], "");
    bench.settle();
    let ended: Vec<_> = std::iter::from_fn(|| bench.worker.take_ended()).collect();
    assert_eq!(ended, [(kicked, End::Admin), (both, End::Admin)]);
    bench.worker.close(kicked);
    bench.worker.close(both);
    bench.publish("b", "still there");
    bench.publish("a", "still there");
    bench.settle();
    assert_eq!(heard(&other), ["sse.open", "still there"]);
    assert!(bench.worker.info(later).unwrap().events_sent == 1);
}

#[test]
fn who_returns_to_a_forgotten_channel_is_told_a_gap() {
    let mut bench = bench(1 << 20, HISTORY);
    bench.publish("a", "1");
    let id = bench.publish("a", "2");
    assert_eq!(bench.hub.forget_channel(b"none", bench.now), Ok(None));
    assert_eq!(bench.hub.forget_channel(b"a", bench.now).unwrap().unwrap().events, 2);
    bench.publish("a", "3");
    let (_, wire) = bench.open(settings(), &["a"], &id);
    assert_eq!(heard(&wire), ["sse.gap", "3"]);
    let (_, again) = bench.open(settings(), &["a"], &last_id(&wire));
    assert_eq!(heard(&again), Vec::<String>::new());
}

#[test]
fn presence_tells_who_came_and_went() {
    let mut bench = bench(1 << 20, HISTORY);
    bench.worker.presence = Presence::told();
    let (_, watcher) = bench.open(settings(), &["sse.presence"], "");
    let (first, _) = bench.open(settings(), &["room"], "");
    bench.open(settings(), &["room"], "");
    bench.pass_time(100);
    bench.worker.close(first);
    bench.pass_time(100);
    let told: Vec<serde_json::Value> =
        heard(&watcher)[1..].iter().map(|data| serde_json::from_str(data).unwrap()).collect();
    let counts = |came, went, subscribers| {
        serde_json::json!({
            "channel": "room", "came": came, "went": went, "subscribers": subscribers
        })
    };
    assert_eq!(told, [counts(2, 0, 2), counts(0, 1, 1)]);
}

#[test]
fn channels_are_listed_by_prefix_and_in_pages() {
    let mut bench = bench(4 << 20, HISTORY);
    for i in 0..500 {
        bench.publish(&format!("user:{i}"), "x");
    }
    let last = bench.publish("room", "y");
    bench.open(settings(), &["room"], "");
    let mut names = Vec::new();
    let mut from = Some(0);
    while let Some(start) = from {
        let page = bench.hub.list(b"user:", start, 20).unwrap();
        assert!(page.channels.len() < 60);
        names.extend(page.channels.into_iter().map(|channel| channel.name));
        from = page.next;
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 500);
    let room = bench.hub.channel(b"room").unwrap().unwrap();
    assert_eq!((room.subscribers, room.events), (1, 1));
    assert_eq!(room.last_id.unwrap().to_string(), last);
}
