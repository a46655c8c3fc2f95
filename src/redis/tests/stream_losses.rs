//! Entries of applications' streams that are removed just before they are read.

use super::*;

fn add(redis: &FakeRedis, key: &str, text: &str) -> super::store::StreamId {
    let mut state = redis.state.borrow_mut();
    state.store.add(key.as_bytes(), None, &[b"data", text.as_bytes()]).unwrap()
}

#[test]
fn a_loss_at_the_beginning_of_a_stream_is_reported_where_streams_are_polled() {
    run(async {
        let (redis, nginx) = connected(Source::Streams).await;
        let streams = nginx.follow(&["a"]).await;
        pass(500).await;
        let id = streams.position();
        let gone = add(&redis, "a", "gone");
        add(&redis, "a", "1");
        redis.state.borrow_mut().store.delete(b"a", gone);
        nginx.receives("a", 1).await;
        pass(2_000).await;
        assert!(redis.count("XREAD") > 0);
        assert_eq!(streams.resumed(&id), (1, vec!["1".to_owned()]));
    });
}
