//! Each hold of the lock does a bounded amount of work, however much there is to do. The tests
//! count words of the region, not time: a hold has a budget of steps, each of which reads or writes
//! some words, and one event of the largest size.

mod replays;

use super::*;
use crate::hub::memory::meter::{most_in_a_hold, words_of};

/// The maximum number of words in one hold, which takes far less than 1 ms.
const HOLD: usize = 64 << 10;

/// A pattern that is expensive for a matcher that backtracks.
fn hostile(number: usize) -> Box<[u8]> {
    let set: String = (0..240).map(|i| char::from(b'a' + (i % 20) as u8)).collect();
    name_of_pattern(format!("*[{set}]Z{number}").as_bytes())
}

#[test]
fn a_thousand_hostile_patterns_are_not_compared_under_the_lock() {
    let hub = hub_of(8 << 20, 4096, 100, 0);
    let claim = hub.claim_slot().unwrap();
    for number in 0..997 {
        let member = hub.join(claim, &hostile(number), at(0)).unwrap();
        hub.set_streams(claim, member, 1);
    }
    for pattern in [&b"a*"[..], b"*Z7"] {
        let member = hub.join(claim, &name_of_pattern(pattern), at(0)).unwrap();
        hub.set_streams(claim, member, 2);
    }
    let channel = [&b"a".repeat(250)[..], b"Z7"].concat();
    let publish = || hub.publish(&channel, &[event(b"x")], None, at(0)).unwrap();
    // The first publish copies the patterns, in several holds, and compares them outside of the
    // lock.
    let first = most_in_a_hold(|| assert_eq!(publish().subscribers, 5));
    assert!(first < HOLD, "{first}");
    let again = words_of(|| assert_eq!(publish().subscribers, 5));
    assert!(again < 500, "{again}");
    // A channel that is added later is compared alone.
    let member = hub.join(claim, &name_of_pattern(b"*a*"), at(0)).unwrap();
    hub.set_streams(claim, member, 10);
    let later = words_of(|| assert_eq!(publish().subscribers, 15));
    assert!(later < 1_000, "{later}");
    hub.check_settled();
}

