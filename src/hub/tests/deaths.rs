//! A process dies before every store: the next owner of the lock finds the hub intact, and the
//! operation is complete or has not happened.

pub mod killed;

use std::panic::{catch_unwind, AssertUnwindSafe};

use super::*;
use killed::{kill_everywhere, long_name, name, read, restore, save, snapshot, Snapshot, CHANNELS};

/// Checks that the channels lost at most their oldest events.
fn only_oldest_left(before: &Snapshot, found: &Snapshot) {
    for (before, found) in before.channels.iter().zip(&found.channels) {
        assert!(before.ends_with(found), "{before:?} became {found:?}");
    }
}

/// Checks that the publish is complete, or the hub is as before, except for evicted events.
fn all_or_nothing(before: &Snapshot, found: &Snapshot, after: &Snapshot) {
    if found.head == before.head {
        only_oldest_left(before, found);
    } else {
        assert_eq!(found, after);
    }
}

/// Creates a hub with some events on each channel, a process in a slot, and free blocks that were
/// used before.
fn hub_with_events() -> (Hub, SlotClaim) {
    let hub = hub_of(64 << 10, 1024, 5, 1_000);
    for i in 0..20 {
        for channel in &CHANNELS[..3] {
            let data = format!("{channel}{i}{}.", "-".repeat(i * 17));
            hub.publish(&name(channel), &[event(data.as_bytes())], None, at(i as u64)).unwrap();
        }
    }
    hub.publish(b"gone", &[event(b"x.")], Some(b"old"), at(0)).unwrap();
    // Everything expires; then a few more events.
    while !hub.sweep(at(2_000)).unwrap().round {}
    for channel in ["a", "a", "a", "b", "long", "a", "b"] {
        hub.publish(&name(channel), &[event(b"again."), event(b"and again.")], None, at(2_001))
            .unwrap();
    }
    let claim = hub.claim_slot().unwrap();
    (hub, claim)
}

/// Creates a hub like `hub_with_events`, but without a free block.
fn full() -> (Hub, SlotClaim) {
    let (hub, claim) = hub_with_events();
    let data = "-".repeat(150) + ".";
    while hub.stats().counter(Counter::Evicted) < 5 {
        for channel in &CHANNELS[..3] {
            put_to(&hub, channel, &data);
        }
    }
    (hub, claim)
}

fn put_to(hub: &Hub, channel: &str, data: &str) {
    hub.publish(&name(channel), &[event(data.as_bytes())], None, at(2_002)).unwrap();
}

#[test]
fn publishing_one_event() {
    let (hub, _) = hub_with_events();
    let deaths = kill_everywhere(&hub, |hub| put_to(hub, "a", "new."), all_or_nothing);
    assert!(deaths > 20, "{deaths}");
}

#[test]
fn publishing_a_large_event() {
    let (hub, _) = hub_with_events();
    let data = "#".repeat(1_000) + ".";
    kill_everywhere(&hub, |hub| put_to(hub, "a", &data), all_or_nothing);
}

#[test]
fn publishing_a_batch() {
    let (hub, _) = hub_with_events();
    let long = "=".repeat(500) + ".";
    let batch = [event(b"1."), event(long.as_bytes()), event(b"3."), event(long.as_bytes())];
    let publish = |hub: &Hub| {
        hub.publish(b"b", &batch, None, at(2_002)).unwrap();
    };
    kill_everywhere(&hub, publish, all_or_nothing);
}

#[test]
fn publishing_on_a_new_channel() {
    let (hub, _) = hub_with_events();
    kill_everywhere(&hub, |hub| put_to(hub, "new", "first."), all_or_nothing);
    let (hub, _) = hub_with_events();
    let mut other = long_name();
    other[254] = b'!';
    let publish = |hub: &Hub| {
        hub.publish(&other, &[event(b"first.")], None, at(2_002)).unwrap();
    };
    kill_everywhere(&hub, publish, |before, found, after| {
        assert!(found.head == before.head || found == after);
    });
}

