//! Resuming by time: what clients receive that ask for everything from a time on.

use super::connected_hub::{connected_hub, connected_hub_of, id, up_to, ConnectedHub};
use super::*;

/// Returns what a client receives from a time on, in batches of two events: the texts, with "gap"
/// for a gap event, "open" for an open event, "end" for the end of a run, and "over" if nothing is
/// to come.
fn since_in(hub: &Hub, members: &[Membership], ms: u64, runs: Runs, now: Now) -> String {
    let begun = hub.begin(members, &Resume::Since { ms }, runs, now).unwrap();
    if begun.is_over {
        return "over".into();
    }
    let Some(mut cursor) = begun.cursor else { return "open".into() };
    let mut given = Vec::new();
    loop {
        let batch = hub.slice_of(&mut cursor, 2, usize::MAX, now).unwrap();
        given.extend(batch.gap.map(|_| "gap".to_owned()));
        given.extend(batch.begins.map(|_| "open".to_owned()));
        cursor.gap_sent(&batch);
        for found in &batch.events {
            given.push(text(&found.event));
            cursor.delivered(found);
        }
        if batch.finished {
            given.push("end".into());
        }
        if batch.finished || batch.done {
            return given.join(" ");
        }
    }
}

fn since(hub: &Hub, members: &[Membership], ms: u64, now: Now) -> String {
    since_in(hub, members, ms, Runs::Joined, now)
}

/// Returns the wall clock of `at`, in milliseconds since 1970.
fn wall(ms: u64) -> u64 {
    at(ms).wall
}

/// Creates a hub with the events 10, 20, ... 50 of channel a, which are their times.
fn five(count: u64) -> (Hub, SlotClaim, Membership) {
    let hub = small(count);
    let claim = hub.claim_slot().unwrap();
    let member = hub.join(claim, b"a", at(0)).unwrap();
    for ms in [10, 20, 30, 40, 50] {
        put(&hub, "a", &ms.to_string(), at(ms));
    }
    (hub, claim, member)
}

fn evict(hub: &Hub, channel: &str, events: usize) {
    let guard = hub.lock().unwrap();
    let record = guard.find(channel.as_bytes()).unwrap();
    (0..events).for_each(|_| guard.evict(record, &mut Budget::for_hold()));
}

#[test]
fn events_from_a_time_on_are_given_with_the_surplus() {
    let (hub, _, a) = five(2);
    for (ms, given) in [
        (0, "10 20 30 40 50"),
        (10, "10 20 30 40 50"),
        (13, "20 30 40 50"),
        (30, "30 40 50"),
        (50, "50"),
        (53, "open"),
        (90, "open"),
    ] {
        assert_eq!(since(&hub, &[a], wall(ms), at(90)), given, "{ms}");
    }
    assert_eq!(since(&hub, &[a], 0, at(90)), "10 20 30 40 50");
    hub.check_settled();
}

#[test]
fn a_clock_that_is_set_changes_no_order() {
    let (hub, _, a) = five(100);
    // The clock goes back by a minute; ids stay above the former ones.
    let back = |ms| Now { wall: at(ms).wall - 60_000, ..at(ms) };
    put(&hub, "a", "60", back(60));
    put(&hub, "a", "70", back(70));
    let now = back(80);
    assert_eq!(since(&hub, &[a], now.wall - 20, now), "60 70");
    assert_eq!(since(&hub, &[a], now.wall - 40, now), "40 50 60 70");
    // And forward by a minute.
    put(&hub, "a", "90", at(90));
    assert_eq!(since(&hub, &[a], wall(70), at(90)), "70 90");
}

#[test]
fn a_gap_event_comes_first_if_something_from_then_on_may_have_left() {
    let (hub, claim, a) = five(100);
    evict(&hub, "a", 2);
    for (ms, given) in
        [(5, "gap 30 40 50"), (20, "gap 30 40 50"), (25, "30 40 50"), (33, "40 50"), (60, "open")]
    {
        assert_eq!(since(&hub, &[a], wall(ms), at(90)), given, "{ms}");
    }
    evict(&hub, "a", 3);
    assert_eq!(since(&hub, &[a], wall(50), at(90)), "gap");
    assert_eq!(since(&hub, &[a], wall(51), at(90)), "open");
    // Another channel has lost nothing, and one loss is enough for both.
    let b = hub.join(claim, b"b", at(90)).unwrap();
    put(&hub, "b", "x", at(100));
    assert_eq!(since(&hub, &[b], wall(0), at(110)), "x");
    assert_eq!(since(&hub, &[a, b], wall(0), at(110)), "gap x");
    assert_eq!(since(&hub, &[a, b], wall(60), at(110)), "x");
}

