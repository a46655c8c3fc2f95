//! What open streams receive when connections are lost one after the other, and what was missed is
//! read in several pages.

use super::fake::Fault;
use super::nginx::Streams;
use super::store::shown;
use super::*;
use crate::hub::{Elsewhere, History, Received, ReplayCursor};
use crate::redis::keys::Keys;

/// The stream of channel `a`, as it is read after an outage.
const READ: &str = "XRANGE sse:{sse}:s:a";

fn key(channel: &str) -> Vec<u8> {
    Keys::new("").stream(channel.as_bytes())
}

/// Returns what streams of one channel receive that have been open since the log ended here: the
/// number of gap events, and the texts.
fn received_since(streams: &Streams, head: u64) -> (usize, Vec<String>) {
    let received = Received::at(head, Elsewhere::Nothing);
    let members = streams.members.iter().copied();
    let mut cursor = ReplayCursor::since(received, streams.hub.head(), members);
    let (gaps, events) = streams.replayed_events(&mut cursor);
    (gaps, events.into_iter().map(|(text, _)| text).collect())
}

#[test]
fn open_streams_receive_a_gap_event_for_what_was_lost_before_their_channel_was_read() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let (quiet, _others) = (nginx.follow(&["a"]).await, nginx.follow(&["b"]).await);
        pass(1_500).await;
        let head = nginx.hub.head();
        // While the next connection opens, the only event that is received of the channel follows
        // one that is not, so its stream has to be read once more.
        redis.stop().await;
        redis.fault(READ, Fault::Hold, 1);
        redis.fault(&format!("{READ} (0-0"), Fault::Silence, 1);
        redis.resume().await;
        until("it is read", || redis.count(READ) == 1).await;
        redis.publish_unheard("a", "lost");
        redis.publish("a", "1");
        redis.end_fault(READ);
        until("it is read once more", || redis.count(READ) == 2).await;
        redis.publish("b", "2");
        nginx.receives("b", 1).await;
        assert!(!quiet.are_in_sync());
        // The connection is lost before that has succeeded, and the first event is gone.
        redis.stop().await;
        redis.state.borrow_mut().store.trim(&key("a"), 1);
        redis.repair();
        redis.resume().await;
        until("it is in sync", || quiet.are_in_sync()).await;
        assert_eq!(received_since(&quiet, head), (1, vec!["1".to_owned()]));
    });
}

#[test]
fn open_streams_receive_no_gap_event_for_what_was_lost_before_them() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let slow = nginx.follow(&["a"]).await;
        // A connection whose channels are read in the background.
        redis.stop().await;
        redis.fault(READ, Fault::Hold, usize::MAX);
        redis.resume().await;
        until("it is read", || redis.count(READ) > 0).await;
        nginx.is_up().await;
        assert!(!slow.are_in_sync());
        redis.repair();
        until("it is in sync", || slow.are_in_sync()).await;
        // A channel has had an event, which Redis does not have any more.
        redis.publish("c", "old");
        redis.state.borrow_mut().store.streams.remove(&key("c"));
        pass(1).await;
        redis.publish("of nobody", "x");
        pass(2_000).await;
        let streams = nginx.follow(&["c"]).await;
        let head = nginx.hub.head();
        redis.stop().await;
        redis.publish("c", "1");
        redis.resume().await;
        nginx.receives("c", 1).await;
        until("it is in sync", || streams.are_in_sync()).await;
        assert_eq!(received_since(&streams, head), (0, vec!["1".to_owned()]));
    });
}

/// Two channels with an event each, and an outage in which the first one gets another.
async fn outage(redis: &FakeRedis, nginx: &Nginx) -> (Streams, String) {
    let streams = nginx.follow(&["a", "b"]).await;
    redis.publish("a", "0");
    redis.publish("b", "0");
    nginx.receives("b", 1).await;
    pass(1_500).await;
    let id = streams.position();
    redis.stop().await;
    redis.publish("a", "1");
    pass(1).await;
    (streams, id)
}

#[test]
fn pages_with_a_loss_between_them_are_read_once_when_a_connection_opens() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let (streams, id) = outage(&redis, &nginx).await;
        let gone = redis.publish("a", "gone");
        redis.publish("a", "2");
        redis.state.borrow_mut().store.delete(&key("a"), gone);
        redis.publish("b", "3");
        let read = redis.count(READ);
        redis.resume().await;
        until("they are in sync", || streams.are_in_sync()).await;
        assert_eq!(streams.resumed(&id), (1, ["2", "3"].map(str::to_owned).to_vec()));
        assert_eq!(redis.count(READ) - read, 2);
    });
}

#[test]
fn a_loss_between_pages_whose_id_says_nothing_comes_after_the_events_before_it() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let (streams, id) = outage(&redis, &nginx).await;
        let future = |seq| (wall() + 7_200_000, seq);
        let prev = shown(future(1));
        let fields: [&[u8]; 4] = [b"data", b"2", b"prev", prev.as_bytes()];
        redis.state.borrow_mut().store.add(&key("a"), Some(future(2)), &fields);
        redis.resume().await;
        until("they are in sync", || streams.are_in_sync()).await;
        // What precedes a loss is not kept.
        assert_eq!(nginx.texts("a"), ["2"]);
        assert_eq!(streams.resumed(&id), (1, vec!["2".to_owned()]));
    });
}

#[test]
fn a_backlog_that_is_too_large_for_all_channels_to_wait_is_read_in_the_background() {
    for (count, reads) in [(50, 1), (1_000, 2)] {
        run(async {
            let (redis, nginx) = connected(Source::PubSub).await;
            // A page of small entries is not too large for the first reply.
            let (streams, _) = outage(&redis, &nginx).await;
            let had = redis.state.borrow().store.streams[&key("a")].entries[0].0;
            (0..count).for_each(|_| _ = redis.publish("a", &"x".repeat(700)));
            redis.publish("a", "newest");
            let first_page = format!("{READ} ({}", shown(had));
            let read = redis.count(&first_page);
            redis.resume().await;
            until("they are in sync", || streams.are_in_sync()).await;
            assert_eq!(redis.count(&first_page) - read, reads);
            assert_eq!(nginx.texts("a").last().unwrap(), "newest");
        });
    }
}

#[test]
fn what_was_missed_is_as_old_as_its_ids_say() {
    run(async {
        let redis = FakeRedis::start().await;
        let history = History { count: 1, age: 60_000 };
        let nginx = nginx::hub_of(&redis.url(), Source::PubSub, 1 << 20, history).process();
        nginx.is_up().await;
        let (streams, id) = outage(&redis, &nginx).await;
        pass(120_000).await;
        redis.publish("a", "2");
        pass(30_000).await;
        redis.publish("a", "3");
        redis.resume().await;
        until("they are in sync", || streams.are_in_sync()).await;
        // What is younger than a minute is kept, and the newest event.
        redis.publish("a", "4");
        until("it arrives", || nginx.texts("a").ends_with(&["4".to_owned()])).await;
        assert_eq!(streams.resumed(&id), (1, ["2", "3", "4"].map(str::to_owned).to_vec()));
        pass(40_000).await;
        redis.publish("a", "5");
        until("it arrives", || nginx.texts("a").ends_with(&["5".to_owned()])).await;
        assert_eq!(streams.resumed(&id), (1, ["3", "4", "5"].map(str::to_owned).to_vec()));
    });
}
