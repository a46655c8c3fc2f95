//! Streams of a hub that is joined to Redis: events that come late, or came elsewhere, are sent
//! once.

use super::*;
use crate::hub::{
    FencingToken, IncomingEvent, Loss, Membership, Provenance, RedisState, SlotClaim, Source,
    SyncState,
};
use crate::sse::id::EntryId;

/// A bench with a bridge that the test plays.
pub struct Joint {
    pub bench: Bench,
    pub fence: FencingToken,
    slot: SlotClaim,
}

pub fn id(ms: u64) -> EntryId {
    EntryId { ms, seq: 0 }
}

pub fn joint_of(source: Source, link: RedisState) -> Joint {
    Joint::new(source, link, 7)
}

pub fn joint() -> Joint {
    joint_of(Source::PubSub, RedisState::Up)
}

impl Joint {
    pub fn new(source: Source, link: RedisState, tag: u32) -> Joint {
        let bench = bench_of(1 << 19, HISTORY, source, tag);
        let slot = bench.hub.claim_slot().unwrap();
        let fence = bench.hub.take_fencing_token(slot, Now::default()).unwrap();
        bench.hub.new_epoch(fence).unwrap();
        bench.hub.set_link(fence, link).unwrap();
        Joint { bench, fence, slot }
    }

    pub fn join(&self, channel: &str) -> Membership {
        self.bench.hub.join(self.slot, channel.as_bytes(), self.bench.now).unwrap()
    }

    /// A channel is subscribed to, and what Redis has of it is given; then all streams are served.
    pub fn catch_up(&mut self, channel: &str, fetched: &[u64], missing: Loss) {
        let (member, hub) = (self.join(channel), self.bench.hub.clone());
        let known = hub.sync_state(member).unwrap();
        hub.record_loss(self.fence, member, missing).unwrap();
        for ms in fetched {
            let how = match known {
                SyncState::Interrupted(_) => Provenance::Missed(id(*ms).into()),
                SyncState::Nothing | SyncState::Left(_) => Provenance::Earlier(id(*ms).into()),
            };
            self.come_born(channel, how, &ms.to_string(), 1);
        }
        hub.caught_up(self.fence, member, known, missing).unwrap();
        self.bench.settle();
    }

    pub fn come(&mut self, channel: &str, how: Provenance, data: &str) {
        self.come_born(channel, how, data, self.bench.now.mono);
        self.bench.settle();
    }

    pub fn come_born(&self, channel: &str, how: Provenance, data: &str, born: u64) {
        let event = NewEvent { event_type: b"", data: data.as_bytes() };
        let born = MonotonicTime::from_ms(born);
        let arrival = IncomingEvent { channel: channel.as_bytes(), provenance: how, event, born };
        self.bench.hub.ingest(self.fence, &[arrival], self.bench.now).unwrap();
    }

    pub fn live(&mut self, channel: &str, ms: u64) {
        self.come(channel, Provenance::Live(id(ms).into()), &ms.to_string());
    }

    pub fn open(&mut self, channels: &[&str], from: &str) -> (StreamKey, Rc<RefCell<Wire>>) {
        self.bench.open(settings(), channels, from)
    }

    fn replay_all(&mut self, channels: &[&str]) -> Rc<RefCell<Wire>> {
        let replay = StreamSettings { replay: Replay::All, ..settings() };
        self.bench.open(replay, channels, "").1
    }

    pub fn connect(&self) {
        self.bench.hub.new_epoch(self.fence).unwrap();
        self.bench.hub.set_link(self.fence, RedisState::Up).unwrap();
    }
}

#[test]
fn a_stream_begins_when_its_channel_is_in_step_and_misses_nothing() {
    let mut joint = joint();
    let (key, wire) = joint.open(&["a"], "100-0");
    // The response is there after a moment, its first event is not.
    joint.bench.pass_time(100);
    assert_eq!(wire.borrow().bytes, b"retry: 3000\n:\n");
    assert!(joint.bench.worker.is_waiting(key));
    joint.come_born("a", Provenance::Earlier(id(90).into()), "90", 1);
    joint.bench.settle();
    assert!(joint.bench.worker.is_waiting(key));
    joint.catch_up("a", &[90, 100, 110], Loss::Nothing);
    assert!(!joint.bench.worker.is_waiting(key));
    joint.live("a", 120);
    joint.come("a", Provenance::Plain, "p");
    assert_eq!(heard(&wire), ["110", "120", "p"]);
    assert_eq!(joint.bench.worker.info(key).unwrap().events_sent, 3);
    assert!(wire.borrow().bytes.starts_with(b"retry: 3000\n:\ndata: 110"));
}

