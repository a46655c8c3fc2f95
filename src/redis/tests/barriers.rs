//! Read barriers: a barrier is passed once everything is here that Redis had before it was
//! requested.

use super::fake::Fault;
use super::store::shown;
use super::streams::{notified, notifies};
use super::*;

/// Requests a barrier, and wakes the holder.
fn request(nginx: &Nginx) -> u64 {
    let number = nginx.hub.request_read_barrier();
    nginx.wake_holder();
    number
}

fn has_passed(nginx: &Nginx, number: u64) -> bool {
    nginx.hub.passed_read_barrier() >= number
}

#[test]
fn messages_that_redis_has_sent_are_here_when_a_barrier_is_passed() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        nginx.follow(&["a"]).await;
        pass(1_500).await;
        for count in 1..4 {
            redis.publish("a", "1");
            let number = request(&nginx);
            let since = elapsed();
            until("it is passed", || has_passed(&nginx, number)).await;
            assert_eq!(nginx.texts("a").len(), count);
            assert!(elapsed() - since < 100);
        }
    });
}

#[test]
fn streams_that_have_grown_are_read_to_their_ends_before_a_barrier_is_passed() {
    for is_notified in [true, false] {
        run(async {
            let (redis, hub) = stage(Source::Streams).await;
            notifies(&redis, if is_notified { "Kt" } else { "" });
            let nginx = hub.process();
            nginx.is_up().await;
            nginx.follow(&["a", "b"]).await;
            pass(1_500).await;
            let text = "x".repeat(3_000);
            (0..90).for_each(|_| _ = redis.append("a", &text));
            redis.append("b", "1");
            let number = request(&nginx);
            until("it is passed", || has_passed(&nginx, number)).await;
            if is_notified {
                assert_eq!((nginx.texts("a").len(), nginx.texts("b").len()), (90, 1));
            }
        });
    }
}

#[test]
fn a_barrier_that_is_requested_while_streams_are_read_waits_for_what_they_have_by_then() {
    run(async {
        let (redis, nginx) = notified().await;
        nginx.follow(&["a"]).await;
        pass(1_500).await;
        let first = "XRANGE a (0-0";
        redis.fault(first, Fault::Hold, 1);
        let read = redis.count(first);
        let id = redis.append("a", "1");
        until("it is read", || redis.count(first) > read).await;
        redis.append("a", "2");
        let next = format!("XRANGE a ({}", shown(id));
        redis.fault(&next, Fault::Wait, 1);
        let number = request(&nginx);
        pass(100).await;
        assert!(!has_passed(&nginx, number));
        redis.end_fault(first);
        until("it is read once more", || redis.count(&next) > 0).await;
        pass(100).await;
        assert_eq!((nginx.texts("a").len(), has_passed(&nginx, number)), (1, false));
        redis.repair();
        until("it is passed", || has_passed(&nginx, number)).await;
        assert_eq!(nginx.texts("a"), ["1", "2"]);
    });
}

#[test]
fn a_barrier_is_not_passed_before_the_last_page_of_a_stream_is_read() {
    run(async {
        let (redis, nginx) = notified().await;
        nginx.follow(&["a"]).await;
        pass(1_500).await;
        let first = "XRANGE a (0-0";
        redis.fault(first, Fault::Hold, 1);
        // The next page has to be requested once more.
        redis.fault("XRANGE a", Fault::Silence, 1);
        let (all, read) = (redis.count("XRANGE a"), redis.count(first));
        let text = "x".repeat(3_000);
        (0..90).for_each(|_| _ = redis.append("a", &text));
        let number = request(&nginx);
        until("it is read", || redis.count(first) > read).await;
        pass(10).await;
        redis.end_fault(first);
        until("the next page is read", || redis.count("XRANGE a") > all + 1).await;
        pass(100).await;
        assert!(!has_passed(&nginx, number) && nginx.texts("a").len() < 90);
        until("it is passed", || has_passed(&nginx, number)).await;
        assert_eq!(nginx.texts("a").len(), 90);
    });
}

#[test]
fn a_barrier_is_passed_at_once_if_no_stream_has_grown() {
    run(async {
        let (_redis, nginx) = notified().await;
        nginx.follow(&["a"]).await;
        pass(1_500).await;
        let since = elapsed();
        let number = request(&nginx);
        until("it is passed", || has_passed(&nginx, number)).await;
        assert!(elapsed() - since < 50, "{}", elapsed() - since);
    });
}

#[test]
fn a_barrier_is_passed_on_the_next_connection_if_one_is_lost() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        nginx.follow(&["a"]).await;
        pass(1_500).await;
        redis.fault("XREVRANGE sse:{sse}:clock", Fault::Silence, 1);
        let number = request(&nginx);
        pass(10).await;
        redis.publish("a", "1");
        redis.disconnect();
        until("it is passed", || has_passed(&nginx, number)).await;
        assert_eq!(nginx.texts("a"), ["1"]);
    });
}
