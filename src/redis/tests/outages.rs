//! Redis goes away, or does not do what it should, and comes back.

use super::fake::Fault;
use super::resp::Reply;
use super::*;
use crate::hub::{Counter, RedisState};
use crate::redis::refusal::Refusal;

#[test]
fn an_outage_of_minutes_loses_nothing_and_is_logged_once() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a"]).await;
        redis.publish("a", "before");
        nginx.receives("a", 1).await;
        let id = streams.position();
        redis.stop().await;
        pass(600_000).await;
        redis.publish("a", "meanwhile");
        redis.resume().await;
        assert_eq!(nginx.receives("a", 2).await, ["before", "meanwhile"]);
        assert_eq!(streams.resumed(&id), (0, vec!["meanwhile".to_owned()]));
        let lines = nginx.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("Redis is unreachable"), "{lines:?}");
        assert!(lines[1].contains("reachable again"), "{lines:?}");
        assert_eq!(nginx.counted(Counter::Reconnects), 1);
    });
}

#[test]
fn while_redis_is_away_the_hub_says_so_and_publishes_are_rejected() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        redis.stop().await;
        pass(1_000).await;
        assert_eq!(nginx.hub.link(), RedisState::Down);
        let rejected = nginx.publish("a", "x").await;
        assert!(matches!(rejected, Err(Refusal::Unreachable(_))), "{rejected:?}");
        redis.resume().await;
        nginx.is_up().await;
        // After a failed attempt, the publisher's next one follows 100 ms later.
        pass(150).await;
        assert!(nginx.publish("a", "x").await.is_ok());
    });
}

#[test]
fn a_lost_connection_is_replaced_at_once() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a"]).await;
        pass(2_000).await;
        let id = streams.position();
        for number in 0..4 {
            redis.publish_unheard("a", &number.to_string());
            redis.disconnect();
            let since = elapsed();
            nginx.receives("a", number + 1).await;
            assert!(elapsed() - since < 100);
            pass(1_500).await;
        }
        let expected = (0..4).map(|number| number.to_string()).collect();
        assert_eq!(streams.resumed(&id), (0, expected));
        assert!(nginx.lines().is_empty());
        assert_eq!(nginx.logged("lost the connection to Redis, reconnecting"), 4);
        assert_eq!(nginx.counted(Counter::Reconnects), 4);
    });
}

#[test]
fn a_redis_that_no_longer_replies_is_noticed_within_seconds() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a"]).await;
        let id = streams.position();
        pass(5_000).await;
        redis.fault("HSETNX", Fault::Silence, 1);
        redis.publish_unheard("a", "x");
        let since = elapsed();
        nginx.receives("a", 1).await;
        assert!(elapsed() - since < 7_000, "{}", elapsed() - since);
        assert_eq!(streams.resumed(&id), (0, vec!["x".to_owned()]));
    });
}

#[test]
fn a_heartbeat_that_shows_another_node_ends_the_connection_and_other_errors_do_not() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        for (error, ends) in [("OOM command not allowed", 0), ("NOPERM no permission", 0)] {
            redis.fault("HSETNX", Fault::Reply(Reply::error(error)), 5);
            pass(4_000).await;
            redis.repair();
            assert_eq!(nginx.logged("lost the connection"), ends, "{error}");
        }
        redis.fault("HSETNX", Fault::Reply(Reply::error("READONLY You can't write")), 1);
        until("it is noticed", || nginx.logged("Redis replied READONLY You can't write") == 1)
            .await;
        nginx.is_up().await;
    });
}

#[test]
fn connections_that_keep_failing_are_logged_once() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        for _ in 0..12 {
            nginx.is_up().await;
            redis.disconnect();
            pass(300).await;
        }
        assert_eq!(nginx.logged("keep failing shortly after they are established"), 1);
        pass(5_000).await;
        nginx.is_up().await;
        redis.disconnect();
        pass(2_000).await;
        assert_eq!(nginx.logged("keep failing"), 1);
    });
}

#[test]
fn a_node_that_is_not_ready_is_tried_again_until_it_is() {
    let reasons = [
        ("LOADING Redis is loading the dataset in memory", "is still loading its data"),
        ("MASTERDOWN Link with MASTER is down", "has lost its master"),
        ("BUSY Redis is busy running a script", "is busy with a script"),
        ("NOPERM no permission", "denies the user a required permission"),
        ("CLUSTERDOWN The cluster is down", "is part of a cluster that is down"),
        ("ERR max number of clients reached", "has reached its maximum number of clients"),
    ];
    for (error, reason) in reasons {
        run(async {
            let (redis, hub) = stage(Source::PubSub).await;
            redis.fault("PING", Fault::Reply(Reply::error(error)), usize::MAX);
            let nginx = hub.process();
            until("it is logged", || nginx.logged(reason) == 1).await;
            pass(20_000).await;
            assert_eq!((nginx.hub.link(), nginx.lines().len()), (RedisState::Down, 1));
            let tried = redis.count("PING");
            assert!((4..60).contains(&tried), "{tried} attempts in 20 s");
            redis.repair();
            nginx.is_up().await;
        });
    }
}

#[test]
fn a_replica_is_not_used_until_it_is_a_master() {
    run(async {
        let (redis, hub) = stage(Source::PubSub).await;
        redis.state.borrow_mut().is_replica = true;
        let nginx = hub.process();
        until("it is logged", || nginx.logged("is a replica") == 1).await;
        assert_eq!(redis.count("SUBSCRIBE"), 0);
        redis.state.borrow_mut().is_replica = false;
        nginx.is_up().await;
    });
}

