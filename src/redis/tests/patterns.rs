//! Streams of patterns.

use super::fake::Fault;
use super::*;

#[test]
fn a_message_that_several_subscriptions_match_arrives_once() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let all = nginx.follow_pattern("*").await;
        let some = nginx.follow_pattern("a*").await;
        let named = nginx.follow(&["a1"]).await;
        let id = all.position();
        redis.publish("a1", "1");
        redis.plain("a1", "2");
        redis.publish("a2", "3");
        redis.plain("a2", "4");
        redis.publish("b", "5");
        redis.plain("b", "6");
        until("they arrive", || all.resumed(&id).1.len() >= 6).await;
        pass(100).await;
        let expected = ["1", "2", "3", "4", "5", "6"].map(str::to_owned);
        assert_eq!(all.resumed(&id), (0, expected.to_vec()));
        assert_eq!(some.resumed(&id), (0, expected[..4].to_vec()));
        assert_eq!(named.resumed(&id), (0, ["1", "2"].map(str::to_owned).to_vec()));
    });
}

#[test]
fn a_channel_that_is_subscribed_to_later_has_each_event_once() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let pattern = nginx.follow_pattern("a*").await;
        let id = pattern.position();
        redis.publish("a1", "1");
        redis.publish("a1", "2");
        until("they arrive", || pattern.resumed(&id).1.len() == 2).await;
        redis.fault("XREVRANGE sse:{sse}:s:a1", Fault::Hold, 1);
        redis.fault("XRANGE sse:{sse}:s:a1", Fault::Hold, 1);
        let named = nginx.open(&["a1"]);
        pass(500).await;
        redis.publish("a1", "3");
        redis.repair();
        until("it is in sync", || named.are_in_sync()).await;
        redis.publish("a1", "4");
        nginx.receives("a1", 4).await;
        assert_eq!(nginx.texts("a1"), ["1", "2", "3", "4"]);
        let (gaps, texts) = pattern.resumed(&id);
        assert_eq!((gaps, texts), (0, ["1", "2", "3", "4"].map(str::to_owned).to_vec()));
    });
}

#[test]
fn a_pattern_receives_a_gap_event_after_a_lost_connection() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let pattern = nginx.follow_pattern("a*").await;
        redis.publish("a1", "1");
        until("it arrives", || !nginx.texts("a1").is_empty()).await;
        let id = pattern.position();
        redis.stop().await;
        redis.publish("a1", "lost");
        redis.resume().await;
        pass(1_000).await;
        nginx.is_up().await;
        redis.publish("a1", "2");
        until("it arrives", || pattern.resumed(&id).1 == ["2"]).await;
        assert_eq!(pattern.resumed(&id).0, 1);
        let id = pattern.position();
        redis.publish("a2", "3");
        until("it arrives", || pattern.resumed(&id).1 == ["3"]).await;
        assert_eq!(pattern.resumed(&id).0, 0);
    });
}

#[test]
fn a_pattern_waits_for_the_channels_that_it_matches_and_only_for_them() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let (mine, others) = (nginx.follow_pattern("a*").await, nginx.follow_pattern("b*").await);
        let named = nginx.follow(&["a1"]).await;
        redis.publish("a1", "1");
        nginx.receives("a1", 1).await;
        let id = mine.position();
        redis.fault("XRANGE sse:{sse}:s:a1", Fault::Hold, 1);
        redis.publish_unheard("a1", "2");
        redis.publish("a1", "3");
        until("it is read", || redis.count("XRANGE sse:{sse}:s:a1") > 0).await;
        pass(100).await;
        assert!(!named.are_in_sync() && !mine.are_in_sync() && others.are_in_sync());
        redis.repair();
        until("they are in sync", || named.are_in_sync() && mine.are_in_sync()).await;
        assert_eq!(mine.resumed(&id), (0, ["2", "3"].map(str::to_owned).to_vec()));
    });
}

