//! The subscription passes from one process to the next.

use super::fake::Fault;
use super::nginx::Streams;
use super::*;

/// Two processes of a hub, the older of which holds the subscription, with streams of channel `a`.
struct Handover {
    redis: FakeRedis,
    hub: SharedHub,
    old: Nginx,
    new: Nginx,
    streams: Streams,
    /// The id of a client that has received nothing yet.
    id: String,
}

async fn handover(source: Source) -> Handover {
    let (redis, hub) = stage(source).await;
    let old = hub.process();
    old.is_up().await;
    let streams = old.follow(&["a"]).await;
    let id = streams.position();
    let new = hub.process();
    Handover { redis, hub, old, new, streams, id }
}

/// Publishes plain messages and durable events for this long, one of each per ms. Returns their
/// texts.
async fn load(redis: &FakeRedis, from: usize, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for number in from..from + count {
        texts.extend([format!("p{number}"), format!("d{number}")]);
        redis.plain("a", &format!("p{number}"));
        redis.publish("a", &format!("d{number}"));
        pass(1).await;
    }
    texts
}

#[test]
fn a_reload_loses_and_repeats_nothing() {
    run(async {
        let (redis, hub) = stage(Source::PubSub).await;
        let old = hub.process();
        old.is_up().await;
        let streams = old.follow(&["a", "b"]).await;
        let id = streams.position();
        let new = hub.process();
        let mut expected = load(&redis, 0, 10).await;
        old.retire();
        expected.extend(load(&redis, 10, 25).await);
        until("the old one retires", || old.has_retired()).await;
        expected.extend(load(&redis, 35, 5).await);
        until("they arrive", || streams.resumed(&id).1.len() >= expected.len()).await;
        pass(2_000).await;
        assert_eq!(streams.resumed(&id), (0, expected));
        assert!(old.lines().is_empty() && new.lines().is_empty(), "{:?}", new.lines());
        assert_eq!(redis.subscriptions(), ["a", "b", "sse:{sse}:ctl"]);
    });
}

#[test]
fn streams_that_open_during_a_reload_are_served_by_the_new_process() {
    run(async {
        let (redis, hub) = stage(Source::PubSub).await;
        let old = hub.process();
        old.is_up().await;
        old.follow(&["a"]).await;
        let new = hub.process();
        old.retire();
        // The successor waits for the marker, so the subscription is frozen.
        redis.fault("PUBLISH sse:{sse}:ctl", Fault::Hold, 1);
        until("the marker is published", || redis.count("PUBLISH sse:{sse}:ctl") > 0).await;
        redis.publish("b", "1");
        let streams = new.open(&["b"]);
        pass(100).await;
        redis.repair();
        until("it is in sync", || streams.are_in_sync()).await;
        until("the old one retires", || old.has_retired()).await;
        redis.publish("b", "2");
        assert_eq!(new.receives("b", 2).await, ["1", "2"]);
    });
}

#[test]
fn a_retiring_process_without_a_successor_leaves() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        nginx.follow(&["a"]).await;
        nginx.retire();
        until("it retires", || nginx.has_retired()).await;
        pass(10).await;
        assert!(redis.subscriptions().is_empty());
        assert!(nginx.lines().is_empty());
    });
}

#[test]
fn a_process_that_retires_still_publishes() {
    run(async {
        let (_redis, hub) = stage(Source::PubSub).await;
        let (old, new) = (hub.process(), hub.process());
        old.is_up().await;
        old.follow(&["a"]).await;
        old.retire();
        assert!(old.publish("a", "1").await.is_ok());
        until("it retires", || old.has_retired()).await;
        assert!(old.publish("a", "2").await.is_ok());
        assert_eq!(new.receives("a", 2).await, ["1", "2"]);
        old.stop().await;
        assert!(new.publish("a", "3").await.is_ok());
        assert_eq!(new.receives("a", 3).await, ["1", "2", "3"]);
    });
}

