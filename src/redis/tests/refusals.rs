//! Channels that cannot be subscribed to or read for a while, and the streams of others.

use super::doubts::FORGED;
use super::fake::Fault;
use super::resp::Reply;
use super::*;

const READ: &str = "XRANGE sse:{sse}:s:a1";

fn wrong_type() -> Fault {
    Fault::Reply(Reply::error("WRONGTYPE Operation against a key holding the wrong kind of value"))
}

/// A channel that has had an event, and a pattern that matches it.
async fn named_and_pattern(
    redis: &FakeRedis,
    nginx: &Nginx,
) -> (nginx::Streams, nginx::Streams, String) {
    let (named, pattern) = (nginx.follow(&["a1"]).await, nginx.follow_pattern("a*").await);
    let id = pattern.position();
    redis.publish("a1", "1");
    nginx.receives("a1", 1).await;
    (named, pattern, id)
}

#[test]
fn a_stream_of_several_channels_does_not_wait_for_a_forbidden_one() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        redis.state.borrow_mut().forbidden.insert(b"c".to_vec());
        let pattern = nginx.follow_pattern("c*").await;
        let id = pattern.position();
        let streams = nginx.open(&["a", "c"]);
        until("it is refused", || nginx.logged("cannot receive channel \"c\"") == 1).await;
        until("it waits for nothing", || !nginx.hub.are_catching_up(&streams.members)).await;
        assert!(!streams.are_in_sync());
        // Nothing of the channel was received, so nothing of it is missing.
        pass(1_500).await;
        assert_eq!(pattern.resumed(&id), (0, Vec::new()));
        // The position goes on, too.
        let given = redis.publish("of nobody here", "x");
        pass(1_100).await;
        let mark = nginx.hub.high_watermark().unwrap();
        assert_eq!((mark.ms, mark.seq), given);
    });
}

#[test]
fn a_pattern_does_not_wait_for_a_channel_that_cannot_be_read_and_the_channel_keeps_its_events() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let (named, pattern, id) = named_and_pattern(&redis, &nginx).await;
        redis.fault(READ, wrong_type(), 1);
        redis.forge("a1", FORGED, &format!("{}-0", wall() + 1_000), "forged");
        until("it is refused", || nginx.logged("cannot receive channel \"a1\"") == 1).await;
        assert!(pattern.are_in_sync() && !named.are_in_sync());
        // It is tried again after 3 s. An event arrives before the subscription is confirmed.
        redis.fault("SUBSCRIBE a1", Fault::Wait, 1);
        let (asked, since) = (redis.count("SUBSCRIBE a1"), elapsed());
        until("it is tried again", || redis.count("SUBSCRIBE a1") > asked).await;
        assert!((3_000..4_100).contains(&(elapsed() - since)), "{}", elapsed() - since);
        redis.publish("a1", "2");
        let expected = ["1", "2"].map(str::to_owned).to_vec();
        until("it arrives", || nginx.texts("a1") == expected).await;
        redis.repair();
        until("they are in sync", || named.are_in_sync() && pattern.are_in_sync()).await;
        assert_eq!(nginx.texts("a1"), expected);
        assert_eq!(named.resumed(&id), (0, expected.clone()));
        assert_eq!(pattern.resumed(&id), (0, expected));
    });
}

#[test]
fn a_pattern_receives_a_gap_event_for_messages_of_a_channel_that_cannot_be_read() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let (_named, pattern, _) = named_and_pattern(&redis, &nginx).await;
        let id = pattern.position();
        redis.fault(READ, wrong_type(), 1);
        redis.publish_unheard("a1", "2");
        redis.publish("a1", "3");
        until("it is refused", || nginx.logged("cannot receive channel \"a1\"") == 1).await;
        pass(1_500).await;
        assert_eq!(pattern.resumed(&id), (1, Vec::new()));
    });
}
