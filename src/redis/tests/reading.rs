//! The connections on which streams are read: replies that are too large, and connections that are
//! lost.

use super::fake::Fault;
use super::resp::Reply;
use super::*;
use crate::hub::{Counter, History, RedisState};

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number} {}", "x".repeat(3_500))).collect()
}

#[test]
fn entries_of_several_streams_that_do_not_fit_into_one_reply_are_read_with_the_next() {
    run(async {
        let (redis, nginx) = connected(Source::Streams).await;
        nginx.follow(&["a", "b"]).await;
        let texts = texts(20);
        for text in &texts {
            redis.append("a", text);
            redis.append("b", text);
        }
        assert_eq!(nginx.receives("a", 20).await, texts);
        assert_eq!(nginx.receives("b", 20).await, texts);
        assert!(nginx.lines().is_empty(), "{:?}", nginx.lines());
    });
}

#[test]
fn a_connection_for_reading_streams_that_is_lost_is_replaced_and_the_subscription_stays() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        nginx.follow(&["a"]).await;
        redis.publish("b", "1");
        redis.fault("XREVRANGE sse:{sse}:s:b", Fault::CloseBehind, 1);
        nginx.follow(&["b"]).await;
        assert_eq!(nginx.texts("b"), ["1"]);
        assert_eq!(redis.count("XREVRANGE sse:{sse}:s:b"), 2);
        assert_eq!(nginx.logged("lost the connection"), 0);
        assert_eq!(nginx.counted(Counter::Reconnects), 0);
    });
}

#[test]
fn a_channel_is_in_sync_once_what_redis_had_sent_before_its_history_has_arrived() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        // With it, there is a connection for reading.
        nginx.follow(&["a"]).await;
        // Low watermarks are those of streams that applications write.
        assert_eq!(redis.count("HMGET sse:{sse}:forgotten"), 0);
        redis.fault("PING", Fault::Hold, usize::MAX);
        let streams = nginx.open(&["b"]);
        pass(500).await;
        assert!(redis.count("XREVRANGE sse:{sse}:s:b") > 0 && !streams.are_in_sync());
        redis.repair();
        until("it is in sync", || streams.are_in_sync()).await;
    });
}

#[test]
fn a_hub_is_not_connected_before_there_is_a_connection_for_reading_streams() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a"]).await;
        redis.stop().await;
        pass(1_000).await;
        redis.publish("a", "1");
        redis.fault("HSET", Fault::Hold, 1);
        redis.resume().await;
        let asked = redis.count("HSET ");
        until("it is connected", || redis.count("HSET ") > asked).await;
        let loading = Reply::error("LOADING Redis is loading the dataset in memory");
        redis.fault("PING", Fault::Reply(loading), usize::MAX);
        redis.end_fault("HSET");
        pass(10_000).await;
        assert_ne!(nginx.hub.link(), RedisState::Up);
        redis.repair();
        until("it is in sync", || streams.are_in_sync()).await;
        assert_eq!(nginx.texts("a"), ["1"]);
    });
}

#[test]
fn more_than_may_be_held_is_read_after_what_other_channels_have_missed() {
    run(async {
        let redis = FakeRedis::start().await;
        let history = History { count: 100, age: 0 };
        let hub = nginx::hub_of(&redis.url(), Source::PubSub, 1 << 20, history);
        let nginx = hub.process();
        nginx.is_up().await;
        let streams = nginx.follow(&["a", "b"]).await;
        redis.publish("a", "0");
        redis.publish("b", "0");
        nginx.receives("b", 1).await;
        pass(1_500).await;
        redis.stop().await;
        let texts = texts(200);
        texts.iter().for_each(|text| _ = redis.publish("a", text));
        redis.publish("b", "1");
        redis.resume().await;
        until("they are in sync", || nginx.texts("b").len() == 2 && streams.are_in_sync()).await;
        let (a, b) = (nginx.hub.retained_texts(b"a"), nginx.hub.retained_texts(b"b"));
        let a: Vec<_> = a.into_iter().filter(|(_, text)| *text != "0").collect();
        assert!(a.iter().map(|(_, text)| text).eq(&texts[200 - a.len()..]));
        let (first_of_a, last_of_b) = (a[0].0, b[1].0);
        assert!(a.len() >= 100 && last_of_b < first_of_a, "{last_of_b} {first_of_a}");
    });
}

#[test]
fn a_lost_connection_is_not_relied_upon_before_all_channels_have_caught_up() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a", "b"]).await;
        for channel in ["a", "b"] {
            redis.publish(channel, "0");
            nginx.receives(channel, 1).await;
        }
        pass(1_500).await;
        let id = streams.position();
        redis.stop().await;
        redis.publish("a", "1");
        pass(1).await;
        redis.publish("b", "2");
        for channel in ["a", "b"] {
            redis.fault(&format!("XRANGE sse:{{sse}}:s:{channel}"), Fault::Hold, usize::MAX);
        }
        redis.resume().await;
        nginx.is_up().await;
        // By then, each request is for one stream only.
        pass(20_000).await;
        let count = |channel| redis.count(&format!("XRANGE sse:{{sse}}:s:{channel}"));
        let before = (count("a"), count("b"));
        pass(5_000).await;
        let (first, second) = if count("a") > before.0 { ("a", "b") } else { ("b", "a") };
        let second_before = count(second);
        redis.end_fault(&format!("XRANGE sse:{{sse}}:s:{first}"));
        until("the first is read", || nginx.texts(first).len() == 2).await;
        until("the second is being read", || count(second) > second_before).await;
        assert!(!streams.are_in_sync());
        redis.disconnect();
        pass(10).await;
        redis.repair();
        until("they are in sync", || streams.are_in_sync()).await;
        let (gaps, mut texts) = streams.resumed(&id);
        texts.sort();
        assert_eq!((gaps, texts), (0, ["1", "2"].map(str::to_owned).to_vec()));
    });
}

#[test]
fn an_entry_that_is_too_large_is_skipped_with_a_line() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        redis.publish("b", &"x".repeat(200_000));
        redis.publish("b", "2");
        nginx.follow(&["b"]).await;
        assert_eq!(nginx.texts("b"), ["2"]);
        assert_eq!(nginx.logged("an event of 200000 bytes from Redis on channel \"b\""), 1);
    });
}

#[test]
fn the_hub_knows_which_channels_are_being_read() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let followed = nginx.follow(&["other"]).await;
        redis.publish("a", "1");
        let streams = open_while_held(&redis, &nginx, &["a"]).await;
        assert!(nginx.hub.are_catching_up(&streams.members));
        assert!(!nginx.hub.are_catching_up(&followed.members));
        redis.repair();
        until("it is in sync", || streams.are_in_sync()).await;
        assert!(!nginx.hub.are_catching_up(&streams.members));
    });
}

#[test]
fn entries_that_a_blocking_command_returns_are_not_read_once_more() {
    run(async {
        let (redis, nginx) = connected(Source::Streams).await;
        redis.append("a", "1");
        nginx.follow(&["a"]).await;
        let read = redis.count("XRANGE a");
        redis.append("a", "2");
        assert_eq!(nginx.receives("a", 2).await, ["1", "2"]);
        assert_eq!(redis.count("XRANGE a"), read);
    });
}
