//! Runs of streams that applications write, for clients that must not miss a part of one.

use super::nginx::Streams;
use super::streams::notifies;
use super::*;
use crate::hub::{Resume, Runs};

async fn notified() -> (FakeRedis, Nginx) {
    let (redis, hub) = stage(Source::Streams).await;
    notifies(&redis, "Kt");
    let nginx = hub.process();
    nginx.is_up().await;
    (redis, nginx)
}

/// Adds entries to the stream of channel `a`, of which only this many stay, before Redis reports
/// it. An empty text finishes the run.
fn append(redis: &FakeRedis, texts: &[&str], left: usize) {
    let mut state = redis.state.borrow_mut();
    for text in texts {
        let name: &[u8] = if text.is_empty() { b"sse.finish" } else { b"data" };
        state.store.add(b"a", None, &[name, text.as_bytes()]).unwrap();
    }
    state.store.trim(b"a", left);
    state.deliver(b"__keyspace@0__:a", b"xadd");
}

/// Returns whether a client without an id would miss a part of the newest run.
fn is_incomplete(streams: &Streams) -> bool {
    let resume = Resume::InRun(Vec::new());
    let begun = streams.hub.begin(&streams.members, &resume, Runs::Separate, now());
    begun.unwrap().is_incomplete
}

#[test]
fn what_is_left_of_a_run_whose_beginning_redis_has_removed_is_no_whole_run() {
    let table = [
        // What was added, how much of it is left, whether the newest run is incomplete.
        (&["1", "2", "3"][..], 3, false),
        (&["1", "2", "3"], 1, true),
        (&["1", "", "3"], 2, false),
        (&["1", "", "3"], 1, true),
        (&["1", "2"], 0, true),
    ];
    for (texts, left, expected) in table {
        run(async move {
            let (redis, nginx) = notified().await;
            append(&redis, texts, left);
            let streams = nginx.follow(&["a"]).await;
            assert_eq!(is_incomplete(&streams), expected, "{texts:?}, of which {left} are left");
        });
    }
}

#[test]
fn a_run_that_loses_its_beginning_while_it_is_read_is_no_whole_run() {
    run(async {
        let (redis, nginx) = notified().await;
        let streams = nginx.follow(&["a"]).await;
        append(&redis, &["1", ""], 2);
        until("it is finished", || nginx.hub.run_state_of(b"a").is_finished).await;
        pass(2_000).await;
        assert!(!is_incomplete(&streams));
        append(&redis, &["gone", "2"], 1);
        until("it arrives", || nginx.texts("a").contains(&"2".to_owned())).await;
        assert!(is_incomplete(&streams));
        append(&redis, &["", "3"], 3);
        until("it arrives", || nginx.texts("a").contains(&"3".to_owned())).await;
        assert!(!is_incomplete(&streams));
    });
}
