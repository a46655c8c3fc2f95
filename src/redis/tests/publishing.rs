//! nginx publishes durable events.

use super::fake::Fault;
use super::nginx::publish_command;
use super::resp::Reply;
use super::*;
use crate::redis::refusal::Refusal;
use crate::redis::script::ScriptResult;

/// Returns the ids of a publish that has succeeded.
fn published(result: Result<ScriptResult, Refusal>) -> Vec<String> {
    match result {
        Ok(ScriptResult::Published(ids)) => ids.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_published_event_returns_through_the_subscription() {
    run(async {
        let (_redis, nginx) = connected(Source::PubSub).await;
        nginx.follow(&["a"]).await;
        let ids = published(nginx.publish("a", "x").await);
        assert_eq!(nginx.receives("a", 1).await, ["x"]);
        assert_eq!(ids.len(), 1);
    });
}

#[test]
fn a_repeated_key_publishes_once_and_returns_the_same_id() {
    run(async {
        let (_redis, nginx) = connected(Source::PubSub).await;
        nginx.follow(&["a"]).await;
        let first = published(nginx.run(publish_command("a", "x", Some("k"))).await);
        let second = published(nginx.run(publish_command("a", "x", Some("k"))).await);
        assert_eq!(first, second);
        pass(100).await;
        assert_eq!(nginx.texts("a"), ["x"]);
    });
}

#[test]
fn a_publish_whose_reply_is_lost_is_repeated_and_takes_effect_once() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        nginx.follow(&["a"]).await;
        published(nginx.publish("a", "first").await);
        redis.fault("EVALSHA", Fault::CloseBehind, 1);
        published(nginx.run(publish_command("a", "x", Some("k"))).await);
        pass(1_000).await;
        assert_eq!(nginx.texts("a"), ["first", "x"]);
        // The connection of the publisher from before an outage is replaced, too.
        redis.disconnect();
        published(nginx.publish("a", "y").await);
        assert_eq!(nginx.receives("a", 3).await, ["first", "x", "y"]);
    });
}

#[test]
fn a_publish_after_redis_has_closed_the_connection_was_certainly_not_sent() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        published(nginx.publish("a", "x").await);
        redis.stop().await;
        pass(5).await;
        let rejected = nginx.publish("a", "y").await;
        assert!(matches!(rejected, Err(Refusal::Unreachable(_))), "{rejected:?}");
    });
}

#[test]
fn a_refusal_of_redis_is_reported_without_the_command() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        for error in
            ["OOM command not allowed when used memory > 'maxmemory'.", "NOPERM no permission"]
        {
            redis.fault("EVALSHA", Fault::Reply(Reply::error(error)), 1);
            let result = nginx.publish("a", "x").await;
            assert_eq!(result, Err(Refusal::Refused(error.to_owned())));
        }
    });
}

#[test]
fn a_node_that_is_not_ready_is_tried_again_for_two_seconds() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let loading = Fault::Reply(Reply::error("LOADING Redis is loading the dataset in memory"));
        redis.fault("EVALSHA", loading.clone(), 3);
        let since = elapsed();
        published(nginx.publish("a", "x").await);
        assert!((300..500).contains(&(elapsed() - since)));
        redis.fault("EVALSHA", loading, usize::MAX);
        let since = elapsed();
        let result = nginx.publish("a", "y").await;
        let Err(Refusal::Unreachable(why)) = result else { panic!("{result:?}") };
        assert!(why.ends_with("is not ready: LOADING"), "{why}");
        assert!((1_500..2_000).contains(&(elapsed() - since)));
    });
}

#[test]
fn a_publish_that_is_never_answered_is_given_up_after_two_seconds() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        published(nginx.publish("a", "x").await);
        redis.fault("EVALSHA", Fault::Silence, 1);
        let since = elapsed();
        assert_eq!(nginx.publish("a", "y").await, Err(Refusal::Unanswered));
        assert!((1_500..=2_000).contains(&(elapsed() - since)));
        // On the next connection, it works.
        published(nginx.publish("a", "z").await);
    });
}

