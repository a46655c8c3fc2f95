//! The node that holds the hub is found through Sentinels, or is one of a cluster.

use super::fake::Fault;
use super::nginx::publish_command;
use super::resp::Reply;
use super::*;
use crate::redis::refusal::Refusal;

/// Returns the URL of a hub behind Sentinels.
fn through(sentinels: &[&FakeRedis]) -> String {
    let hosts: Vec<String> =
        sentinels.iter().map(|one| format!("127.0.0.1:{}", one.port())).collect();
    format!("redis+sentinel://{}/mymaster", hosts.join(","))
}

async fn sentinel_of(master: &FakeRedis) -> FakeRedis {
    let sentinel = FakeRedis::start_tcp().await;
    sentinel.state.borrow_mut().master = Some(master.port());
    sentinel
}

#[test]
fn a_host_is_found_by_its_name() {
    run_with_tcp(async {
        let redis = FakeRedis::start_tcp().await;
        let url = format!("redis://localhost:{}", redis.port());
        let nginx = hub_at(&url, Source::PubSub).process();
        nginx.is_up().await;
        nginx.follow(&["a"]).await;
        redis.publish("a", "1");
        assert_eq!(nginx.receives("a", 1).await, ["1"]);
    });
}

#[test]
fn a_server_without_tls_is_not_used_over_tls() {
    run_with_tcp(async {
        let redis = FakeRedis::start_tcp().await;
        let url = format!("rediss://127.0.0.1:{}", redis.port());
        let nginx = hub_at(&url, Source::PubSub).process();
        until("it is logged", || nginx.logged("Redis is unreachable") == 1).await;
        pass(500).await;
        assert_eq!(redis.count("HELLO"), 0);
    });
}

#[test]
fn a_publisher_keeps_its_connection_until_the_master_is_replaced() {
    run_with_tcp(async {
        let (old, new) = (FakeRedis::start_tcp().await, FakeRedis::start_tcp().await);
        let sentinel = sentinel_of(&old).await;
        let nginx = hub_at(&through(&[&sentinel]), Source::PubSub).process();
        nginx.is_up().await;
        for _ in 0..3 {
            assert!(nginx.publish("a", "1").await.is_ok());
        }
        // The subscriber's, and the publisher's.
        assert_eq!(old.count("ROLE"), 2);
        // The old master goes on, and would accept events.
        let published = old.count("EVALSHA");
        sentinel.state.borrow_mut().master = Some(new.port());
        sentinel.plain("+switch-master", "mymaster");
        until("the new one is used", || new.count("SUBSCRIBE") > 0).await;
        nginx.is_up().await;
        assert!(nginx.publish("a", "2").await.is_ok());
        assert_eq!((old.count("EVALSHA"), new.count("EVALSHA") > 0), (published, true));
    });
}

#[test]
fn streams_are_not_read_from_another_node_than_that_of_the_subscription() {
    run_with_tcp(async {
        let (old, new) = (FakeRedis::start_tcp().await, FakeRedis::start_tcp().await);
        let sentinel = sentinel_of(&old).await;
        let nginx = hub_at(&through(&[&sentinel]), Source::PubSub).process();
        nginx.is_up().await;
        sentinel.state.borrow_mut().master = Some(new.port());
        new.publish("a", "1");
        let streams = nginx.open(&["a"]);
        until("it is noticed", || nginx.logged("the hub has moved from") == 1).await;
        until("it is in sync", || streams.are_in_sync()).await;
        assert_eq!(nginx.texts("a"), ["1"]);
        assert!(new.subscriptions().contains(&"a".to_owned()));
    });
}

