//! No hold of the lock does more than a bounded amount of work, however much there is to do. Words of
//! the region are counted, not time: a hold of the lock has its budget of steps, each of which reads
//! or writes some words, and one event of the largest size.

use super::*;
use crate::hub::meter::{most_in_a_hold, words_of};

/// Words of one hold: well below 1 ms.
const HOLD: usize = 64 << 10;

/// A pattern as a client can send it that costs a matcher that tries again much.
fn hostile(number: usize) -> Box<[u8]> {
    let set: String = (0..240).map(|i| char::from(b'a' + (i % 20) as u8)).collect();
    name_of_pattern(format!("*[{set}]Z{number}").as_bytes())
}

#[test]
fn a_thousand_hostile_patterns_are_not_compared_under_the_lock() {
    let hub = hub_of(8 << 20, 4096, 100, 0);
    let seat = hub.take_seat().unwrap();
    for number in 0..997 {
        let member = hub.join(seat, &hostile(number), at(0)).unwrap();
        hub.set_streams(seat, member, 1);
    }
    for pattern in [&b"a*"[..], b"*Z7"] {
        let member = hub.join(seat, &name_of_pattern(pattern), at(0)).unwrap();
        hub.set_streams(seat, member, 2);
    }
    let channel = [&b"a".repeat(250)[..], b"Z7"].concat();
    let publish = || hub.publish(&channel, &[event(b"x")], None, at(0)).unwrap();
    // The first publish copies the patterns, in several holds, and compares them outside of the lock.
    let first = most_in_a_hold(|| assert_eq!(publish().subscribers, 5));
    assert!(first < HOLD, "{first}");
    let again = words_of(|| assert_eq!(publish().subscribers, 5));
    assert!(again < 500, "{again}");
    // What joins later is compared alone.
    let member = hub.join(seat, &name_of_pattern(b"*a*"), at(0)).unwrap();
    hub.set_streams(seat, member, 10);
    let later = words_of(|| assert_eq!(publish().subscribers, 15));
    assert!(later < 1_000, "{later}");
    hub.check_settled();
}

#[test]
fn patterns_that_were_removed_are_not_mistaken_for_others() {
    let hub = hub_of(256 << 10, 4096, 10_000, 0);
    let seat = hub.take_seat().unwrap();
    let publish = |channel: &str| {
        let done = hub.publish(channel.as_bytes(), &[event(b"x")], None, at(0)).unwrap();
        (done.subscribers, done.listeners)
    };
    for round in 0..50 {
        let names = [format!("a{round}*"), format!("b{round}*")];
        let members = names.map(|name| hub.join(seat, &name_of_pattern(name.as_bytes()), at(0)));
        let [a, b] = members.map(Result::unwrap);
        hub.set_streams(seat, a, 1);
        hub.set_streams(seat, b, 2);
        assert_eq!(publish(&format!("a{round}x")), (1, vec![seat.slot]));
        assert_eq!(publish(&format!("b{round}x")), (2, vec![seat.slot]));
        hub.leave(a).unwrap();
        assert_eq!(publish(&format!("a{round}x")), (0, vec![]));
        hub.leave(b).unwrap();
        // The zone is full of events, so records of patterns that nobody listens to go.
        while hub.lock().unwrap().pattern_records().next().is_some() {
            put(&hub, "filler", &"-".repeat(2_000), at(0));
        }
        assert_eq!(publish(&format!("b{round}x")), (0, vec![]));
    }
    hub.check_settled();
}

#[test]
fn more_patterns_than_are_compared_wake_every_process() {
    let hub = hub_of(1 << 20, 4096, 100, 0);
    let seat = hub.take_seat().unwrap();
    for number in 0..1_001 {
        hub.join(seat, &name_of_pattern(format!("{number}*").as_bytes()), at(0)).unwrap();
    }
    let done = hub.publish(b"a", &[event(b"x")], None, at(0)).unwrap();
    assert_eq!(done.listeners.len(), hub.slots());
}
