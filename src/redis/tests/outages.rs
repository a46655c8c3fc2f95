//! Redis goes away, and comes back.

use super::*;
use crate::hub::Counter;

#[test]
fn an_outage_of_minutes_loses_nothing_and_is_logged_once() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a"]).await;
        redis.publish("a", "before");
        nginx.receives("a", 1).await;
        let id = streams.position();
        redis.stop().await;
        pass(600_000).await;
        redis.publish("a", "meanwhile");
        redis.resume().await;
        assert_eq!(nginx.receives("a", 2).await, ["before", "meanwhile"]);
        assert_eq!(streams.resumed(&id), (0, vec!["meanwhile".to_owned()]));
        let lines = nginx.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("Redis is unreachable"), "{lines:?}");
        assert!(lines[1].contains("reachable again"), "{lines:?}");
        assert_eq!(nginx.counted(Counter::Reconnects), 1);
    });
}
