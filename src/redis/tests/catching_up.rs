//! Channels catch up with what Redis has, while messages arrive.

use super::fake::Fault;
use super::resp::Reply;
use super::*;
use crate::redis::keys::Keys;

fn key(channel: &str) -> Vec<u8> {
    Keys::new("").stream(channel.as_bytes())
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[test]
fn a_new_channel_has_the_history_and_then_what_is_published() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        redis.publish("a", "1");
        redis.publish("a", "2");
        nginx.follow(&["a"]).await;
        assert_eq!(nginx.texts("a"), ["1", "2"]);
        redis.publish("a", "3");
        redis.plain("a", "plain");
        redis.publish("b", "of another channel");
        assert_eq!(nginx.receives("a", 4).await, ["1", "2", "3", "plain"]);
        assert!(nginx.texts("b").is_empty());
    });
}

#[test]
fn messages_wait_until_the_history_is_read() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        redis.publish("a", "1");
        let streams = open_while_held(&redis, &nginx, &["a", "b"]).await;
        redis.plain("a", "plain 1");
        redis.publish("a", "2");
        redis.plain("a", "plain 2");
        redis.plain("a", "plain 3");
        pass(100).await;
        assert!(nginx.texts("a").is_empty() && !streams.are_in_sync());
        redis.repair();
        until("they are in sync", || streams.are_in_sync()).await;
        assert_eq!(nginx.texts("a"), ["1", "plain 1", "2", "plain 2", "plain 3"]);
        assert!(nginx.lines().is_empty(), "{:?}", nginx.lines());
    });
}

#[test]
fn a_plain_message_that_waits_precedes_the_events_that_were_published_after_it() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a", "b"]).await;
        redis.publish("a", "1");
        nginx.receives("a", 1).await;
        let id = streams.position();
        // The stream is read after all of this was published.
        redis.fault("XRANGE sse:{sse}:s:a", Fault::Wait, 1);
        redis.publish_unheard("a", "2");
        redis.publish("a", "3");
        until("it is read", || redis.count("XRANGE sse:{sse}:s:a") > 0).await;
        let mut expected = vec!["2", "3"];
        for text in ["plain 1", "4", "plain 2", "plain 3", "5", "6", "plain 4"] {
            match text.starts_with('p') {
                true => redis.plain("a", text),
                false => _ = redis.publish("a", text),
            }
            expected.push(text);
            pass(1).await;
        }
        redis.publish("b", "of another channel");
        pass(100).await;
        redis.repair();
        until("it is in sync", || streams.are_in_sync()).await;
        assert_eq!(nginx.texts("a")[1..], expected);
        let (gaps, texts) = streams.resumed(&id);
        assert_eq!(gaps, 0);
        let of_a = texts.iter().filter(|text| *text != "of another channel");
        assert!(of_a.eq(&nginx.texts("a")[1..]), "{texts:?}");
        assert_eq!(texts.len(), expected.len() + 1);
    });
}

#[test]
fn a_history_of_many_pages_is_read_to_its_end() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let text = |number: u32| format!("{number} {}", "x".repeat(3_000));
        (0..400).for_each(|number| _ = redis.publish("a", &text(number)));
        nginx.follow(&["a"]).await;
        let texts = nginx.texts("a");
        assert_eq!(texts.len(), 100);
        assert!(texts.iter().eq((300..400).map(text).collect::<Vec<_>>().iter()));
        assert!(redis.count("XREVRANGE sse:{sse}:s:a") > 2);
    });
}

#[test]
fn an_event_whose_message_was_lost_is_read_before_the_next_one() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a", "b"]).await;
        redis.publish("a", "1");
        nginx.receives("a", 1).await;
        let id = streams.position();
        redis.publish_unheard("a", "2");
        redis.publish_unheard("a", "3");
        redis.publish("a", "4");
        redis.plain("a", "5");
        assert_eq!(nginx.receives("a", 5).await, ["1", "2", "3", "4", "5"]);
        assert_eq!(streams.resumed(&id), (0, ["2", "3", "4", "5"].map(str::to_owned).to_vec()));
    });
}

