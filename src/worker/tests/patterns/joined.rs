//! Streams of patterns in a hub that is joined to Redis: beside streams that name the same
//! channels, and over subscriptions that end and begin again.

use super::super::joined::{id, joint, Joint};
use super::*;
use crate::hub::{Loss, Provenance, RedisState};

impl Joint {
    /// Patterns are subscribed to, for the first time or again, when Redis has given numbers up to
    /// `clock`.
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

    /// Events that only patterns bring.
    fn stray(&mut self, channel: &str, all: &[u64]) {
        for ms in all {
            self.come(channel, Provenance::Live(id(*ms).into()).strayed(), &ms.to_string());
        }
    }

    /// A channel is about to be subscribed to by its name.
    fn ask_for(&self, channel: &str) {
        let member = self.join(channel);
        self.bench.hub.forget_partial(self.fence, member).unwrap();
    }
}

#[test]
fn a_channel_that_is_joined_by_name_gives_streams_of_patterns_nothing_twice() {
    let mut joint = joint();
    joint.subscribe(&["*"], 100);
    let all = joint.of_pattern("*", "");
    joint.stray("a", &[101, 102]);
    joint.stray("b", &[103]);
    joint.stray("a", &[104]);
    joint.ask_for("a");
    let (_, exact) = joint.open(&["a"], "90-0");
    // Redis had more than the pattern has brought.
    joint.catch_up("a", &[95, 101, 102, 104], Loss::Nothing);
    joint.live("a", 105);
    let ids = ["101", "102", "103", "104", "105"];
    assert_eq!(heard(&all), [&["sse.open"], &ids[..]].concat());
    assert_eq!(heard(&exact), ["95", "101", "102", "104", "105"]);
    // A stream that resumes has each once, in order.
    for (seen, from) in (101..=105).zip(1..) {
        let again = joint.of_pattern("*", &format!("{seen}-0"));
        assert_eq!(heard(&again), ids[from..], "{seen}");
    }
}

#[test]
fn what_comes_while_a_channel_is_joined_reaches_streams_of_patterns() {
    let mut joint = joint();
    joint.subscribe(&["*"], 100);
    let all = joint.of_pattern("*", "");
    joint.stray("a", &[101]);
    joint.ask_for("a");
    joint.come_born("a", Provenance::Earlier(id(101).into()), "101", joint.bench.now.mono);
    joint.come_born("a", Provenance::Joining(id(102).into()), "102", joint.bench.now.mono);
    joint.catch_up("a", &[], Loss::Nothing);
    assert_eq!(heard(&all), ["sse.open", "101", "102"]);
}

#[test]
fn an_outage_causes_one_gap_on_streams_of_patterns() {
    let mut joint = joint();
    joint.subscribe(&["r*", "*1", "q*"], 100);
    joint.catch_up("r1", &[100], Loss::Nothing);
    let (_, both) = joint.bench.match_all(settings(), &["r*", "*1"], "");
    let one = joint.of_pattern("r*", "");
    let other = joint.of_pattern("q*", "");
    joint.live("r1", 110);
    joint.bench.hub.set_link(joint.fence, RedisState::Down).unwrap();
    let (_, opened) = joint.bench.match_all(settings(), &["r*"], "110-0");
    joint.connect();
    // It has gone on elsewhere meanwhile.
    joint.subscribe(&["r*", "*1", "q*"], 150);
    joint.come("r1", Provenance::Missed(id(120).into()), "120");
    joint.catch_up("r1", &[], Loss::Nothing);
    joint.live("r1", 160);
    let rest = ["sse.gap", "120", "160"];
    assert_eq!(heard(&one), [&["sse.open", "110"], &rest[..]].concat());
    assert_eq!(heard(&both).iter().filter(|name| *name == "sse.gap").count(), 1);
    assert_eq!(heard(&both).len(), 5);
    assert_eq!(heard(&other), ["sse.open", "sse.gap"]);
    assert_eq!(heard(&opened), rest);
    // Clients that resume: those from before the outage receive a gap event, those from after it
    // have missed nothing.
    assert_eq!(heard(&joint.of_pattern("r*", "110-0")), rest);
    assert_eq!(heard(&joint.of_pattern("r*", "130-0")), ["sse.gap", "160"]);
    assert_eq!(heard(&joint.of_pattern("r*", "150-0"))[..1], ["sse.gap"]);
    assert_eq!(heard(&joint.of_pattern("r*", "155-0")), ["160"]);
    let gap = last_id(&other);
    joint.stray("q", &[170]);
    assert_eq!(heard(&joint.of_pattern("q*", &gap)), ["170"]);
}

#[test]
fn a_pattern_that_was_left_has_missed_what_came_until_it_is_subscribed_to_again() {
    let mut joint = joint();
    joint.subscribe(&["*"], 100);
    joint.stray("a", &[110]);
    joint.subscribe(&["b*"], 100);
    assert_eq!(heard(&joint.of_pattern("b*", "100-0")), ["sse.gap"]);
    let again = joint.of_pattern("b*", "110-0");
    joint.stray("b", &[120]);
    assert_eq!(heard(&again), ["sse.gap", "120"]);
    assert_eq!(heard(&joint.of_pattern("*", "105-0")), ["110", "120"]);
}
