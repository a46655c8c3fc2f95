//! What happens to channels while the subscription is handed over.

use super::fake::Fault;
use super::nginx::{hub_of, Streams};
use super::openings::session_of;
use super::*;
use crate::hub::{name_of_pattern, History};
use crate::redis::message_order::ChannelOrder;
use crate::redis::session::repeats::Repeats;
use crate::redis::session::Session;

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

/// Publishes an event without the token.
fn publish_without_token(redis: &FakeRedis, text: &str) {
    let settings = std::mem::take(&mut redis.state.borrow_mut().store.hashes);
    redis.publish("a", text);
    redis.state.borrow_mut().store.hashes = settings;
}

#[test]
fn plain_messages_after_an_event_that_cannot_be_appended_are_not_lost() {
    for has_no_token in [true, false] {
        run(async {
            let Frozen { redis, old, new, streams, id } = Frozen::begin(Fault::Wait).await;
            redis.fault("XRANGE sse:{sse}:s:a", Fault::Hold, usize::MAX);
            if has_no_token {
                redis.publish("a", "1");
                publish_without_token(&redis, "2");
            } else {
                redis.publish_unheard("a", "1");
                redis.publish("a", "2");
            }
            // Otherwise, its stream would be read within a second.
            pass(1_100).await;
            redis.plain("a", "3");
            pass(5).await;
            redis.end_fault(MARKER);
            until("the old one retires", || old.has_retired()).await;
            redis.repair();
            until("they arrive", || new.texts("a").len() == 3 && streams.are_in_sync()).await;
            let (gaps, mut texts) = streams.resumed(&id);
            texts.sort();
            assert_eq!((gaps, texts), (0, ["1", "2", "3"].map(str::to_owned).to_vec()));
        });
    }
}

#[test]
fn plain_messages_that_both_processes_receive_are_appended_once_whatever_is_missing() {
    for has_no_token in [true, false] {
        run(async {
            // Both have received the marker, but the new one does not know yet.
            let Frozen { redis, old, new, streams, id } = Frozen::begin(Fault::Hold).await;
            redis.plain("a", "1");
            if has_no_token {
                redis.publish("a", "2");
                publish_without_token(&redis, "3");
            } else {
                redis.publish_unheard("a", "2");
                redis.publish("a", "3");
            }
            redis.plain("a", "4");
            pass(5).await;
            redis.repair();
            until("the old one retires", || old.has_retired()).await;
            redis.plain("a", "5");
            until("it is in sync", || streams.are_in_sync()).await;
            until("they arrive", || new.texts("a").len() == 5).await;
            pass(1_000).await;
            let (gaps, mut texts) = streams.resumed(&id);
            texts.sort();
            let expected = ["1", "2", "3", "4", "5"].map(str::to_owned).to_vec();
            assert_eq!((gaps, texts), (0, expected));
        });
    }
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

#[test]
fn a_process_that_has_to_quit_while_it_takes_over_hands_over_in_its_turn() {
    run(async {
        let (redis, hub) = stage(Source::PubSub).await;
        let old = hub.process();
        old.is_up().await;
        let streams = old.follow(&["a"]).await;
        redis.publish("a", "1");
        old.receives("a", 1).await;
        let id = streams.position();
        let second = hub.process();
        // It does not respond, so the next process has to read what was missed.
        old.pause(true);
        redis.publish("a", "2");
        redis.fault("XRANGE sse:{sse}:s:a", Fault::Hold, 1);
        let read = redis.count("XRANGE sse:{sse}:s:a");
        until("it is read", || redis.count("XRANGE sse:{sse}:s:a") > read).await;
        let third = hub.process();
        second.retire();
        pass(100).await;
        redis.repair();
        old.pause(false);
        until("the second one retires", || second.has_retired()).await;
        redis.publish("a", "3");
        third.receives("a", 3).await;
        assert_eq!(streams.resumed(&id), (0, ["2", "3"].map(str::to_owned).to_vec()));
    });
}

/// Returns how many ms it takes until another process has taken over.
async fn time_of_takeover(hub: &SharedHub) -> u64 {
    let (before, since) = (hub.hub.epoch(), elapsed());
    until("another has taken over", || hub.hub.epoch() > before).await;
    elapsed() - since
}

#[test]
fn a_successor_does_not_wait_for_a_holder_that_does_not_respond() {
    run(async {
        let (_redis, hub) = stage(Source::PubSub).await;
        let old = hub.process();
        old.is_up().await;
        let new = hub.process();
        new.follow(&["a"]).await;
        old.pause(true);
        until("it is silent", || hub.hub.is_silent(now())).await;
        let ms = time_of_takeover(&hub).await;
        assert!(ms < 1_000, "{ms}");
    });
}

#[test]
fn a_successor_does_not_wait_for_a_holder_that_exits_before_it_responds() {
    run(async {
        let (redis, hub) = stage(Source::PubSub).await;
        let old = hub.process();
        old.is_up().await;
        let new = hub.process();
        new.follow(&["a"]).await;
        redis.fault("XREVRANGE sse:{sse}:s:b", Fault::Hold, usize::MAX);
        new.open(&["b"]);
        until("it is read", || redis.count("XREVRANGE sse:{sse}:s:b") > 0).await;
        old.retire_within(Duration::from_secs(1));
        until("a successor comes", || hub.hub.successor().is_some()).await;
        pass(20).await;
        assert_eq!(redis.count(MARKER), 0);
        old.kill().await;
        let ms = time_of_takeover(&hub).await;
        assert!(ms < 1_000, "{ms}");
    });
}

#[test]
fn the_former_holder_has_received_messages_of_a_channel_that_is_being_read_only_through_a_pattern()
{
    run(async {
        let redis = FakeRedis::start().await;
        let mut session = session_of(&redis).await;
        let pattern = name_of_pattern(b"b*").into_vec();
        let names = vec![b"a".to_vec(), b"b1".to_vec(), pattern];
        let joined = session.join(names).await.ok().unwrap();
        session.await_messages(&joined);
        let is_matched = |session: &Session, name: &[u8]| match session.order_of(name) {
            ChannelOrder::CatchingUp { is_matched } => is_matched,
            other => panic!("{other:?}"),
        };
        session.repeats = Repeats::after_takeover(1, Instant::now());
        assert!(is_matched(&session, b"b1") && !is_matched(&session, b"a"));
        // All of its messages have arrived.
        session.repeats.skip_one();
        assert!(!is_matched(&session, b"b1") && !is_matched(&session, b"a"));
    });
}
