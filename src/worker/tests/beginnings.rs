//! How a stream begins: its first bytes, resume, replay, and which losses are reported.

use super::*;

#[test]
fn a_new_stream_begins_with_retry_a_comment_and_its_first_id() {
    let mut bench = bench(1 << 20, HISTORY);
    let (_, wire) = bench.open(settings(), &["a"], "");
    let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
    assert!(text.starts_with("retry: 3000\n:\nevent: sse.open\ndata: {}\nid: "), "{text}");
    assert!(text.ends_with("-7\n\n"), "{text}");
}

#[test]
fn resuming_delivers_later_events_of_all_channels() {
    let mut bench = bench(1 << 20, HISTORY);
    bench.publish("a", "0");
    let id = bench.publish("b", "1");
    bench.publish("a", "2");
    bench.publish("c", "not mine");
    bench.publish("b", "3");
    let (_, wire) = bench.open(settings(), &["a", "b"], &id);
    bench.publish("a", "4");
    bench.settle();
    assert_eq!(received(&wire), ["2", "3", "4"]);
    // From the end of the log: nothing, and no gap.
    let end = last_id(&wire);
    let (_, wire) = bench.open(settings(), &["a", "b"], &end);
    assert_eq!(received(&wire), Vec::<String>::new());
}

#[test]
fn the_first_id_of_a_stream_resumes_before_its_first_event() {
    let mut bench = bench(1 << 20, HISTORY);
    let (key, wire) = bench.open(settings(), &["a"], "");
    bench.worker.close(key, End::Client);
    bench.publish("a", "missed");
    let (_, again) = bench.open(settings(), &["a"], &last_id(&wire));
    assert_eq!(received(&again), ["missed"]);
}

#[test]
fn replay_delivers_the_newest_events_up_to_the_history_limit() {
    let mut bench = bench(1 << 20, HISTORY);
    for i in 0..20 {
        bench.publish("a", &format!("{i}"));
    }
    let with = |replay| StreamSettings { replay, ..settings() };
    let (_, all) = bench.open(with(Replay::All), &["a"], "");
    assert_eq!(received(&all), (10..20).map(|i| i.to_string()).collect::<Vec<_>>());
    let (_, three) = bench.open(with(Replay::Count(3)), &["a"], "");
    assert_eq!(received(&three), ["17", "18", "19"]);
    let (_, empty) = bench.open(with(Replay::All), &["b"], "");
    assert_eq!(received(&empty), ["sse.open"]);
}

#[test]
fn a_foreign_id_causes_a_gap_and_all_owed_events_are_sent() {
    let mut bench = bench(1 << 20, HISTORY);
    for i in 0..12 {
        bench.publish("a", &format!("{i}"));
    }
    let wide: Vec<String> =
        std::iter::once("sse.gap".into()).chain((2..12).map(|i| i.to_string())).collect();
    for id in ["0-0-0", "x", "1700000000000-0-8", "1-2", "99999999999999-0-7", "\u{fffd}-1"] {
        let (_, wire) = bench.open(settings(), &["a"], id);
        assert_eq!(received(&wire), wide, "{id}");
    }
    // The gap's own id resumes at the first event that followed it.
    let (key, wire) = bench.open(settings(), &["a"], "x");
    bench.worker.close(key, End::Client);
    let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
    let gap_id = text.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_string();
    let (_, again) = bench.open(settings(), &["a"], &gap_id);
    assert_eq!(received(&again), wide[1..]);
}

#[test]
fn without_a_gap_event_a_client_with_a_foreign_id_still_gets_a_first_id() {
    let mut bench = bench(1 << 20, HISTORY);
    let silent = StreamSettings { gap_event: None, ..settings() };
    let (key, wire) = bench.open(silent.clone(), &["a"], "x");
    assert_eq!(received(&wire), ["sse.open"]);
    bench.worker.close(key, End::Client);
    bench.publish("a", "missed");
    let (_, again) = bench.open(silent.clone(), &["a"], &last_id(&wire));
    assert_eq!(received(&again), ["missed"]);
    let (_, full) = bench.open(silent, &["a"], "x");
    assert_eq!(received(&full), ["missed"]);
}

#[test]
fn a_channel_whose_last_event_expired_causes_no_gap() {
    let mut bench = bench(1 << 20, HISTORY);
    let old = bench.publish("a", "old");
    let last = bench.publish("a", "last");
    bench.pass_time(700_000);
    let (_, wire) = bench.open(settings(), &["a"], &last);
    assert_eq!(received(&wire), Vec::<String>::new());
    let (_, wire) = bench.open(settings(), &["a"], &old);
    assert_eq!(received(&wire), ["sse.gap"]);
}

#[test]
fn a_client_that_returns_to_a_deleted_channel_receives_a_gap() {
    let mut bench = bench(1 << 20, HISTORY);
    bench.publish("a", "1");
    let id = bench.publish("a", "2");
    assert_eq!(bench.hub.forget_channel(b"none", bench.now), Ok(None));
    assert_eq!(bench.hub.forget_channel(b"a", bench.now).unwrap().unwrap().events, 2);
    bench.publish("a", "3");
    let (_, wire) = bench.open(settings(), &["a"], &id);
    assert_eq!(received(&wire), ["sse.gap", "3"]);
    let (_, again) = bench.open(settings(), &["a"], &last_id(&wire));
    assert_eq!(received(&again), Vec::<String>::new());
}