#[test]
fn an_outage_is_caught_up_on_all_channels_in_one_order() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a", "b"]).await;
        redis.publish("a", "0");
        nginx.receives("a", 1).await;
        let id = streams.position();
        redis.stop().await;
        pass(1_000).await;
        for number in 1..50 {
            redis.publish(["a", "b"][number % 2], &number.to_string());
            pass(1).await;
        }
        redis.resume().await;
        until("they are in sync", || streams.are_in_sync()).await;
        assert_eq!(streams.resumed(&id), (0, numbers(1..50)));
        assert!(nginx.logged("deleted") == 0);
    });
}

#[test]
fn a_long_history_is_read_in_the_background_while_other_channels_go_on() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let text = |number: u32| format!("{number} {}", "x".repeat(3_500));
        let streams = nginx.follow(&["a", "b"]).await;
        redis.publish("a", "first");
        nginx.receives("a", 1).await;
        let id = streams.position();
        redis.stop().await;
        (0..90).for_each(|number| _ = redis.publish("a", &text(number)));
        // The pages of the stream are slow.
        redis.fault("XRANGE sse:{sse}:s:a", Fault::Hold, 1);
        redis.resume().await;
        nginx.is_up().await;
        redis.publish("b", "b");
        assert_eq!(nginx.receives("b", 1).await, ["b"]);
        redis.repair();
        until("they are in sync", || streams.are_in_sync()).await;
        let (gaps, texts) = streams.resumed(&id);
        assert_eq!((gaps, texts.len()), (0, 91));
        assert!(texts
            .iter()
            .filter(|text| *text != "b")
            .eq((0..90).map(text).collect::<Vec<_>>().iter()));
    });
}

#[test]
fn a_deleted_stream_is_reported_with_a_gap_event_and_a_line() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a"]).await;
        redis.publish("a", "1");
        nginx.receives("a", 1).await;
        let id = streams.position();
        redis.publish_unheard("a", "lost");
        redis.state.borrow_mut().store.streams.remove(&key("a"));
        redis.disconnect();
        pass(1_000).await;
        nginx.is_up().await;
        redis.publish("a", "2");
        until("it arrives", || nginx.texts("a").contains(&"2".to_owned())).await;
        assert_eq!(streams.resumed(&id), (1, vec!["2".to_owned()]));
        assert_eq!(nginx.logged("was deleted, evicted"), 1);
    });
}

#[test]
fn a_key_that_is_no_stream_concerns_only_its_channel() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let wrong =
            Reply::error("WRONGTYPE Operation against a key holding the wrong kind of value");
        redis.fault("XREVRANGE sse:{sse}:s:a", Fault::Reply(wrong), 1);
        let other = nginx.follow(&["b"]).await;
        let streams = nginx.open(&["a"]);
        until("it is refused", || nginx.logged("cannot receive channel \"a\"") == 1).await;
        redis.publish("b", "1");
        assert_eq!(nginx.receives("b", 1).await, ["1"]);
        assert!(!streams.are_in_sync() && other.are_in_sync());
        redis.publish("a", "2");
        // It is tried again after 3 s.
        until("it is in sync", || streams.are_in_sync()).await;
        assert_eq!(nginx.texts("a"), ["2"]);
    });
}

#[test]
fn a_forbidden_channel_concerns_no_other() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        redis.state.borrow_mut().forbidden.extend([b"c".to_vec(), b"e".to_vec()]);
        let refused = nginx.open(&["c", "e"]);
        let streams = nginx.follow(&["a", "b", "d"]).await;
        until("it is logged", || {
            nginx.logged("and another one from Redis: the user has no permission") == 1
        })
        .await;
        redis.publish("d", "1");
        assert_eq!(nginx.receives("d", 1).await, ["1"]);
        pass(7_000).await;
        assert!(!refused.are_in_sync() && streams.are_in_sync());
        assert_eq!(nginx.logged("the user has no permission"), 1);
        redis.publish("c", "2");
        redis.state.borrow_mut().forbidden.clear();
        until("they are in sync", || refused.are_in_sync()).await;
        assert_eq!(nginx.texts("c"), ["2"]);
        assert_eq!(redis.subscriptions(), ["a", "b", "c", "d", "e", "sse:{sse}:ctl"]);
    });
}

