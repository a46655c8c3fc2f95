//! Streams of patterns: what they receive, how they resume, and how they are counted.

mod generated;
mod with_redis;

use super::*;
use crate::hub::name_of_pattern;

impl Bench {
    /// Opens a stream of patterns.
    pub fn match_all(
        &mut self,
        settings: StreamSettings,
        patterns: &[&str],
        id: &str,
    ) -> (StreamKey, Rc<RefCell<Wire>>) {
        let names: Vec<String> = patterns.iter().map(|pattern| format!("\0{pattern}")).collect();
        self.open(settings, &names.iter().map(String::as_str).collect::<Vec<_>>(), id)
    }
}

#[test]
fn events_of_matching_channels_arrive_once_and_in_order() {
    let mut bench = bench(1 << 20, HISTORY);
    let (_, exact) = bench.open(settings(), &["room:1"], "");
    let (_, rooms) = bench.match_all(settings(), &["room:*"], "");
    let (_, both) = bench.match_all(settings(), &["room:*", "*:1", "user:[12]"], "");
    for (i, channel) in ["room:1", "user:1", "room:2", "other", "user:3"].iter().enumerate() {
        bench.publish(channel, &format!("{i}"));
    }
    bench.settle();
    bench.publish("room:1", "5");
    bench.settle();
    assert_eq!(received(&exact), ["sse.open", "0", "5"]);
    assert_eq!(received(&rooms), ["sse.open", "0", "2", "5"]);
    assert_eq!(received(&both), ["sse.open", "0", "1", "2", "5"]);
}

#[test]
fn a_stream_receives_only_events_after_it_was_opened() {
    let mut bench = bench(1 << 20, HISTORY);
    let (_, first) = bench.match_all(settings(), &["a*"], "");
    bench.publish("ab", "1");
    bench.settle();
    let (key, second) = bench.match_all(settings(), &["*b"], "");
    bench.publish("ab", "2");
    bench.settle();
    bench.worker.close(key, End::Client);
    bench.publish("ab", "3");
    bench.settle();
    let (_, third) = bench.match_all(settings(), &["*b"], "");
    bench.publish("ab", "4");
    bench.settle();
    assert_eq!(received(&first), ["sse.open", "1", "2", "3", "4"]);
    assert_eq!(received(&second), ["sse.open", "2"]);
    assert_eq!(received(&third), ["sse.open", "4"]);
}

#[test]
fn resuming_delivers_later_events_of_all_matching_channels() {
    let mut bench = bench(1 << 20, HISTORY);
    bench.publish("a1", "0");
    let id = bench.publish("a2", "1");
    // More channels than one scan remembers.
    for i in 2..40 {
        bench.publish(&format!("a{}", i % 17), &format!("{i}"));
        bench.publish("b", "not mine");
    }
    let (_, wire) = bench.match_all(settings(), &["a*", "a?"], &id);
    bench.publish("a99", "40");
    bench.settle();
    let expected: Vec<String> = (2..=40).map(|i| i.to_string()).collect();
    assert_eq!(received(&wire), expected);
    let (_, again) = bench.match_all(settings(), &["a*", "a?"], &last_id(&wire));
    assert_eq!(received(&again), Vec::<String>::new());
}

#[test]
fn replay_delivers_the_newest_events_of_each_matching_channel() {
    let mut bench = bench(1 << 20, HISTORY);
    for i in 0..30 {
        bench.publish(&format!("a{}", i % 2), &format!("{i}"));
        bench.publish("b", "not mine");
    }
    let with = |replay| StreamSettings { replay, ..settings() };
    let (_, all) = bench.match_all(with(Replay::All), &["a*"], "");
    assert_eq!(received(&all), (10..30).map(|i| i.to_string()).collect::<Vec<_>>());
    let (_, two) = bench.match_all(with(Replay::Count(2)), &["a?"], "");
    assert_eq!(received(&two), ["26", "27", "28", "29"]);
    let (key, none) = bench.match_all(with(Replay::All), &["c*"], "");
    assert_eq!(received(&none), ["sse.open"]);
    let first = bench.worker.info(key).and_then(|info| info.last_id);
    assert_eq!(first.unwrap().to_string(), last_id(&none));
    bench.worker.close(key, End::Client);
    bench.publish("cc", "missed");
    let (_, again) = bench.match_all(settings(), &["c*"], &last_id(&none));
    assert_eq!(received(&again), ["missed"]);
}

