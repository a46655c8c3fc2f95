//! nginx publishes durable events.

use super::*;
use crate::redis::refusal::Refusal;
use crate::redis::script::ScriptResult;

/// Returns the ids of a publish that has succeeded.
fn published(result: Result<ScriptResult, Refusal>) -> Vec<String> {
    match result {
        Ok(ScriptResult::Published(ids)) => ids.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_published_event_returns_through_the_subscription() {
    run(async {
        let (_redis, nginx) = connected(Source::PubSub).await;
        nginx.follow(&["a"]).await;
        let ids = published(nginx.publish("a", "x").await);
        assert_eq!(nginx.receives("a", 1).await, ["x"]);
        assert_eq!(ids.len(), 1);
    });
}