#[test]
fn a_channel_without_streams_is_left_after_ten_seconds() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a", "b"]).await;
        let pattern = nginx.follow_pattern("x*").await;
        streams.close();
        pattern.close();
        pass(9_000).await;
        assert_eq!(redis.subscriptions(), ["a", "b", "sse:{sse}:ctl", "x*"]);
        let again = nginx.follow(&["b"]).await;
        pass(4_000).await;
        assert_eq!(redis.subscriptions(), ["b", "sse:{sse}:ctl"]);
        redis.publish("a", "unheard");
        redis.publish("b", "1");
        assert_eq!(nginx.receives("b", 1).await, ["1"]);
        nginx.follow(&["a"]).await;
        assert_eq!(nginx.texts("a"), ["unheard"]);
        assert!(again.are_in_sync());
    });
}

#[test]
fn too_many_messages_during_a_slow_catch_up_are_dropped_and_durable_ones_read() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = open_while_held(&redis, &nginx, &["a"]).await;
        let text = "x".repeat(4_000);
        (0..150).for_each(|_| redis.plain("a", &text));
        redis.publish("a", "durable");
        until("it is logged", || nginx.logged("too many messages are waiting") == 1).await;
        redis.repair();
        until("it is in sync", || streams.are_in_sync()).await;
        redis.publish("a", "next");
        until("it arrives", || nginx.texts("a").contains(&"next".to_owned())).await;
        assert_eq!(nginx.texts("a"), ["durable", "next"]);
    });
}

#[test]
fn too_large_messages_and_entries_are_skipped_with_a_line() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a"]).await;
        redis.plain("a", &"x".repeat(5_000));
        redis.plain("a", &"x".repeat(200_000));
        redis.publish("a", "1");
        assert_eq!(nginx.receives("a", 1).await, ["1"]);
        let line = "an event of 5000 bytes from Redis on channel \"a\" is larger than";
        assert_eq!((nginx.logged(line), nginx.logged("max_event_size and was skipped")), (1, 1));
        redis.publish("b", &"x".repeat(200_000));
        redis.publish("b", "2");
        nginx.follow(&["b"]).await;
        assert_eq!(nginx.texts("b"), ["2"]);
        assert!(streams.are_in_sync());
        pass(61_000).await;
        redis.plain("a", &"x".repeat(200_000));
        until("it is logged again", || nginx.logged("an event of 200000 bytes") == 1).await;
    });
}

#[test]
fn a_connection_for_reading_streams_is_closed_when_it_is_not_needed() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        assert_eq!(redis.connections(), 1);
        nginx.follow(&["a"]).await;
        pass(9_000).await;
        assert_eq!(redis.connections(), 2);
        pass(3_000).await;
        assert_eq!(redis.connections(), 1);
        redis.publish("b", "1");
        nginx.follow(&["b"]).await;
        assert_eq!(nginx.texts("b"), ["1"]);
        assert_eq!(redis.connections(), 2);
    });
}

#[test]
fn a_line_tells_how_many_channels_are_forbidden() {
    for (forbidden, line) in [
        (&["c"][..], "cannot receive channel \"c\" from Redis: the user has no permission"),
        (&["c", "d", "e"], " and 2 others from Redis: the user has no permission"),
    ] {
        run(async {
            let (redis, nginx) = connected(Source::PubSub).await;
            let names = forbidden.iter().map(|name| name.as_bytes().to_vec());
            redis.state.borrow_mut().forbidden.extend(names);
            nginx.open(forbidden);
            until("it is logged", || nginx.logged("cannot receive channel") == 1).await;
            assert_eq!(nginx.logged(line), 1, "{:?}", nginx.lines());
        });
    }
}
