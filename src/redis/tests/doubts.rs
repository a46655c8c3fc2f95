//! Messages without the hub's token: forged, or from a Redis that has lost it; and deletions.

use super::fake::Fault;
use super::*;
use crate::redis::keys::Keys;
use crate::redis::script::{Command, ForgetCommand, PublishTarget, ScriptResult};

pub const FORGED: &str = "00000000000000000000000000000000";
const HISTORY: &[u8] = b"sse:{sse}:history";

fn future_id() -> String {
    format!("{}-0", wall() + 1_000)
}

#[test]
fn a_forged_event_is_not_delivered_by_name_or_through_a_pattern() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let named = nginx.follow(&["a"]).await;
        let pattern = nginx.follow_pattern("b*").await;
        let id = pattern.position();
        for channel in ["a", "b1"] {
            redis.forge(channel, FORGED, &future_id(), "forged");
            redis.plain(channel, "plain");
        }
        pass(100).await;
        redis.publish("a", "1");
        redis.publish("b1", "2");
        pass(3_000).await;
        assert_eq!(nginx.texts("a"), ["plain", "1"]);
        assert_eq!(pattern.resumed(&id).1, ["plain", "2"]);
        assert!(named.are_in_sync());
    });
}

#[test]
fn without_a_token_in_redis_events_are_found_in_their_streams() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let named = nginx.follow(&["a"]).await;
        let pattern = nginx.follow_pattern("b*").await;
        let id = named.position();
        redis.state.borrow_mut().store.hashes.remove(HISTORY);
        redis.publish("a", "1");
        redis.publish("b1", "2");
        redis.publish("a", "3");
        nginx.receives("a", 2).await;
        until("they arrive", || !pattern.resumed(&id).1.is_empty()).await;
        assert_eq!(named.resumed(&id), (0, vec!["1".to_owned(), "3".to_owned()]));
        assert_eq!(pattern.resumed(&id), (0, vec!["2".to_owned()]));
        // A heartbeat has stored it again.
        assert!(redis.state.borrow().store.hashes[HISTORY].contains_key(&b"token"[..]));
        let read = redis.count("XRANGE");
        redis.publish("a", "4");
        nginx.receives("a", 3).await;
        assert_eq!(redis.count("XRANGE"), read);
    });
}

#[test]
fn a_value_that_is_no_token_is_replaced() {
    run(async {
        let (redis, hub) = stage(Source::PubSub).await;
        redis
            .state
            .borrow_mut()
            .store
            .hashes
            .entry(HISTORY.to_vec())
            .or_default()
            .insert(b"token".to_vec(), b"nothing of the kind".to_vec());
        let nginx = hub.process();
        nginx.is_up().await;
        pass(4_000).await;
        let token = redis.state.borrow().store.hashes[HISTORY][&b"token"[..]].clone();
        assert_eq!(token.len(), 32);
        nginx.follow(&["a"]).await;
        redis.publish("a", "1");
        assert_eq!(nginx.receives("a", 1).await, ["1"]);
        assert!(nginx.lines().is_empty());
    });
}

#[test]
fn a_redis_that_stores_no_token_is_logged_and_every_event_looked_up() {
    run(async {
        let (redis, hub) = stage(Source::PubSub).await;
        let error = super::resp::Reply::error("NOPERM no permission for this key");
        redis.fault("HSETNX", Fault::Reply(error), usize::MAX);
        let nginx = hub.process();
        nginx.is_up().await;
        nginx.follow(&["a"]).await;
        for number in 0..5 {
            redis.publish("a", &number.to_string());
            nginx.receives("a", number + 1).await;
        }
        pass(10_000).await;
        assert_eq!(nginx.texts("a"), ["0", "1", "2", "3", "4"]);
        assert_eq!(
            nginx.logged(
                "cannot agree with Redis on the secret of durable events: Redis replied NOPERM"
            ),
            1
        );
    });
}

#[test]
fn forged_events_make_nginx_read_at_most_100_streams_at_once_in_a_second() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a"]).await;
        pass(1_200).await;
        let before = redis.count("XRANGE sse:{sse}:s:a") + redis.count("XREVRANGE sse:{sse}:s:a");
        for _ in 0..500 {
            redis.forge("a", FORGED, &future_id(), "forged");
            pass(1).await;
        }
        let read = redis.count("XRANGE sse:{sse}:s:a") + redis.count("XREVRANGE sse:{sse}:s:a");
        assert!((50..=102).contains(&(read - before)), "{}", read - before);
        redis.publish("a", "1");
        assert_eq!(nginx.receives("a", 1).await, ["1"]);
        until("it is in sync", || streams.are_in_sync()).await;
    });
}

pub fn forget(channel: &str) -> Command {
    let (names, source) = (Keys::new(""), PublishTarget::Pubsub);
    Command::Forget(ForgetCommand { channel: channel.as_bytes().to_vec(), names, source })
}

#[test]
fn a_deleted_channel_keeps_what_is_published_afterwards() {
    run(async {
        let (redis, hub) = stage(Source::PubSub).await;
        let nginx = hub.process();
        let other = hub_at(&redis.url(), Source::PubSub).process();
        for one in [&nginx, &other] {
            one.is_up().await;
            one.follow(&["a"]).await;
        }
        redis.publish("a", "1");
        redis.publish("a", "2");
        assert_eq!(nginx.run(forget("a")).await, Ok(ScriptResult::Forgotten(2)));
        redis.publish("a", "3");
        for one in [&nginx, &other] {
            until("it arrives", || one.texts("a") == ["3"]).await;
        }
    });
}

