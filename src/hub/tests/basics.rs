//! The basics: publish, listen, read, and resume.

use super::*;
use crate::hub::memory::layout::{header, pair};

#[test]
fn published_events_are_read_without_the_lock() {
    let hub = roomy();
    let claim = hub.claim_slot().unwrap();
    let member = hub.join(claim, b"messages", at(1)).unwrap();
    let before = hub.head();
    let long = "x".repeat(3000);
    for data in ["one", "", "two\nlines", &long] {
        put(&hub, "messages", data, at(2));
    }
    let mut copied = EventCopy::default();
    let mut seen = Vec::new();
    for position in before + 1..=hub.head() {
        let descriptor = hub.descriptor(position).unwrap();
        assert_eq!(descriptor.channel, member.channel());
        assert!(hub.copy(descriptor, at(3), &mut copied));
        seen.push(text(&copied));
    }
    assert_eq!(seen, ["one", "", "two\nlines", &long]);
}

#[test]
fn the_type_and_id_of_an_event_are_retained() {
    let hub = roomy();
    let event = NewEvent { event_type: b"trade", data: b"5" };
    let done = hub.publish(b"c", &[event, event], None, at(5)).unwrap();
    let mut copied = EventCopy::default();
    for (position, id) in (1..).zip(&done.ids) {
        assert!(hub.copy(hub.descriptor(position).unwrap(), at(5), &mut copied));
        assert_eq!((copied.event_type(), copied.data()), (&b"trade"[..], &b"data: 5\n"[..]));
        assert_eq!(copied.id(&hub), *id);
    }
}

#[test]
fn a_client_receives_events_after_its_id() {
    let hub = roomy();
    let claim = hub.claim_slot().unwrap();
    let ids: Vec<Id> = (0..10).map(|i| put(&hub, "a", &i.to_string(), at(i))).collect();
    let member = hub.join(claim, b"a", at(20)).unwrap();
    assert_eq!(
        resumed(&hub, &[member], &ids[6].to_string(), at(20)),
        (0, vec!["7".into(), "8".into(), "9".into()])
    );
    assert_eq!(resumed(&hub, &[member], &ids[9].to_string(), at(20)), (0, vec![]));
    assert_eq!(resumed(&hub, &[member], "0-0-0", at(20)).0, 1);
    assert_eq!(resumed(&hub, &[member], "0-0-0", at(20)).1.len(), 10);
    assert_eq!(fresh(&hub, &[member], 2, at(20)), ["8", "9"]);
    assert!(fresh(&hub, &[member], 0, at(20)).is_empty());
}

#[test]
fn several_channels_are_merged() {
    let hub = roomy();
    let claim = hub.claim_slot().unwrap();
    let id = put(&hub, "a", "a0", at(0));
    for i in 1..6 {
        put(&hub, ["a", "b", "c"][i % 3], &i.to_string(), at(i as u64));
    }
    let members: Vec<Membership> =
        ["a", "b"].iter().map(|name| hub.join(claim, name.as_bytes(), at(9)).unwrap()).collect();
    assert_eq!(
        resumed(&hub, &members, &id.to_string(), at(9)),
        (0, vec!["1".into(), "3".into(), "4".into()])
    );
}

#[test]
fn a_key_publishes_once() {
    let hub = roomy();
    let first = hub.publish(b"a", &[event(b"1"), event(b"2")], Some(b"key"), at(0)).unwrap();
    let again = hub.publish(b"a", &[event(b"1"), event(b"2")], Some(b"key"), at(119_000)).unwrap();
    assert_eq!(first.ids, again.ids);
    let other = hub.publish(b"b", &[event(b"1")], Some(b"key"), at(119_000)).unwrap();
    assert_ne!(first.ids[..1], other.ids);
    let late = hub.publish(b"a", &[event(b"1")], Some(b"key"), at(121_000)).unwrap();
    assert_ne!(first.ids[..1], late.ids);
    assert_eq!(hub.stats().retained_events, 4);
}

#[test]
fn a_publish_reports_its_listeners_until_they_leave() {
    let hub = roomy();
    let (one, two) = (hub.claim_slot().unwrap(), hub.claim_slot());
    let member = hub.join(one, b"a", at(0)).unwrap();
    hub.set_streams(one, member, 5);
    let done = hub.publish(b"a", &[event(b"1")], None, at(0)).unwrap();
    assert_eq!((done.subscribers, done.listeners), (5, vec![one.slot]));
    assert!(two.is_some());
    hub.leave(member).unwrap();
    let done = hub.publish(b"a", &[event(b"1")], None, at(0)).unwrap();
    assert_eq!((done.subscribers, done.listeners), (0, vec![]));
}

#[test]
fn a_process_is_woken_once_until_it_clears_the_wakeup() {
    let hub = roomy();
    let claim = hub.claim_slot().unwrap();
    assert!(hub.needs_wakeup(claim.slot, at(0)));
    assert!(!hub.needs_wakeup(claim.slot, at(10)));
    assert!(hub.needs_wakeup(claim.slot, at(51)));
    hub.clear_wakeup(claim);
    assert!(hub.needs_wakeup(claim.slot, at(52)));
}

#[test]
#[cfg_attr(miri, ignore = "20,000 steps")]
fn a_small_zone_can_be_overwritten_any_number_of_times() {
    let hub = hub_of(Plan::minimum_bytes(8, 4096), 4096, 10, 0);
    let claim = hub.claim_slot().unwrap();
    let member = hub.join(claim, b"live", at(0)).unwrap();
    for i in 0..20_000u64 {
        let name = format!("{:>len$}", i % 300, len = (i % 200 + 3) as usize);
        let data = "y".repeat((i * 37 % 4000) as usize);
        put(&hub, &name, &data, at(i));
        if i % 500 == 0 {
            hub.check_settled();
        }
    }
    put(&hub, "live", "still", at(30_000));
    assert_eq!(fresh(&hub, &[member], 1, at(30_000)), ["still"]);
}

#[test]
fn a_hub_with_a_damaged_header_is_not_opened() {
    let hub = roomy();
    put(&hub, "a", "1", at(1));
    let damages = [
        (header::MAGIC, 0),
        (header::BLOCKS, 1 << 40),
        (header::BLOCKS, hub.layout.blocks as u64 * 2),
        (header::SLOTS, u64::MAX),
        (header::FREE, pair(u32::MAX, 1)),
        (header::FREE, pair(1, u32::MAX)),
        (header::FRESH, 0),
        (header::FRESH, hub.layout.blocks as u64 + 1),
        (header::HEAD, hub.region.get(header::RESERVED) + 1),
    ];
    for (word, value) in damages {
        let intact = hub.region.get(word);
        hub.region.set(word, value);
        assert_eq!(Hub::attach(hub.region.clone()).err(), Some(AttachError), "word {word}");
        hub.region.set(word, intact);
        assert!(Hub::attach(hub.region.clone()).is_ok());
    }
}

#[test]
fn a_hub_without_redis_has_no_connection() {
    assert_eq!(small(10).link(), RedisState::Off);
}
