//! Delivery: which clients receive an event, how many at a time, and clients that read slowly.

use super::*;
use crate::worker::channel::FanOut;

#[test]
fn events_reach_the_streams_of_their_channel_once_and_in_order() {
    let mut bench = bench(1 << 20, HISTORY);
    let (_, a) = bench.open(settings(), &["a"], "");
    let (_, b) = bench.open(settings(), &["b"], "");
    let (_, both) = bench.open(settings(), &["a", "b"], "");
    for i in 0..6 {
        bench.publish(if i % 2 == 0 { "a" } else { "b" }, &format!("{i}"));
        if i % 3 == 0 {
            bench.settle();
        }
    }
    bench.settle();
    assert_eq!(received(&a), ["sse.open", "0", "2", "4"]);
    assert_eq!(received(&b), ["sse.open", "1", "3", "5"]);
    assert_eq!(received(&both), ["sse.open", "0", "1", "2", "3", "4", "5"]);
}

#[test]
fn all_pending_events_are_sent_at_once() {
    let mut bench = bench(1 << 20, HISTORY);
    let (_, wire) = bench.open(settings(), &["a"], "");
    let before = wire.borrow().sends;
    for i in 0..50 {
        bench.publish("a", &format!("{i}"));
    }
    bench.settle();
    assert_eq!(wire.borrow().sends, before + 1);
    assert_eq!(received(&wire).len(), 51);
}

#[test]
fn a_fast_client_receives_all_of_a_burst_that_exceeds_history() {
    let mut bench = bench(4 << 20, HISTORY);
    let (_, wire) = bench.open(settings(), &["a"], "");
    for i in 0..1_000 {
        bench.publish("a", &format!("{i}"));
    }
    bench.settle();
    let expected: Vec<String> = (0..1_000).map(|i| i.to_string()).collect();
    assert_eq!(received(&wire)[1..], expected);
}

#[test]
fn a_client_that_stops_reading_continues_from_history() {
    let mut bench = bench(1 << 20, HISTORY);
    let (key, slow) = bench.open(settings(), &["a"], "");
    let (_, fast) = bench.open(settings(), &["a"], "");
    slow.borrow_mut().room = 1;
    for i in 0..500 {
        bench.publish("a", &format!("{i}"));
        bench.settle();
    }
    assert_eq!(received(&slow), ["sse.open", "0"]);
    assert_eq!(received(&fast).len(), 501);
    slow.borrow_mut().room = usize::MAX;
    bench.worker.writable(key, bench.now);
    bench.settle();
    assert_eq!(received(&slow), received(&fast));
}

#[test]
fn cached_frames_are_bounded_and_streams_that_lag_further_read_the_hub() {
    let mut bench = bench(8 << 20, HISTORY);
    let (key, slow) = bench.open(settings(), &["a"], "");
    let (_, fast) = bench.open(settings(), &["a"], "");
    slow.borrow_mut().room = 0;
    let data: Vec<String> = (0..400).map(|i| format!("{i} {}", "x".repeat(900))).collect();
    for data in &data {
        bench.publish("a", data);
        bench.settle();
        let kept = bench.worker.directory.values().flat_map(|channel| &channel.frames);
        assert!(kept.map(|recent| recent.frame.chunk().len()).sum::<usize>() <= 128 << 10);
    }
    assert_eq!(received(&fast)[1..], data);
    slow.borrow_mut().room = usize::MAX;
    bench.worker.writable(key, bench.now);
    bench.settle();
    assert_eq!(received(&slow)[1..], data);
}

#[test]
fn a_client_that_history_overtook_receives_one_gap_and_continues() {
    let mut bench = bench(220 << 10, HISTORY);
    let (key, slow) = bench.open(settings(), &["a"], "");
    slow.borrow_mut().room = 1;
    for i in 0..2_000 {
        bench.publish("a", &format!("{i:0>400}"));
        bench.settle();
    }
    slow.borrow_mut().room = usize::MAX;
    bench.worker.writable(key, bench.now);
    bench.settle();
    let received = received(&slow);
    assert_eq!(received[2], "sse.gap");
    assert_eq!(received.iter().filter(|what| *what == "sse.gap").count(), 1);
    let first: usize = received[3].parse().unwrap();
    let rest: Vec<usize> = received[3..].iter().map(|n| n.parse().unwrap()).collect();
    assert_eq!(rest, (first..2_000).collect::<Vec<_>>());
    assert!(rest.len() >= 10);
    assert_eq!(bench.hub.stats().counter(Counter::SlowClients), 1);
}

#[test]
fn a_location_may_close_clients_that_history_overtook() {
    let mut bench = bench(220 << 10, HISTORY);
    let closing = StreamSettings { slow_client: SlowClient::Close, ..settings() };
    let (key, slow) = bench.open(closing, &["a"], "");
    slow.borrow_mut().room = 1;
    for i in 0..2_000 {
        bench.publish("a", &format!("{i:0>400}"));
        bench.settle();
    }
    bench.worker.writable(key, bench.now);
    bench.settle();
    assert_eq!(bench.worker.take_ended(), Some((key, End::Slow)));
}

