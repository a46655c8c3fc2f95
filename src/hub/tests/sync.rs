//! The sync state of channels: what is known of a channel, what is missing, who may write, and
//! which streams wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::lease::{id, incoming, joined, joined_of, up_to, Joined};
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

fn heard(joined: &Joined) -> Vec<Vec<u8>> {
    all_slices(|from| joined.hub.subscribed_channels(from).unwrap())
}

fn joined_by_holder(joined: &Joined) -> Vec<Vec<u8>> {
    all_slices(|from| joined.hub.joined_by(joined.holder.slot, from).unwrap())
}

fn known(joined: &Joined, member: Membership) -> SyncState {
    joined.hub.sync_state(member).unwrap()
}

#[test]
fn of_a_fresh_channel_nothing_is_known_and_its_history_begins_where_redis_has_it() {
    let joined = joined();
    let a = joined.listen("a");
    let member = joined.subscribe_only("a");
    assert_eq!(known(&joined, member), SyncState::Nothing);
    joined.catch_up("a", member, &[100, 200], up_to(90));
    assert_eq!(joined.resumed(&[a], "80-0"), (true, "100 200".into()));
    assert_eq!(joined.resumed(&[a], "90-0"), (false, "100 200".into()));
    joined.hub.check_settled();
}

#[test]
fn a_channel_that_was_left_is_known_up_to_its_newest() {
    let joined = joined();
    let mine = joined.listen("a");
    let member = joined.subscribe_only("a");
    joined.catch_up("a", member, &[100], Loss::Nothing);
    joined.subscribe("b", &[], Loss::Nothing);
    joined.hub.leave(mine).unwrap();
    assert!(joined.hub.leave_unsubscribed(joined.token, member).unwrap());
    joined.live("b", 300);
    let a = joined.listen("a");
    let member = joined.subscribe_only("a");
    assert_eq!(known(&joined, member), SyncState::Left(id(100).into()));
    joined.catch_up("a", member, &[150, 250], Loss::Nothing);
    // Their own ids, though the high watermark is above them, so that clients from elsewhere are
    // served exactly.
    assert_eq!(joined.resumed(&[a], "150-0"), (false, "250".into()));
    assert_eq!(joined.last_id("a"), "250-0");
    joined.hub.check_settled();
}

#[test]
fn a_plain_message_implies_everything_up_to_its_high_watermark() {
    let joined = joined();
    joined.subscribe("b", &[], Loss::Nothing);
    joined.subscribe("a", &[], Loss::Nothing);
    joined.live("b", 300);
    joined.plain("a", "p");
    let member = joined.subscribe_only("a");
    joined.connect();
    assert_eq!(known(&joined, member), SyncState::Interrupted(id(300).into()));
}

#[test]
fn after_an_interruption_what_was_missed_is_placed_behind_what_was_had() {
    let joined = joined();
    let a = joined.subscribe("a", &[], Loss::Nothing);
    let b = joined.subscribe("b", &[], Loss::Nothing);
    joined.live("a", 100);
    joined.live("b", 110);
    joined.connect();
    let members = ["a", "b"].map(|name| joined.subscribe_only(name));
    assert!(!joined.hub.in_sync(&[a]));
    assert_eq!(known(&joined, members[0]), SyncState::Interrupted(id(100).into()));
    joined.catch_up("a", members[0], &[200], Loss::Nothing);
    assert!(joined.hub.in_sync(&[a]) && !joined.hub.in_sync(&[a, b]));
    // Too late for its id: streams of both have received 200.
    joined.catch_up("b", members[1], &[150], Loss::Nothing);
    assert!(joined.hub.in_sync(&[a, b]));
    assert_eq!(joined.resumed(&[a, b], "200-0"), (false, "150".into()));
    joined.hub.check_settled();
}

#[test]
fn an_interrupted_channel_stays_so_until_it_is_left_or_caught_up() {
    let joined = joined();
    let a = joined.subscribe("a", &[], Loss::Nothing);
    let b = joined.subscribe("b", &[], Loss::Nothing);
    joined.live("a", 100);
    let member = joined.subscribe_only("a");
    joined.hub.set_out_of_sync(joined.token, member).unwrap();
    assert!(!joined.hub.in_sync(&[a]));
    // Whatever happens to the connection, and to all other channels.
    for _ in 0..2 {
        joined.connect();
        joined.hub.settled(joined.token).unwrap();
        assert!(!joined.hub.in_sync(&[a]));
        assert_eq!(known(&joined, member), SyncState::Interrupted(id(100).into()));
    }
    let other = joined.subscribe_only("b");
    joined.catch_up("b", other, &[], Loss::Nothing);
    joined.live("b", 200);
    joined.catch_up("a", member, &[150], Loss::Nothing);
    assert!(joined.hub.in_sync(&[a, b]));
    // Its streams have received 200, so the event is placed after that.
    assert_eq!(joined.resumed(&[a, b], "200-0"), (false, "150".into()));
    joined.hub.set_out_of_sync(joined.token, member).unwrap();
    joined.hub.leave(a).unwrap();
    assert!(joined.hub.leave_unsubscribed(joined.token, member).unwrap());
    let member = joined.subscribe_only("a");
    assert!(matches!(known(&joined, member), SyncState::Left(_)));
    joined.hub.check_settled();
}

