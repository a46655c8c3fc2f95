//! What a process that retires waits for before the next one takes over.

use super::doubts::FORGED;
use super::fake::Fault;
use super::nginx::Streams;
use super::*;

/// The name of the channel on which a successor publishes its marker.
const MARKER: &str = "PUBLISH sse:{sse}:ctl";

/// Two processes, the older of which holds the subscription.
async fn two_processes() -> (FakeRedis, Nginx, Nginx) {
    let (redis, hub) = stage(Source::PubSub).await;
    let old = hub.process();
    old.is_up().await;
    let new = hub.process();
    (redis, old, new)
}

async fn receives_all(streams: &Streams, id: &str, texts: &[&str]) {
    until("they arrive", || streams.resumed(id).1.len() >= texts.len()).await;
    pass(1_000).await;
    assert_eq!(streams.resumed(id), (0, texts.iter().map(|text| text.to_string()).collect()));
}

#[test]
fn plain_messages_of_a_channel_that_is_being_read_are_not_lost() {
    run(async {
        let (redis, old, new) = two_processes().await;
        redis.publish("a", "1");
        redis.fault("XREVRANGE sse:{sse}:s:a", Fault::Hold, 1);
        let streams = new.open(&["a"]);
        let id = streams.position();
        until("it is read", || redis.count("XREVRANGE sse:{sse}:s:a") > 0).await;
        redis.plain("a", "2");
        old.retire();
        pass(100).await;
        assert_eq!(redis.count(MARKER), 0);
        redis.repair();
        until("it retires", || old.has_retired()).await;
        until("it is in sync", || streams.are_in_sync()).await;
        assert_eq!(new.receives("a", 2).await, ["1", "2"]);
        receives_all(&streams, &id, &["1", "2"]).await;
    });
}

#[test]
fn plain_messages_of_a_channel_that_is_being_subscribed_to_are_not_lost() {
    // Before the old process looks for a successor, and while the successor waits.
    for ms in [100, 600, 1_500] {
        run(async {
            let (redis, old, new) = two_processes().await;
            redis.fault("SUBSCRIBE a", Fault::Wait, 1);
            let streams = new.open(&["a"]);
            until("it is subscribed to", || redis.count("SUBSCRIBE a") > 0).await;
            // The successor is slow.
            redis.fault(MARKER, Fault::Wait, 1);
            old.retire();
            pass(ms).await;
            redis.end_fault("SUBSCRIBE a");
            until("it is", || redis.subscriptions().contains(&"a".to_owned())).await;
            redis.plain("a", "1");
            pass(300).await;
            redis.repair();
            until("it retires", || old.has_retired()).await;
            until("it is in sync", || streams.are_in_sync()).await;
            redis.plain("a", "2");
            assert_eq!(new.receives("a", 2).await, ["1", "2"]);
            assert!(old.lines().is_empty(), "{:?}", old.lines());
        });
    }
}

#[test]
fn a_lookup_for_a_pattern_is_waited_for_and_leaves_no_gap() {
    run(async {
        let (redis, old, new) = two_processes().await;
        let pattern = new.follow_pattern("a*").await;
        let id = pattern.position();
        let settings = std::mem::take(&mut redis.state.borrow_mut().store.hashes);
        redis.fault("XRANGE sse:{sse}:s:a1", Fault::Hold, 1);
        redis.publish("a1", "1");
        redis.state.borrow_mut().store.hashes = settings;
        until("it is looked up", || redis.count("XRANGE sse:{sse}:s:a1") > 0).await;
        old.retire();
        pass(800).await;
        assert!(!old.has_retired());
        redis.plain("a1", "2");
        redis.repair();
        until("it retires", || old.has_retired()).await;
        receives_all(&pattern, &id, &["1", "2"]).await;
        assert!(new.lines().is_empty(), "{:?}", new.lines());
    });
}

#[test]
fn a_lookup_that_takes_too_long_is_given_up_with_a_gap_event() {
    run(async {
        let (redis, old, new) = two_processes().await;
        let (mine, others) = (new.follow_pattern("a*").await, new.follow_pattern("b*").await);
        let id = mine.position();
        redis.fault("XRANGE sse:{sse}:s:a1", Fault::Hold, usize::MAX);
        redis.forge("a1", FORGED, &format!("{}-0", wall() + 1_000), "forged");
        redis.publish("b1", "1");
        until("it is looked up", || redis.count("XRANGE sse:{sse}:s:a1") > 0).await;
        redis.forge("a2", FORGED, &format!("{}-0", wall() + 1_000), "forged");
        old.retire();
        until("it retires", || old.has_retired()).await;
        redis.publish("a3", "2");
        redis.publish("b1", "3");
        until("they arrive", || others.resumed(&id).1.len() == 2).await;
        assert_eq!(mine.resumed(&id), (1, vec!["2".to_owned()]));
        assert!(new.lines().is_empty(), "{:?}", new.lines());
    });
}