#[test]
fn a_foreign_id_causes_a_gap_and_all_owed_events_are_sent() {
    let mut bench = bench(1 << 20, HISTORY);
    for i in 0..14 {
        bench.publish("a", &format!("{i}"));
    }
    let (_, wire) = bench.match_all(settings(), &["*"], "x");
    let expected: Vec<String> =
        std::iter::once("sse.gap".into()).chain((4..14).map(|i| i.to_string())).collect();
    assert_eq!(received(&wire), expected);
    let (key, nothing) = bench.match_all(settings(), &["b*"], "x");
    assert_eq!(received(&nothing), ["sse.gap"]);
    bench.worker.close(key, End::Client);
    bench.publish("b", "later");
    let (_, again) = bench.match_all(settings(), &["b*"], &last_id(&nothing));
    assert_eq!(received(&again), ["later"]);
}

#[test]
fn only_losses_of_matching_channels_cause_a_gap() {
    let mut bench = bench(1 << 20, HISTORY);
    let id = bench.publish("a1", "0");
    bench.publish("a1", "1");
    bench.publish("b1", "2");
    bench.hub.forget_channel(b"a1", bench.now).unwrap();
    let (_, other) = bench.match_all(settings(), &["b*"], &id);
    assert_eq!(received(&other), ["2"]);
    let (_, wire) = bench.match_all(settings(), &["*1"], &id);
    assert_eq!(received(&wire), ["sse.gap", "2"]);
    bench.publish("a1", "3");
    bench.settle();
    assert_eq!(received(&wire), ["sse.gap", "2", "3"]);
}

#[test]
fn without_history_a_loss_causes_a_gap_and_nothing_is_replayed() {
    let mut bench = bench(1 << 20, History { count: 0, age: 0 });
    let id = bench.publish("a", "0");
    let (_, none) = bench.match_all(settings(), &["*"], &id);
    bench.publish("a", "1");
    let (_, lost) = bench.match_all(settings(), &["*"], &id);
    bench.publish("b", "2");
    bench.settle();
    assert_eq!(received(&none), ["1", "2"]);
    assert_eq!(received(&lost), ["sse.gap", "2"]);
}

#[test]
fn the_modules_own_channels_match_no_pattern() {
    let mut bench = bench(1 << 20, HISTORY);
    bench.worker.presence = Presence::enabled();
    let all = StreamSettings { replay: Replay::All, ..settings() };
    bench.open(settings(), &["sse.presence"], "");
    bench.worker.publish_own(b"sse.status", b"{}", bench.now).unwrap();
    let (_, wire) = bench.match_all(all.clone(), &["*", "sse*", "?se.*"], "");
    bench.open(settings(), &["room"], "");
    bench.pass_time(1_000);
    bench.worker.publish_own(b"sse.status", b"{}", bench.now).unwrap();
    bench.publish("sse", "1");
    bench.settle();
    assert_eq!(received(&wire), ["sse.open", "1"]);
    let (_, presence) = bench.open(all, &["sse.presence"], "");
    assert_eq!(received(&presence).len(), 1, "streams of patterns cause no presence events");
}

#[test]
fn an_event_without_a_type_can_be_named_after_its_own_channel() {
    let mut bench = bench(1 << 20, HISTORY);
    let by_channel = StreamSettings { naming: Naming::ByChannel, ..settings() };
    let (_, one) = bench.match_all(by_channel.clone(), &["r*"], "");
    let (_, two) = bench.match_all(by_channel.clone(), &["r*", "*1"], "");
    let (_, exact) = bench.open(by_channel.clone(), &["r1"], "");
    let id = last_id(&one);
    bench.publish("r1", "x");
    bench.publish("r2", "y");
    bench.settle();
    assert_eq!(received(&one), ["sse.open", "r1", "r2"]);
    assert_eq!(received(&two), ["sse.open", "r1", "r2"]);
    assert_eq!(received(&exact), ["sse.open", "r1"]);
    let (_, again) = bench.match_all(by_channel, &["r*"], &id);
    assert_eq!(received(&again), ["r1", "r2"]);
}