#[test]
fn a_fenced_holder_cannot_write() {
    let joined = joined();
    let a = joined.subscribe("a", &[100], Loss::Nothing);
    let member = joined.subscribe_only("a");
    let (hub, old) = (&joined.hub, joined.token);
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
    assert_eq!(hub.new_epoch(old), fenced);
    assert_eq!(hub.set_link(old, RedisState::Down), fenced);
    assert_eq!(hub.record_loss(old, member, up_to(400)), fenced);
    assert_eq!(hub.caught_up(old, member, known, up_to(400)), Err(LeaseError::Fenced));
    assert_eq!(hub.set_out_of_sync(old, member), fenced);
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
    hub.new_epoch(next).unwrap();
    assert!(!hub.in_sync(&[a]));
}

#[test]
fn a_channel_is_in_sync_only_while_redis_is_connected() {
    let joined = joined();
    let a = joined.subscribe("a", &[], Loss::Nothing);
    let own = joined.hub.join(joined.worker, b"sse.status", at(0)).unwrap();
    assert!(joined.hub.in_sync(&[a, own]) && joined.hub.may_sync_soon());
    for (link, near) in
        [(RedisState::Connecting, true), (RedisState::Down, false), (RedisState::Up, true)]
    {
        joined.hub.set_link(joined.token, link).unwrap();
        assert_eq!(joined.hub.link(), link);
        assert_eq!(joined.hub.in_sync(&[a]), link == RedisState::Up);
        assert_eq!(joined.hub.may_sync_soon(), near);
        assert!(joined.hub.in_sync(&[own]));
    }
    joined.connect();
    assert!(!joined.hub.in_sync(&[a]));
    assert_eq!(joined.hub.request_sync(own).unwrap(), None);
}

#[test]
fn the_holder_is_asked_to_sync_a_channel_once() {
    let joined = joined();
    let a = joined.listen("a");
    assert_eq!(joined.hub.request_sync(a).unwrap(), Some(joined.holder.slot));
    let signal = joined.hub.descriptor(joined.hub.head()).unwrap();
    assert_eq!(signal.signal(), Some(ControlEntry::Wanted));
    assert_eq!(joined.hub.requested_name(signal.channel).unwrap().unwrap(), b"a");
    assert_eq!(heard(&joined), [b"a".to_vec()]);
    assert!(joined_by_holder(&joined).is_empty());
    let member = joined.subscribe_only("a");
    joined.catch_up("a", member, &[], Loss::Nothing);
    assert_eq!(joined.hub.request_sync(a).unwrap(), None);
    assert_eq!(joined_by_holder(&joined), [b"a".to_vec()]);
    joined.hub.leave(a).unwrap();
    assert!(heard(&joined).is_empty());
    for block in [0, member.channel() + 1, u32::MAX] {
        assert_eq!(joined.hub.requested_name(block).unwrap(), None, "{block}");
    }
}

#[test]
fn the_synced_entry_is_visible_only_after_the_channel_is_in_sync() {
    let channels = if cfg!(miri) { 5 } else { 500 };
    let joined = joined();
    let members: Vec<Membership> =
        (0..channels).map(|i| joined.subscribe_only(&i.to_string())).collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (reader, over, members) = (joined.hub.clone(), &over, &members);
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
            patiently(|| joined.hub.caught_up(joined.token, *member, known, Loss::Nothing));
        }
        over.store(true, Ordering::SeqCst);
    });
}

#[test]
fn joining_a_channel_that_the_holder_leaves_requests_a_sync() {
    let rounds = if cfg!(miri) { 5 } else { 1_500 };
    let joined = joined();
    let hub = &joined.hub;
    for round in 0..rounds {
        let name = format!("c{}", round % 7);
        let member = joined.subscribe_only(&name);
        let known = hub.sync_state(member).unwrap();
        hub.caught_up(joined.token, member, known, Loss::Nothing).unwrap();
        let (left, (mine, in_sync, wanted)) = thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let mine = patiently(|| hub.join(joined.worker, name.as_bytes(), at(0)));
                hub.set_streams(joined.worker, mine, 1);
                let in_sync = hub.in_sync(&[mine]);
                (mine, in_sync, !in_sync && patiently(|| hub.request_sync(mine)).is_some())
            });
            let left = patiently(|| hub.leave_unsubscribed(joined.token, member));
            (left, worker.join().unwrap())
        });
        // A process that saw it in sync is counted, and the holder stays. Otherwise it requests a
        // sync.
        assert!(if left { wanted } else { in_sync != wanted }, "{left} {in_sync} {wanted}");
        hub.leave(mine).unwrap();
        if !left {
            hub.leave_unsubscribed(joined.token, member).unwrap();
        }
    }
    hub.check_settled();
}

#[test]
fn of_several_sources_only_redis_makes_numbers() {
    let joined = joined_of(1 << 18, Source::Streams, 10, 0);
    joined.subscribe("a", &[], Loss::Nothing);
    assert_eq!(joined.hub.own_kind(), Kind::Placed);
    joined.live("a", 100);
    let status = event(b"{}");
    let ids = joined.hub.publish_own(b"sse.status", status, at(5)).unwrap().ids;
    assert_eq!(ids[0].to_string(), format!("100-0-7-{}", joined.hub.head()));
    assert_eq!(joined.hub.high_watermark().unwrap(), id(100));
}

#[test]
fn requesting_a_sync_of_a_channel_that_the_holder_has_joined_adds_no_entry() {
    let joined = joined();
    let a = joined.listen("a");
    assert_eq!(joined.hub.request_sync(a).unwrap(), Some(joined.holder.slot));
    let member = joined.subscribe_only("a");
    let head = joined.hub.head();
    for _ in 0..10_000 {
        assert_eq!(joined.hub.request_sync(a).unwrap(), None);
    }
    assert_eq!(joined.hub.head(), head);
    joined.hub.leave(member).unwrap();
    assert_eq!(joined.hub.request_sync(a).unwrap(), Some(joined.holder.slot));
}
