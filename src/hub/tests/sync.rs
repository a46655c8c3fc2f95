//! The sync state of channels: what is known of a channel, what is missing, which process may
//! write, and which streams wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::connected_hub::{connected_hub, connected_hub_of, id, incoming, up_to, ConnectedHub};
use super::*;

/// Returns all parts of a walk through the channel table.
fn all_slices(look: impl Fn(usize) -> (Vec<Vec<u8>>, Option<usize>)) -> Vec<Vec<u8>> {
    let (mut all, mut from) = (Vec::new(), Some(0));
    while let Some(bucket) = from {
        let (some, next) = look(bucket);
        all.extend(some);
        from = next;
    }
    all
}

fn subscribed(setup: &ConnectedHub) -> Vec<Vec<u8>> {
    all_slices(|from| setup.hub.subscribed_channels(from).unwrap())
}

fn joined_by_holder(setup: &ConnectedHub) -> Vec<Vec<u8>> {
    all_slices(|from| setup.hub.joined_by(setup.holder.slot, from).unwrap())
}

fn known(setup: &ConnectedHub, member: Membership) -> SyncState {
    setup.hub.sync_state(member).unwrap()
}

#[test]
fn nothing_is_known_of_a_new_channel_and_its_history_starts_where_that_of_redis_does() {
    let setup = connected_hub();
    let a = setup.listen("a");
    let member = setup.subscribe_only("a");
    assert_eq!(known(&setup, member), SyncState::Nothing);
    setup.catch_up("a", member, &[100, 200], up_to(90));
    assert_eq!(setup.resumed(&[a], "80-0"), (true, "100 200".into()));
    assert_eq!(setup.resumed(&[a], "90-0"), (false, "100 200".into()));
    setup.hub.check_settled();
}

#[test]
fn a_channel_that_was_left_is_known_up_to_its_newest_event() {
    let setup = connected_hub();
    let mine = setup.listen("a");
    let member = setup.subscribe_only("a");
    setup.catch_up("a", member, &[100], Loss::Nothing);
    setup.subscribe("b", &[], Loss::Nothing);
    setup.hub.leave(mine).unwrap();
    assert!(setup.hub.leave_unsubscribed(setup.token, member).unwrap());
    setup.live("b", 300);
    let a = setup.listen("a");
    let member = setup.subscribe_only("a");
    assert_eq!(known(&setup, member), SyncState::Left(id(100).into()));
    setup.catch_up("a", member, &[150, 250], Loss::Nothing);
    // Their own ids, though the high watermark is above them, so that clients from elsewhere are
    // served exactly.
    assert_eq!(setup.resumed(&[a], "150-0"), (false, "250".into()));
    assert_eq!(setup.last_id("a"), "250-0");
    setup.hub.check_settled();
}

#[test]
fn a_plain_message_implies_everything_up_to_its_high_watermark() {
    let setup = connected_hub();
    setup.subscribe("b", &[], Loss::Nothing);
    setup.subscribe("a", &[], Loss::Nothing);
    setup.live("b", 300);
    setup.plain("a", "p");
    let member = setup.subscribe_only("a");
    setup.connect();
    assert_eq!(known(&setup, member), SyncState::Interrupted(id(300).into()));
}

#[test]
fn after_an_interruption_missed_events_keep_their_ids() {
    let setup = connected_hub();
    let a = setup.subscribe("a", &[], Loss::Nothing);
    let b = setup.subscribe("b", &[], Loss::Nothing);
    setup.live("a", 100);
    setup.live("b", 110);
    setup.connect();
    let members = ["a", "b"].map(|name| setup.subscribe_only(name));
    assert!(!setup.hub.in_sync(&[a]));
    assert_eq!(known(&setup, members[0]), SyncState::Interrupted(id(100).into()));
    setup.catch_up("a", members[0], &[200], Loss::Nothing);
    assert!(setup.hub.in_sync(&[a]) && !setup.hub.in_sync(&[a, b]));
    // Streams of both wait until both are in sync, so the event keeps its id.
    setup.catch_up("b", members[1], &[150], Loss::Nothing);
    assert!(setup.hub.in_sync(&[a, b]));
    assert_eq!(setup.resumed(&[a, b], "140-0"), (false, "150 200".into()));
    assert_eq!((setup.last_id("b"), setup.last_id("a")), ("150-0".into(), "200-0".into()));
    setup.hub.check_settled();
}

