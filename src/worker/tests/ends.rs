//! Heartbeats, and everything that ends a stream or prevents it from starting.

use super::*;

#[test]
fn heartbeats_are_sent_only_when_nothing_else_is() {
    let mut bench = bench(1 << 20, HISTORY);
    let (_, wire) = bench.open(settings(), &["a"], "");
    let before = wire.borrow().bytes.len();
    bench.pass_time(14_000);
    assert_eq!(wire.borrow().bytes.len(), before);
    bench.publish("a", "noise");
    bench.settle();
    let before = wire.borrow().bytes.len();
    bench.pass_time(14_000);
    assert_eq!(wire.borrow().bytes.len(), before);
    bench.pass_time(2_000);
    assert_eq!(&wire.borrow().bytes[before..], b":\n");
    bench.pass_time(30_000);
    assert_eq!(&wire.borrow().bytes[before..], b":\n:\n:\n");
}

#[test]
fn a_heartbeat_is_sent_one_interval_after_the_last_event() {
    for silence in [100, 1_000, 7_400, 14_800] {
        let mut bench = bench(1 << 20, HISTORY);
        let (_, wire) = bench.open(settings(), &["a"], "");
        bench.pass_time(silence);
        bench.publish("a", "news");
        bench.settle();
        let before = wire.borrow().bytes.len();
        bench.pass_time(14_900);
        assert_eq!(wire.borrow().bytes.len(), before, "event after {silence} ms");
        // Deadlines are met within a step of the wheel.
        bench.pass_time(200);
        assert_eq!(&wire.borrow().bytes[before..], b":\n", "event after {silence} ms");
    }
}

#[test]
fn a_drain_ends_streams_evenly_and_serves_them_until_then() {
    let mut bench = bench(1 << 20, HISTORY);
    let wires: Vec<_> = (0..10).map(|_| bench.open(settings(), &["a"], "").1).collect();
    bench.worker.drain(1_000, bench.now);
    let mut ended = Vec::new();
    for _ in 0..12 {
        bench.pass_time(100);
        bench.publish("a", "news");
        bench.settle();
        let mut count = 0;
        while let Some((key, end)) = bench.worker.take_ended() {
            assert_eq!(end, End::Drain);
            bench.worker.close(key, End::Client);
            count += 1;
        }
        ended.push(count);
    }
    assert_eq!(ended.iter().sum::<i32>(), 10);
    assert!(ended.iter().all(|count| *count <= 2), "{ended:?}");
    for wire in wires {
        let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
        let (_, retry) = text.strip_suffix("\n:\n").unwrap().rsplit_once("retry: ").unwrap();
        assert!(retry.parse::<u64>().unwrap() <= 1_000);
    }
    let names = [Box::from(&b"a"[..])];
    let refused = bench.worker.open(
        Client(Rc::default()),
        &Rc::new(settings()),
        &names,
        ResumeRequest::default(),
        bench.now,
    );
    assert_eq!(refused.err(), Some(OpenError::Draining));
}

#[test]
fn a_blocked_stream_is_cut_when_the_drain_is_over() {
    let mut bench = bench(1 << 20, HISTORY);
    let (key, wire) = bench.open(settings(), &["a"], "");
    wire.borrow_mut().room = 0;
    bench.publish("a", "fills the socket");
    bench.settle();
    bench.worker.drain(500, bench.now);
    bench.pass_time(500);
    assert_eq!(bench.worker.take_ended(), None);
    bench.pass_time(200);
    assert_eq!(bench.worker.take_ended(), Some((key, End::Drain)));
}

#[test]
fn a_dead_socket_ends_its_stream_and_no_other() {
    let mut bench = bench(1 << 20, HISTORY);
    let (_, a) = bench.open(settings(), &["a"], "");
    let (dead_key, dead) = bench.open(settings(), &["a"], "");
    let (_, c) = bench.open(settings(), &["a"], "");
    dead.borrow_mut().dead = true;
    bench.publish("a", "1");
    bench.settle();
    assert_eq!(bench.worker.take_ended(), Some((dead_key, End::Error)));
    bench.worker.close(dead_key, End::Client);
    bench.publish("a", "2");
    bench.settle();
    assert_eq!(received(&a), ["sse.open", "1", "2"]);
    assert_eq!(received(&c), ["sse.open", "1", "2"]);
    assert_eq!(bench.worker.streams(), 2);
}

#[test]
fn a_stream_ends_at_its_maximum_age_with_a_retry() {
    let mut bench = bench(1 << 20, HISTORY);
    let max_age = Some(Jittered { base: 2_000, jitter: 1_000 });
    let (key, wire) = bench.open(StreamSettings { max_age, ..settings() }, &["a"], "");
    bench.pass_time(1_900);
    assert_eq!(bench.worker.take_ended(), None);
    bench.pass_time(1_200);
    assert_eq!(bench.worker.take_ended(), Some((key, End::Age)));
    assert!(String::from_utf8_lossy(&wire.borrow().bytes).trim_end().contains("\nretry: "));
}

