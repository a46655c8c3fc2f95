//! A connection opens again while messages arrive: what was missed and the messages are in one
//! order.

use super::doubts::{forget, FORGED};
use super::fake::Fault;
use super::nginx::context_of;
use super::resp::Reply;
use super::*;
use crate::hub::{FencingToken, ReportedId, SyncState};
use crate::redis::entry::Entry;
use crate::redis::keys::Keys;
use crate::redis::script::ScriptResult;
use crate::redis::session::{Holder, Session};
use crate::redis::wakes::ThreadWaker;

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
fn patterns_receive_what_arrives_meanwhile_on_channels_without_streams() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let pattern = nginx.follow_pattern("c*").await;
        let (streams, id) = reopening(&redis, &nginx, Fault::Hold).await;
        redis.plain("c1", "3");
        redis.publish("c2", "4");
        redis.repair();
        until("they are in sync", || streams.are_in_sync()).await;
        assert_eq!(pattern.resumed(&id), (1, ["3", "4"].map(str::to_owned).to_vec()));
    });
}

#[test]
fn streams_that_are_slow_to_read_do_not_keep_the_hub_from_being_connected() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let (streams, id) = reopening(&redis, &nginx, Fault::Hold).await;
        let since = elapsed();
        redis.plain("b", "3");
        until("the hub is connected", || nginx.hub.link() == crate::hub::RedisState::Up).await;
        assert!(elapsed() - since < 4_000);
        assert!(!streams.are_in_sync());
        redis.publish("b", "4");
        redis.repair();
        until("they are in sync", || streams.are_in_sync()).await;
        assert_eq!(streams.resumed(&id), (0, ["1", "2", "3", "4"].map(str::to_owned).to_vec()));
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

/// Returns a connection of a process that may not append.
pub async fn session_of(redis: &FakeRedis) -> Session {
    let hub = hub_at(&redis.url(), Source::PubSub);
    let (claim, fence) = (hub.hub.claim_slot().unwrap(), FencingToken::none());
    let woken = ThreadWaker::for_this_thread(hub.wakers).woken;
    let context = std::rc::Rc::new(context_of(&hub).0);
    let session = Session::connect(context, Holder { claim, fence, woken }).await;
    session.ok().unwrap()
}

/// Reads what channels have missed, as before events are delivered. Returns the bytes that were
/// read and how many of the channels are left for later.
async fn read_together(redis: &FakeRedis, channels: &[&str]) -> (usize, usize) {
    let mut session = session_of(redis).await;
    let known = SyncState::Interrupted(ReportedId::default());
    let wanted = channels.iter().map(|name| (name.as_bytes().into(), known)).collect();
    let (caught, left) = session.catch_up_together(wanted).await.ok().unwrap();
    assert_eq!(caught.len() + left.len(), channels.len());
    let entries = caught.iter().flat_map(|one| &one.fetched.entries);
    (entries.map(Entry::size).sum(), left.len())
}

#[test]
fn what_is_read_before_events_are_delivered_is_limited() {
    const KIB: usize = 1_024;
    run(async {
        let redis = FakeRedis::start().await;
        let text = "x".repeat(3 * KIB);
        // Channels with one page each.
        let names: Vec<String> = (0..40).map(|number| format!("c{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for name in &names {
            (0..8).for_each(|_| _ = redis.publish(name, &text));
        }
        let (bytes, left) = read_together(&redis, &names).await;
        assert!((512 * KIB..640 * KIB).contains(&bytes) && left > 0, "{bytes} {left}");
        assert_eq!(read_together(&redis, &names[..16]).await.1, 0);
        // Channels with several pages.
        for name in ["a", "b"] {
            (0..100).for_each(|_| _ = redis.publish(name, &text));
        }
        let (bytes, left) = read_together(&redis, &["a", "b"]).await;
        assert!((300 * KIB..512 * KIB).contains(&bytes) && left == 1, "{bytes} {left}");
        for name in ["c", "d"] {
            (0..50).for_each(|_| _ = redis.publish(name, &text));
        }
        assert_eq!(read_together(&redis, &["c", "d"]).await.1, 0);
    });
}

#[test]
fn a_user_who_may_not_use_the_control_channel_receives_all_others() {
    run(async {
        let (redis, hub) = stage(Source::PubSub).await;
        redis.state.borrow_mut().forbidden.insert(b"sse:{sse}:ctl".to_vec());
        let nginx = hub.process();
        nginx.is_up().await;
        nginx.follow(&["a"]).await;
        redis.publish("a", "1");
        assert_eq!(nginx.receives("a", 1).await, ["1"]);
        assert_eq!(redis.subscriptions(), ["a"]);
        assert!(nginx.lines().is_empty(), "{:?}", nginx.lines());
    });
}

#[test]
fn a_control_channel_that_cannot_be_subscribed_to_for_the_moment_is_tried_again() {
    run(async {
        let (redis, hub) = stage(Source::PubSub).await;
        let error = Reply::error("LOADING Redis is loading the dataset in memory");
        redis.fault("SUBSCRIBE sse:{sse}:ctl", Fault::Reply(error), 1);
        let nginx = hub.process();
        nginx.is_up().await;
        assert_eq!(redis.subscriptions(), ["sse:{sse}:ctl"]);
    });
}