#[test]
fn an_interrupted_channel_stays_so_until_it_is_left_or_caught_up() {
    let setup = connected_hub();
    let a = setup.subscribe("a", &[], Loss::Nothing);
    let b = setup.subscribe("b", &[], Loss::Nothing);
    setup.live("a", 100);
    let member = setup.subscribe_only("a");
    setup.hub.interrupt(setup.token, member).unwrap();
    assert!(!setup.hub.in_sync(&[a]));
    // Whatever happens to the connection, and to all other channels.
    for _ in 0..2 {
        setup.connect();
        setup.hub.settled(setup.token).unwrap();
        assert!(!setup.hub.in_sync(&[a]));
        assert_eq!(known(&setup, member), SyncState::Interrupted(id(100).into()));
    }
    let other = setup.subscribe_only("b");
    setup.catch_up("b", other, &[], Loss::Nothing);
    setup.live("b", 200);
    setup.catch_up("a", member, &[150], Loss::Nothing);
    assert!(setup.hub.in_sync(&[a, b]));
    assert_eq!(setup.resumed(&[a, b], "140-0"), (false, "150 200".into()));
    setup.hub.interrupt(setup.token, member).unwrap();
    setup.hub.leave(a).unwrap();
    assert!(setup.hub.leave_unsubscribed(setup.token, member).unwrap());
    let member = setup.subscribe_only("a");
    assert!(matches!(known(&setup, member), SyncState::Left(_)));
    setup.hub.check_settled();
}

#[test]
fn a_fenced_holder_cannot_write() {
    let setup = connected_hub();
    let a = setup.subscribe("a", &[100], Loss::Nothing);
    let member = setup.subscribe_only("a");
    let (hub, old) = (&setup.hub, setup.token);
    let held = hub.try_succeed().unwrap();
    let next = hub.take_fencing_token(hub.claim_slot().unwrap(), at(0)).unwrap();
    let before: Vec<u64> = (0..hub.region.size()).map(|at| hub.region.get(at)).collect();
    let arrivals = [
        Provenance::Plain,
        Provenance::Live(id(500).into()),
        Provenance::Missed(id(500).into()),
        Provenance::Earlier(id(500).into()),
    ]
    .map(|provenance| incoming("a", provenance, "x", 0));
    let known = SyncState::Interrupted(id(100).into());
    let fenced = Err(LeaseError::Fenced);
    for incoming in arrivals {
        assert_eq!(hub.ingest(old, &[incoming], at(0)).err(), Some(LeaseError::Fenced));
    }
    assert_eq!(hub.new_epoch(old, id(0)), fenced);
    assert_eq!(hub.set_link(old, RedisState::Down), fenced);
    assert_eq!(hub.record_loss(old, member, up_to(400)), fenced);
    assert_eq!(hub.caught_up(old, member, known, up_to(400)), Err(LeaseError::Fenced));
    assert_eq!(hub.interrupt(old, member), Err(LeaseError::Fenced));
    assert_eq!(hub.leave_unsubscribed(old, member), Err(LeaseError::Fenced));
    assert_eq!(hub.retire(old), fenced);
    assert_eq!(hub.freeze(old, 5), fenced);
    assert_eq!(hub.marker_was_read(old, 5), fenced);
    assert_eq!(hub.forget_successor(old, &held), fenced);
    let lock = layout::header::LOCK..=layout::header::HOLD;
    let after = (0..hub.region.size()).map(|at| hub.region.get(at));
    let changed = before
        .iter()
        .zip(after)
        .zip(0..)
        .filter(|((old, new), at)| *old != new && !lock.contains(at));
    assert_eq!(changed.count(), 0);
    assert!(hub.in_sync(&[a]));
    hub.new_epoch(next, id(0)).unwrap();
    assert!(!hub.in_sync(&[a]));
}

#[test]
fn a_channel_is_in_sync_only_while_redis_is_connected() {
    let setup = connected_hub();
    let a = setup.subscribe("a", &[], Loss::Nothing);
    let own = setup.hub.join(setup.worker, b"sse.status", at(0)).unwrap();
    assert!(setup.hub.in_sync(&[a, own]) && setup.hub.may_sync_soon());
    for (link, near) in
        [(RedisState::Connecting, true), (RedisState::Down, false), (RedisState::Up, true)]
    {
        setup.hub.set_link(setup.token, link).unwrap();
        assert_eq!(setup.hub.link(), link);
        assert_eq!(setup.hub.in_sync(&[a]), link == RedisState::Up);
        assert_eq!(setup.hub.may_sync_soon(), near);
        assert!(setup.hub.in_sync(&[own]));
    }
    setup.connect();
    assert!(!setup.hub.in_sync(&[a]));
    assert_eq!(setup.hub.request_sync(own).unwrap(), None);
}

#[test]
fn the_holder_is_asked_to_sync_a_channel_once() {
    let setup = connected_hub();
    let a = setup.listen("a");
    assert_eq!(setup.hub.request_sync(a).unwrap(), Some(setup.holder.slot));
    let signal = setup.hub.descriptor(setup.hub.head()).unwrap();
    assert_eq!(signal.signal(), Some(ControlEntry::Wanted));
    assert_eq!(setup.hub.requested_name(signal.channel).unwrap().unwrap(), b"a");
    assert_eq!(subscribed(&setup), [b"a".to_vec()]);
    assert!(joined_by_holder(&setup).is_empty());
    let member = setup.subscribe_only("a");
    setup.catch_up("a", member, &[], Loss::Nothing);
    assert_eq!(setup.hub.request_sync(a).unwrap(), None);
    assert_eq!(joined_by_holder(&setup), [b"a".to_vec()]);
    setup.hub.leave(a).unwrap();
    assert!(subscribed(&setup).is_empty());
    for block in [0, member.channel() + 1, u32::MAX] {
        assert_eq!(setup.hub.requested_name(block).unwrap(), None, "{block}");
    }
}