#[test]
fn a_stream_of_several_channels_waits_for_all_and_is_merged() {
    let mut joint = joint();
    let (key, wire) = joint.open(&["a", "b"], "100-0");
    joint.catch_up("a", &[50, 110, 130], Loss::Nothing);
    joint.live("a", 150);
    assert!(joint.bench.worker.is_waiting(key));
    joint.catch_up("b", &[90, 120, 140], Loss::Nothing);
    joint.live("b", 160);
    assert_eq!(heard(&wire), ["110", "120", "130", "140", "150", "160"]);
    // The next one finds them in step, and begins at once.
    let (key, wire) = joint.open(&["a", "b"], "140-0");
    assert!(!joint.bench.worker.is_waiting(key));
    assert_eq!(heard(&wire), ["150", "160"]);
}

#[test]
fn a_new_stream_begins_with_its_place_once_it_is_in_step() {
    let mut joint = joint();
    let (_, wire) = joint.open(&["a"], "");
    joint.catch_up("a", &[90, 100], Loss::UpTo(id(80)));
    joint.live("a", 110);
    assert_eq!(heard(&wire), ["sse.open", "110"]);
    let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
    assert!(text.contains("id: 100-0-7-5\n"), "{text}");
    let wire = joint.replay_all(&["a"]);
    assert_eq!(heard(&wire), ["90", "100", "110"]);
}

#[test]
fn a_returning_client_waits_up_to_a_second_and_a_new_one_a_moment() {
    let mut joint = joint();
    let (key, wire) = joint.open(&["a"], "100-0");
    let (new, opened) = joint.open(&["a"], "");
    assert!(joint.bench.worker.is_waiting(new));
    joint.bench.pass_time(200);
    assert!(!joint.bench.worker.is_waiting(new));
    assert_eq!(heard(&opened), ["sse.open"]);
    joint.bench.pass_time(700);
    assert!(joint.bench.worker.is_waiting(key));
    joint.bench.pass_time(200);
    assert!(!joint.bench.worker.is_waiting(key));
    // What happens before the channel is in step is not lost to either.
    joint.live("a", 110);
    assert_eq!(
        (heard(&wire), heard(&opened)),
        (vec!["110".into()], vec!["sse.open".into(), "110".to_string()])
    );
}

#[test]
fn a_stream_does_not_wait_for_a_redis_that_is_away() {
    let mut joint = joint_of(Source::PubSub, RedisState::Down);
    let (_, wire) = joint.open(&["a"], "");
    assert_eq!(heard(&wire), ["sse.open"]);
    // Nor for one that goes away meanwhile.
    joint.bench.hub.set_link(joint.fence, RedisState::Connecting).unwrap();
    let (key, wire) = joint.open(&["a"], "");
    assert!(joint.bench.worker.is_waiting(key));
    joint.bench.hub.set_link(joint.fence, RedisState::Down).unwrap();
    joint.bench.pass_time(100);
    assert_eq!(heard(&wire), ["sse.open"]);
}

#[test]
fn a_stream_that_waits_can_end() {
    let mut joint = joint();
    let (first, _) = joint.open(&["a"], "");
    joint.bench.worker.close(first, End::Client);
    let (_, drained) = joint.open(&["a"], "100-0");
    joint.bench.worker.drain(0, joint.bench.now);
    joint.bench.pass_time(100);
    let ended = joint.bench.worker.take_ended().unwrap();
    assert_eq!(ended.1, End::Drain);
    joint.bench.worker.close(ended.0, ended.1);
    assert_eq!(joint.bench.worker.streams(), 0);
    joint.catch_up("a", &[], Loss::Nothing);
    joint.bench.pass_time(2_000);
    assert_eq!(heard(&drained), Vec::<String>::new());
}

#[test]
fn what_happened_while_redis_was_away_comes_once() {
    let mut joint = joint();
    joint.catch_up("a", &[100], Loss::Nothing);
    let (_, live) = joint.open(&["a"], "100-0");
    joint.bench.hub.set_link(joint.fence, RedisState::Down).unwrap();
    // From another nginx that has gone on, and a new one.
    let (_, ahead) = joint.open(&["a"], "130-0");
    let (_, behind) = joint.open(&["a"], "100-0");
    let (_, new) = joint.open(&["a"], "");
    joint.connect();
    joint.catch_up("a", &[110, 120, 130, 140], Loss::Nothing);
    joint.live("a", 150);
    let all = ["110", "120", "130", "140", "150"];
    assert_eq!(heard(&live), all);
    assert_eq!(heard(&ahead), all[3..]);
    assert_eq!(heard(&behind), all);
    // All of them were born before it came, as the test has it.
    assert_eq!(heard(&new), ["sse.open", "150"]);
}