#[test]
fn publishing_with_a_key() {
    let (hub, _) = hub_with_events();
    let publish = |hub: &Hub, text: &[u8]| {
        hub.publish(b"a", &[event(text), event(b"two.")], Some(b"key"), at(2_002)).unwrap()
    };
    let deaths = kill_everywhere(
        &hub,
        |hub| {
            let first = publish(hub, b"one.");
            let head = hub.head();
            // The response was lost, so the publish is repeated, whatever the first one did.
            assert_eq!(publish(hub, b"other.").ids, first.ids);
            assert_eq!(hub.head(), head);
        },
        all_or_nothing,
    );
    assert!(deaths > 20, "{deaths}");
}

#[test]
fn publishing_that_drops_a_key() {
    let (hub, _) = hub_with_events();
    for key in 0..3u8 {
        hub.publish(b"b", &[event(b"k.")], Some(&[key]), at(2_002)).unwrap();
    }
    // All three have expired, and the first is used again.
    let publish = |hub: &Hub| {
        hub.publish(b"a", &[event(b"k.")], Some(&[1]), at(200_000)).unwrap();
    };
    kill_everywhere(&hub, publish, all_or_nothing);
}

#[test]
fn publishing_into_a_full_zone() {
    let (hub, _) = full();
    let data = "+".repeat(700) + ".";
    kill_everywhere(&hub, |hub| put_to(hub, "a", &data), all_or_nothing);
    let (hub, _) = full();
    kill_everywhere(&hub, |hub| put_to(hub, "new", &data), all_or_nothing);
}

#[test]
fn evictions_of_one_channel_down_to_nothing() {
    let (hub, _) = hub_with_events();
    let record = hub.lock().unwrap().find(b"a").unwrap();
    let evict = |hub: &Hub| {
        let guard = hub.lock().unwrap();
        while guard.events(record) > 0 {
            guard.evict(record, &mut Budget::for_hold());
        }
    };
    kill_everywhere(&hub, evict, |before, found, _| {
        assert_eq!(found.head, before.head);
        only_oldest_left(before, found);
        let last = found.channels[0].first().or(before.channels[0].last()).unwrap().0;
        let low_watermark = hub.low_watermark_of(b"a").position;
        assert!(low_watermark < last || found.channels[0].is_empty() && low_watermark == last);
        let lost = before.channels[0].len() - found.channels[0].len();
        assert!(lost == 0 || low_watermark == before.channels[0][lost - 1].0);
    });
}

#[test]
fn removing_a_channel_keeps_its_low_watermark() {
    let (hub, _) = hub_with_events();
    while !hub.sweep(at(9_000)).unwrap().round {}
    let low_watermark = hub.low_watermark_of(&long_name());
    assert!(low_watermark.position > 0);
    let forget = |hub: &Hub| {
        let guard = hub.lock().unwrap();
        if let Some(record) = guard.find(&long_name()) {
            guard.remove_record(record);
        }
    };
    kill_everywhere(&hub, forget, |before, found, _| {
        assert_eq!(found, before);
        assert!(hub.low_watermark_of(&long_name()) >= low_watermark);
    });
    assert!(!hub.knows(&long_name()) && hub.low_watermark_of(&long_name()) == low_watermark);
}

#[test]
fn ending_the_streams_of_a_channel() {
    let (hub, claim) = hub_with_events();
    let member = hub.join(claim, b"a", at(2_002)).unwrap();
    let end = |hub: &Hub| drop(hub.end_streams(b"a").unwrap().unwrap());
    kill_everywhere(&hub, end, |before, found, after| {
        let ended = hub.ended_at(member);
        assert_eq!(ended == found.head, found.head == after.head, "{ended}");
        assert!(
            found.head == before.head
                || hub.descriptor(ended).unwrap().signal() == Some(ControlEntry::End)
        );
        assert_eq!(found.channels, before.channels);
    });
}

