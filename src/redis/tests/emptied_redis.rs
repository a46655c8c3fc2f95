//! Redis is emptied while it runs: streams start over with lower ids, and the token is gone.

use super::fake::Fault;
use super::*;

const CLOCK: &[u8] = b"sse:{sse}:clock";

/// Starts a Redis whose clock is half an hour ahead, and a process with an event of channel `a`.
/// Returns the id of a client that has received it, too.
async fn ahead() -> (FakeRedis, Nginx, nginx::Streams, String) {
    let (redis, nginx) = connected(Source::PubSub).await;
    let streams = nginx.follow(&["a"]).await;
    let ms = START + 1_800_000;
    redis.state.borrow_mut().store.add(CLOCK, Some((ms, 0)), &[b"t", b""]);
    redis.publish("a", "1");
    nginx.receives("a", 1).await;
    let id = streams.position();
    (redis, nginx, streams, id)
}

/// Empties Redis, and publishes an event.
fn start_over(redis: &FakeRedis) {
    let mut state = redis.state.borrow_mut();
    state.store.streams.clear();
    state.store.hashes.clear();
    drop(state);
    redis.publish("a", "2");
}

#[test]
fn the_first_event_afterwards_follows_a_gap_event() {
    run(async {
        let (redis, _nginx, streams, id) = ahead().await;
        start_over(&redis);
        until("it arrives", || streams.resumed(&id) == (1, vec!["2".to_owned()])).await;
    });
}

#[test]
fn the_first_event_afterwards_follows_a_gap_event_if_a_connection_is_being_opened() {
    run(async {
        let (redis, _nginx, streams, id) = ahead().await;
        redis.stop().await;
        redis.fault("XRANGE sse:{sse}:s:a", Fault::Hold, 1);
        let read = redis.count("XRANGE sse:{sse}:s:a");
        redis.resume().await;
        until("its stream is read", || redis.count("XRANGE sse:{sse}:s:a") > read).await;
        start_over(&redis);
        pass(5).await;
        redis.repair();
        until("it arrives", || streams.resumed(&id) == (1, vec!["2".to_owned()])).await;
    });
}
