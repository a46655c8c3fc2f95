//! Entries of applications' streams that are removed just before they are read.

use super::streams::notified;
use super::*;

/// Adds two entries to a stream, and removes the first one before anybody can have read it.
fn add_after_loss(redis: &FakeRedis, key: &str, text: &str) {
    let mut state = redis.state.borrow_mut();
    let gone = state.store.add(key.as_bytes(), None, &[b"data", b"gone"]).unwrap();
    state.store.add(key.as_bytes(), None, &[b"data", text.as_bytes()]);
    state.store.delete(key.as_bytes(), gone);
    state.deliver(format!("__keyspace@0__:{key}").as_bytes(), b"xadd");
}

#[test]
fn a_loss_at_the_beginning_of_a_stream_is_reported_where_streams_are_polled() {
    run(async {
        let (redis, nginx) = connected(Source::Streams).await;
        let streams = nginx.follow(&["a"]).await;
        pass(500).await;
        let id = streams.position();
        add_after_loss(&redis, "a", "1");
        nginx.receives("a", 1).await;
        pass(2_000).await;
        assert!(redis.count("XREAD") > 0);
        assert_eq!(streams.resumed(&id), (1, vec!["1".to_owned()]));
    });
}

#[test]
fn a_loss_at_the_beginning_of_a_stream_is_reported_however_much_is_read_in_the_same_second() {
    run(async {
        let (redis, nginx) = notified().await;
        let (streams, _others) = (nginx.follow(&["a"]).await, nginx.follow(&["b"]).await);
        redis.append("b", "0");
        nginx.receives("b", 1).await;
        let described = redis.count("XINFO STREAM b");
        until("a second begins", || redis.count("XINFO STREAM b") > described).await;
        let id = streams.position();
        // More than are described in a second, unless they have to be.
        for number in 1..45 {
            redis.append("b", &number.to_string());
            nginx.receives("b", number + 1).await;
        }
        add_after_loss(&redis, "a", "1");
        nginx.receives("a", 1).await;
        pass(2_000).await;
        assert_eq!(streams.resumed(&id), (1, vec!["1".to_owned()]));
    });
}