#[test]
fn a_successor_that_has_come_is_not_kept_waiting_for_nothing() {
    run(async {
        let (redis, old, new) = two_processes().await;
        new.follow(&["a"]).await;
        old.retire();
        until("it comes", || old.hub.successor().is_some()).await;
        let since = elapsed();
        until("it retires", || old.has_retired()).await;
        // Its supervisor pauses for 200 ms before it reports that.
        assert!(elapsed() - since < 350, "{}", elapsed() - since);
        assert_eq!(redis.count(MARKER), 1);
    });
}

#[test]
fn events_without_the_token_that_have_not_been_looked_up_are_read_by_the_next_process() {
    for ms in [0, 250, 500, 750] {
        run(async {
            let (redis, old, new) = two_processes().await;
            // More than are read at once.
            let names: Vec<String> = (0..150).map(|number| format!("c{number}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let streams = new.follow(&names).await;
            pass(ms).await;
            let settings = std::mem::take(&mut redis.state.borrow_mut().store.hashes);
            names.iter().for_each(|name| _ = redis.publish(name, "1"));
            redis.state.borrow_mut().store.hashes = settings;
            pass(1).await;
            old.retire();
            until("it retires", || old.has_retired()).await;
            let have_one = || names.iter().all(|name| new.texts(name) == ["1"]);
            until("all have their event", have_one).await;
            until("they are in sync", || streams.are_in_sync()).await;
        });
    }
}

#[test]
fn a_channel_that_is_requested_during_a_handover_does_not_cost_others_their_messages() {
    run(async {
        let (redis, old, new) = two_processes().await;
        let streams = new.follow(&["a"]).await;
        let id = streams.position();
        // Both have read the marker, but the successor does not know yet that it was published.
        redis.fault(MARKER, Fault::Hold, 1);
        old.retire();
        until("the marker is published", || redis.count(MARKER) > 0).await;
        pass(5).await;
        let others = new.open(&["b"]);
        pass(50).await;
        redis.plain("b", "of a channel that neither is subscribed to");
        redis.plain("a", "1");
        pass(5).await;
        // From here on, only the successor receives anything.
        old.pause(true);
        redis.plain("a", "2");
        pass(5).await;
        redis.repair();
        until("they are in sync", || others.are_in_sync()).await;
        redis.plain("b", "3");
        new.receives("b", 1).await;
        assert_eq!(streams.resumed(&id), (0, ["1", "2"].map(str::to_owned).to_vec()));
        assert_eq!(new.texts("b"), ["3"]);
    });
}

#[test]
fn after_a_handover_the_position_goes_on_within_two_seconds() {
    run(async {
        let (redis, old, new) = two_processes().await;
        new.follow(&["a"]).await;
        old.retire();
        until("it retires", || old.has_retired()).await;
        let given = redis.publish("of nobody here", "x");
        pass(2_000).await;
        let mark = new.hub.high_watermark().unwrap();
        assert_eq!((mark.ms, mark.seq), given);
    });
}

#[test]
fn a_pattern_goes_on_when_a_channel_that_it_waits_for_is_left_to_the_next_process() {
    run(async {
        let (redis, old, new) = two_processes().await;
        let (named, pattern) = (new.follow(&["a1"]).await, new.follow_pattern("a*").await);
        redis.publish("a1", "1");
        new.receives("a1", 1).await;
        let id = pattern.position();
        redis.fault("XRANGE sse:{sse}:s:a1", Fault::Hold, usize::MAX);
        redis.publish_unheard("a1", "2");
        redis.publish("a1", "3");
        until("it is read", || redis.count("XRANGE sse:{sse}:s:a1") > 0).await;
        assert!(!pattern.are_in_sync());
        redis.fault(MARKER, Fault::Hold, 1);
        old.retire_within(Duration::from_millis(300));
        until("the marker is published", || redis.count(MARKER) > 0).await;
        assert!(pattern.are_in_sync() && !named.are_in_sync());
        redis.repair();
        until("it retires", || old.has_retired()).await;
        until("they are in sync", || named.are_in_sync() && pattern.are_in_sync()).await;
        assert_eq!(new.texts("a1"), ["1", "2", "3"]);
        assert_eq!(pattern.resumed(&id).1, ["2", "3"]);
    });
}
