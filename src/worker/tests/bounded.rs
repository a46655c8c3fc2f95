//! Work that concerns many streams or channels is spread over many turns, with the same result as
//! in one turn.

use super::*;
use crate::hub::set_turn_steps;

#[test]
fn ending_many_streams_takes_many_turns_and_ends_those_that_were_open() {
    let mut bench = bench(4 << 20, HISTORY);
    set_turn_steps(8);
    let there: Vec<_> = (0..50).map(|_| bench.open(settings(), &["a"], "").0).collect();
    assert_eq!(bench.worker.end_streams(b"a", bench.now).unwrap(), Some(50));
    bench.publish("a", "after the end");
    assert_eq!(bench.worker.turn(bench.now), Progress::More);
    // Streams that open and close between two turns do not affect the others.
    let wire = Rc::new(RefCell::new(Wire { room: usize::MAX, ..Wire::default() }));
    let (client, names) = (Client(wire.clone()), [b"a"[..].into()]);
    let later = bench
        .worker
        .open(client, &Rc::new(settings()), &names, ResumeRequest::default(), bench.now)
        .unwrap();
    bench.worker.close(there[3], End::Client);
    bench.worker.close(there[49], End::Client);
    bench.publish("a", "later");
    bench.settle();
    let mut ended: Vec<_> = std::iter::from_fn(|| bench.worker.take_ended()).collect();
    let mut expected: Vec<_> = there.iter().map(|key| (*key, End::Admin)).collect();
    expected.retain(|(key, _)| *key != there[3] && *key != there[49]);
    ended.sort_unstable_by_key(|(key, _)| key.raw());
    expected.sort_unstable_by_key(|(key, _)| key.raw());
    assert_eq!(ended, expected);
    assert!(bench.worker.info(later).is_some());
    assert_eq!(received(&wire), ["sse.open", "later"]);
}

#[test]
fn many_channels_recover_from_an_overtaken_ring_in_many_turns() {
    let mut bench = bench(4 << 20, History { count: 5_000, age: 0 });
    set_turn_steps(4);
    let names: Vec<String> = (0..30).map(|i| format!("channel {i}")).collect();
    let wires: Vec<_> = names.iter().map(|name| bench.open(settings(), &[name], "").1).collect();
    let (ended, _) = bench.open(settings(), &["ended"], "");
    bench.hub.end_streams(b"ended").unwrap();
    for i in 0..9_000 {
        bench.publish(&names[i % 30], &format!("{i}"));
    }
    assert_eq!(bench.worker.turn(bench.now), Progress::More);
    bench.publish(&names[0], "more");
    bench.settle();
    for (i, wire) in wires.iter().enumerate() {
        let numbers = (i..9_000).step_by(30).map(|number| number.to_string());
        let more = (i == 0).then(|| "more".to_owned());
        let expected: Vec<String> = numbers.chain(more).collect();
        assert_eq!(received(wire)[1..], expected, "{i}");
    }
    assert_eq!(bench.worker.take_ended(), Some((ended, End::Admin)));
    assert_eq!(bench.worker.take_ended(), None);
}

#[test]
fn a_drain_of_many_streams_is_scheduled_in_many_turns() {
    let mut bench = bench(4 << 20, HISTORY);
    set_turn_steps(8);
    for _ in 0..100 {
        bench.open(settings(), &["a"], "");
    }
    bench.worker.drain(2_000, bench.now);
    assert_eq!(bench.worker.turn(bench.now), Progress::More);
    bench.settle();
    bench.pass_time(1_000);
    let half = std::iter::from_fn(|| bench.worker.take_ended()).count();
    assert!((45..=55).contains(&half), "{half}");
    bench.pass_time(1_200);
    assert_eq!(half + std::iter::from_fn(|| bench.worker.take_ended()).count(), 100);
}

#[test]
fn many_streams_that_could_not_read_the_hub_are_served_again_in_many_turns() {
    let mut bench = bench(4 << 20, HISTORY);
    bench.publish("a", "missed");
    let id = bench.hub.channel(b"a").unwrap().unwrap().last_id.unwrap().to_string();
    let open = |bench: &mut Bench| bench.open(settings(), &["a"], &id);
    let opened: Vec<_> = (0..100).map(|_| open(&mut bench)).collect();
    bench.settle();
    opened.iter().for_each(|(key, _)| bench.worker.work.retry_later(*key));
    set_turn_steps(8);
    bench.worker.tick(bench.now);
    assert_eq!((bench.worker.work.retries(), bench.worker.work.is_idle()), (0, false));
    let mut turns = 1;
    while bench.worker.turn(bench.now) == Progress::More {
        turns += 1;
    }
    assert!((100 / 8..=100).contains(&turns), "{turns}");
}

