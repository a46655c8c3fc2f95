//! The guarantees that a full zone gives to its channels.

use super::*;
use crate::hub::memory::layout::{event as event_words, header, pair};

fn blocks(hub: &Hub) -> usize {
    hub.layout.blocks
}

#[test]
fn owed_events_of_quiet_channels_survive_a_flood_of_ten_zones() {
    let hub = small(10);
    for i in 0..12 {
        put(&hub, "quiet", &i.to_string(), at(0));
        put(&hub, "other", &i.to_string(), at(0));
    }
    for i in 0..10 * blocks(&hub) {
        put(&hub, "flood", &i.to_string(), at(0));
    }
    hub.check_settled();
    let owed: Vec<u64> = hub.retained(b"quiet");
    assert!(owed.len() >= 10, "{owed:?}");
    assert!(hub.retained(b"other").len() >= 10);
    assert!(hub.retained(b"flood").len() > blocks(&hub) / 2);
}

#[test]
fn a_flood_of_owed_events_takes_nothing_from_channels_that_hold_less_than_half() {
    // Everything is owed, so only the channel that holds most may lose an event.
    let hub = small(1_000_000);
    let middle = blocks(&hub) / 4;
    for i in 0..middle {
        put(&hub, "middle", &i.to_string(), at(0));
    }
    put(&hub, "small", "1", at(0));
    for i in 0..3 * blocks(&hub) {
        put(&hub, "flood", &i.to_string(), at(0));
    }
    hub.check_settled();
    assert_eq!(hub.retained(b"middle").len(), middle);
    assert_eq!(hub.retained(b"small").len(), 1);
}

#[test]
fn the_channel_that_loses_events_first_has_at_least_half_as_many_blocks_as_any_other() {
    let hub = small(1_000_000);
    let names: Vec<String> = (0..8).map(|i| format!("c{i}")).collect();
    let mut held = vec![0; names.len()];
    for i in 0..6 * blocks(&hub) {
        // Channels of very different sizes, all growing.
        let n = (i * i + i / 7) % 64;
        let channel = (usize::BITS - n.leading_zeros()) as usize;
        let Some(name) = names.get(channel) else { continue };
        put(&hub, name, "x", at(0));
        if i % 50 == 0 {
            let now: Vec<usize> =
                names.iter().map(|name| hub.retained(name.as_bytes()).len()).collect();
            let most = now.iter().max().copied().unwrap_or(0);
            for (now, before) in now.iter().zip(&held) {
                assert!(now >= before || now * 2 + 100 >= most, "{now} of {most}");
            }
            held = now;
        }
    }
    assert!(hub.stats().counter(Counter::Evicted) > 0);
}

#[test]
fn idle_channels_are_removed_before_owed_events_are_evicted() {
    let hub = small(1_000_000);
    for i in 0..blocks(&hub) / 2 {
        put(&hub, "owed", &i.to_string(), at(0));
    }
    let claim = hub.claim_slot().unwrap();
    let idle = |i: usize| format!("idle{i}");
    let left = blocks(&hub) - blocks(&hub) / 2 - 10;
    for i in 0..left {
        let member = hub.join(claim, idle(i).as_bytes(), at(0)).unwrap();
        hub.leave(member).unwrap();
    }
    for i in 0..100 {
        put(&hub, "owed", &i.to_string(), at(0));
    }
    hub.check_settled();
    assert_eq!(hub.stats().counter(Counter::Evicted), 0);
    assert_eq!(hub.retained(b"owed").len(), blocks(&hub) / 2 + 100);
    // The longest idle channel was removed first.
    assert!(!hub.knows(idle(0).as_bytes()) && hub.knows(idle(left - 1).as_bytes()));
}

#[test]
fn surplus_is_evicted_in_turn() {
    let hub = small(10);
    for i in 0..200 {
        put(&hub, "a", &i.to_string(), at(0));
        put(&hub, "b", &i.to_string(), at(0));
    }
    let mut i = 0;
    while hub.stats().counter(Counter::Evicted) < 100 {
        put(&hub, "c", &i.to_string(), at(0));
        i += 1;
    }
    let given = |channel: &[u8]| 200 - hub.retained(channel).len();
    assert!(given(b"a").abs_diff(given(b"b")) <= 1);
    assert!(given(b"a") >= 30, "{}", given(b"a"));
}

#[test]
fn an_event_that_fits_an_empty_zone_is_never_rejected() {
    let hub = hub_of(Plan::minimum_bytes(8, 4096), 4096, 10, 0);
    let long = |i: usize| format!("{i:0>255}");
    for i in 0..300 {
        let key = i.to_string();
        let new = [event(b"x")];
        hub.publish(long(i).as_bytes(), &new, Some(key.as_bytes()), at(0)).unwrap();
    }
    let claim = hub.claim_slot().unwrap();
    for i in 0..200 {
        let member = hub.join(claim, long(1_000 + i).as_bytes(), at(0)).unwrap();
        hub.leave(member).unwrap();
    }
    // All blocks but those of its channel, of its key, and block 0.
    let room = blocks(&hub) - 1 - 3 - 1;
    let per_event = 4 * 128 - 40;
    let data = vec![b'z'; per_event - 7];
    let batch = vec![event(&data); room / 4];
    let name = long(5_000);
    hub.publish(name.as_bytes(), &batch, Some(b"k"), at(0)).unwrap();
    hub.check_settled();
    assert_eq!(hub.retained(name.as_bytes()).len(), room / 4);
    // And again, when all of it belongs to the channel that needs memory.
    hub.publish(name.as_bytes(), &batch, Some(b"l"), at(0)).unwrap();
    hub.check_settled();
}