#[test]
fn patterns_that_were_removed_are_not_mistaken_for_others() {
    // The size determines when records are removed. A publish that removes one wakes every process.
    let hub = hub_of((256 << 10) + 720, 4096, 10_000, 0);
    let claim = hub.claim_slot().unwrap();
    let publish = |channel: &str| {
        let done = hub.publish(channel.as_bytes(), &[event(b"x")], None, at(0)).unwrap();
        (done.subscribers, done.listeners)
    };
    for round in 0..10 {
        let names = [format!("a{round}*"), format!("b{round}*")];
        let members = names.map(|name| hub.join(claim, &name_of_pattern(name.as_bytes()), at(0)));
        let [a, b] = members.map(Result::unwrap);
        hub.set_streams(claim, a, 1);
        hub.set_streams(claim, b, 2);
        assert_eq!(publish(&format!("a{round}x")), (1, vec![claim.slot]));
        assert_eq!(publish(&format!("b{round}x")), (2, vec![claim.slot]));
        hub.leave(a).unwrap();
        assert_eq!(publish(&format!("a{round}x")), (0, vec![]));
        hub.leave(b).unwrap();
        // The zone is full of events, so records of patterns without listeners are removed.
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
    let claim = hub.claim_slot().unwrap();
    for number in 0..1_001 {
        hub.join(claim, &name_of_pattern(format!("{number}*").as_bytes()), at(0)).unwrap();
    }
    let done = hub.publish(b"a", &[event(b"x")], None, at(0)).unwrap();
    assert_eq!(done.listeners.len(), hub.slots());
}

/// Creates a hub in which a channel has this many events.
fn with_long_channel(events: usize, age: u64) -> Hub {
    let hub = hub_of(events * 200 + (1 << 20), 4096, 1_000_000, age);
    put_many(&hub, "long", events);
    hub
}

fn put_many(hub: &Hub, channel: &str, events: usize) {
    let batch = vec![event(b"x"); 1_000];
    for _ in 0..events / batch.len() {
        hub.publish(channel.as_bytes(), &batch, None, at(0)).unwrap();
    }
}

#[test]
fn a_channel_is_deleted_at_once_and_freed_gradually() {
    let hub = with_long_channel(30_000, 0);
    let other = put(&hub, "other", "y", at(0));
    let used = hub.stats().zone_used_bytes;
    let words = most_in_a_hold(|| {
        assert_eq!(hub.forget_channel(b"long", at(0)).unwrap().unwrap().events, 30_000);
    });
    assert!(words < 1_000, "{words}");
    assert!(hub.retained(b"long").is_empty());
    assert_eq!(hub.stats().retained_events, 1);
    let mut copied = EventCopy::default();
    for position in 1..=30_000 {
        let found = hub.descriptor(position);
        assert!(!found.is_some_and(|found| hub.copy(found, at(0), &mut copied)), "{position}");
    }
    hub.check_settled();
    let mut holds = 1;
    let words = most_in_a_hold(|| {
        while hub.free_detached().unwrap() {
            holds += 1;
        }
    });
    assert!(holds > 10 && words < HOLD, "{holds} holds of {words} words");
    assert!(hub.stats().zone_used_bytes + 30_000 * 128 <= used);
    // Events that were not deleted are read as before.
    let claim = hub.claim_slot().unwrap();
    let member = hub.join(claim, b"other", at(0)).unwrap();
    assert_eq!(fresh(&hub, &[member], 10, at(0)), ["y"]);
    assert_eq!(resumed(&hub, &[member], &other.to_string(), at(0)), (0, vec![]));
    let later = hub.head() + 1;
    put(&hub, "other", "z", at(0));
    assert!(hub.copy(hub.descriptor(later).unwrap(), at(0), &mut copied));
    hub.check_settled();
}

#[test]
fn deleted_events_are_freed_before_anything_else() {
    let hub = hub_of(256 << 10, 4096, 10_000, 0);
    for i in 0..100 {
        put(&hub, "keep", &format!("{i}"), at(0));
    }
    while hub.stats().counter(Counter::Evicted) == 0 && hub.stats().zone_used_bytes < 200 << 10 {
        put(&hub, "gone", "-", at(0));
    }
    hub.forget_channel(b"gone", at(0)).unwrap().unwrap();
    let used = hub.stats().zone_used_bytes;
    while hub.has_detached() {
        // Also if its record is used again, by a channel with any other hash.
        put(&hub, &format!("new{}", hub.head()), &"-".repeat(500), at(0));
        assert!(hub.stats().zone_used_bytes <= used.max(250 << 10));
        hub.check();
        if hub.has_detached() {
            assert_eq!(
                (hub.retained(b"keep").len(), hub.stats().counter(Counter::Evicted)),
                (100, 0)
            );
        }
    }
    hub.check_settled();
}

#[test]
fn blocks_for_a_large_event_are_freed_in_several_holds() {
    let hub = hub_of(8 << 20, 1 << 20, 1_000_000, 0);
    while hub.stats().counter(Counter::Evicted) == 0 {
        put_many(&hub, "small", 1_000);
    }
    let large = "#".repeat(600_000);
    let evicted = hub.stats().counter(Counter::Evicted);
    let words = most_in_a_hold(|| {
        put(&hub, "large", &large, at(0));
    });
    assert!(hub.stats().counter(Counter::Evicted) > evicted + 4_000);
    // The event itself is copied in one hold.
    assert!(words < HOLD + large.len() / 8 + 10_000, "{words}");
    hub.check_settled();
}

#[test]
fn slots_of_dead_processes_are_cleared_from_all_channels_in_several_holds() {
    let hub = hub_of(4 << 20, 4096, 10, 0);
    let claim = hub.claim_slot().unwrap();
    let mut joined = 0;
    while hub.join(claim, format!("channel {joined}").as_bytes(), at(0)).is_ok() {
        joined += 1;
    }
    assert_eq!(hub.publish(b"new", &[event(b"x")], None, at(0)), Err(PublishError::NoRoom));
    hub.release_slot(claim);
    let words = most_in_a_hold(|| {
        let publish = || hub.publish(b"new", &[event(b"x")], None, at(0));
        while publish().is_err_and(|error| error == PublishError::Crowded) {}
        publish().unwrap();
    });
    assert!(joined > 10_000 && words < HOLD, "{joined} channels, {words} words");
    hub.check_settled();
}

#[test]
fn a_zone_is_reported_full_only_once_all_deleted_events_are_freed() {
    let hub = hub_of(4 << 20, 4096, 10, 0);
    let (living, gone) = (hub.claim_slot().unwrap(), hub.claim_slot().unwrap());
    let join = |i: usize| hub.join(living, format!("channel {i}").as_bytes(), at(0));
    let joined = (0..).find(|i| join(*i).is_err()).unwrap();
    hub.release_slot(gone);
    assert_eq!(join(joined), Err(JoinError::Crowded));
    let refused = std::iter::repeat_with(|| join(joined).unwrap_err());
    let attempts = refused.take_while(|error| *error == JoinError::Crowded).count();
    assert!(attempts < 10, "{attempts}");
    assert_eq!(join(joined), Err(JoinError::Full));
    hub.check_settled();
}

#[test]
fn a_sweep_and_a_listing_are_bounded() {
    let hub = hub_of(16 << 20, 4096, 10, 0);
    for i in 0..20_000 {
        put(&hub, &format!("channel {i}"), "x", at(0));
    }
    let mut rounds = 0;
    let words = most_in_a_hold(|| {
        while !hub.sweep(at(0)).unwrap().round {
            rounds += 1;
        }
    });
    assert!(rounds > 5 && words < HOLD, "{rounds} rounds, {words} words");
    let mut turns = 0;
    let mut listing = Listing::new(b"nothing".to_vec(), 0, 100);
    let words = most_in_a_hold(|| {
        while hub.list(&mut listing).unwrap().is_none() {
            turns += 1;
        }
    });
    assert!(turns > 5 && words < HOLD, "{turns} turns, {words} words");
}

#[test]
fn many_patterns_are_listed_in_several_holds() {
    let hub = hub_of(8 << 20, 4096, 10, 0);
    let claim = hub.claim_slot().unwrap();
    let patterns: Vec<String> = (0..5_000).map(|i| format!("{i}*")).collect();
    for pattern in &patterns {
        let member = hub.join(claim, &name_of_pattern(pattern.as_bytes()), at(0)).unwrap();
        hub.set_streams(claim, member, 1);
    }
    let mut listed = Vec::new();
    let words = most_in_a_hold(|| listed = hub.patterns().unwrap());
    let listed = listed.into_iter().map(|pattern| String::from_utf8(pattern).unwrap());
    assert!(listed.eq(patterns) && words < HOLD, "{words} words");
}

#[test]
fn looking_for_repeated_events_takes_several_holds() {
    use super::connected_hub::{connected_hub_of, id};
    let joined = connected_hub_of(4 << 20, Source::PubSub, 10_000, 0);
    joined.subscribe("a", &[], Loss::Nothing);
    let live = |ms| IncomingEvent {
        channel: b"a",
        provenance: Provenance::Live(id(ms).into()),
        event: event(b"x"),
        born: MonotonicTime::default(),
        run_place: RunPlace::Unknown,
    };
    let all: Vec<_> = (1..=4_000).map(live).collect();
    let ingest = |batch: &[IncomingEvent<'_>]| {
        let (mut rest, mut holds, mut appended) = (batch, 0, 0);
        while !rest.is_empty() {
            let some = &rest[..rest.len().min(64)];
            let ingested = joined.hub.ingest(joined.token, some, at(0)).unwrap();
            assert!(ingested.dealt > 0);
            (rest, holds, appended) =
                (&rest[ingested.dealt..], holds + 1, appended + ingested.appended);
        }
        (holds, appended)
    };
    assert_eq!(ingest(&all).1, 4_000);
    let mut again = (0, 0);
    let words = most_in_a_hold(|| again = ingest(&all[..64]));
    assert!(again.0 > 30 && words < HOLD, "{} holds of {words} words", again.0);
    assert_eq!(again.1, 0, "all of them are known");
    joined.hub.check_settled();
}
