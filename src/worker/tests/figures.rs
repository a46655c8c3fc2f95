//! What is reported about channels and streams: listings, presence, counters.

use super::*;

#[test]
fn presence_events_count_opened_and_closed_streams() {
    let mut bench = bench(1 << 20, HISTORY);
    bench.worker.presence = Presence::enabled();
    let (_, watcher) = bench.open(settings(), &["sse.presence"], "");
    let (first, _) = bench.open(settings(), &["room"], "");
    bench.open(settings(), &["room"], "");
    bench.pass_time(100);
    bench.worker.close(first, End::Client);
    bench.pass_time(100);
    let events: Vec<serde_json::Value> =
        received(&watcher)[1..].iter().map(|data| serde_json::from_str(data).unwrap()).collect();
    let counts = |came, went, subscribers| {
        serde_json::json!({
            "channel": "room", "came": came, "went": went, "subscribers": subscribers
        })
    };
    assert_eq!(events, [counts(2, 0, 2), counts(0, 1, 1)]);
}

#[test]
fn channels_are_listed_by_prefix_and_in_pages() {
    let mut bench = bench(4 << 20, HISTORY);
    for i in 0..500 {
        bench.publish(&format!("user:{i}"), "x");
    }
    let last = bench.publish("room", "y");
    bench.open(settings(), &["room"], "");
    let mut names = Vec::new();
    let mut from = Some(0);
    while let Some(start) = from {
        let page = bench.list(b"user:", start, 20);
        assert!(page.channels.len() < 60);
        names.extend(page.channels.into_iter().map(|channel| channel.name));
        from = page.next;
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 500);
    let room = bench.hub.channel(b"room").unwrap().unwrap();
    assert_eq!((room.subscribers, room.events), (1, 1));
    assert_eq!(room.last_id.unwrap().to_string(), last);
}

#[test]
fn every_stream_that_was_opened_is_open_or_counted_as_ended_for_one_reason() {
    let mut bench = bench(1 << 20, HISTORY);
    let id = bench.publish("a", "1");
    let all = [End::Client, End::Age, End::Drain, End::Timeout, End::Slow, End::Admin, End::Error];
    for end in all {
        let (key, _) = bench.open(settings(), &["a"], &id);
        bench.worker.close(key, end);
        bench.worker.close(key, End::Client);
    }
    bench.open(settings(), &["a"], "");
    let stats = bench.hub.stats();
    assert_eq!(
        (stats.subscribers, stats.counter(Counter::Opened), stats.counter(Counter::Resumed)),
        (1, 8, 7)
    );
    assert_eq!(all.map(|end| stats.counter(end.counter())), [1; 7]);
    assert_eq!(stats.counter(Counter::EndedExit), 0);

    // The process exits without having ended its last stream.
    bench.worker.release(bench.now);
    let stats = bench.hub.stats();
    assert_eq!((stats.subscribers, stats.counter(Counter::EndedExit)), (0, 1));
}

#[test]
fn watching_the_figures_does_not_change_them() {
    let mut bench = bench(1 << 20, HISTORY);
    let (key, wire) = bench.open(settings(), &["sse.status"], "");
    assert!(bench.worker.feed_is_due(bench.now));
    assert!(!bench.worker.feed_is_due(bench.now), "once a second");
    assert!(
        bench.worker.has_watchers(STATUS_CHANNEL) && !bench.worker.has_watchers(ALL_STATUS_CHANNEL)
    );
    for _ in 0..20 {
        bench.worker.publish_figures(STATUS_CHANNEL, b"{}", bench.now).unwrap();
        bench.settle();
    }
    assert_eq!(received(&wire), [&["sse.open"][..], &["{}"; 20]].concat());
    assert_eq!(bench.hub.stats().retained_events, 1);
    assert_eq!(bench.hub.stats().subscribers, 0);
    bench.worker.close(key, End::Client);
    let stats = bench.hub.stats();
    let touched = [
        Counter::EventsIn,
        Counter::BytesIn,
        Counter::EventsOut,
        Counter::BytesOut,
        Counter::Opened,
        Counter::EndedClient,
    ];
    assert_eq!(touched.map(|counter| stats.counter(counter)), [0; 6]);
    assert_eq!(stats.delivery_times.count(), 0);
    bench.now.mono += 1_000;
    assert!(!bench.worker.feed_is_due(bench.now), "there is no watcher");
}

/// Returns the number of measured deliveries and their sum in microseconds.
fn measured(bench: &Bench) -> (u64, u64) {
    let times = bench.hub.stats().delivery_times;
    (times.count(), times.total())
}

#[test]
fn a_delivery_takes_from_the_publishing_of_its_oldest_event_to_the_end_of_the_fan_out() {
    let mut bench = bench(1 << 20, HISTORY);
    let _streams = [bench.open(settings(), &["a"], ""), bench.open(settings(), &["a"], "")];
    bench.now.mono_ns = 250_000;
    bench.publish("a", "1");
    bench.now.mono_ns = 500_000;
    bench.publish("a", "2");
    DELIVERED_AT.set(MonotonicTime::new(START.mono + 2, 0));
    bench.settle();
    assert_eq!(measured(&bench), (1, 1_750));
    bench.settle();
    assert_eq!(measured(&bench), (1, 1_750), "nothing was delivered");
    bench.publish("b", "nobody listens");
    bench.settle();
    assert_eq!(measured(&bench), (1, 1_750));
}

#[test]
fn deliveries_are_measured_while_events_arrive_all_the_time() {
    let mut bench = bench(4 << 20, HISTORY);
    let _streams: Vec<_> = (0..1_000).map(|_| bench.open(settings(), &["a"], "")).collect();
    for turn in 0..20 {
        bench.publish("a", "x");
        DELIVERED_AT.set(MonotonicTime::from_ms(START.mono + turn));
        bench.worker.turn(bench.now);
    }
    let (count, _) = measured(&bench);
    assert!((4..=5).contains(&count), "{count}: four turns for each fan-out");
}

#[test]
fn an_event_that_is_read_from_the_hub_is_not_measured_with_the_time_of_another() {
    let mut bench = bench(220 << 10, HISTORY);
    let (_, wire) = bench.open(settings(), &["a"], "");
    bench.publish("a", "1");
    bench.settle();
    let (count, _) = measured(&bench);
    let channel = bench.worker.directory.by_name(b"a").unwrap();
    bench.worker.skip_cache(channel, 1);
    bench.settle();
    assert_eq!(measured(&bench).0, count);
    assert_eq!(received(&wire), ["sse.open", "1"]);
}

#[test]
fn a_worker_reports_its_waker_its_sockets_and_its_drain() {
    let mut bench = bench(1 << 20, HISTORY);
    assert!(bench.worker.has_waker());
    assert!(!new_worker(&bench.hub, None, 2, bench.now).has_waker());
    let (key, wire) = bench.open(settings(), &["a"], "");
    let channels = &bench.worker.streams[key].channels;
    assert!(matches!(channels, crate::worker::stream::Subscriptions::One(_)));
    let socket = bench.worker.socket(key).map(|client| Rc::as_ptr(&client.0));
    assert_eq!(socket, Some(Rc::as_ptr(&wire)));
    bench.worker.close(key, End::Client);
    assert!(bench.worker.socket(key).is_none());
    assert_eq!(bench.worker.drained_at(), None);
    bench.worker.drain(5_000, bench.now);
    assert_eq!(bench.worker.drained_at(), Some(START.mono + 5_000));
}