#[test]
fn a_publisher_receives_the_number_of_all_receivers() {
    let mut bench = bench(1 << 20, HISTORY);
    bench.open(settings(), &["room:1"], "");
    bench.match_all(settings(), &["room:*"], "");
    let (key, _) = bench.match_all(settings(), &["*"], "");
    let long = "x".repeat(254) + "*";
    bench.match_all(settings(), &[&long], "");
    let reached = |bench: &mut Bench, channel: &str| {
        let event = NewEvent { event_type: b"", data: b"" };
        let done = bench.worker.publish(channel.as_bytes(), &[event], None, bench.now).unwrap();
        (done.subscribers, done.listeners.len())
    };
    assert_eq!(reached(&mut bench, "room:1"), (3, 1));
    assert_eq!(reached(&mut bench, "else"), (1, 1));
    assert_eq!(reached(&mut bench, &"x".repeat(255)), (2, 1));
    bench.worker.close(key, End::Client);
    assert_eq!(reached(&mut bench, "else"), (0, 0));
    let patterns = bench.hub.patterns().unwrap();
    assert_eq!(patterns, [b"room:*".to_vec(), long.into_bytes()]);
    assert_eq!(bench.hub.stats().channels, 3, "a pattern is not a channel");
    assert!(bench.list(b"", 0, 100).channels.iter().all(|c| c.name[0] != 0));
    assert_eq!(bench.hub.subscribers_of(&name_of_pattern(b"room:*")), Ok(1));
}

#[test]
fn max_subscribers_counts_the_streams_of_a_pattern() {
    let mut bench = bench(1 << 20, HISTORY);
    let one = StreamSettings { max_subscribers: 1, ..settings() };
    bench.open(one.clone(), &["a"], "");
    bench.match_all(one.clone(), &["a*"], "");
    let names = [name_of_pattern(b"a*")];
    let refused = bench.worker.open(
        Client(Rc::default()),
        &Rc::new(one),
        &names,
        ResumeRequest::default(),
        bench.now,
    );
    assert_eq!(refused.err(), Some(OpenError::TooMany));
}

#[test]
fn ending_the_streams_of_a_channel_leaves_those_of_patterns() {
    let mut bench = bench(1 << 20, HISTORY);
    let (ended, _) = bench.open(settings(), &["a"], "");
    let (_, wire) = bench.match_all(settings(), &["*"], "");
    bench.publish("a", "1");
    assert_eq!(bench.worker.end_streams(b"a", bench.now), Ok(Some(1)));
    bench.settle();
    assert_eq!(bench.worker.take_ended(), Some((ended, End::Admin)));
    assert_eq!(bench.worker.take_ended(), None);
    bench.publish("a", "2");
    bench.settle();
    assert_eq!(received(&wire), ["sse.open", "1", "2"]);
}

#[test]
fn a_ring_that_was_overtaken_loses_nothing_that_is_retained() {
    let mut bench = bench(4 << 20, History { count: 5_000, age: 0 });
    let (_, wire) = bench.match_all(settings(), &["a*"], "");
    for i in 0..9_000 {
        bench.publish(if i % 3 == 0 { "ab" } else { "b" }, &format!("{i}"));
    }
    bench.settle();
    let expected: Vec<String> = (0..9_000).step_by(3).map(|i| i.to_string()).collect();
    assert_eq!(received(&wire)[1..], expected);
}

#[test]
fn a_process_with_patterns_is_woken_occasionally_even_if_none_matches() {
    let mut bench = bench(4 << 20, HISTORY);
    bench.match_all(settings(), &["a*"], "");
    let event = NewEvent { event_type: b"", data: b"" };
    let woken = (0..1_000).filter(|_| {
        let done = bench.worker.publish(b"b", &[event], None, bench.now).unwrap();
        assert_eq!(done.subscribers, 0);
        !done.listeners.is_empty()
    });
    assert_eq!(woken.count(), 3);
    let batch = vec![event; 900];
    let done = bench.worker.publish(b"b", &batch, None, bench.now).unwrap();
    assert_eq!(done.listeners.len(), 1);
}
