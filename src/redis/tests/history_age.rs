//! The age of events that are read from their streams.

use super::nginx::hub_of;
use super::*;
use crate::hub::History;

#[test]
fn an_event_that_was_read_from_its_stream_expires_at_the_age_that_it_has_in_redis() {
    run(async {
        let redis = FakeRedis::start().await;
        let history = History { count: 100, age: 10_000 };
        let nginx = hub_of(&redis.url(), Source::PubSub, 1 << 20, history).process();
        nginx.is_up().await;
        redis.publish("a", "1");
        pass(8_000).await;
        redis.publish("a", "2");
        pass(4_000).await;
        let streams = nginx.follow(&["a"]).await;
        assert_eq!(streams.history(), ["2"]);
        pass(5_000).await;
        assert_eq!(streams.history(), ["2"]);
        pass(2_000).await;
        assert!(streams.history().is_empty());
    });
}
