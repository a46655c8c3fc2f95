//! Streams of a hub that is connected to Redis: events that arrive late, or that the client
//! received from another nginx, are sent once.

use super::*;
use crate::hub::{
    FencingToken, IncomingEvent, Loss, Membership, Provenance, RedisState, RunPlace, SlotClaim,
    Source, SyncState,
};
use crate::sse::id::EntryId;

/// A bench in which the test acts as the thread that is connected to Redis.
pub struct RedisSetup {
    pub bench: Bench,
    pub fence: FencingToken,
    slot: SlotClaim,
}

pub fn id(ms: u64) -> EntryId {
    EntryId { ms, seq: 0 }
}

pub fn redis_setup_of(source: Source, link: RedisState) -> RedisSetup {
    RedisSetup::new(source, link, 7)
}

pub fn redis_setup() -> RedisSetup {
    redis_setup_of(Source::PubSub, RedisState::Up)
}

impl RedisSetup {
    pub fn new(source: Source, link: RedisState, tag: u32) -> RedisSetup {
        let bench = bench_of(1 << 19, HISTORY, source, tag);
        let slot = bench.hub.claim_slot().unwrap();
        let fence = bench.hub.take_fencing_token(slot, Now::default()).unwrap();
        bench.hub.new_epoch(fence, EntryId::default()).unwrap();
        bench.hub.set_link(fence, link).unwrap();
        RedisSetup { bench, fence, slot }
    }

    pub fn join(&self, channel: &str) -> Membership {
        self.bench.hub.join(self.slot, channel.as_bytes(), self.bench.now).unwrap()
    }

    /// Catches a channel up with these entries of its stream in Redis, and serves all streams.
    pub fn catch_up(&mut self, channel: &str, fetched: &[u64], missing: Loss) {
        let (member, hub) = (self.join(channel), self.bench.hub.clone());
        let known = hub.sync_state(member).unwrap();
        hub.record_loss(self.fence, member, missing).unwrap();
        for ms in fetched {
            let how = match known {
                SyncState::Interrupted(_) => Provenance::Missed(id(*ms).into()),
                SyncState::Nothing | SyncState::Left(_) => Provenance::Earlier(id(*ms).into()),
            };
            self.ingest(channel, how, &ms.to_string(), 1);
        }
        hub.caught_up(self.fence, member, known, missing).unwrap();
        self.bench.settle();
    }

    pub fn receive(&mut self, channel: &str, how: Provenance, data: &str) {
        self.ingest(channel, how, data, self.bench.now.mono);
        self.bench.settle();
    }

    pub fn ingest(&self, channel: &str, how: Provenance, data: &str, born: u64) {
        let event = NewEvent { event_type: b"", data: data.as_bytes() };
        let born = MonotonicTime::from_ms(born);
        let (channel, run_place) = (channel.as_bytes(), RunPlace::Unknown);
        let arrival = IncomingEvent { channel, provenance: how, event, born, run_place };
        self.bench.hub.ingest(self.fence, &[arrival], self.bench.now).unwrap();
    }

    pub fn live(&mut self, channel: &str, ms: u64) {
        self.receive(channel, Provenance::Live(id(ms).into()), &ms.to_string());
    }

    /// Finishes the run of a channel with an event of Redis.
    pub fn finish_live(&mut self, channel: &str, ms: u64) {
        let event = NewEvent { event_type: crate::sse::finish::EVENT_TYPE, data: b"" };
        let (channel, provenance) = (channel.as_bytes(), Provenance::Live(id(ms).into()));
        let (born, run_place) = (self.bench.now.time(), RunPlace::Unknown);
        let finish = IncomingEvent { channel, provenance, event, born, run_place };
        self.bench.hub.ingest(self.fence, &[finish], self.bench.now).unwrap();
        self.bench.settle();
    }

    pub fn open(&mut self, channels: &[&str], from: &str) -> (StreamKey, Rc<RefCell<Wire>>) {
        self.bench.open(settings(), channels, from)
    }

    fn replay_all(&mut self, channels: &[&str]) -> Rc<RefCell<Wire>> {
        let replay = StreamSettings { replay: Replay::All, ..settings() };
        self.bench.open(replay, channels, "").1
    }

    pub fn connect(&self) {
        self.bench.hub.new_epoch(self.fence, EntryId::default()).unwrap();
        self.bench.hub.set_link(self.fence, RedisState::Up).unwrap();
    }
}