#[test]
fn what_redis_would_not_accept_is_rejected_before_it_is_sent() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        for (name, bytes) in [("proto-max-bulk-len", "1000"), ("client-query-buffer-limit", "6000")]
        {
            let mut state = redis.state.borrow_mut();
            state.store.settings.insert(name.into(), bytes.into());
        }
        assert_eq!(
            nginx.publish("a", &"x".repeat(1_001)).await,
            Err(Refusal::TooLarge { most: 1_000 })
        );
        published(nginx.publish("a", &"x".repeat(1_000)).await);
        redis.state.borrow_mut().store.settings.remove(&b"proto-max-bulk-len"[..]);
        redis.disconnect();
        let _ = nginx.publish("a", "x").await;
        assert_eq!(
            nginx.publish("a", &"x".repeat(2_000)).await,
            Err(Refusal::TooLarge { most: 6_000 })
        );
        assert_eq!(redis.count("EVALSHA"), 3);
    });
}

#[test]
fn publishes_that_wait_are_bounded() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        published(nginx.publish("a", "x").await);
        redis.fault("EVALSHA", Fault::Silence, usize::MAX);
        let large = "x".repeat(30 << 20);
        let waits = |data: &str| nginx.send(publish_command("a", data, None));
        let (first, second) = (waits(&large), waits(&large));
        pass(10).await;
        assert_eq!(nginx.publish("a", &large).await, Err(Refusal::Busy));
        assert!(nginx.result_of(first).is_none() && nginx.result_of(second).is_none());
        pass(2_000).await;
        redis.repair();
        // Their bytes are free again.
        let first = waits(&large);
        published(nginx.publish("a", "y").await);
        until("it is answered", || nginx.result_of(first).is_some()).await;
    });
}

#[test]
fn as_many_publishes_as_may_wait_can_wait_again() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        published(nginx.publish("a", "x").await);
        for _ in 0..2 {
            redis.fault("EVALSHA", Fault::Silence, 1);
            let waiting: Vec<u64> =
                (0..10_000).map(|_| nginx.send(publish_command("a", "x", None))).collect();
            pass(10).await;
            assert_eq!(nginx.publish("a", "y").await, Err(Refusal::Busy));
            pass(2_000).await;
            assert!(nginx.result_of(waiting[9_999]).is_some());
        }
        published(nginx.publish("a", "z").await);
    });
}

#[test]
fn a_publish_that_is_answered_frees_its_own_bytes_only() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let most = 25 << 20;
        let limit = ("proto-max-bulk-len".into(), most.to_string().into());
        redis.state.borrow_mut().store.settings.extend([limit]);
        published(nginx.publish("a", "x").await);
        redis.fault("EVALSHA", Fault::Silence, 1);
        let waiting = nginx.send(publish_command("a", &"x".repeat(20 << 20), None));
        pass(10).await;
        let too_large = nginx.publish("a", &"x".repeat(30 << 20)).await;
        assert_eq!(too_large, Err(Refusal::TooLarge { most }));
        assert_eq!(nginx.publish("a", &"x".repeat(50 << 20)).await, Err(Refusal::Busy));
        assert!(nginx.result_of(waiting).is_none());
    });
}

#[test]
fn a_publish_is_not_sent_again_when_its_reply_could_not_be_awaited() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let loading = Fault::Reply(Reply::error("LOADING Redis is loading the dataset in memory"));
        redis.fault("EVALSHA", loading, usize::MAX);
        // Attempts do not begin at multiples of their pause.
        redis.fault("PING", Fault::Hold, 1);
        let (ticket, since) = (nginx.send(publish_command("a", "x", None)), elapsed());
        pass(50).await;
        redis.end_fault("PING");
        until("it is answered", || nginx.result_of(ticket).is_some()).await;
        let result = nginx.result_of(ticket);
        assert!(matches!(result, Some(Err(Refusal::Unreachable(_)))), "{result:?}");
        assert!((1_600..1_900).contains(&(elapsed() - since)), "{}", elapsed() - since);
    });
}