#[test]
fn channels_of_redis_itself_and_what_is_no_channel_are_not_delivered() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let pattern = nginx.follow_pattern("*").await;
        let id = pattern.position();
        redis.plain("__keyspace@0__:a", "set");
        redis.plain("sse:{other}:ctl", "123");
        // These cannot be names of channels.
        let names = ["sse.own", "a\nb", &"c".repeat(256)];
        names.iter().for_each(|name| redis.plain(name, "x"));
        redis.plain("b", "1");
        until("it arrives", || !pattern.resumed(&id).1.is_empty()).await;
        assert_eq!(pattern.resumed(&id), (0, vec!["1".to_owned()]));
        assert!(names.iter().all(|name| nginx.texts(name).is_empty()));
    });
}

#[test]
fn while_many_channels_catch_up_the_streams_of_all_patterns_wait() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let names: Vec<String> = (0..70).map(|number| format!("b{number}")).collect();
        let named: Vec<&str> = names.iter().map(String::as_str).collect();
        let named = nginx.follow(&named).await;
        let pattern = nginx.follow_pattern("a*").await;
        redis.fault("XRANGE", Fault::Hold, usize::MAX);
        for name in &names {
            redis.publish(name, "1");
        }
        nginx.receives("b69", 1).await;
        for name in &names {
            redis.publish_unheard(name, "2");
            redis.publish(name, "3");
        }
        pass(500).await;
        assert!(!named.are_in_sync());
        let id = pattern.position();
        redis.repair();
        until("they are in sync", || named.are_in_sync() && pattern.are_in_sync()).await;
        assert!(names.iter().all(|name| nginx.texts(name) == ["1", "2", "3"]));
        redis.publish("a1", "4");
        until("it arrives", || pattern.resumed(&id).1 == ["4"]).await;
    });
}

#[test]
fn more_than_10_000_channels_in_doubt_are_dropped_with_a_gap_event() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let (pattern, others) =
            (nginx.follow_pattern("a*").await, nginx.follow_pattern("b*").await);
        let id = pattern.position();
        redis.publish("b1", "1");
        until("it arrives", || others.resumed(&id).1 == ["1"]).await;
        let forged_id = format!("{}-0", wall() + 1_000);
        for number in 0..10_150 {
            redis.forge(&format!("a{number}"), super::doubts::FORGED, &forged_id, "forged");
        }
        until("it is logged", || {
            nginx.logged("more than 10000 channels matched only by patterns") == 1
        })
        .await;
        pass(3_000).await;
        assert_eq!(pattern.resumed(&id), (1, Vec::new()));
        assert_eq!(others.resumed(&id), (0, vec!["1".to_owned()]));
    });
}

#[test]
fn a_pattern_that_is_opened_meanwhile_waits_for_the_channels_that_it_matches() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let named = nginx.follow(&["a1"]).await;
        redis.publish("a1", "1");
        nginx.receives("a1", 1).await;
        redis.fault("XRANGE sse:{sse}:s:a1", Fault::Hold, 1);
        redis.publish_unheard("a1", "2");
        redis.publish("a1", "3");
        until("it is read", || redis.count("XRANGE sse:{sse}:s:a1") > 0).await;
        let (mine, others) = (nginx.open_pattern("a*"), nginx.open_pattern("b*"));
        pass(3_000).await;
        redis.repair();
        until("they are in sync", || others.are_in_sync() && mine.are_in_sync()).await;
        assert!(named.are_in_sync());
        assert_eq!(nginx.texts("a1"), ["1", "2", "3"]);
    });
}

#[test]
fn a_pattern_that_is_opened_while_several_pages_are_read_waits_for_the_last_one() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let named = nginx.follow(&["a1"]).await;
        redis.publish("a1", "1");
        nginx.receives("a1", 1).await;
        // Entries before and behind a loss are different pages.
        let before = redis.publish_unheard("a1", "2");
        let gone = redis.publish_unheard("a1", "gone");
        redis.state.borrow_mut().store.delete(b"sse:{sse}:s:a1", gone);
        let next = format!("XRANGE sse:{{sse}}:s:a1 ({}", super::store::shown(before));
        redis.fault(&next, Fault::Hold, 1);
        redis.publish("a1", "3");
        until("the next page is read", || redis.count(&next) > 0).await;
        let (mine, others) = (nginx.open_pattern("a*"), nginx.follow_pattern("b*").await);
        pass(1_000).await;
        assert!(others.are_in_sync() && !mine.are_in_sync() && !named.are_in_sync());
        redis.repair();
        until("they are in sync", || mine.are_in_sync() && named.are_in_sync()).await;
    });
}

