//! Streams of several channels wait while one of these is catching up, and miss nothing.

use super::with_redis::{id, redis_setup, RedisSetup};
use super::*;
use crate::hub::{Loss, Provenance};

#[test]
fn a_stream_of_several_channels_waits_however_long_one_takes() {
    let mut setup = redis_setup();
    setup.catch_up("a", &[200], Loss::Nothing);
    let (_, both) = setup.open(&["a", "b"], "150-0");
    let (_, one) = setup.open(&["a"], "150-0");
    setup.bench.pass_time(20_000);
    setup.live("a", 300);
    // The response has started, and has heartbeats.
    let text = String::from_utf8(both.borrow().bytes.clone()).unwrap();
    assert!(text.starts_with("retry: 3000\n:\n:\n"), "{text}");
    assert_eq!((received(&both), received(&one)), (vec![], vec!["200".into(), "300".into()]));
    setup.catch_up("b", &[140, 160, 250, 350], Loss::Nothing);
    setup.live("b", 400);
    assert_eq!(received(&both), ["160", "200", "250", "300", "350", "400"]);
    assert_eq!(ids(&both), ["160-0", "200-0", "250-0", "300-0", "350-0", "400-0"]);
}

/// Makes a channel lose its sync, and serves all streams.
fn interrupt(setup: &mut RedisSetup, channel: &str) {
    let member = setup.join(channel);
    setup.bench.hub.interrupt(setup.fence, member).unwrap();
    setup.bench.settle();
}

fn ids(wire: &Rc<RefCell<Wire>>) -> Vec<String> {
    let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("id: ")).map(str::to_owned).collect()
}

#[test]
fn an_open_stream_of_several_channels_waits_for_one_that_is_interrupted() {
    let mut setup = redis_setup();
    for channel in ["a", "b", "c"] {
        setup.catch_up(channel, &[], Loss::Nothing);
    }
    let (_, both) = setup.open(&["a", "b"], "50-0");
    let (_, new) = setup.open(&["a", "b"], "");
    let (_, others) = setup.open(&["b", "c"], "50-0");
    let (_, one) = setup.open(&["a"], "50-0");
    setup.live("a", 100);
    setup.live("b", 110);
    interrupt(&mut setup, "a");
    setup.live("b", 200);
    // A stream that is opened now waits, too.
    let (_, later) = setup.open(&["b", "a"], "100-0");
    setup.bench.pass_time(20_000);
    setup.live("b", 300);
    let p = Provenance::PlainBefore(id(240).before());
    setup.receive("a", Provenance::Missed(id(150).into()), "150");
    setup.receive("a", p, "p");
    setup.receive("a", Provenance::Missed(id(240).into()), "240");
    assert_eq!(received(&both), ["100", "110"]);
    assert_eq!(received(&others), ["110", "200", "300"]);
    assert_eq!(received(&one), ["100", "150", "p", "240"]);
    assert!(received(&later).is_empty());
    setup.catch_up("a", &[250], Loss::Nothing);
    setup.live("a", 400);
    let all = ["100", "110", "150", "200", "p", "240", "250", "300", "400"];
    assert_eq!(received(&both), all);
    assert_eq!(received(&new)[1..], all);
    assert_eq!(received(&later), all[1..]);
    let own = |wire| ids(wire).into_iter().filter(|id| !id.contains("-7-")).collect::<Vec<_>>();
    let durable = all.iter().filter(|text| **text != "p").map(|text| format!("{text}-0"));
    assert_eq!(own(&both), durable.collect::<Vec<_>>());
    // Clients that come back, whatever they have received last, receive the rest.
    for (index, from) in ids(&both).iter().enumerate() {
        let (_, again) = setup.open(&["a", "b"], from);
        setup.bench.settle();
        assert_eq!(received(&again), all[index + 1..], "{from}");
    }
    let of_a = ["100", "150", "p", "240", "250", "400"];
    for (index, from) in ids(&one).iter().enumerate() {
        let (_, again) = setup.open(&["a"], from);
        setup.bench.settle();
        assert_eq!(received(&again), of_a[index + 1..], "{from}");
    }
    setup.bench.hub.check();
}

#[test]
fn a_stream_goes_on_when_the_channel_that_it_waits_for_is_not_available() {
    let mut setup = redis_setup();
    setup.catch_up("a", &[], Loss::Nothing);
    setup.catch_up("b", &[], Loss::Nothing);
    let (_, both) = setup.open(&["a", "b"], "50-0");
    interrupt(&mut setup, "a");
    setup.live("b", 100);
    assert!(received(&both).is_empty());
    setup.bench.hub.set_unavailable(setup.fence, b"a").unwrap();
    setup.bench.settle();
    let (_, later) = setup.open(&["a", "b"], "50-0");
    setup.bench.pass_time(1_100);
    assert_eq!((received(&both), received(&later)), (vec!["100".into()], vec!["100".into()]));
    setup.live("b", 200);
    setup.catch_up("a", &[150], Loss::Nothing);
    // Its events come late, but none is lost.
    assert_eq!(received(&both), ["100", "200", "150"]);
    setup.live("a", 300);
    assert_eq!(received(&both), ["100", "200", "150", "300"]);
}

#[test]
fn a_process_that_was_overtaken_knows_which_channels_are_catching_up() {
    let mut setup = redis_setup();
    for channel in ["a", "b", "c"] {
        setup.catch_up(channel, &[], Loss::Nothing);
    }
    let (_, both) = setup.open(&["a", "b"], "50-0");
    setup.live("b", 100);
    let member = setup.join("a");
    setup.bench.hub.interrupt(setup.fence, member).unwrap();
    setup.ingest("b", Provenance::Live(id(200).into()), "200", 1);
    // More entries than the ring has.
    for ms in 0..40_000 {
        setup.ingest("c", Provenance::Live(id(300 + ms).into()), "c", 1);
    }
    setup.bench.settle();
    assert_eq!(received(&both), ["100"]);
    setup.catch_up("a", &[150], Loss::Nothing);
    setup.bench.pass_time(100);
    assert_eq!(received(&both), ["100", "150", "200"]);
}
