//! What happens to channels while the subscription is handed over.

use super::fake::Fault;
use super::nginx::{hub_of, Streams};
use super::*;
use crate::hub::History;

/// The name of the channel on which a successor publishes its marker.
const MARKER: &str = "PUBLISH sse:{sse}:ctl";

/// Processes of a hub, the older of which holds the subscription, and is about to hand it over. The
/// successor's marker is not published yet.
struct Frozen {
    redis: FakeRedis,
    old: Nginx,
    new: Nginx,
    streams: Streams,
    id: String,
}

impl Frozen {
    async fn begin(fault: Fault) -> Frozen {
        let (redis, hub) = stage(Source::PubSub).await;
        let old = hub.process();
        old.is_up().await;
        let streams = old.follow(&["a"]).await;
        let id = streams.position();
        let new = hub.process();
        redis.fault(MARKER, fault, 1);
        old.retire();
        until("the marker is sent", || redis.count(MARKER) > 0).await;
        Frozen { redis, old, new, streams, id }
    }
}

#[test]
fn plain_messages_after_an_event_without_the_token_are_not_lost() {
    run(async {
        let Frozen { redis, old, new, streams, id } = Frozen::begin(Fault::Wait).await;
        redis.fault("XRANGE sse:{sse}:s:a", Fault::Hold, usize::MAX);
        let settings = std::mem::take(&mut redis.state.borrow_mut().store.hashes);
        redis.publish("a", "1");
        redis.state.borrow_mut().store.hashes = settings;
        // Otherwise, its stream would be read within a second.
        pass(1_100).await;
        redis.plain("a", "2");
        pass(5).await;
        redis.end_fault(MARKER);
        until("the old one retires", || old.has_retired()).await;
        redis.repair();
        until("they arrive", || new.texts("a").len() == 2 && streams.are_in_sync()).await;
        let (gaps, mut texts) = streams.resumed(&id);
        texts.sort();
        assert_eq!((gaps, texts), (0, ["1", "2"].map(str::to_owned).to_vec()));
    });
}

#[test]
fn a_holder_whose_successor_dies_subscribes_to_channels_again() {
    run(async {
        let Frozen { redis, old, new, streams, .. } = Frozen::begin(Fault::Silence).await;
        let others = old.open(&["b"]);
        pass(100).await;
        assert!(!others.are_in_sync());
        new.kill().await;
        until("they are in sync", || others.are_in_sync() && streams.are_in_sync()).await;
        redis.publish("b", "1");
        assert_eq!(old.receives("b", 1).await, ["1"]);
        assert!(!old.has_retired());
    });
}

#[test]
fn a_channel_whose_second_page_is_slow_is_read_to_its_end_before_it_is_handed_over() {
    run(async {
        let redis = FakeRedis::start().await;
        let history = History { count: 3_000, age: 0 };
        let hub = hub_of(&redis.url(), Source::PubSub, 2 << 20, history);
        let old = hub.process();
        old.is_up().await;
        let streams = old.follow(&["a"]).await;
        redis.publish("a", "first");
        old.receives("a", 1).await;
        let id = streams.position();
        let new = hub.process();
        // Further pages are read on a connection of their own.
        redis.fault("HELLO", Fault::Hold, usize::MAX);
        let made = redis.count("HELLO");
        let mut expected: Vec<String> = (0..2_000).map(|number| number.to_string()).collect();
        expected.iter().for_each(|text| _ = redis.publish_unheard("a", text));
        redis.publish("a", "durable");
        until("a connection is made", || redis.count("HELLO") > made).await;
        redis.plain("a", "plain");
        expected.extend(["durable", "plain"].map(str::to_owned));
        old.retire();
        // Longer than a successor would wait.
        pass(7_000).await;
        assert_eq!(redis.count(MARKER), 0);
        redis.repair();
        until("the old one retires", || old.has_retired()).await;
        until("it is in sync", || streams.are_in_sync()).await;
        assert_eq!(streams.resumed(&id), (0, expected));
        assert_eq!(old.logged("handing the subscription in Redis over before"), 0);
        assert!(new.lines().is_empty(), "{:?}", new.lines());
    });
}
