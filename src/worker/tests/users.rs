//! Streams of users that are disconnected.

use super::*;
use crate::hub::{Revocation, UserHash};

fn open_as(bench: &mut Bench, user: UserHash, seen: u64) -> StreamKey {
    let (key, _) = bench.open(settings(), &["a"], "");
    let user = Some(PermittedUser { hash: user, seen });
    bench.worker.set_permission(key, Permission { user, ..Permission::default() }, bench.now);
    key
}

fn ended(bench: &mut Bench) -> Vec<StreamKey> {
    bench.settle();
    let mut keys: Vec<_> = std::iter::from_fn(|| bench.worker.take_ended())
        .map(|(key, end)| {
            assert_eq!(end, End::Admin);
            key
        })
        .collect();
    for key in &keys {
        bench.worker.close(*key, End::Admin);
    }
    keys.sort();
    keys
}

#[test]
fn all_streams_of_the_user_end_and_no_others() {
    let mut bench = bench(1 << 20, HISTORY);
    let (alice, bob) = (bench.hub.user(b"alice"), bench.hub.user(b"bob"));
    let mut of_alice: Vec<_> = (0..500).map(|_| open_as(&mut bench, alice, 0)).collect();
    let of_bob = open_as(&mut bench, bob, 0);
    bench.open(settings(), &["a"], "");
    // Streams that are closed move others in the user's list.
    for _ in 0..100 {
        bench.worker.close(of_alice.swap_remove(7), End::Client);
    }
    bench.worker.disconnect_user(alice, bench.now).unwrap();
    of_alice.sort();
    assert_eq!(ended(&mut bench), of_alice);
    assert_eq!(bench.worker.streams(), 2);
    bench.worker.disconnect_user(alice, bench.now).unwrap();
    assert_eq!(ended(&mut bench), []);
    bench.worker.disconnect_user(bob, bench.now).unwrap();
    assert_eq!(ended(&mut bench), [of_bob]);
}

#[test]
fn the_streams_of_a_user_end_over_several_turns() {
    crate::hub::set_turn_steps(100);
    for is_stopped in [false, true] {
        let mut bench = bench(1 << 20, HISTORY);
        let alice = bench.hub.user(b"alice");
        let streams: Vec<_> = (0..350).map(|_| open_as(&mut bench, alice, 0)).collect();
        // More disconnections than the hub remembers: which users they were is unknown.
        for number in 0..if is_stopped { 2_000 } else { 0 } {
            let other = bench.hub.user(format!("user {number}").as_bytes());
            bench.hub.disconnect(other).unwrap();
        }
        bench.hub.disconnect(alice).unwrap();
        bench.worker.turn(bench.now);
        let first = std::iter::from_fn(|| bench.worker.take_ended()).count();
        assert!(first <= 100, "{first}");
        bench.settle();
        let rest = std::iter::from_fn(|| bench.worker.take_ended()).count();
        assert_eq!(first + rest, streams.len(), "{is_stopped}");
    }
}

#[test]
fn a_stream_that_was_checked_afterwards_stays() {
    let mut bench = bench(1 << 20, HISTORY);
    let alice = bench.hub.user(b"alice");
    let before = open_as(&mut bench, alice, 0);
    bench.hub.disconnect(alice).unwrap();
    open_as(&mut bench, alice, 1);
    assert_eq!(ended(&mut bench), [before]);
}

#[test]
fn a_stream_of_a_user_that_was_disconnected_meanwhile_is_not_opened() {
    let bench = bench(1 << 20, HISTORY);
    let (alice, bob) = (bench.hub.user(b"alice"), bench.hub.user(b"bob"));
    bench.hub.disconnect(alice).unwrap();
    let check = |hash, seen| bench.worker.check_user(PermittedUser { hash, seen });
    assert_eq!(check(alice, 0), Err(OpenError::Disconnected));
    assert_eq!(check(alice, 1), Ok(()));
    assert_eq!(check(bob, 0), Ok(()));
    for number in 0..2_000u32 {
        bench.hub.disconnect(bench.hub.user(&number.to_le_bytes())).unwrap();
    }
    assert_eq!(check(bob, 0), Err(OpenError::Disconnected), "it may have been bob");
}

#[test]
fn a_process_that_has_missed_too_many_ends_the_streams_of_all_users() {
    let mut bench = bench(1 << 20, HISTORY);
    let bob = bench.hub.user(b"bob");
    let of_bob = open_as(&mut bench, bob, 0);
    bench.open(settings(), &["a"], "");
    for number in 0..2_000u32 {
        bench.hub.disconnect(bench.hub.user(&number.to_le_bytes())).unwrap();
    }
    assert_eq!(ended(&mut bench), [of_bob]);
    assert_eq!(bench.worker.streams(), 1);
}

#[test]
fn a_new_process_has_nothing_to_apply() {
    let mut bench = bench(1 << 20, HISTORY);
    let alice = bench.hub.user(b"alice");
    bench.hub.disconnect(alice).unwrap();
    bench.worker = new_worker(&bench.hub, Some(1), 2, bench.now);
    open_as(&mut bench, alice, 0);
    assert_eq!(ended(&mut bench), []);
}

#[test]
fn tokens_from_before_a_revocation_are_refused_until_it_ends() {
    let mut bench = bench(1 << 20, HISTORY);
    let (alice, bob) = (bench.hub.user(b"alice"), bench.hub.user(b"bob"));
    let now = bench.now;
    let is_revoked =
        |bench: &mut Bench, user, issued, now| bench.worker.is_revoked(user, issued, now).unwrap();
    assert!(!is_revoked(&mut bench, alice, None, now));
    let new = Revocation { user: alice, issued_before: now.wall, until: now.wall + 5_000 };
    bench.worker.revoke_tokens(new, now).unwrap();
    assert!(is_revoked(&mut bench, alice, None, now));
    assert!(is_revoked(&mut bench, alice, Some(now.wall - 1), now));
    assert!(!is_revoked(&mut bench, alice, Some(now.wall), now));
    assert!(!is_revoked(&mut bench, bob, None, now));
    let later = Now { wall: now.wall + 5_000, ..now };
    assert!(!is_revoked(&mut bench, alice, None, later));
}