#[test]
fn a_publish_while_there_is_no_master_is_rejected_after_two_seconds() {
    run_with_tcp(async {
        let master = FakeRedis::start_tcp().await;
        let sentinel = sentinel_of(&master).await;
        let nginx = hub_at(&through(&[&sentinel]), Source::PubSub).process();
        nginx.is_up().await;
        assert!(nginx.publish("a", "1").await.is_ok());
        sentinel.state.borrow_mut().master = None;
        master.stop().await;
        until("it is noticed", || nginx.hub.link() != crate::hub::RedisState::Up).await;
        let since = elapsed();
        let result = nginx.publish("a", "2").await;
        let Err(Refusal::Unreachable(why)) = result else { panic!("{result:?}") };
        assert_eq!(why, "the hub is moving to another node");
        assert!((1_800..2_500).contains(&(elapsed() - since)), "{}", elapsed() - since);
    });
}

#[test]
fn an_event_that_a_replaced_master_stored_meanwhile_is_published_again() {
    run_with_tcp(async {
        let (old, new) = (FakeRedis::start_tcp().await, FakeRedis::start_tcp().await);
        let sentinel = sentinel_of(&old).await;
        let nginx = hub_at(&through(&[&sentinel]), Source::PubSub).process();
        nginx.is_up().await;
        assert!(nginx.publish("a", "1").await.is_ok());
        old.fault("EVALSHA", Fault::Hold, 1);
        let ticket = nginx.send(publish_command("a", "2", None));
        pass(20).await;
        sentinel.state.borrow_mut().master = Some(new.port());
        sentinel.plain("+switch-master", "mymaster");
        until("the new one is used", || new.count("SUBSCRIBE") > 0).await;
        nginx.is_up().await;
        old.repair();
        until("it is answered", || nginx.result_of(ticket).is_some()).await;
        assert!(nginx.result_of(ticket).is_some_and(|result| result.is_ok()));
        assert!(new.state.borrow().store.streams.contains_key(&b"sse:{sse}:s:a"[..]));
    });
}

#[test]
fn the_master_is_the_one_that_a_sentinel_names_and_confirms() {
    run_with_tcp(async {
        let (old, new) = (FakeRedis::start_tcp().await, FakeRedis::start_tcp().await);
        let dead = FakeRedis::start_tcp().await;
        dead.stop().await;
        let sentinel = sentinel_of(&old).await;
        let nginx = hub_at(&through(&[&dead, &sentinel]), Source::PubSub).process();
        nginx.is_up().await;
        nginx.follow(&["a"]).await;
        old.publish("a", "1");
        nginx.receives("a", 1).await;
        // A failover: the old one goes on, and is not used any more.
        sentinel.state.borrow_mut().master = Some(new.port());
        sentinel.plain("+switch-master", "mymaster");
        until("the new one is used", || new.subscriptions().contains(&"a".to_owned())).await;
        new.publish("a", "2");
        until("it arrives", || nginx.texts("a").contains(&"2".to_owned())).await;
        assert_eq!(nginx.logged("another node has become the master"), 1);
        assert!(nginx.publish("a", "3").await.is_ok());
        assert_eq!((old.count("EVALSHA"), new.count("EVALSHA") > 0), (0, true));
    });
}

#[test]
fn a_failover_is_noticed_without_an_announcement() {
    run_with_tcp(async {
        let (old, new) = (FakeRedis::start_tcp().await, FakeRedis::start_tcp().await);
        let sentinel = sentinel_of(&old).await;
        let nginx = hub_at(&through(&[&sentinel]), Source::PubSub).process();
        nginx.is_up().await;
        sentinel.state.borrow_mut().master = Some(new.port());
        let since = elapsed();
        until("the new one is used", || new.count("SUBSCRIBE") > 0).await;
        assert!(elapsed() - since < 7_000);
    });
}

