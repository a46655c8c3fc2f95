//! Channels catch up with what Redis has.

use super::*;

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