#[test]
fn a_stream_starts_when_its_channel_is_in_sync_and_misses_nothing() {
    let mut setup = redis_setup();
    let (key, wire) = setup.open(&["a"], "100-0");
    // The response starts after a moment, but no event is sent.
    setup.bench.pass_time(100);
    assert_eq!(wire.borrow().bytes, b"retry: 3000\n:\n");
    assert!(setup.bench.worker.is_waiting(key));
    setup.ingest("a", Provenance::Earlier(id(90).into()), "90", 1);
    setup.bench.settle();
    assert!(setup.bench.worker.is_waiting(key));
    setup.catch_up("a", &[90, 100, 110], Loss::Nothing);
    assert!(!setup.bench.worker.is_waiting(key));
    setup.live("a", 120);
    setup.receive("a", Provenance::Plain, "p");
    assert_eq!(received(&wire), ["110", "120", "p"]);
    assert_eq!(setup.bench.worker.info(key).unwrap().events_sent, 3);
    assert!(wire.borrow().bytes.starts_with(b"retry: 3000\n:\ndata: 110"));
}

#[test]
fn a_stream_of_several_channels_waits_for_all_and_merges_them() {
    let mut setup = redis_setup();
    let (key, wire) = setup.open(&["a", "b"], "100-0");
    setup.catch_up("a", &[50, 110, 130], Loss::Nothing);
    setup.live("a", 150);
    assert!(setup.bench.worker.is_waiting(key));
    setup.catch_up("b", &[90, 120, 140], Loss::Nothing);
    setup.live("b", 160);
    assert_eq!(received(&wire), ["110", "120", "130", "140", "150", "160"]);
    // For the next stream, they are in sync, so it starts at once.
    let (key, wire) = setup.open(&["a", "b"], "140-0");
    assert!(!setup.bench.worker.is_waiting(key));
    assert_eq!(received(&wire), ["150", "160"]);
}

#[test]
fn a_new_stream_starts_with_its_first_id_once_its_channel_is_in_sync() {
    let mut setup = redis_setup();
    let (_, wire) = setup.open(&["a"], "");
    setup.catch_up("a", &[90, 100], Loss::UpTo(id(80)));
    setup.live("a", 110);
    assert_eq!(received(&wire), ["sse.open", "110"]);
    let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
    assert!(text.contains("id: 100-0-7-5\n"), "{text}");
    let wire = setup.replay_all(&["a"]);
    assert_eq!(received(&wire), ["90", "100", "110"]);
}

#[test]
fn a_returning_client_waits_up_to_a_second_and_a_new_one_briefly() {
    let mut setup = redis_setup();
    let (key, wire) = setup.open(&["a"], "100-0");
    let (new, opened) = setup.open(&["a"], "");
    assert!(setup.bench.worker.is_waiting(new));
    setup.bench.pass_time(200);
    assert!(!setup.bench.worker.is_waiting(new));
    assert_eq!(received(&opened), ["sse.open"]);
    setup.bench.pass_time(700);
    assert!(setup.bench.worker.is_waiting(key));
    setup.bench.pass_time(200);
    assert!(!setup.bench.worker.is_waiting(key));
    // Neither misses the events that arrive before the channel is in sync.
    setup.live("a", 110);
    assert_eq!(
        (received(&wire), received(&opened)),
        (vec!["110".into()], vec!["sse.open".into(), "110".to_string()])
    );
}

#[test]
fn a_stream_does_not_wait_for_an_unreachable_redis() {
    let mut setup = redis_setup_of(Source::PubSub, RedisState::Down);
    let (_, wire) = setup.open(&["a"], "");
    assert_eq!(received(&wire), ["sse.open"]);
    // Nor for one that becomes unreachable in the meantime.
    setup.bench.hub.set_link(setup.fence, RedisState::Connecting).unwrap();
    let (key, wire) = setup.open(&["a"], "");
    assert!(setup.bench.worker.is_waiting(key));
    setup.bench.hub.set_link(setup.fence, RedisState::Down).unwrap();
    setup.bench.pass_time(100);
    assert_eq!(received(&wire), ["sse.open"]);
}

#[test]
fn a_stream_that_waits_can_end() {
    let mut setup = redis_setup();
    let (first, _) = setup.open(&["a"], "");
    setup.bench.worker.close(first, End::Client);
    let (_, drained) = setup.open(&["a"], "100-0");
    setup.bench.worker.drain(0, setup.bench.now);
    setup.bench.pass_time(100);
    let ended = setup.bench.worker.take_ended().unwrap();
    assert_eq!(ended.1, End::Drain);
    setup.bench.worker.close(ended.0, ended.1);
    assert_eq!(setup.bench.worker.streams(), 0);
    setup.catch_up("a", &[], Loss::Nothing);
    setup.bench.pass_time(2_000);
    assert_eq!(received(&drained), Vec::<String>::new());
}

