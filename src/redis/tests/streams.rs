//! Streams that applications write (`redis_source stream`).

use super::fake::Fault;
use super::resp::Reply;
use super::*;
use crate::redis::keys::Keys;
use crate::redis::script::{Command, ForgetCommand, PublishTarget, ScriptResult};

pub fn notifies(redis: &FakeRedis, flags: &str) {
    let (name, flags) = (b"notify-keyspace-events".to_vec(), flags.as_bytes().to_vec());
    redis.state.borrow_mut().store.settings.insert(name, flags);
}

/// Starts a Redis that reports how streams grow, and a process that is connected to it.
pub async fn notified() -> (FakeRedis, Nginx) {
    let (redis, hub) = stage(Source::Streams).await;
    notifies(&redis, "Kt");
    let nginx = hub.process();
    nginx.is_up().await;
    (redis, nginx)
}

#[test]
fn streams_are_read_whether_or_not_redis_reports_their_growth() {
    for flags in ["", "K", "t", "Kt", "AK", "KEA"] {
        run(async {
            let (redis, hub) = stage(Source::Streams).await;
            notifies(&redis, flags);
            redis.append("a", "1");
            let nginx = hub.process();
            nginx.is_up().await;
            let streams = nginx.follow(&["a", "b"]).await;
            redis.append("a", "2");
            redis.append("b", "3");
            let since = elapsed();
            until("they arrive", || nginx.texts("a").len() == 2 && nginx.texts("b").len() == 1)
                .await;
            assert!(elapsed() - since < 100);
            assert_eq!(nginx.texts("a"), ["1", "2"]);
            assert_eq!(nginx.texts("b"), ["3"]);
            let is_notified = flags.contains('K') && flags.len() > 1;
            assert_eq!(redis.subscriptions().len(), if is_notified { 3 } else { 1 });
            assert_eq!(redis.count("XREAD") > 0, !is_notified);
            streams.close();
            pass(12_000).await;
            assert_eq!(redis.count("UNSUBSCRIBE"), usize::from(is_notified));
        });
    }
}

#[test]
fn the_setting_may_change_while_streams_are_open() {
    run(async {
        let (redis, nginx) = notified().await;
        let streams = nginx.follow(&["a"]).await;
        let id = streams.position();
        notifies(&redis, "");
        redis.state.borrow_mut().store.add(b"a", None, &[b"data", b"1"]);
        until("it is noticed", || nginx.logged("streams are polled instead") == 1).await;
        nginx.receives("a", 1).await;
        redis.state.borrow_mut().store.add(b"a", None, &[b"data", b"2"]);
        nginx.receives("a", 2).await;
        notifies(&redis, "Kt");
        until("it is noticed", || nginx.logged("streams are no longer polled") == 1).await;
        redis.append("a", "3");
        nginx.receives("a", 3).await;
        assert_eq!(streams.resumed(&id), (0, ["1", "2", "3"].map(str::to_owned).to_vec()));
    });
}

#[test]
fn without_permission_for_notifications_streams_go_on_being_polled() {
    run(async {
        let (redis, hub) = stage(Source::Streams).await;
        redis.state.borrow_mut().forbidden.insert(b"__keyspace@0__:a".to_vec());
        let nginx = hub.process();
        nginx.is_up().await;
        nginx.follow(&["a"]).await;
        notifies(&redis, "Kt");
        pass(10_000).await;
        redis.append("a", "1");
        assert_eq!(nginx.receives("a", 1).await, ["1"]);
        assert_eq!(redis.count("SUBSCRIBE __keyspace@0__:a"), 1);
        assert_eq!(nginx.logged("streams are no longer polled"), 0);
    });
}

