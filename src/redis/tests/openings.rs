//! A connection opens again while messages arrive: what was missed and the messages are in one
//! order.

use super::doubts::{forget, FORGED};
use super::fake::Fault;
use super::*;
use crate::redis::keys::Keys;
use crate::redis::script::ScriptResult;

/// A hub whose channels `a` and `b` have been in sync, and whose next connection has to wait for
/// the entries of their streams.
async fn reopening(redis: &FakeRedis, nginx: &Nginx, fault: Fault) -> (nginx::Streams, String) {
    let streams = nginx.follow(&["a", "b"]).await;
    redis.publish("a", "0");
    redis.publish("b", "0");
    nginx.receives("b", 1).await;
    pass(1_500).await;
    let id = streams.position();
    redis.stop().await;
    redis.publish("a", "1");
    pass(1).await;
    redis.publish("b", "2");
    redis.fault("XRANGE sse:{sse}:s:a", fault, usize::MAX);
    redis.resume().await;
    let read = redis.count("XRANGE sse:{sse}:s:a");
    until("the streams are read", || redis.count("XRANGE sse:{sse}:s:a") > read).await;
    (streams, id)
}

#[test]
fn messages_that_arrive_meanwhile_follow_what_was_missed() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let (streams, id) = reopening(&redis, &nginx, Fault::Hold).await;
        redis.publish("b", "3");
        pass(1).await;
        redis.plain("a", "4");
        redis.publish("a", "5");
        redis.plain("of nobody", "x");
        redis.repair();
        until("they are in sync", || streams.are_in_sync()).await;
        assert_eq!(
            streams.resumed(&id),
            (0, ["1", "2", "3", "4", "5"].map(str::to_owned).to_vec())
        );
    });
}

#[test]
fn a_plain_message_follows_the_events_that_were_read_and_arrived_before_it() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let (streams, id) = reopening(&redis, &nginx, Fault::Wait).await;
        redis.publish("a", "3");
        pass(1).await;
        redis.publish("b", "4");
        redis.plain("a", "5");
        redis.publish("a", "6");
        redis.repair();
        until("they are in sync", || streams.are_in_sync()).await;
        let expected = ["1", "2", "3", "4", "5", "6"].map(str::to_owned).to_vec();
        assert_eq!(streams.resumed(&id), (0, expected));
    });
}

#[test]
fn an_event_that_is_missing_among_them_is_read_once_more() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let (streams, id) = reopening(&redis, &nginx, Fault::Hold).await;
        redis.publish("a", "3");
        redis.publish_unheard("a", "4");
        redis.publish("a", "5");
        redis.plain("a", "6");
        redis.publish("b", "7");
        redis.repair();
        until("they are in sync", || streams.are_in_sync()).await;
        let (gaps, mut texts) = streams.resumed(&id);
        assert_eq!((gaps, texts.iter().filter(|text| *text == "7").count()), (0, 1));
        texts.retain(|text| !["2", "7"].contains(&&**text));
        assert_eq!(texts, ["1", "3", "4", "5", "6"]);
    });
}

#[test]
fn forged_and_too_large_messages_meanwhile_change_nothing() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let (streams, id) = reopening(&redis, &nginx, Fault::Hold).await;
        redis.forge("a", FORGED, &format!("{}-0", wall() + 5), "forged");
        redis.plain("b", &"x".repeat(100_000));
        redis.plain("sse:{sse}:ctl", &format!("\x01sse {FORGED} forget {}-0\na", wall()));
        redis.publish("a", "3");
        redis.repair();
        until("they are in sync", || streams.are_in_sync()).await;
        pass(2_000).await;
        assert_eq!(streams.resumed(&id), (0, ["1", "2", "3"].map(str::to_owned).to_vec()));
        assert_eq!(nginx.logged("an event of 100000 bytes"), 1);
    });
}

#[test]
fn a_channel_that_is_deleted_meanwhile_keeps_what_follows() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let (streams, id) = reopening(&redis, &nginx, Fault::Hold).await;
        redis.publish("a", "3");
        redis.plain("a", "4");
        let deleted = redis.state.borrow_mut().forget(&Keys::new(""), "a");
        assert_eq!(deleted, 3);
        redis.publish("a", "5");
        redis.repair();
        until("they are in sync", || streams.are_in_sync()).await;
        assert_eq!(nginx.texts("a"), ["5"]);
        assert_eq!(streams.resumed(&id).1, ["2", "5"]);
    });
}

#[test]
fn streams_that_are_slow_to_read_do_not_keep_the_hub_from_being_connected() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let (streams, id) = reopening(&redis, &nginx, Fault::Hold).await;
        let since = elapsed();
        until("the hub is connected", || nginx.hub.link() == crate::hub::RedisState::Up).await;
        assert!(elapsed() - since < 4_000);
        assert!(!streams.are_in_sync());
        redis.publish("b", "3");
        redis.repair();
        until("they are in sync", || streams.are_in_sync()).await;
        assert_eq!(streams.resumed(&id), (0, ["1", "2", "3"].map(str::to_owned).to_vec()));
    });
}

#[test]
fn a_reader_that_cannot_read_is_logged_once_a_minute_and_goes_on() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let text = "x".repeat(3_500);
        (0..90).for_each(|_| _ = redis.publish("a", &text));
        redis.fault("XRANGE sse:{sse}:s:a", Fault::Silence, usize::MAX);
        redis.fault("XREVRANGE sse:{sse}:s:a", Fault::Silence, usize::MAX);
        let streams = nginx.open(&["a"]);
        pass(30_000).await;
        let lines = nginx.logged("channels cannot catch up with Redis: Redis does not respond")
            + nginx.logged("channel \"a\" has not caught up with Redis after");
        assert_eq!(lines, 1, "{:?}", nginx.lines());
        redis.repair();
        until("it is in sync", || streams.are_in_sync()).await;
        assert_eq!(nginx.texts("a").len(), 90);
    });
}

#[test]
fn a_deletion_by_this_nginx_is_counted() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        redis.publish("a", "1");
        assert_eq!(nginx.run(forget("a")).await, Ok(ScriptResult::Forgotten(1)));
        assert_eq!(nginx.run(forget("a")).await, Ok(ScriptResult::Forgotten(0)));
    });
}