#[test]
fn an_event_without_history_is_a_gap() {
    let (hub, _, a) = five(0);
    assert_eq!(since(&hub, &[a], wall(40), at(90)), "gap");
    assert_eq!(since(&hub, &[a], wall(60), at(90)), "open");
}

#[test]
fn expired_events_are_not_given_and_are_a_gap_only_if_they_are_recent_enough() {
    let hub = hub_of(1 << 20, 4096, 100, 1_000);
    let claim = hub.claim_slot().unwrap();
    let a = hub.join(claim, b"a", at(0)).unwrap();
    for ms in [0, 400, 800] {
        put(&hub, "a", &ms.to_string(), at(ms));
    }
    assert_eq!(since(&hub, &[a], wall(0), at(1_500)), "gap 800");
    assert_eq!(since(&hub, &[a], wall(600), at(1_500)), "800");
    assert_eq!(since(&hub, &[a], wall(900), at(5_000)), "open");
}

#[test]
fn a_stream_that_ends_with_runs_begins_in_the_newest_one() {
    let (hub, _, a) = five(100);
    let finish = |data: &str, ms| {
        hub.publish_and_finish(b"a", &[event(data.as_bytes())], None, at(ms)).unwrap()
    };
    finish("60", 60);
    let separate = |ms, now| since_in(&hub, &[a], wall(ms), Runs::Separate, at(now));
    assert_eq!(separate(45, 90), "50 60 end");
    assert_eq!(separate(70, 90), "over");
    assert_eq!(since_in(&hub, &[a], wall(45), Runs::InProgress, at(90)), "over");
    assert_eq!(since(&hub, &[a], wall(45), at(90)), "50 60");
    put(&hub, "a", "100", at(100));
    assert_eq!(separate(45, 110), "100");
    assert_eq!(since_in(&hub, &[a], wall(45), Runs::InProgress, at(110)), "100");
    // What is lost of the earlier run is no gap.
    evict(&hub, "a", 3);
    assert_eq!(separate(0, 110), "100");
    evict(&hub, "a", 3);
    assert_eq!(separate(0, 110), "100");
    put(&hub, "a", "110", at(110));
    evict(&hub, "a", 1);
    assert_eq!(separate(0, 120), "gap 110");
    assert_eq!(since(&hub, &[a], wall(0), at(120)), "gap 110");
}

/// Creates a hub whose Redis shows a time that is `ahead` ms ahead of this machine's, with a
/// channel in sync.
fn with_redis(ahead: i64) -> (ConnectedHub, Membership) {
    let setup = connected_hub();
    let epoch = (at(0).wall - at(0).mono).saturating_add_signed(ahead);
    setup.hub.set_clock(setup.token, epoch);
    let a = setup.subscribe("a", &[], Loss::Nothing);
    (setup, a)
}

/// A durable event that Redis numbered at this time, and that arrived at another.
fn durable(setup: &ConnectedHub, channel: &str, redis: u64, arrived: u64) {
    let provenance = Provenance::Live(id(redis).into());
    setup.ingest_at(channel, provenance, &format!("d{arrived}"), at(arrived));
}

fn plain(setup: &ConnectedHub, channel: &str, arrived: u64) {
    setup.ingest_at(channel, Provenance::Plain, &format!("p{arrived}"), at(arrived));
}

#[test]
fn plain_messages_with_the_same_mark_have_their_own_times() {
    let (setup, a) = with_redis(0);
    durable(&setup, "a", wall(0), 0);
    for ms in [1_000, 2_000, 3_000] {
        plain(&setup, "a", ms);
    }
    for (ms, given) in [
        (0, "d0 p1000 p2000 p3000"),
        (500, "p1000 p2000 p3000"),
        (2_000, "p2000 p3000"),
        (2_500, "p3000"),
        (3_500, "open"),
    ] {
        assert_eq!(since(&setup.hub, &[a], wall(ms), at(4_000)), given, "{ms}");
    }
    setup.hub.check_settled();
}

