//! Before a loss is recorded, workers send the events that precede it.

use super::*;
use crate::redis::keys::Keys;

/// Publishes an event before which another one is lost.
fn publish_after_a_loss(redis: &FakeRedis, text: &str) {
    redis.publish_unheard("a", "lost");
    redis.state.borrow_mut().store.trim(&Keys::new("").stream(b"a"), 0);
    redis.publish("a", text);
}

/// Returns the newest event of channel `a`.
fn newest(nginx: &Nginx) -> String {
    nginx.texts("a").pop().unwrap()
}

/// Starts a Redis, and a process whose worker has not sent an event yet.
async fn undelivered() -> (FakeRedis, Nginx) {
    let (redis, nginx) = connected(Source::PubSub).await;
    nginx.follow(&["a"]).await;
    redis.publish("a", "1");
    nginx.receives("a", 1).await;
    (redis, nginx)
}

#[test]
fn a_loss_is_recorded_once_the_events_before_it_were_sent() {
    run(async {
        let (redis, nginx) = undelivered().await;
        publish_after_a_loss(&redis, "2");
        pass(50).await;
        assert_eq!(newest(&nginx), "1");
        nginx.hub.report(nginx.worker, 1, nginx.hub.head());
        pass(5).await;
        assert_eq!(newest(&nginx), "2");
    });
}

#[test]
fn a_worker_that_does_not_run_is_awaited_for_100_ms_and_then_not_for_a_second() {
    run(async {
        let (redis, nginx) = undelivered().await;
        for (text, pause, is_awaited) in [("2", 0, true), ("3", 800, false), ("4", 300, true)] {
            pass(pause).await;
            let since = elapsed();
            publish_after_a_loss(&redis, text);
            until("it arrives", || newest(&nginx) == text).await;
            let waited = elapsed() - since;
            assert_eq!((95..130).contains(&waited), is_awaited, "{text}: {waited}");
            assert!(is_awaited || waited < 20, "{text}: {waited}");
        }
    });
}
