//! Streams end when their client's permission does.

use super::*;

fn open_until(
    bench: &mut Bench,
    settings: StreamSettings,
    ms: u64,
) -> (StreamKey, Rc<RefCell<Wire>>) {
    let (key, wire) = bench.open(settings, &["a"], "");
    let expires = Some(bench.now.wall + ms);
    let permission = Permission { expires, ..Permission::default() };
    bench.worker.set_permission(key, permission, bench.now);
    (key, wire)
}

fn with_event(before: u64, jitter: u64) -> StreamSettings {
    let name = (*b"sse.expires").into();
    let before = Jittered { base: before, jitter };
    StreamSettings { expiry_event: Some(ExpiryEvent { name, before }), ..settings() }
}

fn set_clock(bench: &mut Bench, by: i64) {
    bench.now.wall = bench.now.wall.checked_add_signed(by).unwrap();
}

#[test]
fn a_stream_ends_within_a_step_before_its_permission_does() {
    for ms in [100, 150, 2_000, 59_950, 60_000, 61_234, 500_000] {
        let mut bench = bench(1 << 20, HISTORY);
        let (key, wire) = open_until(&mut bench, settings(), ms);
        let steps = ms / 100;
        bench.pass_time(steps.saturating_sub(2) * 100);
        assert_eq!(bench.worker.take_ended(), None, "{ms}");
        bench.pass_time(200);
        assert_eq!(bench.worker.take_ended(), Some((key, End::Expired)), "{ms}");
        let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
        assert!(text.ends_with("\n:\n") && text.matches("retry: ").count() == 2, "{text}");
        bench.publish("a", "too late");
        bench.settle();
        assert!(!received(&wire).contains(&"too late".to_owned()));
    }
}

#[test]
fn a_client_returns_after_its_permission_has_ended() {
    let mut bench = bench(1 << 20, HISTORY);
    let wires: Vec<_> =
        (0..200).map(|n| open_until(&mut bench, settings(), 2_000 + n % 100).1).collect();
    let opened = bench.now.wall;
    for _ in 0..25 {
        bench.pass_time(100);
        for (n, wire) in (0..).zip(&wires) {
            let text = String::from_utf8(std::mem::take(&mut wire.borrow_mut().bytes)).unwrap();
            let Some(last) = text.strip_suffix("\n:\n") else { continue };
            let retry: u64 = last.rsplit("retry: ").next().unwrap().parse().unwrap();
            assert!(bench.now.wall + retry >= opened + 2_000 + n % 100, "stream {n}: {retry} ms");
        }
    }
    assert_eq!(std::iter::from_fn(|| bench.worker.take_ended()).count(), wires.len());
}

#[test]
fn the_earliest_of_age_and_permission_ends_a_stream() {
    for (age, ms, end) in [(1_000, 2_000, End::Age), (2_000, 1_000, End::Expired)] {
        let mut bench = bench(1 << 20, HISTORY);
        let max_age = Some(Jittered { base: age, jitter: 0 });
        let (key, _) = open_until(&mut bench, StreamSettings { max_age, ..settings() }, ms);
        bench.pass_time(800);
        assert_eq!(bench.worker.take_ended(), None);
        bench.pass_time(300);
        assert_eq!(bench.worker.take_ended(), Some((key, end)));
    }
}

#[test]
fn a_long_age_is_met_although_the_wheel_is_shorter() {
    let mut bench = bench(1 << 20, HISTORY);
    let max_age = Some(Jittered { base: 300_000, jitter: 0 });
    let (key, _) =
        bench.open(StreamSettings { max_age, heartbeat: None, ..settings() }, &["a"], "");
    assert_eq!(bench.worker.work.deadlines(), 1);
    bench.pass_time(299_900);
    assert_eq!(bench.worker.take_ended(), None);
    assert_eq!(bench.worker.work.deadlines(), 1);
    bench.pass_time(200);
    assert_eq!(bench.worker.take_ended(), Some((key, End::Age)));
}