#[test]
fn a_publish_that_can_never_fit_evicts_nothing() {
    let hub = hub_of(Plan::minimum_bytes(8, 4096), 4096, 10, 0);
    let claim = hub.claim_slot().unwrap();
    // Channels with subscribers cannot be removed, so they count as well.
    for i in 0..blocks(&hub) / 2 {
        hub.join(claim, format!("live{i}").as_bytes(), at(0)).unwrap();
    }
    for i in 0..10 {
        put(&hub, "a", &i.to_string(), at(0));
    }
    let data = [b'z'; 4000];
    let batch = vec![event(&data); blocks(&hub) / 2 / 32 + 1];
    assert_eq!(hub.publish(b"b", &batch, None, at(0)), Err(PublishError::NoRoom));
    assert_eq!(hub.retained(b"a").len(), 10);
    hub.check_settled();
    let fits = vec![event(&data); blocks(&hub) / 2 / 32 - 1];
    hub.publish(b"b", &fits, None, at(0)).unwrap();
}

#[test]
fn channels_with_listeners_are_never_removed() {
    let hub = hub_of(Plan::minimum_bytes(8, 4096), 4096, 1, 0);
    let claim = hub.claim_slot().unwrap();
    let mut joined = Vec::new();
    let full = loop {
        match hub.join(claim, format!("c{}", joined.len()).as_bytes(), at(0)) {
            Ok(member) => joined.push(member),
            Err(error) => break error,
        }
    };
    assert_eq!(full, JoinError::Full);
    assert_eq!(joined.len(), blocks(&hub) - 1);
    assert_eq!(hub.publish(b"c5", &[event(b"")], None, at(0)), Err(PublishError::NoRoom));
    hub.check_settled();
    hub.leave(joined[5]).unwrap();
    assert!(hub.knows(b"c5"));
    put(&hub, "c6", "x", at(0));
    assert!(!hub.knows(b"c5"));
    hub.check_settled();
}

#[test]
fn channels_of_dead_processes_can_be_removed_at_once() {
    let hub = hub_of(Plan::minimum_bytes(8, 4096), 4096, 1, 0);
    let claim = hub.claim_slot().unwrap();
    let names = (0..).map(|i| format!("c{i}"));
    for name in names.take_while(|name| hub.join(claim, name.as_bytes(), at(0)).is_ok()) {
        drop(name);
    }
    hub.release_slot(claim);
    put(&hub, "new", &"x".repeat(4_000), at(0));
    hub.check_settled();
}

#[test]
fn an_empty_batch_changes_nothing() {
    let hub = small(1);
    for key in [None, Some(&b"key"[..])] {
        assert!(hub.publish(b"a", &[], key, at(1)).unwrap().ids.is_empty());
    }
    put(&hub, "a", "1", at(2));
    assert!(hub.publish(b"a", &[], None, at(3)).unwrap().ids.is_empty());
    assert_eq!(hub.head(), 1);
    hub.check_settled();
}

#[test]
fn a_torn_length_is_never_followed() {
    let hub = small(1);
    put(&hub, "a", "1", at(0));
    let found = hub.descriptor(1).unwrap();
    let guard = hub.lock().unwrap();
    let record = guard.find(b"a").unwrap();
    let block = guard.word(record, layout::channel::EVENTS) as u32;
    // What a reader may find while the block is reused: any words at all.
    hub.region.set(hub.layout.block(block, event_words::OWNER), pair(record, 4097));
    hub.region.set(hub.layout.next(block), u64::from(block));
    let mut copied = EventCopy::default();
    assert!(!hub.copy(found, at(0), &mut copied));
    hub.region.set(hub.layout.block(block, event_words::OWNER), pair(record, 400));
    for next in [0, u64::MAX, hub.layout.blocks as u64] {
        hub.region.set(hub.layout.next(block), next);
        assert!(!hub.copy(found, at(0), &mut copied));
    }
}

#[test]
fn bucket_collisions_are_not_predictable() {
    // Ids contain the tag, so the hash must not depend on it alone.
    let hashes = [small(1), small(1)].map(|hub| hub.lock().unwrap().hash(b"name"));
    assert_ne!(hashes[0], hashes[1]);
}

#[test]
fn counters_of_the_zone_are_exact() {
    let hub = small(10);
    assert_eq!(hub.stats().zone_used_bytes, 0);
    put(&hub, "a", &"x".repeat(1_000), at(0));
    let stats = hub.stats();
    assert_eq!(
        (stats.channels, stats.retained_events, stats.counter(Counter::EventsIn)),
        (1, 1, 1)
    );
    // A record, and 1,007 bytes after a head of 40: nine blocks.
    assert_eq!(stats.zone_used_bytes, 10 * 128);
    assert_eq!(hub.region.get(header::FRESH), 11);
}

#[test]
fn events_that_arrive_while_older_ones_are_deleted_are_retained() {
    let hub = roomy();
    put(&hub, "a", "old", at(0));
    let position = hub.head();
    let holds = || layout::low(hub.region.get(layout::header::HOLD));
    let before = holds();
    hub.forget_up_to(b"a", position, at(0)).unwrap();
    // Nothing can come between looking and deleting: they are one hold of the lock.
    assert_eq!((holds() - before, hub.retained(b"a").len()), (1, 0));
    put(&hub, "a", "new", at(0));
    hub.forget_up_to(b"a", position, at(0)).unwrap();
    assert_eq!(hub.retained(b"a").len(), 1);
    hub.check_settled();
}