#[test]
fn streams_that_open_and_close_during_a_fan_out_miss_nothing() {
    let mut bench = bench(8 << 20, HISTORY);
    let mut open: Vec<_> = (0..1_500).map(|_| bench.open(settings(), &["a"], "")).collect();
    let mut random = fastrand::Rng::with_seed(3);
    for i in 0..40 {
        bench.publish("a", &format!("{i}"));
        bench.worker.turn(bench.now);
        for _ in 0..20 {
            let gone = open.swap_remove(random.usize(0..open.len()));
            bench.worker.close(gone.0, End::Client);
        }
    }
    bench.settle();
    let expected: Vec<String> = (0..40).map(|i| i.to_string()).collect();
    for (_, wire) in &open {
        assert_eq!(received(wire)[1..], expected);
    }
    assert_eq!(bench.hub.stats().subscribers, open.len() as u64);
    for (key, _) in open {
        bench.worker.close(key, End::Client);
    }
    assert_eq!(bench.hub.stats().subscribers, 0);
    assert_eq!(bench.worker.directory.len(), 0);
}

#[test]
fn an_event_without_a_type_can_be_named_after_its_channel() {
    let mut bench = bench(1 << 20, HISTORY);
    let by_channel = StreamSettings { naming: Naming::ByChannel, ..settings() };
    let (_, plain) = bench.open(settings(), &["a", "error"], "");
    let (key, named) = bench.open(by_channel.clone(), &["a", "error"], "");
    let id = last_id(&named);
    bench.publish("a", "1");
    bench.publish("error", "2");
    let typed = NewEvent { event_type: b"own", data: b"3" };
    bench.worker.publish(b"a", &[typed], None, bench.now).unwrap();
    bench.settle();
    assert_eq!(received(&plain), ["sse.open", "1", "2", "own"]);
    assert_eq!(received(&named), ["sse.open", "a", "2", "own"]);
    bench.worker.close(key, End::Client);
    let (_, again) = bench.open(by_channel, &["a", "error"], &id);
    assert_eq!(received(&again), ["a", "2", "own"]);
}

#[test]
fn one_turn_is_bounded() {
    let mut bench = bench(8 << 20, HISTORY);
    let wires: Vec<_> = (0..2_000).map(|_| bench.open(settings(), &["a"], "").1).collect();
    let sends = || wires.iter().map(|wire| wire.borrow().sends).sum::<usize>();
    let before = sends();
    bench.publish("a", "x");
    assert_eq!(bench.worker.turn(bench.now), Progress::More);
    assert!(sends() - before <= 256);
    bench.settle();
    assert_eq!(sends() - before, 2_000);
}

#[test]
fn a_ring_that_was_overtaken_loses_nothing_that_is_retained() {
    let mut bench = bench(4 << 20, History { count: 5_000, age: 0 });
    let (_, wire) = bench.open(settings(), &["a"], "");
    // More than the ring has entries, before this process reads again.
    for i in 0..9_000 {
        bench.publish(if i % 3 == 0 { "a" } else { "b" }, &format!("{i}"));
    }
    bench.settle();
    let expected: Vec<String> = (0..9_000).step_by(3).map(|i| i.to_string()).collect();
    assert_eq!(received(&wire)[1..], expected);
}

#[test]
fn a_stream_that_moves_to_a_free_index_during_a_fan_out_misses_nothing() {
    const STREAMS: usize = 600;
    // The free index: long after the fan-out has passed it, just after, where it continues, and
    // before it gets there.
    for behind in [100, 2, 1, 0, -1, -100] {
        let mut bench = bench(1 << 20, HISTORY);
        let mut open: Vec<_> = (0..STREAMS).map(|_| bench.open(settings(), &["a"], "")).collect();
        bench.publish("a", "news");
        assert_eq!(bench.worker.turn(bench.now), Progress::More);
        let channel = bench.worker.directory.values().next().unwrap();
        let FanOut::Running { next } = channel.fan_out else { panic!("{:?}", channel.fan_out) };
        assert!((100..STREAMS - 101).contains(&next), "{next}");
        let leaving = channel.streams[next.wrapping_add_signed(-behind)];
        bench.worker.close(leaving, End::Client);
        open.retain(|(key, _)| *key != leaving);
        bench.settle();
        let got = open.iter().filter(|(_, wire)| received(wire) == ["sse.open", "news"]).count();
        assert_eq!(got, STREAMS - 1, "{behind} behind");
    }
}

#[test]
fn a_stream_continues_as_soon_as_its_socket_is_writable() {
    let mut bench = bench(1 << 20, HISTORY);
    let (key, wire) = bench.open(settings(), &["a"], "");
    wire.borrow_mut().room = 1;
    for i in 0..3 {
        bench.publish("a", &format!("{i}"));
        bench.settle();
    }
    assert_eq!(received(&wire), ["sse.open", "0"]);
    wire.borrow_mut().room = usize::MAX;
    bench.worker.writable(key, bench.now);
    assert_eq!(received(&wire), ["sse.open", "0", "1", "2"]);
}

#[test]
fn events_from_history_postpone_the_heartbeat() {
    let mut bench = bench(1 << 20, HISTORY);
    let (key, slow) = bench.open(settings(), &["a"], "");
    slow.borrow_mut().room = 1;
    for i in 0..500 {
        bench.publish("a", &format!("{i}"));
        bench.settle();
    }
    bench.pass_time(10_000);
    slow.borrow_mut().room = usize::MAX;
    bench.worker.writable(key, bench.now);
    bench.settle();
    assert_eq!(received(&slow).len(), 501);
    let heartbeats = || slow.borrow().bytes.windows(3).filter(|bytes| bytes == b"\n:\n").count();
    let before = heartbeats();
    bench.pass_time(14_000);
    assert_eq!(heartbeats(), before);
    bench.pass_time(2_000);
    assert_eq!(heartbeats(), before + 1);
}