#[test]
fn the_event_is_sent_once_before_the_end_and_has_no_id() {
    let mut bench = bench(1 << 20, HISTORY);
    let (key, wire) = open_until(&mut bench, with_event(30_000, 0), 90_000);
    bench.pass_time(59_800);
    assert_eq!(received(&wire), ["sse.open"]);
    bench.pass_time(400);
    let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
    assert!(text.ends_with("event: sse.expires\ndata: {\"in\":30}\n\n"), "{text}");
    bench.publish("a", "after it");
    bench.pass_time(29_000);
    assert_eq!(received(&wire), ["sse.open", "sse.expires", "after it"]);
    bench.pass_time(1_000);
    assert_eq!(bench.worker.take_ended(), Some((key, End::Expired)));
}

#[test]
fn the_event_is_spread_over_its_jitter() {
    let mut bench = bench(1 << 20, HISTORY);
    let wires: Vec<_> =
        (0..100).map(|_| open_until(&mut bench, with_event(10_000, 10_000), 30_000).1).collect();
    let warned =
        |wires: &[Rc<RefCell<Wire>>]| wires.iter().filter(|wire| received(wire).len() > 1).count();
    bench.pass_time(9_900);
    assert_eq!(warned(&wires), 0);
    bench.pass_time(5_000);
    assert!((20..80).contains(&warned(&wires)), "{}", warned(&wires));
    bench.pass_time(5_300);
    assert_eq!(warned(&wires), 100);
}

#[test]
fn a_stream_that_is_blocked_receives_the_event_later() {
    let mut bench = bench(1 << 20, HISTORY);
    let (key, wire) = open_until(&mut bench, with_event(10_000, 0), 20_000);
    wire.borrow_mut().room = 0;
    bench.publish("a", "fills the socket");
    bench.settle();
    bench.pass_time(12_000);
    assert!(!received(&wire).contains(&"sse.expires".to_owned()));
    wire.borrow_mut().room = usize::MAX;
    bench.worker.writable(key, bench.now);
    bench.pass_time(1_200);
    assert_eq!(received(&wire), ["sse.open", "fills the socket", "sse.expires"]);
}

#[test]
fn when_the_clock_is_set_forward_permissions_end_at_once() {
    let mut bench = bench(1 << 20, HISTORY);
    let (key, _) = open_until(&mut bench, settings(), 3_600_000);
    let (staying, _) = open_until(&mut bench, settings(), 3 * 3_600_000);
    bench.open(settings(), &["a"], "");
    set_clock(&mut bench, 3_600_000);
    bench.pass_time(100);
    assert_eq!(bench.worker.take_ended(), Some((key, End::Expired)));
    assert_eq!(bench.worker.take_ended(), None);
    set_clock(&mut bench, 2 * 3_600_000);
    bench.pass_time(100);
    assert_eq!(bench.worker.take_ended(), Some((staying, End::Expired)));
}

#[test]
fn when_the_clock_is_set_back_permissions_last_longer() {
    let mut bench = bench(1 << 20, HISTORY);
    let (key, _) = open_until(&mut bench, settings(), 10_000);
    bench.pass_time(5_000);
    set_clock(&mut bench, -3_000);
    bench.pass_time(7_800);
    assert_eq!(bench.worker.take_ended(), None);
    bench.pass_time(200);
    assert_eq!(bench.worker.take_ended(), Some((key, End::Expired)));
}

#[test]
fn many_permissions_that_end_together_take_several_turns() {
    let mut bench = bench(4 << 20, HISTORY);
    for _ in 0..3_000 {
        open_until(&mut bench, settings(), 3_600_000);
    }
    set_clock(&mut bench, 3_600_000);
    bench.now.mono += 100;
    bench.now.wall += 100;
    assert_eq!(bench.worker.tick(bench.now), Progress::More);
    let mut ended = 0;
    let mut turns = 1;
    loop {
        let before = ended;
        while bench.worker.take_ended().is_some() {
            ended += 1;
        }
        assert!(ended - before <= 300, "{}", ended - before);
        if bench.worker.turn(bench.now) == Progress::Idle {
            break;
        }
        turns += 1;
    }
    while bench.worker.take_ended().is_some() {
        ended += 1;
    }
    assert_eq!(ended, 3_000);
    assert!(turns > 10, "{turns}");
}

#[test]
fn streams_without_a_permission_have_no_deadlines() {
    let mut bench = bench(1 << 20, HISTORY);
    let (key, _) = bench.open(settings(), &["a"], "");
    bench.worker.set_permission(key, Permission::default(), bench.now);
    assert!(bench.worker.streams[key].limits.is_none());
}
