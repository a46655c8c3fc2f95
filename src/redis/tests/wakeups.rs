//! Processes whose streams have to be served are woken.

use super::fake::Fault;
use super::resp::Reply;
use super::*;
use crate::redis::context::SharedWakers;

/// Starts a Redis, and a process with a waker.
async fn listening(source: Source) -> (FakeRedis, Nginx) {
    let (redis, hub) = stage(source).await;
    let nginx = hub.process();
    nginx.is_up().await;
    let (waker, _) = hub.wakers.claim().unwrap();
    nginx.hub.set_waker(nginx.worker, Some(waker));
    (redis, nginx)
}

/// Waits until the process is woken, as it was not before.
async fn is_woken_by(nginx: &Nginx, what: &str, cause: impl FnOnce()) {
    nginx.hub.clear_wakeup(nginx.worker);
    pass(5).await;
    assert!(!nginx.hub.is_woken(nginx.worker), "woken before: {what}");
    cause();
    until(what, || nginx.hub.is_woken(nginx.worker)).await;
}

#[test]
fn an_event_wakes_the_processes_of_its_streams() {
    run(async {
        let (redis, nginx) = listening(Source::PubSub).await;
        let streams = nginx.follow(&["a"]).await;
        nginx.follow_pattern("b*").await;
        is_woken_by(&nginx, "an event", || _ = redis.publish("a", "1")).await;
        is_woken_by(&nginx, "a plain message", || redis.plain("a", "2")).await;
        is_woken_by(&nginx, "an event of a pattern", || _ = redis.publish("b1", "3")).await;
        streams.close();
        is_woken_by(&nginx, "another one", || _ = redis.publish("b2", "4")).await;
    });
}

#[test]
fn a_channel_that_has_caught_up_wakes_its_streams() {
    run(async {
        let (redis, nginx) = listening(Source::PubSub).await;
        let streams = open_while_held(&redis, &nginx, &["a"]).await;
        is_woken_by(&nginx, "the channel is in sync", || redis.repair()).await;
        assert!(streams.are_in_sync());
    });
}

#[test]
fn a_channel_that_becomes_unavailable_wakes_its_streams() {
    run(async {
        let (redis, nginx) = listening(Source::PubSub).await;
        nginx.follow(&["a"]).await;
        let refuse = || {
            redis.fault("SUBSCRIBE a", Fault::Reply(Reply::error("NOPERM no")), usize::MAX);
            redis.disconnect();
        };
        is_woken_by(&nginx, "the channel is not available", refuse).await;
        until("it is refused", || redis.count("SUBSCRIBE a") > 1).await;
    });
}

#[test]
fn a_stream_that_starts_over_wakes_its_channels_streams() {
    run(async {
        let (redis, nginx) = listening(Source::Streams).await;
        nginx.follow(&["a"]).await;
        redis.append("a", "1");
        nginx.receives("a", 1).await;
        pass(1_500).await;
        let start_over = || {
            redis.state.borrow_mut().store.streams.remove(&b"a"[..]);
            redis.append("a", "2");
        };
        is_woken_by(&nginx, "the stream has started over", start_over).await;
        until("it arrives", || nginx.texts("a").ends_with(&["2".to_owned()])).await;
    });
}

#[test]
fn all_processes_are_woken_for_a_disconnected_user_and_for_a_passed_barrier() {
    run(async {
        let (redis, nginx) = listening(Source::PubSub).await;
        let disconnect = || {
            let fields: [&[u8]; 6] = [b"user", b"7", b"issued_before", b"0", b"until", b"0"];
            let mut state = redis.state.borrow_mut();
            state.store.add(b"sse:{sse}:users", Some((1, 0)), &fields).unwrap();
        };
        is_woken_by(&nginx, "a user was disconnected", disconnect).await;
        let request = || {
            nginx.hub.request_read_barrier();
            nginx.wake_holder();
        };
        is_woken_by(&nginx, "a barrier was passed", request).await;
    });
}