#[test]
fn a_sentinel_that_knows_no_master_or_tells_none_and_what_is_no_sentinel_are_logged() {
    run_with_tcp(async {
        let sentinel = FakeRedis::start_tcp().await;
        let nginx = hub_at(&through(&[&sentinel]), Source::PubSub).process();
        until("it is logged", || nginx.logged("does not know a master named mymaster") == 1).await;
        let other = FakeRedis::start_tcp().await;
        other.fault("SENTINEL", Fault::Reply(Reply::error("ERR unknown command")), usize::MAX);
        let nginx = hub_at(&through(&[&other]), Source::PubSub).process();
        until("it is logged", || nginx.logged("is not a Sentinel") == 1).await;
        let closed = FakeRedis::start_tcp().await;
        closed.fault("SENTINEL", Fault::Reply(Reply::error("NOPERM no permission")), usize::MAX);
        let nginx = hub_at(&through(&[&closed]), Source::PubSub).process();
        until("it is logged", || nginx.logged("denies the user a required permission") == 1).await;
    });
}

#[test]
fn a_master_that_was_replaced_meanwhile_is_not_used() {
    run_with_tcp(async {
        let (old, new) = (FakeRedis::start_tcp().await, FakeRedis::start_tcp().await);
        let sentinel = sentinel_of(&old).await;
        let named = Reply::list(["127.0.0.1".to_owned(), old.port().to_string()]);
        sentinel.state.borrow_mut().master = Some(new.port());
        sentinel.fault("SENTINEL", Fault::Reply(named), 1);
        let nginx = hub_at(&through(&[&sentinel]), Source::PubSub).process();
        until("it is logged", || nginx.logged("was replaced as the master by") == 1).await;
        nginx.is_up().await;
        assert_eq!(old.count("SUBSCRIBE"), 0);
    });
}

#[test]
fn a_sentinel_with_a_password_gets_that_of_redis() {
    run_with_tcp(async {
        let master = FakeRedis::start_tcp().await;
        let sentinel = sentinel_of(&master).await;
        for one in [&master, &sentinel] {
            one.state.borrow_mut().password = Some("secret");
        }
        let url = through(&[&sentinel]).replace("://", "://:secret@");
        let nginx = hub_at(&url, Source::PubSub).process();
        nginx.is_up().await;
        assert!(nginx.lines().is_empty());
    });
}

#[test]
fn the_node_of_a_cluster_is_the_owner_of_the_slot() {
    run_with_tcp(async {
        let (seed, node) = (FakeRedis::start_tcp().await, FakeRedis::start_tcp().await);
        for one in [&seed, &node] {
            one.state.borrow_mut().owner = Some(node.port());
        }
        let url = format!("redis+cluster://127.0.0.1:{}", seed.port());
        let nginx = hub_at(&url, Source::PubSub).process();
        nginx.is_up().await;
        nginx.follow(&["a"]).await;
        assert!(nginx.publish("a", "1").await.is_ok());
        assert_eq!(nginx.receives("a", 1).await, ["1"]);
        assert_eq!((seed.count("SUBSCRIBE"), seed.count("EVALSHA")), (0, 0));
        // The slot moves.
        for one in [&seed, &node] {
            one.state.borrow_mut().owner = Some(seed.port());
        }
        let moved = Reply::error(&format!("MOVED 7 127.0.0.1:{}", seed.port()));
        node.fault("HSETNX", Fault::Reply(moved.clone()), usize::MAX);
        node.fault("EVALSHA", Fault::Reply(moved), usize::MAX);
        until("the other node is used", || seed.subscriptions().contains(&"a".to_owned())).await;
        assert!(nginx.publish("a", "2").await.is_ok());
        until("it arrives", || nginx.texts("a").contains(&"2".to_owned())).await;
    });
}

#[test]
fn a_node_that_is_not_part_of_a_cluster_is_logged() {
    run_with_tcp(async {
        let seed = FakeRedis::start_tcp().await;
        let error = "ERR This instance has cluster support disabled";
        seed.fault("CLUSTER", Fault::Reply(Reply::error(error)), usize::MAX);
        let url = format!("redis+cluster://127.0.0.1:{}", seed.port());
        let nginx = hub_at(&url, Source::PubSub).process();
        until("it is logged", || nginx.logged("is not part of a cluster") == 1).await;
    });
}
