//! Users that were disconnected, on this or another nginx.

use super::*;
use crate::hub::{DisconnectedUsers, Revocation};
use crate::redis::keys::Keys;
use crate::redis::script::{Command, DisconnectCommand, ScriptResult, KEPT};

const KEY: &[u8] = b"sse:{sse}:users";

/// Adds a user with this number to the stream in Redis. Times are in ms since 1970.
fn disconnect(redis: &FakeRedis, number: u64, user: &str, (issued_before, until): (u64, u64)) {
    let (issued_before, until) = (issued_before.to_string(), until.to_string());
    let fields = [
        (&b"user"[..], user.as_bytes()),
        (b"issued_before", issued_before.as_bytes()),
        (b"until", until.as_bytes()),
    ];
    let fields: Vec<&[u8]> = fields.iter().flat_map(|(name, value)| [*name, *value]).collect();
    let mut state = redis.state.borrow_mut();
    state.store.add(KEY, Some((number, 0)), &fields).unwrap();
}

/// Returns the users that were disconnected after the first `number`; `None` if they are unknown.
fn disconnected_after(nginx: &Nginx, number: u64) -> Option<Vec<u64>> {
    let name = |hash| (0..2_000).find(|user| nginx.hub.user(format!("{user}").as_bytes()) == hash);
    match nginx.hub.disconnected_since(number).unwrap() {
        DisconnectedUsers::Listed(all) => {
            Some(all.into_iter().map(|(_, user)| name(user).unwrap()).collect())
        }
        DisconnectedUsers::Unknown(_) => None,
    }
}

#[test]
fn disconnections_are_applied_once_within_a_second_in_their_order() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        disconnect(&redis, 1, "7", (0, 0));
        disconnect(&redis, 2, "8", (0, 0));
        pass(1_100).await;
        assert_eq!(disconnected_after(&nginx, 0), Some(vec![7, 8]));
        disconnect(&redis, 3, "7", (0, 0));
        pass(1_100).await;
        assert_eq!(disconnected_after(&nginx, 2), Some(vec![7]));
        pass(5_000).await;
        assert_eq!((nginx.hub.disconnections(), nginx.hub.users_read()), (3, 3));
        // What was reported while the connection was lost.
        redis.stop().await;
        disconnect(&redis, 4, "9", (0, 0));
        pass(2_000).await;
        redis.resume().await;
        until("it is applied", || nginx.hub.users_read() == 4).await;
        assert_eq!(disconnected_after(&nginx, 3), Some(vec![9]));
        assert_eq!(nginx.hub.disconnections(), 4);
    });
}

#[test]
fn a_user_who_is_disconnected_here_is_disconnected_on_every_nginx() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let other = hub_at(&redis.url(), Source::PubSub).process();
        other.is_up().await;
        disconnect(&redis, 1, "6", (0, 0));
        for user in ["7", "8"] {
            let (user, names) = (user.as_bytes().to_vec(), Keys::new(""));
            let command = DisconnectCommand { user, issued_before: 0, until: 0, names };
            let result = nginx.run(Command::Disconnect(command)).await;
            assert_eq!(result, Ok(ScriptResult::Disconnected));
        }
        for one in [&nginx, &other] {
            until("it is applied", || one.hub.users_read() == 3).await;
            assert_eq!(disconnected_after(one, 0), Some(vec![6, 7, 8]));
        }
    });
}

#[test]
fn a_revocation_is_applied_with_its_times() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        disconnect(&redis, 1, "7", (wall(), wall() + 60_000));
        disconnect(&redis, 2, "8", (wall(), 0));
        let issued_before = wall();
        pass(1_100).await;
        let (_, revoked) = nginx.hub.all_revocations().unwrap();
        let user = nginx.hub.user(b"7");
        assert_eq!(revoked, [Revocation { user, issued_before, until: issued_before + 60_000 }]);
        assert_eq!(disconnected_after(&nginx, 0), Some(vec![7, 8]));
        assert!(nginx.lines().is_empty(), "{:?}", nginx.lines());
    });
}

#[test]
fn a_revocation_that_has_to_make_room_for_another_is_logged() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        // More than this hub has room for.
        let newest = 500;
        for number in 1..=newest {
            disconnect(&redis, number, &number.to_string(), (wall(), wall() + 60_000 + number));
        }
        until("they are read", || nginx.hub.users_read() == newest).await;
        let (_, revoked) = nginx.hub.all_revocations().unwrap();
        let displaced = newest as usize - revoked.len();
        assert!(displaced > 0);
        assert_eq!(nginx.logged("too many revoked users"), displaced);
        assert_eq!(nginx.hub.revocation_end(nginx.hub.user(b"1")).unwrap(), 0);
    });
}

#[test]
fn if_entries_are_missing_it_is_unknown_who_was_disconnected() {
    // What the stream has after entry 1 was read: the numbers of its entries, and those that are
    // known to have been disconnected after it.
    for (numbers, newest) in [
        (&[2, 3][..], 3),
        // Entry 2 is missing.
        (&[3], 3),
        (&[2, 4], 4),
        // The stream was deleted, and has begun again.
        (&[], 0),
    ] {
        run(async move {
            let (redis, nginx) = connected(Source::PubSub).await;
            disconnect(&redis, 1, "1", (0, 0));
            pass(1_100).await;
            assert_eq!(disconnected_after(&nginx, 0), Some(vec![1]));
            if numbers.is_empty() {
                redis.state.borrow_mut().store.streams.remove(KEY);
            }
            for number in numbers {
                disconnect(&redis, *number, &number.to_string(), (0, 0));
            }
            pass(1_100).await;
            assert_eq!(nginx.hub.users_read(), newest);
            let is_known = numbers == [2, 3];
            assert_eq!(disconnected_after(&nginx, 1).is_some(), is_known, "{numbers:?}");
            // From then on it is known again.
            let before = nginx.hub.disconnections();
            disconnect(&redis, newest + 1, "5", (0, 0));
            pass(1_100).await;
            assert_eq!(disconnected_after(&nginx, before), Some(vec![5]));
        });
    }
}

#[test]
fn more_disconnections_than_redis_keeps_are_unknown() {
    // Redis trims the stream only roughly.
    for left in [KEPT, KEPT + 2] {
        run(async move {
            let (redis, nginx) = connected(Source::PubSub).await;
            let newest = KEPT as u64 + 2;
            for number in 1..=newest {
                disconnect(&redis, number, &number.to_string(), (0, 0));
            }
            redis.state.borrow_mut().store.trim(KEY, left);
            until("they are read", || nginx.hub.users_read() == newest).await;
            assert_eq!(disconnected_after(&nginx, 0), None);
            let before = nginx.hub.disconnections();
            disconnect(&redis, newest + 1, "5", (0, 0));
            pass(1_100).await;
            assert_eq!(disconnected_after(&nginx, before), Some(vec![5]));
        });
    }
}

#[test]
fn the_stream_is_not_requested_again_while_a_reply_is_awaited() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        pass(1_500).await;
        redis.fault("XREVRANGE sse:{sse}:users", super::fake::Fault::Hold, 1);
        let before = redis.count("XREVRANGE sse:{sse}:users");
        pass(1_900).await;
        assert_eq!(redis.count("XREVRANGE sse:{sse}:users"), before + 1);
        disconnect(&redis, 1, "7", (0, 0));
        redis.repair();
        pass(1_100).await;
        assert_eq!(disconnected_after(&nginx, 0), Some(vec![7]));
    });
}