#[test]
fn events_of_an_outage_are_delivered_once() {
    let mut setup = redis_setup();
    setup.catch_up("a", &[100], Loss::Nothing);
    let (_, live) = setup.open(&["a"], "100-0");
    setup.bench.hub.set_link(setup.fence, RedisState::Down).unwrap();
    // Clients of another nginx that was not interrupted, and a new one.
    let (_, ahead) = setup.open(&["a"], "130-0");
    let (_, behind) = setup.open(&["a"], "100-0");
    let (_, new) = setup.open(&["a"], "");
    setup.connect();
    setup.catch_up("a", &[110, 120, 130, 140], Loss::Nothing);
    setup.live("a", 150);
    let all = ["110", "120", "130", "140", "150"];
    assert_eq!(received(&live), all);
    assert_eq!(received(&ahead), all[3..]);
    assert_eq!(received(&behind), all);
    // In this test, all of them were published before it connected.
    assert_eq!(received(&new), ["sse.open", "150"]);
}

#[test]
fn a_client_that_was_served_by_a_faster_nginx_receives_nothing_twice() {
    let mut setup = redis_setup();
    setup.catch_up("a", &[100], Loss::Nothing);
    setup.catch_up("b", &[], Loss::Nothing);
    let (_, wire) = setup.open(&["a", "b"], "130-0");
    let (_, other) = setup.open(&["a"], "100-0");
    for (channel, ms) in [("a", 110), ("b", 120), ("a", 130), ("b", 140), ("a", 150)] {
        setup.live(channel, ms);
    }
    assert_eq!(received(&wire), ["140", "150"]);
    assert_eq!(received(&other), ["110", "130", "150"]);
}

#[test]
fn a_new_stream_does_not_receive_the_history_of_a_redis_that_connects_later() {
    let mut setup = redis_setup_of(Source::PubSub, RedisState::Down);
    let silent = StreamSettings { open_event: None, ..settings() };
    let (_, silent) = setup.bench.open(silent, &["a"], "");
    let (_, wire) = setup.open(&["a"], "");
    setup.connect();
    let wall = setup.bench.now.wall;
    // An event was lost a day ago, and others were published since.
    setup.bench.now.mono += 100;
    let day = Loss::UpTo(id(wall - 86_400_000));
    let member = setup.join("a");
    setup.bench.hub.record_loss(setup.fence, member, day).unwrap();
    for ms in [wall - 9_000_000, wall - 9] {
        setup.ingest("a", Provenance::Earlier(id(ms).into()), "past", START.mono - 1);
    }
    setup.ingest("a", Provenance::Earlier(id(wall + 1).into()), "now", START.mono + 1);
    setup.bench.hub.caught_up(setup.fence, member, SyncState::Nothing, day).unwrap();
    setup.bench.settle();
    assert_eq!(received(&wire), ["sse.open", "now"]);
    assert_eq!(received(&silent), ["now"]);
}

#[test]
fn open_streams_receive_a_gap_before_what_follows_it() {
    let mut setup = redis_setup();
    setup.catch_up("a", &[100], Loss::Nothing);
    let (_, wire) = setup.open(&["a"], "90-0");
    setup.connect();
    setup.catch_up("a", &[300], Loss::UpTo(id(200)));
    assert_eq!(received(&wire), ["100", "sse.gap", "300"]);
    let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
    assert!(text.contains("data: {\"after\":\"100-0\"}"), "{text}");
    // A client that has received the rest elsewhere receives no gap event.
    setup.bench.hub.set_link(setup.fence, RedisState::Down).unwrap();
    let (_, ahead) = setup.open(&["a"], "450-0");
    setup.connect();
    setup.catch_up("a", &[500], Loss::UpTo(id(400)));
    assert_eq!(received(&ahead), ["500"]);
}

#[test]
fn the_gap_of_a_client_from_another_hub_names_its_own_id() {
    let mut setup = redis_setup_of(Source::PubSub, RedisState::Down);
    let (_, wire) = setup.open(&["a"], "50-0-9-3");
    setup.connect();
    setup.catch_up("a", &[300], Loss::UpTo(id(200)));
    assert_eq!(received(&wire), ["sse.gap", "300"]);
    let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
    assert!(!text.contains("50-0-7-3"), "{text}");
}

#[test]
fn events_below_the_high_watermark_reach_live_streams() {
    let mut setup = redis_setup();
    setup.catch_up("a", &[], Loss::Nothing);
    let (_, wire) = setup.open(&["a"], "90-0");
    setup.live("a", 200);
    setup.live("a", 150);
    setup.receive("a", Provenance::Missed(id(160).into()), "160");
    setup.live("a", 150);
    assert_eq!(received(&wire)[..3], ["200", "150", "160"]);
    let (_, again) = setup.open(&["a"], "200-0");
    assert_eq!(received(&again)[..2], ["150", "160"]);
}

