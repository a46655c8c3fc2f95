//! Clients that connect with an id above every id that this hub has seen.

use super::with_redis::{id, redis_setup, redis_setup_of, RedisSetup};
use super::*;
use crate::hub::{name_of_pattern, Loss, Provenance, RedisState, Source};

/// Longer than another nginx's lead can last, in ms.
const LONG: u64 = 3_000;

fn in_sync(channels: &[&str]) -> RedisSetup {
    let mut setup = redis_setup();
    channels.iter().for_each(|channel| setup.catch_up(channel, &[], Loss::Nothing));
    setup
}

#[test]
fn events_that_a_faster_nginx_delivered_are_not_repeated() {
    let mut setup = in_sync(&["a"]);
    setup.live("a", 100);
    let (_, wire) = setup.open(&["a"], "130-0");
    setup.live("a", 120);
    setup.bench.pass_time(100);
    assert_eq!(received(&wire), [""; 0]);
    setup.live("a", 130);
    setup.live("a", 140);
    setup.bench.pass_time(LONG);
    setup.live("a", 150);
    assert_eq!(received(&wire), ["140", "150"]);
    assert_eq!(last_id(&wire), "150-0");
}

#[test]
fn an_implausible_id_causes_a_gap_and_then_everything_is_sent() {
    for channels in [&["a"][..], &["a", "b"]] {
        let mut setup = in_sync(&["a", "b"]);
        setup.live("a", 100);
        let (_, wire) = setup.open(channels, "900-0");
        setup.live("a", 110);
        setup.live("a", 120);
        assert_eq!(received(&wire), [""; 0]);
        setup.bench.pass_time(LONG);
        assert_eq!(received(&wire), ["sse.gap", "110", "120"]);
        setup.live("a", 130);
        assert_eq!(received(&wire), ["sse.gap", "110", "120", "130"]);
        let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
        assert!(text.contains(r#"data: {"after":"900-0"}"#), "{text}");
        assert_eq!(text.matches("900-0").count(), 1, "{text}");
        assert_eq!(last_id(&wire), "130-0");
        // The client can resume from each of its ids.
        assert_eq!(received(&setup.open(channels, "110-0").1), ["120", "130"]);
    }
}

#[test]
fn events_that_arrive_after_a_while_are_sent_at_once() {
    let mut setup = in_sync(&["a"]);
    let (_, wire) = setup.open(&["a"], "900-0");
    setup.bench.pass_time(LONG);
    assert_eq!(received(&wire), [""; 0]);
    setup.live("a", 110);
    assert_eq!(received(&wire), ["sse.gap", "110"]);
}

#[test]
fn while_redis_is_unreachable_nothing_is_decided() {
    let mut setup = in_sync(&["a"]);
    setup.live("a", 100);
    setup.bench.hub.set_link(setup.fence, RedisState::Down).unwrap();
    let (_, wire) = setup.open(&["a"], "230-0");
    setup.bench.pass_time(4 * LONG);
    setup.connect();
    for ms in [210, 220] {
        setup.receive("a", Provenance::Missed(id(ms).into()), "missed");
    }
    assert_eq!(received(&wire), [""; 0]);
    setup.catch_up("a", &[230, 240], Loss::Nothing);
    setup.bench.pass_time(LONG);
    assert_eq!(received(&wire), ["240"]);
}

#[test]
fn a_channel_that_cannot_be_subscribed_to_delays_no_other() {
    let mut setup = in_sync(&["a"]);
    let (_, wire) = setup.open(&["a", "refused"], "900-0");
    setup.bench.hub.set_unavailable(setup.fence, b"refused").unwrap();
    setup.bench.pass_time(LONG);
    setup.live("a", 110);
    setup.bench.pass_time(4 * LONG);
    assert_eq!(received(&wire), ["sse.gap", "110"]);
}

#[test]
fn streams_of_patterns_receive_a_gap_as_well() {
    let mut setup = in_sync(&["a"]);
    let pattern = name_of_pattern(b"*");
    setup.catch_up(std::str::from_utf8(&pattern).unwrap(), &[], Loss::Nothing);
    setup.live("a", 100);
    let (_, wire) = setup.open(&[std::str::from_utf8(&pattern).unwrap()], "900-0");
    setup.bench.pass_time(LONG);
    setup.live("a", 110);
    setup.live("a", 120);
    assert_eq!(received(&wire), ["sse.gap", "110", "120"]);
}

#[test]
fn an_implausible_id_in_streams_mode_causes_a_gap_and_then_everything_is_sent() {
    let mut setup = redis_setup_of(Source::Streams, RedisState::Up);
    setup.catch_up("a", &[10_000], Loss::Nothing);
    let (_, wire) = setup.open(&["a"], "900000-0");
    setup.bench.pass_time(LONG);
    setup.live("a", 12_000);
    setup.live("a", 11_000);
    assert_eq!(received(&wire), ["sse.gap", "12000", "11000"]);
}

#[test]
fn plain_messages_do_not_wait() {
    let mut setup = in_sync(&["a"]);
    setup.live("a", 100);
    let (_, wire) = setup.open(&["a"], "900-0");
    setup.receive("a", Provenance::Plain, "plain");
    assert_eq!(received(&wire), ["plain"]);
}

#[test]
fn a_stream_whose_id_is_in_doubt_is_postponed_once_for_any_number_of_events() {
    let mut setup = in_sync(&["a"]);
    setup.live("a", 100);
    setup.open(&["a"], "900-0");
    for ms in 200..300 {
        setup.live("a", ms);
        assert!(setup.bench.worker.work.retries() <= 1);
    }
    assert_eq!(setup.bench.worker.work.retries(), 1);
    setup.bench.pass_time(200);
    assert_eq!(setup.bench.worker.work.retries(), 1);
}

#[test]
fn a_stream_of_a_whole_run_ends_if_the_beginning_is_gone_once_its_id_is_refuted() {
    let mut setup = redis_setup();
    setup.catch_up("a", &[], Loss::Nothing);
    setup.live("a", 100);
    setup.bench.pass_time(2 * HISTORY.age);
    let run = StreamSettings { replay: Replay::Run, ..settings() };
    let (key, wire) = setup.bench.open(run, &["a"], "900-0");
    setup.bench.pass_time(LONG);
    setup.live("a", 110);
    setup.bench.pass_time(LONG);
    assert_eq!(setup.bench.worker.take_ended(), Some((key, End::Slow)));
    assert_eq!(received(&wire), [""; 0]);
}