#[test]
fn a_user_who_may_not_ask_for_the_role_can_connect_and_other_errors_are_reported() {
    run(async {
        let (redis, hub) = stage(Source::PubSub).await;
        redis.fault("ROLE", Fault::Reply(Reply::error("BUSY a script is running")), usize::MAX);
        let nginx = hub.process();
        until("it is logged", || nginx.logged("is busy with a script") == 1).await;
        redis.repair();
        let error = Reply::error("NOPERM no permission");
        redis.fault("ROLE", Fault::Reply(error), usize::MAX);
        nginx.is_up().await;
    });
}

#[test]
fn attempts_to_connect_for_reading_follow_at_once_and_then_after_longer_and_longer_pauses() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        redis.fault("ROLE", Fault::Reply(Reply::error("LOADING")), usize::MAX);
        let before = redis.count("ROLE");
        let streams = nginx.open(&["a"]);
        let since = elapsed();
        let mut attempts = Vec::new();
        while attempts.len() < 8 {
            until("it tries again", || redis.count("ROLE") - before > attempts.len()).await;
            attempts.push(elapsed() - since);
        }
        let pauses: Vec<u64> = attempts.windows(2).map(|two| two[1] - two[0]).collect();
        for (pause, expected) in pauses.iter().zip([0, 125, 250, 500, 1_000, 1_000, 1_000]) {
            assert!((expected..expected + 60).contains(pause), "{pauses:?}");
        }
        redis.repair();
        until("it is in sync", || streams.are_in_sync()).await;
    });
}

#[test]
fn a_missing_or_wrong_password_is_logged_without_it() {
    run(async {
        let redis = FakeRedis::start().await;
        redis.state.borrow_mut().password = Some("right");
        let missing = hub_at(&redis.url(), Source::PubSub).process();
        until("it is logged", || missing.logged("requires a password") == 1).await;
        let url = redis.url().replace("://", "://:secret@");
        let wrong = hub_at(&url, Source::PubSub).process();
        until("it is logged", || wrong.logged("rejects the user name or password") == 1).await;
        assert_eq!(wrong.logged("secret"), 0);
        redis.state.borrow_mut().password = Some("secret");
        wrong.is_up().await;
        assert!(wrong.publish("a", "x").await.is_ok());
    });
}

#[test]
fn a_redis_that_has_lost_everything_is_filled_again_and_the_loss_reported() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a"]).await;
        redis.publish("a", "1");
        nginx.receives("a", 1).await;
        let id = streams.position();
        redis.stop().await;
        redis.publish("a", "lost");
        let old = redis.state.borrow().store.streams[&b"sse:{sse}:clock"[..]].last;
        redis.state.borrow_mut().store = Default::default();
        pass(1_000).await;
        redis.resume().await;
        nginx.is_up().await;
        assert_eq!(nginx.hub.link(), RedisState::Up);
        let new = redis.publish("a", "2");
        assert!(new > old);
        until("it arrives", || nginx.texts("a").contains(&"2".to_owned())).await;
        assert_eq!(streams.resumed(&id).0, 1);
        assert!(streams.resumed(&id).1.ends_with(&["2".to_owned()]));
    });
}

#[test]
fn a_hub_without_a_free_slot_waits_for_one() {
    run(async {
        let (_redis, hub) = stage(Source::PubSub).await;
        let taken: Vec<_> = std::iter::from_fn(|| hub.hub.claim_slot()).collect();
        hub.hub.release_slot(taken[0]);
        // The worker takes that slot.
        let nginx = hub.process();
        pass(3_000).await;
        assert_ne!(nginx.hub.link(), RedisState::Up);
        hub.hub.release_slot(taken[1]);
        nginx.is_up().await;
    });
}

#[test]
fn the_state_is_not_down_while_a_lost_connection_is_replaced() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        redis.fault("PING", Fault::Hold, usize::MAX);
        redis.disconnect();
        until("it connects", || nginx.hub.link() == RedisState::Connecting).await;
        redis.repair();
        nginx.is_up().await;
        redis.stop().await;
        until("it is down", || nginx.hub.link() == RedisState::Down).await;
        pass(5_000).await;
        assert_eq!(nginx.hub.link(), RedisState::Down);
    });
}

#[test]
fn disconnected_users_that_cannot_be_read_are_logged_once() {
    run(async {
        let redis = FakeRedis::start().await;
        let error = Reply::error("NOPERM no permission");
        redis.fault("XREVRANGE sse:{sse}:users", Fault::Reply(error), usize::MAX);
        let nginx = hub_at(&redis.url(), Source::PubSub).process();
        nginx.is_up().await;
        pass(5_000).await;
        assert_eq!(nginx.logged("cannot read which users were disconnected"), 1);
        assert_eq!(nginx.lines().len(), 1, "{:?}", nginx.lines());
        assert_eq!(nginx.hub.link(), RedisState::Up);
    });
}

#[test]
fn disconnected_users_that_cannot_be_read_for_a_moment_are_read_later() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let error = Reply::error("LOADING Redis is loading the dataset in memory");
        redis.fault("XREVRANGE sse:{sse}:users", Fault::Reply(error), 2);
        pass(5_000).await;
        assert!(nginx.lines().is_empty(), "{:?}", nginx.lines());
        assert_eq!(nginx.hub.link(), RedisState::Up);
    });
}

#[test]
fn a_reply_is_awaited_as_long_as_anything_arrives() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        nginx.follow(&["a"]).await;
        redis.fault("HSETNX", Fault::Hold, 1);
        let sent = redis.count("HSETNX");
        until("it is requested", || redis.count("HSETNX") > sent).await;
        for _ in 0..16 {
            redis.plain("a", "x");
            pass(500).await;
        }
        assert_eq!(nginx.counted(Counter::Reconnects), 0);
        pass(4_000).await;
        assert_eq!(nginx.counted(Counter::Reconnects), 1);
        nginx.is_up().await;
    });
}