#[test]
fn durable_events_have_the_time_of_redis_and_so_has_the_hub() {
    for ahead in [-5_000, 0, 5_000] {
        let (setup, a) = with_redis(ahead);
        let redis = |ms: u64| wall(ms).saturating_add_signed(ahead);
        assert_eq!(setup.hub.clock(at(70)), redis(70));
        durable(&setup, "a", redis(10), 11);
        plain(&setup, "a", 20);
        durable(&setup, "a", redis(30), 31);
        plain(&setup, "a", 40);
        for (ms, given) in
            [(10, "d11 p20 d31 p40"), (15, "p20 d31 p40"), (25, "d31 p40"), (40, "p40")]
        {
            let given_here = since(&setup.hub, &[a], redis(ms), at(90));
            assert_eq!(given_here, given, "{ahead} {ms}");
        }
    }
}

#[test]
fn an_event_that_comes_late_or_with_a_lower_id_hides_no_other() {
    let (setup, a) = with_redis(0);
    plain(&setup, "a", 100);
    // Published before that message, and received after it.
    durable(&setup, "a", wall(50), 150);
    plain(&setup, "a", 200);
    // Redis' clock was behind, so the hub cannot use this id.
    durable(&setup, "a", wall(20), 210);
    assert_eq!(since(&setup.hub, &[a], wall(80), at(300)), "p100 p200 d210");
    assert_eq!(since(&setup.hub, &[a], wall(180), at(300)), "p200 d210");
    assert_eq!(since(&setup.hub, &[a], wall(50), at(300)), "p100 d150 p200 d210");
    assert_eq!(since(&setup.hub, &[a], wall(250), at(300)), "open");
}

#[test]
fn of_lost_plain_messages_the_time_is_unknown() {
    let (setup, a) = with_redis(0);
    for ms in [100, 200, 300] {
        plain(&setup, "a", ms);
    }
    setup.evict("a", 1);
    // The next message shows that the lost one was older.
    assert_eq!(since(&setup.hub, &[a], wall(250), at(500)), "p300");
    assert_eq!(since(&setup.hub, &[a], wall(150), at(500)), "gap p200 p300");
    setup.evict("a", 2);
    assert_eq!(since(&setup.hub, &[a], wall(400), at(500)), "gap");
    // A durable event shows it, too.
    durable(&setup, "a", wall(600), 600);
    assert_eq!(since(&setup.hub, &[a], wall(700), at(800)), "open");
    assert_eq!(since(&setup.hub, &[a], wall(500), at(800)), "gap d600");
    setup.evict("a", 1);
    assert_eq!(since(&setup.hub, &[a], wall(700), at(800)), "gap");

    // Of lost durable events it is known.
    let b = setup.subscribe("b", &[], Loss::Nothing);
    for ms in [900, 1_000, 1_100] {
        durable(&setup, "b", wall(ms), ms);
    }
    setup.evict("b", 2);
    assert_eq!(since(&setup.hub, &[b], wall(1_000), at(1_200)), "gap d1100");
    assert_eq!(since(&setup.hub, &[b], wall(1_001), at(1_200)), "d1100");
    setup.evict("b", 1);
    assert_eq!(since(&setup.hub, &[b], wall(1_101), at(1_200)), "open");
}

#[test]
fn history_that_is_fetched_has_the_time_of_its_ids() {
    let (setup, _) = with_redis(0);
    // Redis has lost what is before 300.
    let history = [wall(300), wall(400)];
    let c = setup.subscribe("c", &history, up_to(wall(200)));
    let shown = |ms: u64| since(&setup.hub, &[c], wall(ms), at(5_000));
    let [d300, d400] = history;
    assert_eq!(shown(200), format!("gap {d300} {d400}"));
    assert_eq!(shown(201), format!("{d300} {d400}"));
    assert_eq!(shown(400), format!("{d400}"));
    assert_eq!(shown(401), "open");
}

#[test]
fn what_is_caught_up_after_the_stream_has_begun_is_given_from_the_time_on() {
    let (setup, _) = with_redis(0);
    let member = setup.listen("d");
    let holder = setup.subscribe_only("d");
    let resume = Resume::Since { ms: wall(350) };
    let begun = setup.hub.begin(&[member], &resume, Runs::Joined, at(500)).unwrap();
    assert!(begun.cursor.is_none());
    setup.catch_up("d", holder, &[wall(300), wall(400)], up_to(wall(200)));
    durable(&setup, "d", wall(600), 600);
    let received = Received::at(begun.end.position, begun.elsewhere);
    let until = setup.hub.head();
    let mut cursor = ReplayCursor::since(received, until, [member].into_iter());
    let (gaps, texts) = all_of(&setup.hub, &mut cursor, 2, at(700));
    assert_eq!((gaps.len(), texts), (0, vec![wall(400).to_string(), "d600".into()]));
}