#[test]
fn a_stream_that_did_not_wait_loses_nothing_of_a_channel_that_comes_late() {
    let mut joint = joint();
    joint.catch_up("a", &[200], Loss::Nothing);
    let (_, wire) = joint.open(&["a", "b"], "150-0");
    joint.bench.pass_time(1_100);
    joint.live("a", 300);
    assert_eq!(heard(&wire), ["200", "300"]);
    joint.catch_up("b", &[140, 160, 250, 350], Loss::Nothing);
    joint.live("b", 400);
    assert_eq!(heard(&wire), ["200", "300", "160", "250", "350", "400"]);
    // And the client's place has never gone back.
    let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
    let ids: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids, ["200-0", "300-0", "300-0", "300-0", "350-0", "400-0"]);
}

#[test]
fn a_client_that_was_served_by_a_quicker_nginx_gets_nothing_twice() {
    let mut joint = joint();
    joint.catch_up("a", &[100], Loss::Nothing);
    joint.catch_up("b", &[], Loss::Nothing);
    let (_, wire) = joint.open(&["a", "b"], "130-0");
    let (_, other) = joint.open(&["a"], "100-0");
    for (channel, ms) in [("a", 110), ("b", 120), ("a", 130), ("b", 140), ("a", 150)] {
        joint.live(channel, ms);
    }
    assert_eq!(heard(&wire), ["140", "150"]);
    assert_eq!(heard(&other), ["110", "130", "150"]);
}

#[test]
fn a_new_stream_is_not_given_the_past_of_a_redis_that_comes_late() {
    let mut joint = joint_of(Source::PubSub, RedisState::Down);
    let silent = StreamSettings { open_event: None, ..settings() };
    let (_, silent) = joint.bench.open(silent, &["a"], "");
    let (_, wire) = joint.open(&["a"], "");
    joint.connect();
    let wall = joint.bench.now.wall;
    // A day ago something was lost, and much has happened since.
    joint.bench.now.mono += 100;
    let day = Loss::UpTo(id(wall - 86_400_000));
    let member = joint.join("a");
    joint.bench.hub.record_loss(joint.fence, member, day).unwrap();
    for ms in [wall - 9_000_000, wall - 9] {
        joint.come_born("a", Provenance::Earlier(id(ms).into()), "past", START.mono - 1);
    }
    joint.come_born("a", Provenance::Earlier(id(wall + 1).into()), "now", START.mono + 1);
    joint.bench.hub.caught_up(joint.fence, member, SyncState::Nothing, day).unwrap();
    joint.bench.settle();
    assert_eq!(heard(&wire), ["sse.open", "now"]);
    assert_eq!(heard(&silent), ["now"]);
}

#[test]
fn open_streams_receive_a_gap_before_what_follows_it() {
    let mut joint = joint();
    joint.catch_up("a", &[100], Loss::Nothing);
    let (_, wire) = joint.open(&["a"], "90-0");
    joint.connect();
    joint.catch_up("a", &[300], Loss::UpTo(id(200)));
    assert_eq!(heard(&wire), ["100", "sse.gap", "300"]);
    let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
    assert!(text.contains("data: {\"after\":\"100-0\"}"), "{text}");
    // A client that has had the rest elsewhere has no gap.
    joint.bench.hub.set_link(joint.fence, RedisState::Down).unwrap();
    let (_, ahead) = joint.open(&["a"], "450-0");
    joint.connect();
    joint.catch_up("a", &[500], Loss::UpTo(id(400)));
    assert_eq!(heard(&ahead), ["500"]);
}

#[test]
fn the_gap_of_a_client_from_another_hub_names_its_own_id() {
    let mut joint = joint_of(Source::PubSub, RedisState::Down);
    let (_, wire) = joint.open(&["a"], "50-0-9-3");
    joint.connect();
    joint.catch_up("a", &[300], Loss::UpTo(id(200)));
    assert_eq!(heard(&wire), ["sse.gap", "300"]);
    let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
    assert!(!text.contains("50-0-7-3"), "{text}");
}

#[test]
fn what_comes_below_the_mark_reaches_live_streams() {
    let mut joint = joint();
    joint.catch_up("a", &[], Loss::Nothing);
    let (_, wire) = joint.open(&["a"], "90-0");
    joint.live("a", 200);
    joint.live("a", 150);
    joint.come("a", Provenance::Missed(id(160).into()), "160");
    joint.live("a", 150);
    assert_eq!(heard(&wire)[..3], ["200", "150", "160"]);
    let (_, again) = joint.open(&["a"], "200-0");
    assert_eq!(heard(&again)[..2], ["150", "160"]);
}