#[test]
fn a_channel_that_is_deleted_while_it_is_read_has_nothing_from_before() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        redis.publish("a", "1");
        let streams = open_while_held(&redis, &nginx, &["a"]).await;
        redis.plain("a", "plain");
        assert_eq!(nginx.run(forget("a")).await, Ok(ScriptResult::Forgotten(1)));
        redis.publish("a", "2");
        pass(10).await;
        redis.repair();
        until("it is in sync", || streams.are_in_sync()).await;
        assert_eq!(nginx.texts("a"), ["2"]);
    });
}

#[test]
fn a_forged_deletion_deletes_nothing() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        nginx.follow(&["a"]).await;
        redis.publish("a", "1");
        nginx.receives("a", 1).await;
        redis.plain("sse:{sse}:ctl", &format!("\x01sse {FORGED} forget {}\na", future_id()));
        redis.publish("a", "2");
        assert_eq!(nginx.receives("a", 2).await, ["1", "2"]);
        pass(3_000).await;
        assert_eq!(nginx.texts("a"), ["1", "2"]);
    });
}

#[test]
fn a_deletion_without_the_token_makes_nginx_restore_it_at_once() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        nginx.follow(&["a"]).await;
        redis.publish("a", "1");
        nginx.receives("a", 1).await;
        // The next heartbeat is 3 s later.
        let sent = redis.count("TIME");
        until("a heartbeat is sent", || redis.count("TIME") > sent).await;
        pass(100).await;
        redis.state.borrow_mut().store.hashes.remove(HISTORY);
        redis.state.borrow_mut().forget(&Keys::new(""), "a");
        pass(100).await;
        let state = redis.state.borrow();
        let settings = state.store.hashes.get(HISTORY);
        assert!(settings.is_some_and(|settings| settings.contains_key(&b"token"[..])));
    });
}

#[test]
fn a_channel_that_is_deleted_while_it_is_looked_up_has_nothing_from_before() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let pattern = nginx.follow_pattern("a*").await;
        let id = pattern.position();
        let settings = std::mem::take(&mut redis.state.borrow_mut().store.hashes);
        redis.fault("XRANGE sse:{sse}:s:a1", Fault::Hold, 1);
        redis.publish("a1", "1");
        redis.state.borrow_mut().store.hashes = settings;
        until("it is looked up", || redis.count("XRANGE sse:{sse}:s:a1") > 0).await;
        assert_eq!(nginx.run(forget("a1")).await, Ok(ScriptResult::Forgotten(1)));
        redis.publish("a1", "2");
        redis.repair();
        until("it arrives", || !pattern.resumed(&id).1.is_empty()).await;
        pass(1_000).await;
        assert_eq!(pattern.resumed(&id).1, ["2"]);
    });
}

#[test]
fn a_channel_whose_message_is_in_doubt_while_it_is_read_is_read_once_more() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        redis.publish("a", "1");
        let streams = open_while_held(&redis, &nginx, &["a"]).await;
        redis.forge("a", FORGED, &future_id(), "forged");
        pass(10).await;
        let read = redis.count("XRANGE sse:{sse}:s:a");
        redis.repair();
        until("it is in sync", || streams.are_in_sync()).await;
        pass(100).await;
        assert_eq!(redis.count("XRANGE sse:{sse}:s:a"), read + 1);
        redis.publish("a", "2");
        assert_eq!(nginx.receives("a", 2).await, ["1", "2"]);
    });
}

#[test]
fn channels_in_doubt_while_they_are_read_are_read_again_at_most_100_at_once_in_a_second() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        pass(1_300).await;
        let names: Vec<String> = (0..150).map(|number| format!("c{number}")).collect();
        let named: Vec<&str> = names.iter().map(String::as_str).collect();
        redis.fault("XREVRANGE", Fault::Hold, usize::MAX);
        let streams = nginx.open(&named);
        until("they are subscribed to", || redis.subscriptions().len() == 151).await;
        pass(5).await;
        named.iter().for_each(|name| redis.forge(name, FORGED, &future_id(), "forged"));
        pass(5).await;
        let before = redis.count("XRANGE sse:{sse}:s:c");
        redis.repair();
        pass(100).await;
        assert_eq!(redis.count("XRANGE sse:{sse}:s:c") - before, 100);
        until("they are in sync", || streams.are_in_sync()).await;
        pass(2_000).await;
        assert_eq!(redis.count("XRANGE sse:{sse}:s:c") - before, 150);
    });
}

#[test]
fn a_stream_that_has_not_started_over_is_described_once() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a"]).await;
        let old = redis.publish("a", "1");
        redis.publish("a", "2");
        nginx.receives("a", 2).await;
        redis.forge("a", FORGED, &super::store::shown(old), "forged");
        until("it is described", || redis.count("XINFO") == 1).await;
        until("it is in sync", || streams.are_in_sync()).await;
        // An event that is missing later says nothing about that.
        redis.publish_unheard("a", "3");
        redis.publish("a", "4");
        assert_eq!(nginx.receives("a", 4).await, ["1", "2", "3", "4"]);
        assert_eq!(redis.count("XINFO"), 1);
    });
}
