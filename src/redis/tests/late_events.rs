//! The ids of events that are appended after later ones of other channels.

use super::fake::Fault;
use super::store::{shown, StreamId};
use super::*;

const CLOCK: &[u8] = b"sse:{sse}:clock";

/// Returns the time and the number of an id, without what only this nginx knows.
fn parsed(id: &str) -> StreamId {
    let digits = |text: &str| -> String { text.chars().take_while(char::is_ascii_digit).collect() };
    let (ms, rest) = id.split_once('-').unwrap();
    (digits(ms).parse().unwrap(), digits(rest).parse().unwrap())
}

#[test]
fn events_that_were_read_late_keep_their_ids_and_plain_messages_are_just_before_them() {
    for has_fallen_back in [false, true] {
        run(async {
            let (redis, nginx) = connected(Source::PubSub).await;
            let streams = nginx.follow(&["a", "b"]).await;
            redis.publish("a", "0");
            redis.publish("b", "0");
            nginx.receives("b", 1).await;
            if has_fallen_back {
                redis.stop().await;
                redis.state.borrow_mut().store.streams.remove(CLOCK);
                redis.resume().await;
                pass(1_000).await;
                nginx.is_up().await;
            }
            pass(1_500).await;
            let id = streams.position();
            let first = redis.publish_unheard("a", "1");
            redis.fault("XRANGE sse:{sse}:s:a", Fault::Hold, 1);
            let second = redis.publish("a", "2");
            let read = redis.count("XRANGE sse:{sse}:s:a");
            until("it is read", || redis.count("XRANGE sse:{sse}:s:a") > read).await;
            redis.plain("a", "plain");
            let third = redis.publish("a", "3");
            pass(5).await;
            redis.publish("b", "4");
            until("it arrives", || nginx.texts("b").len() == 2).await;
            redis.repair();
            until("they are in sync", || streams.are_in_sync()).await;
            let (gaps, events) = streams.resumed_events(&id);
            let id_of = |wanted: &str| {
                let event = events.iter().find(|(text, _)| text == wanted);
                parsed(&event.unwrap_or_else(|| panic!("{wanted} of {events:?}")).1)
            };
            assert_eq!((gaps, events.len()), (0, 5));
            let ids = ["1", "2", "3"].map(id_of);
            assert_eq!(ids, [first, second, third], "{has_fallen_back} {events:?}");
            assert!((second..third).contains(&id_of("plain")), "{events:?}");
        });
    }
}

#[test]
fn an_event_that_waited_for_the_history_of_its_channel_keeps_its_id() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        nginx.follow(&["b"]).await;
        let streams = open_while_held(&redis, &nginx, &["a"]).await;
        let id = streams.position();
        let given = redis.publish("a", "1");
        pass(5).await;
        // Another channel goes on meanwhile.
        redis.publish("b", "2");
        nginx.receives("b", 1).await;
        redis.repair();
        until("it is in sync", || streams.are_in_sync()).await;
        let expected = vec![("1".to_owned(), shown(given))];
        assert_eq!(streams.resumed_events(&id), (0, expected));
    });
}

#[test]
fn a_stream_that_was_restored_without_anything_new_is_reported() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a"]).await;
        redis.publish("a", "1");
        nginx.receives("a", 1).await;
        pass(1_500).await;
        let restored = redis.state.borrow().store.streams.clone();
        redis.publish("a", "2");
        nginx.receives("a", 2).await;
        pass(1_500).await;
        let id = streams.position();
        redis.stop().await;
        redis.state.borrow_mut().store.streams = restored;
        redis.resume().await;
        until("it is noticed", || nginx.logged("restored to an older state") == 1).await;
        until("it is in sync", || streams.are_in_sync()).await;
        assert_eq!(streams.resumed(&id).0, 1);
        let next = redis.publish("a", "3");
        until("it arrives", || nginx.texts("a").contains(&"3".to_owned())).await;
        assert_eq!(streams.resumed(&shown(next)), (0, Vec::new()));
    });
}