#[test]
fn a_client_can_read_the_last_retry_before_its_response_is_reset() {
    for (reconnect, is_delayed) in [(Reconnect::Cut, true), (Reconnect::Clean, false)] {
        let mut bench = bench(1 << 20, HISTORY);
        let (key, wire) = bench.open(StreamSettings { reconnect, ..settings() }, &["a"], "");
        let (blocked, slow) = bench.open(StreamSettings { reconnect, ..settings() }, &["a"], "");
        (wire.borrow_mut().resets, slow.borrow_mut().resets) = (true, true);
        slow.borrow_mut().room = 0;
        assert!(bench.worker.end_streams(b"a", bench.now).unwrap().is_some());
        bench.settle();
        assert!(wire.borrow().bytes.ends_with(b"\n:\n"));
        // More of them does not end it either.
        bench.worker.writable(key, bench.now);
        bench.worker.writable(blocked, bench.now);
        bench.settle();
        let ended = |bench: &mut Bench| std::iter::from_fn(|| bench.worker.take_ended()).count();
        assert_eq!(ended(&mut bench), if is_delayed { 0 } else { 2 });
        bench.pass_time(200);
        assert_eq!(ended(&mut bench), if is_delayed { 2 } else { 0 });
    }
}

#[test]
fn a_channel_has_no_more_subscribers_than_allowed() {
    let mut bench = bench(1 << 20, HISTORY);
    let two = StreamSettings { max_subscribers: 2, ..settings() };
    let (first, _) = bench.open(two.clone(), &["a"], "");
    bench.open(two.clone(), &["a"], "");
    let refused = |bench: &mut Bench| {
        let names = [Box::from(&b"b"[..]), Box::from(&b"a"[..])];
        let client = Client(Rc::new(RefCell::new(Wire { room: 9, ..Wire::default() })));
        bench
            .worker
            .open(client, &Rc::new(two.clone()), &names, ResumeRequest::default(), bench.now)
            .err()
    };
    assert_eq!(refused(&mut bench), Some(OpenError::TooMany));
    assert_eq!(bench.worker.directory.len(), 1);
    bench.worker.close(first, End::Client);
    assert_eq!(refused(&mut bench), None);
    assert_eq!(refused(&mut bench), Some(OpenError::TooMany));
}

#[test]
fn an_administrator_ends_the_streams_of_a_channel_and_only_those() {
    let mut bench = bench(1 << 20, HISTORY);
    let (kicked, _) = bench.open(settings(), &["a"], "");
    let (both, _) = bench.open(settings(), &["b", "a"], "");
    let (_, other) = bench.open(settings(), &["b"], "");
    assert_eq!(bench.worker.end_streams(b"none", bench.now), Ok(None));
    assert_eq!(bench.worker.end_streams(b"a", bench.now), Ok(Some(2)));
    let (later, _) = bench.open(settings(), &["a"], "");
    bench.settle();
    let mut ended: Vec<_> = std::iter::from_fn(|| bench.worker.take_ended()).collect();
    ended.sort_unstable_by_key(|(key, _)| key.raw());
    assert_eq!(ended, [(kicked, End::Admin), (both, End::Admin)]);
    bench.worker.close(kicked, End::Admin);
    bench.worker.close(both, End::Admin);
    bench.publish("b", "still there");
    bench.publish("a", "still there");
    bench.settle();
    assert_eq!(received(&other), ["sse.open", "still there"]);
    assert!(bench.worker.info(later).unwrap().events_sent == 1);
}

#[test]
fn deadlines_of_closed_streams_use_no_memory() {
    const DAY: u64 = 86_400_000;
    let mut bench = bench(1 << 20, HISTORY);
    let lasting = || StreamSettings {
        heartbeat: Some(DAY),
        max_age: Some(Jittered { base: DAY, jitter: 0 }),
        ..settings()
    };
    let mut most = 0;
    for _ in 0..5_000 {
        let (key, _) = bench.open(lasting(), &["a"], "");
        bench.worker.close(key, End::Client);
        most = most.max(bench.worker.work.deadlines());
    }
    assert!(most < 1_000, "{most} deadlines of one stream");

    // All clients disconnect, and no other connects.
    let keys: Vec<_> = (0..5_000).map(|_| bench.open(lasting(), &["a"], "").0).collect();
    let (staying, leaving) = keys.split_first().unwrap();
    for key in leaving {
        bench.worker.close(*key, End::Client);
    }
    bench.pass_time(1_000);
    assert!(bench.worker.work.deadlines() < 300, "{} deadlines", bench.worker.work.deadlines());
    bench.now.mono += DAY;
    bench.pass_time(100);
    assert_eq!(bench.worker.take_ended(), Some((*staying, End::Age)));
}

#[test]
fn a_process_without_a_waker_polls_the_log() {
    let mut bench = bench(1 << 20, HISTORY);
    let slow = bench.worker.tick_interval();
    let mut alone = new_worker(&bench.hub, None, 1, bench.now);
    assert!(alone.tick_interval() < slow / 10);
    let (_, wire) = {
        std::mem::swap(&mut alone, &mut bench.worker);
        bench.open(settings(), &["a"], "")
    };
    let event = NewEvent { event_type: b"", data: b"news" };
    alone.publish(b"a", &[event], None, bench.now).unwrap();
    bench.worker.tick(bench.now);
    assert_eq!(received(&wire).last().unwrap(), "news");

    bench.worker.set_waker(1);
    assert!(bench.worker.tick_interval() > 50);
    assert!(!bench.worker.is_woken());
    alone.publish(b"a", &[event], None, bench.now).unwrap();
    assert!(bench.worker.is_woken());
}