#[test]
fn new_events_are_given_however_far_behind_redis_is() {
    let (setup, member) = with_redis(-60_000);
    let resume = Resume::Since { ms: wall(0) };
    let begun = setup.hub.begin(&[member], &resume, Runs::Joined, at(0)).unwrap();
    durable(&setup, "a", wall(1) - 60_000, 1);
    let received = Received::at(begun.end.position, begun.elsewhere);
    let mut cursor = ReplayCursor::since(received, setup.hub.head(), [member].into_iter());
    assert_eq!(all_of(&setup.hub, &mut cursor, 2, at(700)).1, ["d1"]);
}

#[test]
fn the_clock_of_redis_is_that_of_the_fastest_reply_until_it_is_set_back() {
    let setup = connected_hub_of(1 << 18, Source::Streams, 10, 0);
    let clock = |epoch| {
        setup.hub.set_clock(setup.token, epoch);
        setup.hub.clock(at(0)) - at(0).mono
    };
    assert_eq!(setup.hub.clock(at(0)), at(0).wall);
    assert_eq!(clock(900_000), 900_000);
    assert_eq!(clock(899_000), 900_000);
    assert_eq!(clock(900_010), 900_010);
    assert_eq!(clock(800_000), 800_000);
    setup.hub.set_clock(FencingToken::none(), 1_000_000);
    assert_eq!(setup.hub.clock(at(0)) - at(0).mono, 800_000);
}

#[test]
fn the_events_of_one_process_do_not_precede_those_of_another() {
    let hub = small(100);
    let claim = hub.claim_slot().unwrap();
    let a = hub.join(claim, b"a", at(0)).unwrap();
    put(&hub, "a", "first", at(100));
    // This process has read the clock before, and then had to wait for the lock.
    put(&hub, "a", "second", at(40));
    assert_eq!(since(&hub, &[a], wall(100), at(200)), "first second");
    assert_eq!(since(&hub, &[a], wall(110), at(200)), "open");
}

/// Returns what a client of patterns receives from a time on.
fn matching_since(hub: &Hub, pattern: &str, ms: u64, now: Now) -> String {
    let names = [name_of_pattern(pattern.as_bytes())];
    let begun = hub.begin_pattern_replay(&names, &Resume::Since { ms }, now).unwrap();
    let mut replay = begun.cursor.unwrap();
    let mut given = Vec::new();
    loop {
        let Some(batch) = hub.replay_patterns(&mut replay, 2, usize::MAX, now).unwrap() else {
            continue;
        };
        given.extend(batch.gap.map(|_| "gap".to_owned()));
        given.extend(batch.begins.map(|_| "open".to_owned()));
        replay.gap_sent();
        for found in &batch.events {
            given.push(text(&found.event));
            replay.delivered(found);
        }
        if batch.done {
            return given.join(" ");
        }
    }
}

#[test]
fn streams_of_patterns_begin_at_a_time() {
    let hub = small(2);
    for ms in 1..=20 {
        put(&hub, &format!("room:{}", ms % 7), &ms.to_string(), at(ms * 10));
    }
    put(&hub, "other", "x", at(205));
    let expected = |from: u64| {
        let texts: Vec<String> = (from..=20).map(|ms| ms.to_string()).collect();
        texts.join(" ")
    };
    for from in [1, 2, 13, 20] {
        assert_eq!(matching_since(&hub, "room:*", wall(from * 10), at(300)), expected(from));
    }
    assert_eq!(matching_since(&hub, "room:*", wall(250), at(300)), "open");
    // The newest event of the log.
    assert_eq!(matching_since(&hub, "other*", wall(205), at(300)), "x");
    assert_eq!(matching_since(&hub, "other*", wall(215), at(300)), "open");
    evict(&hub, "room:3", 1);
    assert_eq!(matching_since(&hub, "room:*", wall(0), at(300)).split_once(' ').unwrap().0, "gap");
    assert_eq!(matching_since(&hub, "room:*", wall(40), at(300)), expected(4));
    evict(&hub, "room:3", 2);
    assert_eq!(matching_since(&hub, "room:3", wall(180), at(300)), "open");
    assert_eq!(matching_since(&hub, "room:3", wall(170), at(300)), "gap");
    hub.set_history(History::NONE, History::NONE).unwrap();
    assert_eq!(matching_since(&hub, "room:*", wall(200), at(300)), "gap");
    assert_eq!(matching_since(&hub, "room:*", wall(210), at(300)), "open");
}