#[test]
fn streams_that_were_overtaken_while_they_waited_still_start() {
    let mut setup = redis_setup();
    let (key, wire) = setup.open(&["a"], "100-0");
    let member = setup.join("a");
    setup.bench.hub.caught_up(setup.fence, member, SyncState::Nothing, Loss::Nothing).unwrap();
    for ms in 101..9_000 {
        setup.ingest("a", Provenance::Live(id(ms).into()), "x", setup.bench.now.mono);
    }
    setup.bench.pass_time(200);
    assert!(!setup.bench.worker.is_waiting(key));
    assert!(received(&wire).len() > 10);
}

#[test]
fn resuming_from_several_redis_streams_is_exact_on_one_nginx() {
    let mut setup = redis_setup_of(Source::Streams, RedisState::Up);
    setup.catch_up("a", &[10_000], Loss::Nothing);
    setup.catch_up("b", &[10_500], Loss::Nothing);
    let (key, wire) = setup.open(&["a", "b"], "");
    setup.live("a", 12_000);
    setup.live("b", 11_900);
    setup.live("b", 12_100);
    assert_eq!(received(&wire), ["sse.open", "12000", "11900", "12100"]);
    assert!(last_id(&wire).starts_with("12100-0-7-"));
    assert_eq!(setup.bench.worker.info(key).unwrap().last_id.unwrap().to_string(), last_id(&wire));
    setup.live("a", 12_200);
    let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
    let ids: Vec<String> =
        text.lines().filter_map(|line| line.strip_prefix("id: ").map(str::to_string)).collect();
    let all = ["12000", "11900", "12100", "12200"];
    for (id, seen) in ids.iter().zip(0..) {
        let (_, again) = setup.open(&["a", "b"], id);
        assert_eq!(received(&again), all[seen..], "{id}");
        // So are the ids that it has received on resuming.
        if seen < 4 {
            assert_eq!(last_id(&again), *ids.last().unwrap());
        }
    }
}

#[test]
fn a_stream_of_one_redis_stream_has_its_ids() {
    let mut setup = redis_setup_of(Source::Streams, RedisState::Up);
    setup.catch_up("a", &[10_000], Loss::Nothing);
    let (_, wire) = setup.open(&["a"], "9000-0");
    setup.live("a", 12_000);
    assert_eq!(last_id(&wire), "12000-0");
    let (_, again) = setup.open(&["a"], "10000-0");
    assert_eq!(received(&again), ["12000"]);
    assert_eq!(last_id(&again), "12000-0");
}

#[test]
fn a_stream_that_opens_after_the_streams_were_ended_stays_open() {
    let mut setup = redis_setup();
    setup.join("a");
    assert!(setup.bench.worker.end_streams(b"a", setup.bench.now).unwrap().is_some());
    let (key, _) = setup.open(&["a"], "100-0");
    assert!(setup.bench.worker.is_waiting(key));
    let ended: Vec<_> = std::iter::from_fn(|| setup.bench.worker.take_ended()).collect();
    assert_eq!(ended, []);
}

#[test]
fn an_administrator_ends_a_stream_that_waits_whatever_is_read_first() {
    let mut setup = redis_setup();
    let (key, _) = setup.open(&["a"], "100-0");
    assert!(setup.bench.worker.is_waiting(key));
    let (member, hub) = (setup.join("a"), setup.bench.hub.clone());
    let known = hub.sync_state(member).unwrap();
    hub.caught_up(setup.fence, member, known, Loss::Nothing).unwrap();
    assert!(setup.bench.worker.end_streams(b"a", setup.bench.now).unwrap().is_some());
    setup.bench.settle();
    let ended: Vec<_> = std::iter::from_fn(|| setup.bench.worker.take_ended()).collect();
    assert_eq!(ended, [(key, End::Admin)]);
}

#[test]
fn many_channels_that_are_in_sync_are_handled_in_one_turn() {
    let mut setup = redis_setup();
    setup.open(&["late"], "");
    let names: Vec<_> = (0..20).map(|i| format!("c{i}")).collect();
    let keys: Vec<_> = names.iter().map(|name| setup.open(&[name], "").0).collect();
    let hub = setup.bench.hub.clone();
    for name in &names {
        let member = setup.join(name);
        let known = hub.sync_state(member).unwrap();
        hub.caught_up(setup.fence, member, known, Loss::Nothing).unwrap();
    }
    setup.bench.worker.turn(setup.bench.now);
    assert!(keys.iter().all(|key| !setup.bench.worker.is_waiting(*key)));
}