#[test]
fn streams_that_were_overtaken_while_they_waited_begin_all_the_same() {
    let mut joint = joint();
    let (key, wire) = joint.open(&["a"], "100-0");
    let member = joint.join("a");
    joint.bench.hub.caught_up(joint.fence, member, SyncState::Nothing, Loss::Nothing).unwrap();
    for ms in 101..9_000 {
        joint.come_born("a", Provenance::Live(id(ms).into()), "x", joint.bench.now.mono);
    }
    joint.bench.pass_time(200);
    assert!(!joint.bench.worker.is_waiting(key));
    assert!(heard(&wire).len() > 10);
}

#[test]
fn a_stream_of_several_streams_in_redis_is_exact_on_one_nginx() {
    let mut joint = joint_of(Source::Streams, RedisState::Up);
    joint.catch_up("a", &[10_000], Loss::Nothing);
    joint.catch_up("b", &[10_500], Loss::Nothing);
    let (key, wire) = joint.open(&["a", "b"], "");
    joint.live("a", 12_000);
    joint.live("b", 11_900);
    joint.live("b", 12_100);
    assert_eq!(heard(&wire), ["sse.open", "12000", "11900", "12100"]);
    assert!(last_id(&wire).starts_with("12100-0-7-"));
    assert_eq!(joint.bench.worker.info(key).unwrap().last_id.unwrap().to_string(), last_id(&wire));
    joint.live("a", 12_200);
    let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
    let ids: Vec<String> =
        text.lines().filter_map(|line| line.strip_prefix("id: ").map(str::to_string)).collect();
    let all = ["12000", "11900", "12100", "12200"];
    for (id, seen) in ids.iter().zip(0..) {
        let (_, again) = joint.open(&["a", "b"], id);
        assert_eq!(heard(&again), all[seen..], "{id}");
        // And so do the ids that it got by looking back.
        if seen < 4 {
            assert_eq!(last_id(&again), *ids.last().unwrap());
        }
    }
}

#[test]
fn a_stream_of_one_stream_in_redis_has_its_numbers() {
    let mut joint = joint_of(Source::Streams, RedisState::Up);
    joint.catch_up("a", &[10_000], Loss::Nothing);
    let (_, wire) = joint.open(&["a"], "9000-0");
    joint.live("a", 12_000);
    assert_eq!(last_id(&wire), "12000-0");
    let (_, again) = joint.open(&["a"], "10000-0");
    assert_eq!(heard(&again), ["12000"]);
    assert_eq!(last_id(&again), "12000-0");
}

#[test]
fn a_stream_that_comes_after_an_administrators_end_is_not_ended() {
    let mut joint = joint();
    joint.join("a");
    assert!(joint.bench.worker.end_streams(b"a", joint.bench.now).unwrap().is_some());
    let (key, _) = joint.open(&["a"], "100-0");
    assert!(joint.bench.worker.is_waiting(key));
    let ended: Vec<_> = std::iter::from_fn(|| joint.bench.worker.take_ended()).collect();
    assert_eq!(ended, []);
}

#[test]
fn a_stream_that_waits_is_ended_by_an_administrator_whatever_is_read_first() {
    let mut joint = joint();
    let (key, _) = joint.open(&["a"], "100-0");
    assert!(joint.bench.worker.is_waiting(key));
    let (member, hub) = (joint.join("a"), joint.bench.hub.clone());
    let known = hub.sync_state(member).unwrap();
    hub.caught_up(joint.fence, member, known, Loss::Nothing).unwrap();
    assert!(joint.bench.worker.end_streams(b"a", joint.bench.now).unwrap().is_some());
    joint.bench.settle();
    let ended: Vec<_> = std::iter::from_fn(|| joint.bench.worker.take_ended()).collect();
    assert_eq!(ended, [(key, End::Admin)]);
}

#[test]
fn many_channels_that_are_in_step_at_once_are_seen_to_in_one_turn() {
    let mut joint = joint();
    joint.open(&["late"], "");
    let names: Vec<_> = (0..20).map(|i| format!("c{i}")).collect();
    let keys: Vec<_> = names.iter().map(|name| joint.open(&[name], "").0).collect();
    let hub = joint.bench.hub.clone();
    for name in &names {
        let member = joint.join(name);
        let known = hub.sync_state(member).unwrap();
        hub.caught_up(joint.fence, member, known, Loss::Nothing).unwrap();
    }
    joint.bench.worker.turn(joint.bench.now);
    assert!(keys.iter().all(|key| !joint.bench.worker.is_waiting(*key)));
}