#[test]
fn forgetting_the_events_of_a_channel() {
    let (hub, _) = hub_with_events();
    let forget = |hub: &Hub| {
        assert!(hub.forget_channel(b"a", at(2_002)).unwrap().is_some());
        assert!(hub.forget_channel(&long_name(), at(2_002)).unwrap().is_some());
        while hub.free_detached().unwrap() {}
    };
    let deaths = kill_everywhere(&hub, forget, |before, found, after| {
        assert_eq!(found.head, before.head);
        for channel in [0, 2] {
            let (before, found) = (&before.channels[channel], &found.channels[channel]);
            assert!(found.is_empty() || found == before, "{before:?} became {found:?}");
        }
        assert_eq!(found.channels[1], after.channels[1]);
    });
    assert!(deaths > 50, "{deaths}");
}

#[test]
fn forgetting_one_channel_hides_no_event_of_another() {
    let (hub, _) = hub_with_events();
    let others: Vec<_> = snapshot(&hub).channels[1..].concat();
    let saved = save(&hub);
    for deaths in 0.. {
        restore(&hub, &saved);
        hub.region.die_before(deaths);
        let forget = || {
            hub.forget_channel(b"a", at(2_002)).unwrap().unwrap();
            while hub.free_detached().unwrap() {}
        };
        let _died = catch_unwind(AssertUnwindSafe(forget));
        let is_alive = hub.region.defuse();
        // No process has taken the lock since, so the transaction may be half applied.
        for (position, text) in &others {
            assert_eq!(read(&hub, *position).as_ref(), Some(text), "{deaths}");
        }
        if is_alive {
            return;
        }
    }
}

#[test]
fn joining_and_leaving() {
    let (hub, claim) = hub_with_events();
    while !hub.sweep(at(9_000)).unwrap().round {}
    let same = |before: &Snapshot, found: &Snapshot, _: &Snapshot| assert_eq!(before, found);
    for channel in ["a", "long", "new"] {
        let join = |hub: &Hub| {
            let member = hub.join(claim, &name(channel), at(9_000)).unwrap();
            hub.set_streams(claim, member, 2);
            hub.leave(member).unwrap();
        };
        kill_everywhere(&hub, join, same);
    }
}

#[test]
fn a_process_may_die_while_it_clears_subscriptions_of_dead_processes() {
    let (hub, claim) = hub_with_events();
    for name in ["a", "b", "idle", "idle too"] {
        let member = hub.join(claim, name.as_bytes(), at(2_002)).unwrap();
        hub.set_streams(claim, member, 2);
    }
    let other = hub.claim_slot().unwrap();
    for name in ["a", "idle"] {
        hub.join(other, name.as_bytes(), at(2_002)).unwrap();
    }
    hub.release_slot(claim);
    let clear = |hub: &Hub| {
        // One process starts a round and others continue it, each in a hold of its own.
        while !hub.lock().unwrap().clear_all_void_pairs(&mut Budget::with_steps(7)) {}
        let guard = hub.lock().unwrap();
        let pairs = |record| guard.pair_words(record).filter(|at| guard.get(*at) != 0).count();
        let left =
            ["a", "b", "idle", "idle too"].map(|name| guard.find(name.as_bytes()).map(pairs));
        assert_eq!(left, [Some(1), Some(0), Some(1), Some(0)]);
    };
    kill_everywhere(&hub, clear, |before, found, _| assert_eq!(before, found));
}

#[test]
fn joining_by_more_than_a_record_holds() {
    let (hub, claim) = hub_with_events();
    let join = |hub: &Hub| {
        let members: Vec<Membership> =
            (0..5).map(|_| hub.join(claim, b"idle", at(9_000)).unwrap()).collect();
        for member in members.into_iter().rev() {
            hub.leave(member).unwrap();
        }
    };
    kill_everywhere(&hub, join, |before, found, _| assert_eq!(before, found));
}

