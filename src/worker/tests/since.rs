//! Streams of clients without an id that ask for everything from a time on.

use super::with_redis::{id, redis_setup};
use super::*;
use crate::hub::Loss;

fn since(ms: u64) -> ResumeRequest<'static> {
    ResumeRequest { last_event_id: b"", since: Some(ms) }
}

#[test]
fn a_stream_begins_with_what_was_published_from_the_time_on() {
    let mut bench = bench(1 << 20, HISTORY);
    for i in 0..30 {
        bench.publish("a", &i.to_string());
        bench.pass_time(100);
    }
    let (start, end) = (START.wall, bench.now.wall);
    let numbers = |from: u64| (from..30).map(|i| i.to_string()).collect::<Vec<_>>();
    // Whatever sse_replay says.
    for replay in [Replay::Off, Replay::All, Replay::Count(2)] {
        for from in [0, 7, 29] {
            let settings = StreamSettings { replay, ..settings() };
            let (_, wire) = bench.request(settings, &["a"], since(start + from * 100));
            assert_eq!(received(&wire), numbers(from));
        }
    }
    for (channels, ms) in [(["a"], end), (["a"], end + 5_000), (["b"], start)] {
        let all = StreamSettings { replay: Replay::All, ..settings() };
        let (_, wire) = bench.request(all, &channels, since(ms));
        assert_eq!(received(&wire), ["sse.open"], "{channels:?} {ms}");
        bench.publish(channels[0], "later");
        bench.settle();
        assert_eq!(received(&wire), ["sse.open", "later"]);
        // The open event has an id from which the client returns.
        let (_, again) = bench.open(settings(), &channels, &last_id(&wire));
        assert_eq!(received(&again), Vec::<String>::new());
    }
}

#[test]
fn an_id_wins_over_a_time() {
    let mut bench = bench(1 << 20, HISTORY);
    bench.publish("a", "1");
    let last = bench.publish("a", "2");
    bench.publish("a", "3");
    let request = ResumeRequest { last_event_id: last.as_bytes(), since: Some(0) };
    let (_, wire) = bench.request(settings(), &["a"], request);
    assert_eq!(received(&wire), ["3"]);
    let foreign = ResumeRequest { last_event_id: b"1-0-9", since: Some(START.wall + 9_999) };
    let (_, wire) = bench.request(settings(), &["a"], foreign);
    assert_eq!(received(&wire), ["sse.gap", "1", "2", "3"]);
}

#[test]
fn a_loss_from_the_time_on_is_a_gap_and_its_id_is_told_once() {
    let mut bench = bench(1 << 20, HISTORY);
    bench.publish("a", "1");
    bench.pass_time(1_000);
    bench.hub.forget_channel(b"a", bench.now).unwrap();
    bench.pass_time(1_000);
    bench.publish("a", "2");
    let (_, wire) = bench.request(settings(), &["a"], since(START.wall));
    assert_eq!(received(&wire), ["sse.gap", "2"]);
    let (_, again) = bench.open(settings(), &["a"], &last_id(&wire));
    assert_eq!(received(&again), Vec::<String>::new());
    let (_, wire) = bench.request(settings(), &["a"], since(START.wall + 1_500));
    assert_eq!(received(&wire), ["2"]);
    bench.hub.forget_channel(b"a", bench.now).unwrap();
    let (_, empty) = bench.request(settings(), &["a"], since(START.wall));
    assert_eq!(received(&empty), ["sse.gap"]);
}

#[test]
fn a_finished_channel_has_what_was_published_from_the_time_on_or_nothing() {
    let mut bench = bench(1 << 20, HISTORY);
    bench.publish("a", "earlier run");
    bench.finish("a", &[]);
    bench.publish("a", "1");
    bench.pass_time(1_000);
    bench.finish("a", &["2"]);
    let (start, names) = (START.wall, [Box::from(&b"a"[..])]);
    let replay = StreamSettings { finished: Finished::Replay, ..settings() };
    let off = StreamSettings { finished: Finished::Ignored, ..settings() };
    for (settings, ms, expected) in [
        (settings(), start, None),
        (replay.clone(), start, Some(vec!["1", "2"])),
        (replay.clone(), start + 500, Some(vec!["2"])),
        (replay.clone(), start + 1_500, None),
        (replay, start + 99_999, None),
        (off.clone(), start, Some(vec!["earlier run", "1", "2"])),
        (off, start + 1_500, Some(vec!["sse.open"])),
    ] {
        let outlook =
            bench.worker.outlook(&names, &settings, since(ms), Arrival::Unknown, bench.now);
        assert_eq!(outlook == Outlook::Nothing, expected.is_none(), "{ms} {settings:?}");
        let Some(expected) = expected else { continue };
        let is_kept = settings.finished == Finished::Ignored;
        let (key, wire) = bench.request(settings, &["a"], since(ms));
        assert_eq!(received(&wire), expected, "{ms}");
        assert_eq!(bench.finished().contains(&key), !is_kept, "{ms}");
    }
}

#[test]
fn a_stream_that_waits_for_redis_receives_what_is_fetched_from_the_time_on() {
    let mut setup = redis_setup();
    let start = setup.bench.now.wall - 1_000;
    let (key, wire) = setup.bench.request(settings(), &["a"], since(start + 150));
    assert!(setup.bench.worker.is_waiting(key));
    setup.catch_up("a", &[start + 100, start + 200], Loss::UpTo(id(start + 50)));
    assert_eq!(received(&wire), [(start + 200).to_string()]);
    // It had begun before its channel had caught up.
    let ms = setup.bench.now.wall;
    let (_, early) = setup.bench.request(settings(), &["b"], since(ms - 500));
    setup.bench.pass_time(1_500);
    assert_eq!(received(&early), ["sse.open"]);
    setup.catch_up("b", &[ms - 700, ms - 300], Loss::UpTo(id(ms - 800)));
    assert_eq!(received(&early), ["sse.open".to_owned(), (ms - 300).to_string()]);
}
