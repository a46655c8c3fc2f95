//! Streams of patterns in a hub that is connected to Redis, beside streams that name the same
//! channels, and across subscriptions that end and start again.

use super::super::with_redis::{id, redis_setup, RedisSetup};
use super::*;
use crate::hub::{Loss, Provenance, RedisState};

impl RedisSetup {
    /// Records that patterns were subscribed to when Redis had issued ids up to `clock`.
    fn subscribe(&mut self, patterns: &[&str], clock: u64) {
        let members: Vec<_> = patterns.iter().map(|name| self.join(&format!("\0{name}"))).collect();
        let hub = self.bench.hub.clone();
        hub.patterns_subscribed(self.fence, &members, id(clock)).unwrap();
        for member in members {
            let known = hub.sync_state(member).unwrap();
            hub.caught_up(self.fence, member, known, Loss::Nothing).unwrap();
        }
        self.bench.settle();
    }

    fn of_pattern(&mut self, pattern: &str, from: &str) -> Rc<RefCell<Wire>> {
        self.bench.match_all(settings(), &[pattern], from).1
    }

    /// Receives events of a channel that is matched only by patterns.
    fn stray(&mut self, channel: &str, all: &[u64]) {
        for ms in all {
            self.receive(channel, Provenance::Live(id(*ms).into()).strayed(), &ms.to_string());
        }
    }

    /// Prepares the subscription to a channel by its name.
    fn ask_for(&self, channel: &str) {
        let member = self.join(channel);
        self.bench.hub.forget_partial(self.fence, member).unwrap();
    }
}

#[test]
fn joining_a_channel_by_name_repeats_nothing_on_streams_of_patterns() {
    let mut setup = redis_setup();
    setup.subscribe(&["*"], 100);
    let all = setup.of_pattern("*", "");
    setup.stray("a", &[101, 102]);
    setup.stray("b", &[103]);
    setup.stray("a", &[104]);
    setup.ask_for("a");
    let (_, exact) = setup.open(&["a"], "90-0");
    // Redis has more entries than were received through the pattern.
    setup.catch_up("a", &[95, 101, 102, 104], Loss::Nothing);
    setup.live("a", 105);
    let ids = ["101", "102", "103", "104", "105"];
    assert_eq!(received(&all), [&["sse.open"], &ids[..]].concat());
    assert_eq!(received(&exact), ["95", "101", "102", "104", "105"]);
    // A stream that resumes receives each once, in order.
    for (seen, from) in (101..=105).zip(1..) {
        let again = setup.of_pattern("*", &format!("{seen}-0"));
        assert_eq!(received(&again), ids[from..], "{seen}");
    }
}

#[test]
fn events_that_arrive_while_a_channel_is_joined_reach_streams_of_patterns() {
    let mut setup = redis_setup();
    setup.subscribe(&["*"], 100);
    let all = setup.of_pattern("*", "");
    setup.stray("a", &[101]);
    setup.ask_for("a");
    setup.ingest("a", Provenance::Earlier(id(101).into()), "101", setup.bench.now.mono);
    setup.ingest("a", Provenance::Joining(id(102).into()), "102", setup.bench.now.mono);
    setup.catch_up("a", &[], Loss::Nothing);
    assert_eq!(received(&all), ["sse.open", "101", "102"]);
}

#[test]
fn an_outage_causes_one_gap_on_streams_of_patterns() {
    let mut setup = redis_setup();
    setup.subscribe(&["r*", "*1", "q*"], 100);
    setup.catch_up("r1", &[100], Loss::Nothing);
    let (_, both) = setup.bench.match_all(settings(), &["r*", "*1"], "");
    let one = setup.of_pattern("r*", "");
    let other = setup.of_pattern("q*", "");
    setup.live("r1", 110);
    setup.bench.hub.set_link(setup.fence, RedisState::Down).unwrap();
    let (_, opened) = setup.bench.match_all(settings(), &["r*"], "110-0");
    setup.connect();
    // Other events were published during the outage.
    setup.subscribe(&["r*", "*1", "q*"], 150);
    setup.receive("r1", Provenance::Missed(id(120).into()), "120");
    setup.catch_up("r1", &[], Loss::Nothing);
    setup.live("r1", 160);
    let rest = ["sse.gap", "120", "160"];
    assert_eq!(received(&one), [&["sse.open", "110"], &rest[..]].concat());
    assert_eq!(received(&both).iter().filter(|name| *name == "sse.gap").count(), 1);
    assert_eq!(received(&both).len(), 5);
    assert_eq!(received(&other), ["sse.open", "sse.gap"]);
    assert_eq!(received(&opened), rest);
    // Clients that resume: those from before the outage receive a gap event, those from after it
    // have missed nothing.
    assert_eq!(received(&setup.of_pattern("r*", "110-0")), rest);
    assert_eq!(received(&setup.of_pattern("r*", "130-0")), ["sse.gap", "160"]);
    assert_eq!(received(&setup.of_pattern("r*", "150-0"))[..1], ["sse.gap"]);
    assert_eq!(received(&setup.of_pattern("r*", "155-0")), ["160"]);
    let gap = last_id(&other);
    setup.stray("q", &[170]);
    assert_eq!(received(&setup.of_pattern("q*", &gap)), ["170"]);
}

#[test]
fn a_pattern_that_is_subscribed_to_again_has_missed_the_events_in_between() {
    let mut setup = redis_setup();
    setup.subscribe(&["*"], 100);
    setup.stray("a", &[110]);
    setup.subscribe(&["b*"], 100);
    assert_eq!(received(&setup.of_pattern("b*", "100-0")), ["sse.gap"]);
    let again = setup.of_pattern("b*", "110-0");
    setup.stray("b", &[120]);
    assert_eq!(received(&again), ["sse.gap", "120"]);
    assert_eq!(received(&setup.of_pattern("*", "105-0")), ["110", "120"]);
}