#[test]
fn comparing_an_event_with_many_patterns_takes_many_turns() {
    let mut bench = bench(4 << 20, HISTORY);
    let mut wires = Vec::new();
    for i in 0..100 {
        wires.push(bench.match_all(settings(), &[&format!("*{i}")], "").1);
    }
    set_turn_steps(20);
    bench.publish("event 7", "one");
    bench.publish("event 77", "two");
    assert_eq!(bench.worker.turn(bench.now), Progress::More);
    bench.settle();
    assert_eq!(received(&wires[7]), ["sse.open", "one", "two"]);
    assert_eq!(received(&wires[77]), ["sse.open", "two"]);
    assert!(wires.iter().enumerate().all(|(i, wire)| i % 70 == 7 || received(wire).len() == 1));
}

#[test]
fn the_patterns_that_a_channel_matches_are_remembered() {
    let mut bench = bench(4 << 20, HISTORY);
    for i in 0..100 {
        bench.match_all(settings(), &[&format!("*{i}")], "");
    }
    set_turn_steps(20);
    let mut turns = |channel| {
        bench.publish(channel, "x");
        1 + (0..1_000).take_while(|_| bench.worker.turn(bench.now) == Progress::More).count()
    };
    let first = turns("a");
    assert!(first > 3, "{first}");
    assert_eq!((turns("a"), turns("b"), turns("a"), turns("b")), (1, first, 1, 1));
}

#[test]
fn freeing_a_deleted_channel_delays_no_other_channel() {
    let mut bench = bench(4 << 20, HISTORY);
    let names: Vec<String> = (0..20).map(|i| format!("channel {i}")).collect();
    let wires: Vec<_> = names.iter().map(|name| bench.open(settings(), &[name], "").1).collect();
    let all = bench.match_all(settings(), &["channel *"], "").1;
    for i in 0..100 {
        bench.publish(&names[i % 20], &format!("{i}"));
        bench.publish("forgotten", "forgotten");
    }
    bench.hub.forget_channel(b"forgotten", bench.now).unwrap().unwrap();
    assert!(bench.hub.has_detached());
    bench.settle();
    let is_behind = |channel: &&super::channel::Channel| channel.complete_after > 0;
    assert_eq!(bench.worker.directory.values().filter(is_behind).count(), 0);
    for (i, wire) in wires.iter().enumerate() {
        let expected: Vec<String> = (i..100).step_by(20).map(|number| number.to_string()).collect();
        assert_eq!(received(wire)[1..], expected, "{i}");
    }
    let expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(received(&all)[1..], expected);
}

#[test]
fn large_events_make_a_turn_shorter() {
    let mut bench = bench_with_large_events();
    for _ in 0..300 {
        bench.open(settings(), &["a"], "");
    }
    bench.publish("a", &"#".repeat(100_000));
    let mut turns = 1;
    while bench.worker.turn(bench.now) == Progress::More {
        turns += 1;
    }
    assert!(turns >= 4, "{turns}");
}

/// Returns how many frames are cached, and their bytes, which channels share.
fn cached(bench: &Bench) -> (usize, usize) {
    let channels = bench.worker.directory.values();
    let frames = channels.flat_map(|channel| channel.frames.iter());
    let (mut count, mut positions) = (0, std::collections::BTreeMap::new());
    for cached in frames {
        count += 1;
        positions.insert(cached.place.position, cached.frame.chunk().len());
    }
    (count, positions.values().sum())
}

#[test]
fn cached_frames_take_little_memory_however_many_events_or_patterns_there_are() {
    let mut bench = bench(4 << 20, HISTORY);
    bench.open(settings(), &["a"], "");
    for _ in 0..500 {
        bench.publish("a", &"#".repeat(900));
        bench.settle();
    }
    let (_, bytes) = cached(&bench);
    assert!((64 << 10..=130 << 10).contains(&bytes), "{bytes}");
    // Many patterns share the bytes of an event, and have entries of their own.
    for number in 0..60 {
        bench.match_all(settings(), &[&format!("{}*", "*".repeat(number))], "");
    }
    for _ in 0..100 {
        bench.publish("b", "x");
        bench.settle();
    }
    let (count, _) = cached(&bench);
    let entry = size_of::<super::channel::CachedFrame>();
    assert!((100..=(140 << 10) / entry).contains(&count), "{count} entries of {entry} bytes");
    for _ in 0..100 {
        bench.publish("b", &"#".repeat(900));
        bench.settle();
    }
    let (_, bytes) = cached(&bench);
    assert!((8 << 10..=130 << 10).contains(&bytes), "{bytes}");
}
