//! Users that were disconnected, and revoked tokens.

use super::*;
use crate::hub::{DisconnectedUsers, Displaced, ReportedUser, Revocation};

fn listed(hub: &Hub, number: u64) -> Vec<u64> {
    match hub.disconnected_since(number).unwrap() {
        DisconnectedUsers::Listed(users) => users.iter().map(|(number, _)| *number).collect(),
        DisconnectedUsers::Unknown(_) => panic!("unknown"),
    }
}

#[test]
fn processes_see_who_was_disconnected_after_what_they_have_seen() {
    let hub = hub_of(1 << 18, 1 << 10, 10, 0);
    let (alice, bob) = (hub.user(b"alice"), hub.user(b"bob"));
    assert_ne!(alice, bob);
    assert_eq!(hub.user(b"alice"), alice);
    assert_eq!(hub.disconnections(), 0);
    assert!(listed(&hub, 0).is_empty());
    hub.disconnect(alice).unwrap();
    hub.disconnect(bob).unwrap();
    assert_eq!(hub.disconnections(), 2);
    assert_eq!(
        hub.disconnected_since(0),
        Ok(DisconnectedUsers::Listed(vec![(1, alice), (2, bob)]))
    );
    assert_eq!(hub.disconnected_since(1), Ok(DisconnectedUsers::Listed(vec![(2, bob)])));
    assert!(listed(&hub, 2).is_empty());
}

#[test]
fn after_too_many_disconnections_nobody_is_known() {
    let hub = hub_of(1 << 18, 1 << 10, 10, 0);
    let most = hub.layout.users as u64;
    for number in 0..most + 1 {
        hub.disconnect(hub.user(&number.to_le_bytes())).unwrap();
    }
    assert_eq!(hub.disconnected_since(0), Ok(DisconnectedUsers::Unknown(most + 1)));
    assert_eq!(listed(&hub, 1).len(), most as usize);
}

#[test]
fn a_revocation_is_replaced_by_that_of_the_same_user_or_one_that_has_ended() {
    let hub = hub_of(1 << 18, 1 << 10, 10, 0);
    let revocation =
        |name: &[u8], until| Revocation { user: hub.user(name), issued_before: 5, until };
    let most = hub.layout.users as u64;
    for number in 0..most {
        let new = revocation(&number.to_le_bytes(), 1_000 + number);
        assert_eq!(hub.revoke(new, 100), Ok(Displaced::Nothing));
    }
    assert_eq!(hub.revocation_changes(), most);
    let again = revocation(&3u64.to_le_bytes(), 9_000);
    assert_eq!(hub.revoke(again, 100), Ok(Displaced::Nothing));
    assert_eq!(hub.revoke(revocation(b"new", 9_000), 1_000), Ok(Displaced::Nothing));
    assert_eq!(hub.revoke(revocation(b"newer", 9_000), 1_000), Ok(Displaced::Revocation));
    let (changes, all) = hub.all_revocations().unwrap();
    assert_eq!((changes, all.len() as u64), (most + 3, most));
    assert!(all.contains(&again) && all.contains(&revocation(b"newer", 9_000)));
    assert!(!all.contains(&revocation(&0u64.to_le_bytes(), 1_000)));
    assert!(!all.contains(&revocation(&1u64.to_le_bytes(), 1_001)));
}

#[test]
fn a_revocation_does_not_shorten_an_earlier_one_of_the_same_user() {
    let hub = hub_of(1 << 18, 1 << 10, 10, 0);
    let alice = hub.user(b"alice");
    for (issued_before, until) in [(5, 9_000), (700, 1_000), (600, 2_000)] {
        hub.revoke(Revocation { user: alice, issued_before, until }, 500).unwrap();
    }
    let longest = Revocation { user: alice, issued_before: 700, until: 9_000 };
    assert_eq!(hub.all_revocations().unwrap().1, [longest]);
}

#[test]
fn what_redis_reports_is_applied_once_and_by_the_holder_only() {
    let setup = connected_hub::connected_hub();
    let (hub, alice) = (&setup.hub, setup.hub.user(b"alice"));
    let revocation = Some(Revocation { user: alice, issued_before: 5, until: 9_000 });
    let reported = ReportedUser { number: 7, user: alice, revocation };
    assert_eq!(hub.apply_users(FencingToken::none(), &reported, at(0)), Err(LeaseError::Fenced));
    assert_eq!((hub.users_read(), hub.disconnections()), (0, 0));
    assert_eq!(hub.apply_users(setup.token, &reported, at(0)), Ok(Displaced::Nothing));
    assert_eq!((hub.users_read(), hub.disconnections()), (7, 1));
    assert_eq!(hub.disconnected_since(0), Ok(DisconnectedUsers::Listed(vec![(1, alice)])));
    assert_eq!(hub.all_revocations().unwrap().1, revocation.into_iter().collect::<Vec<_>>());
    // Entries of the stream are missing.
    hub.lose_users(setup.token, 9).unwrap();
    assert_eq!(hub.users_read(), 9);
    assert!(matches!(hub.disconnected_since(1), Ok(DisconnectedUsers::Unknown(_))));
    assert!(listed(hub, hub.disconnections()).is_empty());
}