#[test]
fn sweeping() {
    let (hub, claim) = hub_with_events();
    hub.join(claim, b"void", at(2_002)).unwrap();
    hub.join(claim, b"a", at(2_002)).unwrap();
    hub.release_slot(claim);
    let sweep = |hub: &Hub| while !hub.sweep(at(9_000)).unwrap().round {};
    kill_everywhere(&hub, sweep, |before, found, _| only_oldest_left(before, found));
    assert_eq!(hub.stats().retained_events, 0);
}

#[test]
fn changing_history() {
    let (hub, _) = hub_with_events();
    for history in [History { count: 2, age: 0 }, History { count: 50, age: 500 }] {
        let change = |hub: &Hub| hub.set_history(history, History::NONE).unwrap();
        let saved = save(&hub);
        for deaths in 0.. {
            restore(&hub, &saved);
            hub.region.die_before(deaths);
            let end = catch_unwind(AssertUnwindSafe(|| change(&hub)));
            if hub.region.defuse() {
                end.unwrap();
                break;
            }
            hub.check();
            // The next worker sets the same; the sweep does the rest.
            change(&hub);
            while !hub.sweep(at(2_003)).unwrap().round {}
            while !hub.sweep(at(2_003)).unwrap().round {}
            hub.check_settled();
        }
    }
}

/// Checks that a publish that finishes a run is complete, or the hub is as before.
fn finished_or_nothing(
    hub: &Hub,
    channel: &[u8],
    run: RunState,
) -> impl Fn(&Snapshot, &Snapshot, &Snapshot) {
    let (hub, channel) = (hub.clone(), channel.to_vec());
    move |before, found, after| {
        all_or_nothing(before, found, after);
        let state = hub.run_state_of(&channel);
        if found.head == before.head {
            assert_eq!((state.position, state.is_finished), (run.position, run.is_finished));
        } else {
            assert_eq!((state.position, state.is_finished), (found.head, true));
            let last = hub.retained(&channel).last().copied();
            assert_eq!(hub.run_ends(&channel).last().copied(), last);
        }
    }
}

#[test]
fn finishing_a_run() {
    let (hub, _) = hub_with_events();
    for (channel, texts) in [
        (&b"a"[..], &[][..]),
        (b"a", &["last."]),
        (b"b", &["last but one.", "last."]),
        (b"new", &[]),
        (b"new", &["only."]),
    ] {
        let (saved, run) = (save(&hub), hub.run_state_of(channel));
        let events: Vec<_> = texts.iter().map(|text| event(text.as_bytes())).collect();
        let finish = |hub: &Hub| {
            // A repetition after a death must not append the events again.
            hub.publish_and_finish(channel, &events, Some(b"key"), at(2_002)).unwrap();
        };
        let deaths = kill_everywhere(&hub, finish, finished_or_nothing(&hub, channel, run));
        assert!(deaths > 20, "{deaths}");
        restore(&hub, &saved);
    }
}

#[test]
fn finishing_a_run_without_a_key() {
    let (hub, _) = hub_with_events();
    let run = hub.run_state_of(b"a");
    let finish = |hub: &Hub| drop(hub.publish_and_finish(b"a", &[], None, at(2_002)).unwrap());
    kill_everywhere(&hub, finish, finished_or_nothing(&hub, b"a", run));
}

#[test]
fn publishing_after_a_finish() {
    let (hub, _) = hub_with_events();
    hub.publish_and_finish(b"a", &[], None, at(2_002)).unwrap();
    let run = hub.run_state_of(b"a");
    kill_everywhere(
        &hub,
        |hub| put_to(hub, "a", "new."),
        |before, found, after| {
            all_or_nothing(before, found, after);
            let has_begun = found.head > before.head;
            let expected = RunState { is_finished: !has_begun, ..run };
            assert_eq!(hub.run_state_of(b"a"), expected);
        },
    );
}