#[test]
fn a_killed_holder_is_replaced_and_durable_events_are_read() {
    run(async {
        let (redis, hub) = stage(Source::PubSub).await;
        let old = hub.process();
        old.is_up().await;
        let new = hub.process();
        let streams = new.follow(&["a"]).await;
        redis.publish("a", "1");
        new.receives("a", 1).await;
        let id = streams.position();
        old.kill().await;
        redis.publish("a", "2");
        redis.plain("a", "lost");
        until("it arrives", || new.texts("a").len() == 2).await;
        redis.plain("a", "3");
        new.receives("a", 3).await;
        assert_eq!(streams.resumed(&id), (0, ["2", "3"].map(str::to_owned).to_vec()));
    });
}

#[test]
fn a_successor_that_dies_leaves_the_subscription_to_the_holder() {
    run(async {
        let Handover { redis, hub, old, new, streams, id } = handover(Source::PubSub).await;
        redis.fault("PUBLISH sse:{sse}:ctl", Fault::Silence, 1);
        old.retire();
        until("the marker is published", || redis.count("PUBLISH sse:{sse}:ctl") > 0).await;
        let mut expected = load(&redis, 0, 5).await;
        new.kill().await;
        expected.extend(load(&redis, 5, 100).await);
        let newer = hub.process();
        until("the old one retires", || old.has_retired()).await;
        expected.extend(load(&redis, 105, 5).await);
        until("they arrive", || newer.texts("a").len() >= expected.len()).await;
        pass(1_000).await;
        assert_eq!(streams.resumed(&id), (0, expected));
    });
}

#[test]
fn a_holder_that_does_not_respond_is_replaced_with_a_line() {
    run(async {
        let (redis, hub) = stage(Source::PubSub).await;
        let old = hub.process();
        old.is_up().await;
        let new = hub.process();
        let streams = new.follow(&["a"]).await;
        let id = streams.position();
        let before = hub.hub.epoch();
        old.pause(true);
        redis.publish("a", "1");
        until("another has taken over", || hub.hub.epoch() > before).await;
        redis.publish("a", "2");
        until("it arrives", || new.texts("a").len() == 2).await;
        old.pause(false);
        redis.publish("a", "3");
        until("it arrives", || new.texts("a").len() == 3).await;
        pass(3_000).await;
        let expected = ["1", "2", "3"].map(str::to_owned).to_vec();
        assert_eq!(streams.resumed(&id), (0, expected));
        assert_eq!(
            new.logged("took over the subscription in Redis from a process that does not respond"),
            1
        );
    });
}

#[test]
fn applications_streams_are_handed_over_too() {
    run(async {
        let Handover { redis, old, new, streams, id, .. } = handover(Source::Streams).await;
        old.retire();
        let mut expected = Vec::new();
        for number in 0..300 {
            redis.append("a", &number.to_string());
            expected.push(number.to_string());
            pass(1).await;
        }
        until("the old one retires", || old.has_retired()).await;
        until("they arrive", || new.texts("a").last().is_some_and(|text| text == "299")).await;
        let (_, texts) = streams.resumed(&id);
        // Older entries are not in the history.
        assert!(texts.len() >= 100, "{}", texts.len());
        assert_eq!(texts[..], expected[expected.len() - texts.len()..]);
    });
}

