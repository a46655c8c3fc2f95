//! Clients that come with an id above everything that this hub has seen.

use super::joined::{id, joint, joint_of, Joint};
use super::*;
use crate::hub::{name_of_pattern, Loss, Provenance, RedisState, Source};

/// Longer than another nginx can have been faster.
const LONG: u64 = 3_000;

fn in_step(channels: &[&str]) -> Joint {
    let mut joint = joint();
    channels.iter().for_each(|channel| joint.catch_up(channel, &[], Loss::Nothing));
    joint
}

#[test]
fn what_another_nginx_was_faster_with_is_not_given_again() {
    let mut joint = in_step(&["a"]);
    joint.live("a", 100);
    let (_, wire) = joint.open(&["a"], "130-0");
    joint.live("a", 120);
    joint.bench.pass_time(100);
    assert_eq!(heard(&wire), [""; 0]);
    joint.live("a", 130);
    joint.live("a", 140);
    joint.bench.pass_time(LONG);
    joint.live("a", 150);
    assert_eq!(heard(&wire), ["140", "150"]);
    assert_eq!(last_id(&wire), "150-0");
}

#[test]
fn an_id_of_another_time_gives_a_gap_and_then_everything() {
    for channels in [&["a"][..], &["a", "b"]] {
        let mut joint = in_step(&["a", "b"]);
        joint.live("a", 100);
        let (_, wire) = joint.open(channels, "900-0");
        joint.live("a", 110);
        joint.live("a", 120);
        assert_eq!(heard(&wire), [""; 0]);
        joint.bench.pass_time(LONG);
        assert_eq!(heard(&wire), ["sse.gap", "110", "120"]);
        joint.live("a", 130);
        assert_eq!(heard(&wire), ["sse.gap", "110", "120", "130"]);
        let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
        assert!(text.contains(r#"data: {"after":"900-0"}"#), "{text}");
        assert_eq!(text.matches("900-0").count(), 1, "{text}");
        assert_eq!(last_id(&wire), "130-0");
        // It can return with each of its ids.
        assert_eq!(heard(&joint.open(channels, "110-0").1), ["120", "130"]);
    }
}

#[test]
fn what_comes_after_a_while_is_given_at_once() {
    let mut joint = in_step(&["a"]);
    let (_, wire) = joint.open(&["a"], "900-0");
    joint.bench.pass_time(LONG);
    assert_eq!(heard(&wire), [""; 0]);
    joint.live("a", 110);
    assert_eq!(heard(&wire), ["sse.gap", "110"]);
}

#[test]
fn while_redis_is_away_nothing_is_decided() {
    let mut joint = in_step(&["a"]);
    joint.live("a", 100);
    joint.bench.hub.set_link(joint.fence, RedisState::Down).unwrap();
    let (_, wire) = joint.open(&["a"], "230-0");
    joint.bench.pass_time(4 * LONG);
    joint.connect();
    for ms in [210, 220] {
        joint.come("a", Provenance::Missed(id(ms).into()), "missed");
    }
    assert_eq!(heard(&wire), [""; 0]);
    joint.catch_up("a", &[230, 240], Loss::Nothing);
    joint.bench.pass_time(LONG);
    assert_eq!(heard(&wire), ["240"]);
}

#[test]
fn a_channel_that_redis_does_not_give_keeps_no_other_waiting() {
    let mut joint = in_step(&["a"]);
    let (_, wire) = joint.open(&["a", "refused"], "900-0");
    joint.bench.pass_time(LONG);
    joint.live("a", 110);
    joint.bench.pass_time(4 * LONG);
    assert_eq!(heard(&wire), ["sse.gap", "110"]);
}

#[test]
fn streams_of_patterns_receive_a_gap_as_well() {
    let mut joint = in_step(&["a"]);
    let pattern = name_of_pattern(b"*");
    joint.catch_up(std::str::from_utf8(&pattern).unwrap(), &[], Loss::Nothing);
    joint.live("a", 100);
    let (_, wire) = joint.open(&[std::str::from_utf8(&pattern).unwrap()], "900-0");
    joint.bench.pass_time(LONG);
    joint.live("a", 110);
    joint.live("a", 120);
    assert_eq!(heard(&wire), ["sse.gap", "110", "120"]);
}

#[test]
fn of_a_stream_that_applications_write_too() {
    let mut joint = joint_of(Source::Streams, RedisState::Up);
    joint.catch_up("a", &[10_000], Loss::Nothing);
    let (_, wire) = joint.open(&["a"], "900000-0");
    joint.bench.pass_time(LONG);
    joint.live("a", 12_000);
    joint.live("a", 11_000);
    assert_eq!(heard(&wire), ["sse.gap", "12000", "11000"]);
}

#[test]
fn plain_messages_do_not_wait() {
    let mut joint = in_step(&["a"]);
    joint.live("a", 100);
    let (_, wire) = joint.open(&["a"], "900-0");
    joint.come("a", Provenance::Plain, "plain");
    assert_eq!(heard(&wire), ["plain"]);
}

#[test]
fn a_stream_whose_id_is_in_doubt_is_postponed_once_for_any_number_of_events() {
    let mut joint = in_step(&["a"]);
    joint.live("a", 100);
    joint.open(&["a"], "900-0");
    for ms in 200..300 {
        joint.live("a", ms);
        assert!(joint.bench.worker.work.retries() <= 1);
    }
    assert_eq!(joint.bench.worker.work.retries(), 1);
    joint.bench.pass_time(200);
    assert_eq!(joint.bench.worker.work.retries(), 1);
}