#[test]
fn the_synced_entry_is_visible_only_after_the_channel_is_in_sync() {
    let channels = if cfg!(miri) { 5 } else { 500 };
    let setup = connected_hub();
    let members: Vec<Membership> =
        (0..channels).map(|i| setup.subscribe_only(&i.to_string())).collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (reader, over, members) = (setup.hub.clone(), &over, &members);
        scope.spawn(move || {
            let (mut read, mut steps) = (0, 0);
            while !over.load(Ordering::SeqCst) || read < reader.head() {
                if read == reader.head() {
                    std::hint::spin_loop();
                    continue;
                }
                read += 1;
                let Some(found) = reader.descriptor(read) else { continue };
                if found.signal() == Some(ControlEntry::Step) {
                    assert!(reader.in_sync(&members[steps..=steps]));
                    steps += 1;
                }
            }
            assert_eq!(steps, channels);
        });
        for member in members {
            let known = SyncState::Nothing;
            patiently(|| setup.hub.caught_up(setup.token, *member, known, Loss::Nothing));
        }
        over.store(true, Ordering::SeqCst);
    });
}

#[test]
fn joining_a_channel_that_the_holder_leaves_requests_a_sync() {
    let rounds = if cfg!(miri) { 5 } else { 1_500 };
    let setup = connected_hub();
    let hub = &setup.hub;
    for round in 0..rounds {
        let name = format!("c{}", round % 7);
        let member = setup.subscribe_only(&name);
        let known = hub.sync_state(member).unwrap();
        hub.caught_up(setup.token, member, known, Loss::Nothing).unwrap();
        let (left, (mine, in_sync, wanted)) = thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let mine = patiently(|| hub.join(setup.worker, name.as_bytes(), at(0)));
                hub.set_streams(setup.worker, mine, 1);
                let in_sync = hub.in_sync(&[mine]);
                (mine, in_sync, !in_sync && patiently(|| hub.request_sync(mine)).is_some())
            });
            let left = patiently(|| hub.leave_unsubscribed(setup.token, member));
            (left, worker.join().unwrap())
        });
        // A process that saw it in sync is counted, and the holder stays. Otherwise it requests a
        // sync.
        assert!(if left { wanted } else { in_sync != wanted }, "{left} {in_sync} {wanted}");
        hub.leave(mine).unwrap();
        if !left {
            hub.leave_unsubscribed(setup.token, member).unwrap();
        }
    }
    hub.check_settled();
}

#[test]
fn only_redis_issues_ids_in_a_hub_that_uses_it() {
    let setup = connected_hub_of(1 << 18, Source::Streams, 10, 0);
    setup.subscribe("a", &[], Loss::Nothing);
    assert_eq!(setup.hub.own_kind(), Kind::Placed);
    setup.live("a", 100);
    let status = event(b"{}");
    let ids = setup.hub.publish_own(b"sse.status", status, at(5)).unwrap().ids;
    assert_eq!(ids[0].to_string(), format!("100-0-7-{}", setup.hub.head()));
    assert_eq!(setup.hub.high_watermark().unwrap(), id(100));
}

#[test]
fn requesting_a_sync_of_a_channel_that_the_holder_has_joined_adds_no_entry() {
    let setup = connected_hub();
    let a = setup.listen("a");
    assert_eq!(setup.hub.request_sync(a).unwrap(), Some(setup.holder.slot));
    let member = setup.subscribe_only("a");
    let head = setup.hub.head();
    for _ in 0..10_000 {
        assert_eq!(setup.hub.request_sync(a).unwrap(), None);
    }
    assert_eq!(setup.hub.head(), head);
    setup.hub.leave(member).unwrap();
    assert_eq!(setup.hub.request_sync(a).unwrap(), Some(setup.holder.slot));
}

#[test]
fn what_arrives_through_a_pattern_does_not_make_a_channel_available_or_unavailable() {
    let setup = connected_hub();
    let [a, b] = ["a", "b"].map(|name| setup.listen(name));
    setup.hub.set_unavailable(setup.token, b"b").unwrap();
    for name in ["a", "b"] {
        for _ in 0..2 {
            setup.ingest(name, Provenance::Strayed(None), "x");
        }
    }
    assert!(setup.hub.are_catching_up(&[a]) && !setup.hub.are_catching_up(&[b]));
}