#[test]
fn an_entry_that_is_deleted_during_a_reload_is_reported_whatever_the_number_of_channels() {
    run(async {
        let (redis, hub) = stage(Source::Streams).await;
        super::streams::notifies(&redis, "Kt");
        let names: Vec<String> = (0..80).map(|number| format!("c{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.iter().for_each(|name| _ = redis.append(name, "1"));
        let old = hub.process();
        old.is_up().await;
        let streams = old.follow(&names).await;
        let id = streams.position();
        let new = hub.process();
        redis.fault("PUBLISH sse:{sse}:ctl", Fault::Hold, 1);
        old.retire();
        until("the marker is published", || redis.count("PUBLISH sse:{sse}:ctl") > 0).await;
        pass(10).await;
        for name in names.iter().map(|name| name.as_bytes()) {
            let store = &mut redis.state.borrow_mut().store;
            let gone = store.add(name, None, &[b"data", b"2"]).unwrap();
            store.add(name, None, &[b"data", b"3"]);
            store.delete(name, gone);
        }
        redis.repair();
        until("the old one retires", || old.has_retired()).await;
        for name in &names {
            let has_last = || new.texts(name).last().is_some_and(|text| text == "3");
            until("they arrive", has_last).await;
            let (gaps, texts) = new.follow(&[name]).await.resumed(&id);
            assert_eq!((gaps, texts), (1, vec!["3".to_owned()]), "{name}");
        }
    });
}

#[test]
fn channels_that_are_catching_up_when_the_process_retires_are_left_to_the_next_one() {
    run(async {
        let (redis, hub) = stage(Source::PubSub).await;
        let old = hub.process();
        old.is_up().await;
        let pattern = old.follow_pattern("a*").await;
        let new = hub.process();
        let id = pattern.position();
        redis.publish("a1", "1");
        until("it arrives", || pattern.resumed(&id).1 == ["1"]).await;
        redis.fault("XREVRANGE sse:{sse}:s:a1", Fault::Hold, 1);
        redis.fault("XRANGE sse:{sse}:s:a1", Fault::Hold, 1);
        let named = new.open(&["a1"]);
        until("it is read", || redis.count("SUBSCRIBE a1") > 0).await;
        pass(20).await;
        redis.plain("a1", "2");
        redis.publish("a1", "3");
        pass(20).await;
        old.retire_within(Duration::from_millis(300));
        until("the old one retires", || old.has_retired()).await;
        redis.repair();
        until("it is in sync", || named.are_in_sync()).await;
        redis.publish("a1", "4");
        until("it arrives", || pattern.resumed(&id).1.ends_with(&["4".to_owned()])).await;
        // The plain message was received through the pattern only, and is not kept.
        let (gaps, texts) = pattern.resumed(&id);
        assert_eq!((gaps, texts), (1, ["1", "3", "4"].map(str::to_owned).to_vec()));
        assert_eq!(old.logged("before a channel has caught up"), 1);
    });
}

#[test]
fn an_event_without_the_token_during_a_reload_is_read_before_the_next_one() {
    run(async {
        let Handover { redis, old, new, streams, id, .. } = handover(Source::PubSub).await;
        old.retire();
        redis.fault("PUBLISH sse:{sse}:ctl", Fault::Hold, 1);
        until("the marker is published", || redis.count("PUBLISH sse:{sse}:ctl") > 0).await;
        let settings = std::mem::take(&mut redis.state.borrow_mut().store.hashes);
        redis.publish("a", "1");
        pass(5).await;
        redis.state.borrow_mut().store.hashes = settings;
        redis.publish("a", "2");
        pass(5).await;
        redis.repair();
        until("the old one retires", || old.has_retired()).await;
        redis.publish("a", "3");
        until("they arrive", || new.texts("a").len() == 3 && streams.are_in_sync()).await;
        assert_eq!(streams.resumed(&id), (0, ["1", "2", "3"].map(str::to_owned).to_vec()));
    });
}

#[test]
fn a_holder_that_does_not_read_the_marker_is_not_awaited_for_ever() {
    for nap in 1..4 {
        run(async {
            let Handover { redis, hub, old, new, streams, id } = handover(Source::PubSub).await;
            let before = hub.hub.epoch();
            redis.fault("PUBLISH sse:{sse}:ctl", Fault::Wait, 1);
            old.retire();
            until("the marker is sent", || redis.count("PUBLISH sse:{sse}:ctl") > 0).await;
            old.pause(true);
            redis.repair();
            pass(5).await;
            // The successor wakes up later than it wanted to.
            new.pause(true);
            pass(nap).await;
            new.pause(false);
            until("it has taken over", || hub.hub.epoch() > before).await;
            redis.publish("a", "1");
            until("it arrives", || streams.resumed(&id).1 == ["1"]).await;
        });
    }
}