#[test]
fn what_is_published_while_a_channel_is_read_arrives_once_through_the_pattern_too() {
    // The channel is read before these are published, or afterwards.
    for fault in [Fault::Hold, Fault::Wait] {
        run(async {
            let (redis, nginx) = connected(Source::PubSub).await;
            let pattern = nginx.follow_pattern("a*").await;
            let id = pattern.position();
            redis.publish("a1", "1");
            until("it arrives", || pattern.resumed(&id).1.len() == 1).await;
            let head = nginx.hub.head();
            redis.fault("XREVRANGE sse:{sse}:s:a1", fault, 1);
            let named = nginx.open(&["a1"]);
            until("it is read", || redis.count("XREVRANGE sse:{sse}:s:a1") > 0).await;
            redis.publish("a1", "2");
            redis.publish("a1", "3");
            redis.plain("a1", "4");
            pass(50).await;
            redis.repair();
            until("it is in sync", || named.are_in_sync()).await;
            let expected = ["1", "2", "3", "4"].map(str::to_owned).to_vec();
            assert_eq!(nginx.texts("a1"), expected);
            assert_eq!(pattern.received_through_pattern_since(head), (0, expected[1..].to_vec()));
            assert_eq!(pattern.resumed(&id), (0, expected));
        });
    }
}

#[test]
fn the_history_of_a_channel_precedes_what_was_received_through_a_pattern_before_its_subscription() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        redis.publish("a1", "1");
        let _pattern = nginx.follow_pattern("a*").await;
        redis.fault("SUBSCRIBE a1", Fault::Wait, 1);
        let named = nginx.open(&["a1"]);
        until("it is subscribed to", || redis.count("SUBSCRIBE a1") > 0).await;
        redis.publish("a1", "2");
        nginx.receives("a1", 1).await;
        redis.repair();
        until("it is in sync", || named.are_in_sync()).await;
        assert_eq!(nginx.texts("a1"), ["1", "2"]);
    });
}

#[test]
fn an_old_message_that_is_sent_again_does_not_repeat_history_for_patterns() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let old = redis.publish("a1", "1");
        redis.publish("a1", "2");
        redis.disconnect();
        pass(1_000).await;
        nginx.is_up().await;
        let pattern = nginx.follow_pattern("a*").await;
        let id = pattern.position();
        redis.fault("XREVRANGE sse:{sse}:s:a1", Fault::Hold, 1);
        let named = nginx.open(&["a1"]);
        until("it is read", || redis.count("XREVRANGE sse:{sse}:s:a1") > 0).await;
        let token =
            redis.state.borrow().store.hashes[&b"sse:{sse}:history"[..]][&b"token"[..]].clone();
        let token = String::from_utf8(token).unwrap();
        redis.forge("a1", &token, &super::store::shown(old), "1");
        redis.repair();
        until("it is in sync", || named.are_in_sync()).await;
        redis.publish("a1", "3");
        until("it arrives", || !pattern.resumed(&id).1.is_empty()).await;
        pass(100).await;
        assert_eq!(pattern.resumed(&id), (0, vec!["3".to_owned()]));
        assert_eq!(nginx.texts("a1"), ["1", "2", "3"]);
    });
}

#[test]
fn what_was_published_just_before_a_pattern_was_subscribed_to_is_a_gap() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        pass(1_500).await;
        // A client has received this one from another nginx.
        let (ms, seq) = redis.publish("a1", "1");
        redis.publish("a1", "2");
        let streams = nginx.follow_pattern("a*").await;
        redis.publish("a1", "3");
        until("it arrives", || nginx.texts("a1") == ["3"]).await;
        assert_eq!(streams.resumed(&format!("{ms}-{seq}")), (1, vec!["3".to_owned()]));
    });
}