#[test]
fn more_than_200_streams_are_polled_in_turn_with_one_line() {
    run(async {
        let (redis, hub) = stage(Source::Streams).await;
        let nginx = hub.process();
        nginx.is_up().await;
        let names: Vec<String> = (0..450).map(|number| format!("c{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        nginx.follow(&names).await;
        for name in ["c0", "c200", "c449"] {
            redis.append(name, name);
            let since = elapsed();
            assert_eq!(nginx.receives(name, 1).await, [name]);
            assert!(elapsed() - since < 2_000);
        }
        assert_eq!(nginx.logged("streams in Redis are polled in turn"), 1);
        assert_eq!(nginx.logged("450 streams"), 1);
    });
}

#[test]
fn a_stream_that_was_not_reported_is_read_with_a_heartbeat() {
    run(async {
        let (redis, nginx) = notified().await;
        nginx.follow(&["a"]).await;
        redis.state.borrow_mut().store.add(b"a", None, &[b"data", b"1"]);
        let since = elapsed();
        nginx.receives("a", 1).await;
        assert!(elapsed() - since < 4_000);
    });
}

#[test]
fn entries_that_were_removed_before_they_were_read_are_reported() {
    run(async {
        let (redis, nginx) = notified().await;
        let streams = nginx.follow(&["a"]).await;
        redis.append("a", "1");
        nginx.receives("a", 1).await;
        pass(2_000).await;
        let id = streams.position();
        {
            let mut state = redis.state.borrow_mut();
            for text in ["gone", "gone too", "2"] {
                state.store.add(b"a", None, &[b"data", text.as_bytes()]);
            }
            state.store.trim(b"a", 1);
        }
        redis.append("a", "3");
        until("they arrive", || streams.resumed(&id).1 == ["2", "3"]).await;
        let (gaps, events) = streams.resumed_events(&id);
        assert_eq!((gaps, &*events[0].0), (1, "2"));
        assert_eq!(nginx.logged("were removed before they were read"), 1);
        // What a client has received is after the loss.
        assert_eq!(streams.resumed(&events[0].1), (0, vec!["3".to_owned()]));
    });
}

#[test]
fn a_stream_that_starts_over_with_lower_ids_is_read_again() {
    run(async {
        let (redis, nginx) = notified().await;
        let streams = nginx.follow(&["a"]).await;
        redis.append("a", "1");
        nginx.receives("a", 1).await;
        let id = streams.position();
        pass(2_000).await;
        {
            let mut state = redis.state.borrow_mut();
            state.store.streams.remove(&b"a"[..]);
            state.store.add(b"a", Some((5, 0)), &[b"data", b"2"]);
            state.deliver(b"__keyspace@0__:a", b"xadd");
        }
        until("it arrives", || streams.resumed(&id).1 == ["2"]).await;
        assert_eq!(streams.resumed(&id).0, 1);
        assert_eq!(nginx.logged("deleted, evicted, or restored to an older state"), 1);
        redis.state.borrow_mut().store.add(b"a", Some((6, 0)), &[b"data", b"3"]);
        until("it arrives", || streams.resumed(&id).1 == ["2", "3"]).await;
    });
}

#[test]
fn the_events_of_several_streams_are_in_the_order_of_their_ids() {
    run(async {
        let (redis, nginx) = notified().await;
        let streams = nginx.follow(&["a", "b", "c"]).await;
        let id = streams.position();
        redis.fault("XRANGE", Fault::Hold, usize::MAX);
        for number in 0..30 {
            redis.append(["c", "a", "b"][number % 3], &number.to_string());
            pass(1).await;
        }
        redis.repair();
        until("they arrive", || streams.resumed(&id).1.len() == 30).await;
        let expected = (0..30).map(|number| number.to_string()).collect();
        assert_eq!(streams.resumed(&id), (0, expected));
    });
}

#[test]
fn a_key_that_becomes_something_else_spoils_no_other_stream() {
    run(async {
        let (redis, hub) = stage(Source::Streams).await;
        let nginx = hub.process();
        nginx.is_up().await;
        nginx.follow(&["a", "b"]).await;
        let wrong =
            Reply::error("WRONGTYPE Operation against a key holding the wrong kind of value");
        redis.fault("XREAD", Fault::Reply(wrong.clone()), usize::MAX);
        redis.fault("XRANGE b", Fault::Reply(wrong), usize::MAX);
        pass(1_000).await;
        redis.append("a", "1");
        assert_eq!(nginx.receives("a", 1).await, ["1"]);
        redis.repair();
        redis.append("b", "2");
        assert_eq!(nginx.receives("b", 1).await, ["2"]);
        assert_eq!(nginx.logged("lost the connection"), 0);
    });
}

#[test]
fn a_node_that_no_longer_serves_ends_the_connection_and_nothing_is_lost() {
    run(async {
        let (redis, nginx) = connected(Source::Streams).await;
        let streams = nginx.follow(&["a"]).await;
        redis.append("a", "1");
        nginx.receives("a", 1).await;
        let error = Reply::error("CLUSTERDOWN The cluster is down");
        redis.fault("XREAD", Fault::Reply(error), 1);
        until("it is noticed", || nginx.logged("lost the connection") == 1).await;
        redis.append("a", "2");
        assert_eq!(nginx.receives("a", 2).await, ["1", "2"]);
        until("it is in sync", || streams.are_in_sync()).await;
    });
}

#[test]
fn a_deleted_stream_of_an_application_stays_and_is_no_longer_delivered() {
    run(async {
        let (redis, nginx) = notified().await;
        nginx.follow(&["a"]).await;
        redis.append("a", "1");
        nginx.receives("a", 1).await;
        let source = PublishTarget::Stream { count: 100, open: 0 };
        let names = Keys::new("");
        let forget = Command::Forget(ForgetCommand { channel: b"a".to_vec(), names, source });
        assert_eq!(nginx.run(forget).await, Ok(ScriptResult::Forgotten(1)));
        redis.append("a", "2");
        until("it arrives", || nginx.texts("a") == ["2"]).await;
        let other = hub_at(&redis.url(), Source::Streams).process();
        other.is_up().await;
        other.follow(&["a"]).await;
        assert_eq!(other.texts("a"), ["2"]);
        assert_eq!(redis.state.borrow().store.streams[&b"a"[..]].entries.len(), 2);
        // A stream that starts over is not held to what was deleted of the former one.
        redis.state.borrow_mut().store.streams.remove(&b"a"[..]);
        redis.state.borrow_mut().store.add(b"a", Some((5, 0)), &[b"data", b"3"]);
        let third = hub_at(&redis.url(), Source::Streams).process();
        third.is_up().await;
        third.follow(&["a"]).await;
        assert_eq!(third.texts("a"), ["3"]);
    });
}

#[test]
fn a_stream_that_is_written_all_the_time_is_described_only_so_often() {
    run(async {
        let (redis, nginx) = notified().await;
        nginx.follow(&["a"]).await;
        pass(1_200).await;
        let before = redis.count("XINFO");
        for number in 0..300 {
            redis.append("a", &number.to_string());
            pass(3).await;
        }
        assert_eq!(nginx.receives("a", 100).await.len(), nginx.texts("a").len());
        let described = redis.count("XINFO") - before;
        assert!((2..80).contains(&described), "{described}");
    });
}

#[test]
fn entries_of_a_restored_stream_are_new_whatever_their_ids_say() {
    run(async {
        let redis = FakeRedis::start().await;
        notifies(&redis, "Kt");
        let history = crate::hub::History { count: 1, age: 60_000 };
        let nginx = nginx::hub_of(&redis.url(), Source::Streams, 1 << 20, history).process();
        nginx.is_up().await;
        let streams = nginx.follow(&["a"]).await;
        redis.append("a", "1");
        nginx.receives("a", 1).await;
        let id = streams.position();
        pass(2_000).await;
        {
            let mut state = redis.state.borrow_mut();
            state.store.streams.remove(&b"a"[..]);
            for (id, text) in [((5, 0), "2"), ((6, 0), "3")] {
                state.store.add(b"a", Some(id), &[b"data", text.as_bytes()]);
            }
            state.deliver(b"__keyspace@0__:a", b"xadd");
        }
        until("they arrive", || nginx.texts("a").ends_with(&["2".to_owned(), "3".to_owned()]))
            .await;
        pass(30_000).await;
        assert_eq!(streams.resumed(&id), (1, ["2", "3"].map(str::to_owned).to_vec()));
    });
}

#[test]
fn each_of_many_quiet_streams_is_checked_in_turn() {
    run(async {
        let (redis, nginx) = notified().await;
        let names: Vec<String> = (0..100).map(|number| format!("c{number}")).collect();
        let named: Vec<&str> = names.iter().map(String::as_str).collect();
        for name in &named {
            redis.append(name, "1");
        }
        let streams = nginx.follow(&named).await;
        pass(1_000).await;
        let before = redis.count("XINFO");
        pass(6_000).await;
        let described = redis.count("XINFO") - before;
        assert!((300..=450).contains(&described), "{described} in 6 s");
        // What nothing was reported of is noticed in this way.
        redis.state.borrow_mut().store.streams.remove(&b"c7"[..]);
        redis.state.borrow_mut().store.add(b"c7", Some((5, 0)), &[b"data", b"2"]);
        until("it is noticed", || nginx.texts("c7").contains(&"2".to_owned())).await;
        assert!(streams.are_in_sync());
    });
}

#[test]
fn a_loss_at_ids_of_the_distant_future_is_before_what_follows() {
    run(async {
        let (redis, nginx) = notified().await;
        let streams = nginx.follow(&["a"]).await;
        let future = |seq| Some((wall() + 7_200_000, seq));
        let first = future(1);
        redis.state.borrow_mut().store.add(b"a", first, &[b"data", b"1"]);
        redis.state.borrow_mut().deliver(b"__keyspace@0__:a", b"xadd");
        nginx.receives("a", 1).await;
        pass(2_000).await;
        let id = streams.position();
        {
            let mut state = redis.state.borrow_mut();
            for (seq, text) in [(1, "gone"), (2, "2"), (3, "3")] {
                state.store.add(b"a", future(seq), &[b"data", text.as_bytes()]).unwrap();
            }
            state.store.trim(b"a", 2);
            state.deliver(b"__keyspace@0__:a", b"xadd");
        }
        until("they arrive", || streams.resumed(&id).1.ends_with(&["3".to_owned()])).await;
        let (gaps, events) = streams.resumed_events(&id);
        let texts: Vec<&str> = events.iter().map(|(text, _)| &**text).collect();
        assert_eq!((gaps, texts), (1, vec!["2", "3"]));
        assert_eq!(streams.resumed(&events[0].1), (0, vec!["3".to_owned()]));
    });
}
