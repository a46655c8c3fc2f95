//! The table of resumption in a hub that is connected to Redis: what a client with each form of id
//! receives, and whether a gap event comes first.

use super::connected_hub::{connected_hub, connected_hub_of, id, ConnectedHub};
use super::*;

/// Publishes on two channels: durable events 100, 200, 300 on `a`, 150 and 250 on `b`, and plain
/// ones in between. Returns the ids of the plain ones by their texts.
fn mixed(setup: &ConnectedHub) -> (Membership, Membership, Vec<String>) {
    let a = setup.subscribe("a", &[], Loss::Nothing);
    let b = setup.subscribe("b", &[], Loss::Nothing);
    setup.live("a", 100);
    let p = setup.plain("a", "p");
    setup.live("b", 150);
    let q = setup.plain("b", "q");
    let r = setup.plain("a", "r");
    setup.live("a", 200);
    setup.live("b", 250);
    setup.live("a", 300);
    let s = setup.plain("b", "s");
    setup.hub.check_settled();
    (a, b, vec![p, q, r, s])
}

#[test]
fn an_id_of_redis_delivers_later_events_and_plain_ones_with_the_same_id() {
    let setup = connected_hub();
    let (a, b, _) = mixed(&setup);
    assert_eq!(setup.resumed(&[a], "100-0"), (false, "p r 200 300".into()));
    assert_eq!(setup.resumed(&[a, b], "100-0"), (false, "p 150 q r 200 250 300 s".into()));
    assert_eq!(setup.resumed(&[a, b], "150-0"), (false, "q r 200 250 300 s".into()));
    // The id of an event on a channel without listeners here is between two events.
    assert_eq!(setup.resumed(&[a, b], "170-3"), (false, "200 250 300 s".into()));
    assert_eq!(setup.resumed(&[a, b], "300-0"), (false, "s".into()));
    assert_eq!(setup.resumed(&[a], "300-0"), (false, String::new()));
    assert_eq!(setup.resumed(&[a, b], "99-7"), (false, "100 p 150 q r 200 250 300 s".into()));
    // Another nginx is ahead of this one.
    assert_eq!(setup.resumed(&[a, b], "400-0"), (false, String::new()));
}

#[test]
fn an_id_of_this_hub_delivers_exactly_the_later_events() {
    let setup = connected_hub();
    let (a, b, plain) = mixed(&setup);
    let (p, q, r, s) = (&plain[0], &plain[1], &plain[2], &plain[3]);
    assert_eq!(p, "100-0-7-4");
    assert_eq!(setup.resumed(&[a, b], p), (false, "150 q r 200 250 300 s".into()));
    assert_eq!(setup.resumed(&[a, b], q), (false, "r 200 250 300 s".into()));
    assert_eq!(setup.resumed(&[a], r), (false, "200 300".into()));
    assert_eq!(setup.resumed(&[a, b], s), (false, String::new()));
}

#[test]
fn an_id_of_another_hub_delivers_later_durable_events_and_plain_ones_after_them() {
    let setup = connected_hub();
    let (a, b, _) = mixed(&setup);
    // At the high watermark 150, `a` and `b` have plain events. Which of them the client has
    // received is unknown.
    assert_eq!(setup.resumed(&[a, b], "150-0-9-77"), (true, "200 250 300 s".into()));
    assert_eq!(setup.resumed(&[b], "150-0-9-77"), (true, "250 s".into()));
    // None at 200.
    assert_eq!(setup.resumed(&[a, b], "200-0-9-1"), (false, "250 300 s".into()));
    // At 300 only `b` has one.
    assert_eq!(setup.resumed(&[a], "300-0-9-1"), (false, String::new()));
    assert_eq!(setup.resumed(&[a, b], "300-0-9-1"), (true, String::new()));
    // Here, the same id determines the position.
    assert_eq!(setup.resumed(&[a, b], "150-0-7-5"), (false, "q r 200 250 300 s".into()));
}

#[test]
fn an_unknown_id_receives_all_after_a_gap() {
    let setup = connected_hub();
    let (a, b, _) = mixed(&setup);
    let all = (true, "100 p 150 q r 200 250 300 s".to_string());
    let far = format!("{}-0", at(0).wall + 4_000_000);
    for from in ["150-0-7", "150-0-9", "evil", "1", "-1", "150-0-", "0150-0", &far] {
        assert_eq!(setup.resumed(&[a, b], from), all, "{from}");
    }
}

#[test]
fn an_evicted_durable_event_causes_a_gap_only_for_earlier_ids() {
    let setup = connected_hub();
    let (a, b, _) = mixed(&setup);
    setup.evict("a", 1);
    assert_eq!(setup.resumed(&[a], "99-0"), (true, "p r 200 300".into()));
    assert_eq!(setup.resumed(&[a], "100-0"), (false, "p r 200 300".into()));
    assert_eq!(setup.resumed(&[b], "99-0"), (false, "150 q 250 s".into()));
    assert_eq!(setup.resumed(&[a, b], "90-0-9-3"), (true, "p 150 q r 200 250 300 s".into()));
}

#[test]
fn an_evicted_plain_event_causes_a_gap_for_its_own_id_too() {
    let setup = connected_hub();
    let (a, _, plain) = mixed(&setup);
    setup.evict("a", 2);
    assert_eq!(setup.resumed(&[a], "100-0"), (true, "r 200 300".into()));
    // A client that has received it has lost nothing. One from another nginx may have.
    assert_eq!(setup.resumed(&[a], &plain[0]), (false, "r 200 300".into()));
    assert_eq!(setup.resumed(&[a], "101-0"), (false, "r 200 300".into()));
    assert_eq!(setup.resumed(&[a], "100-0-9-2"), (true, "r 200 300".into()));
    // A durable event that is evicted after it covers more.
    setup.evict("a", 2);
    assert_eq!(setup.resumed(&[a], &plain[2]), (true, "300".into()));
    assert_eq!(setup.resumed(&[a], "200-0"), (false, "300".into()));
}

#[test]
fn a_client_that_resumes_from_a_gap_event_receives_no_second_gap() {
    let setup = connected_hub();
    let (a, b, _) = mixed(&setup);
    for evicted in 0..4 {
        for from in ["evil", "50-0", "100-0", "150-0-9-77", "300-0-9-1"] {
            for members in [&[a][..], &[b]] {
                let begun = setup
                    .hub
                    .begin(members, &Resume::From(from.into()), Runs::Joined, at(0))
                    .unwrap();
                let (gaps, texts) = all_of(&setup.hub, &mut begun.cursor.unwrap(), 2, at(0));
                let Some(gap) = gaps.first() else { continue };
                let again = setup.resumed(members, &gap.to_string());
                assert_eq!(again, (false, texts.join(" ")), "{from} behind {evicted}, {gap}");
            }
        }
        setup.evict("a", 1);
    }
}

#[test]
fn a_channel_has_the_durable_events_that_are_retained() {
    let setup = connected_hub();
    let (a, b, _) = mixed(&setup);
    setup.evict("a", 1);
    let has = |member, ms| setup.hub.has_event(member, id(ms).into()).unwrap();
    for (ms, on_a, on_b) in
        [(100, false, false), (150, false, true), (200, true, false), (250, false, true)]
    {
        assert_eq!((has(a, ms), has(b, ms)), (on_a, on_b), "{ms}");
    }
    // Below the high watermark: it is in the log with an id of this hub, but known as the newest
    // entry of its channel.
    setup.live("a", 270);
    assert!(has(a, 270) && has(a, 300));
    setup.live("a", 310);
    assert!(!has(a, 270) && has(a, 310));
}

#[test]
fn streams_in_redis_have_no_common_order() {
    let setup = connected_hub_of(1 << 18, Source::Streams, 100, 0);
    let a = setup.subscribe("a", &[], Loss::Nothing);
    let b = setup.subscribe("b", &[], Loss::Nothing);
    for ms in [10_000, 13_000, 14_000] {
        setup.live("a", ms);
    }
    // It was published before, in a stream that was read after the other.
    setup.live("b", 12_500);
    setup.live("b", 14_500);
    setup.hub.check_settled();
    // One channel is in order.
    assert_eq!(setup.resumed(&[a], "13000-0"), (false, "14000".into()));
    // From another nginx: nothing is lost, and the last two seconds may be repeated.
    assert_eq!(setup.resumed(&[a, b], "14000-0"), (false, "13000 14000 12500 14500".into()));
    assert_eq!(setup.resumed(&[a, b], "14000-0-9-5").1, "13000 14000 12500 14500");
    // From here it is exact: the id of the late event contains its position.
    let begun =
        setup.hub.begin(&[a, b], &Resume::From("13999-0".into()), Runs::Joined, at(0)).unwrap();
    let mut cursor = begun.cursor.unwrap();
    let slice = setup.hub.slice_of(&mut cursor, 3, usize::MAX, at(0)).unwrap();
    slice.events.iter().for_each(|found| cursor.delivered(found));
    let third = slice.events[2].event.id(&setup.hub).to_string();
    assert_eq!((text(&slice.events[2].event).as_str(), &third[..10]), ("12500", "14000-0-7-"));
    assert_eq!(setup.resumed(&[a, b], &third), (false, "14500".into()));
}

#[test]
fn without_history_only_a_gap_is_sent() {
    let setup = connected_hub_of(1 << 18, Source::PubSub, 0, 0);
    let (a, _, plain) = mixed(&setup);
    assert_eq!(setup.resumed(&[a], "200-0"), (true, String::new()));
    assert_eq!(setup.resumed(&[a], "300-0"), (false, String::new()));
    assert_eq!(setup.resumed(&[a], &plain[2]), (true, String::new()));
}

#[test]
fn ids_increase_in_any_order_of_arrival() {
    let setup = connected_hub();
    let a = setup.subscribe("a", &[], Loss::Nothing);
    setup.subscribe("b", &[], Loss::Nothing);
    // The events of other channels before each.
    let comes = [
        (0, Provenance::Live(id(60).into())),
        (0, Provenance::Plain),
        (100, Provenance::Live(id(90).into())),
        (0, Provenance::Live(id(101).into())),
        (110, Provenance::Missed(id(105).into())),
        (0, Provenance::Plain),
        (0, Provenance::Missed(id(120).into())),
        (200, Provenance::Live(id(125).into())),
    ];
    for ((before, provenance), i) in comes.iter().zip(0..) {
        if *before > 0 {
            setup.live("b", *before);
        }
        setup.ingest("a", *provenance, &format!("{i}"));
    }
    setup.hub.check_settled();
    assert_eq!(setup.texts("a"), "0 1 2 3 4 5 6 7");
    // From each id on, exactly the rest is replayed.
    let begun = setup.hub.begin(&[a], &Resume::From("1-0".into()), Runs::Joined, at(0)).unwrap();
    let slice = setup.hub.slice_of(&mut begun.cursor.unwrap(), 64, usize::MAX, at(0)).unwrap();
    assert_eq!(slice.events.len(), 8);
    for (found, i) in slice.events.iter().zip(1..) {
        let rest: Vec<String> = (i..8).map(|i| i.to_string()).collect();
        let from = found.event.id(&setup.hub).to_string();
        assert_eq!(setup.resumed(&[a], &from), (false, rest.join(" ")), "{from}");
    }
}

#[test]
fn events_that_a_channel_has_are_skipped() {
    let setup = connected_hub();
    setup.subscribe("a", &[50, 60], Loss::Nothing);
    setup.live("a", 100);
    setup.plain("a", "p");
    setup.live("a", 200);
    setup.evict("a", 2);
    let head = setup.hub.head();
    for ms in [50, 60, 100, 200] {
        for provenance in [
            Provenance::Live(id(ms).into()),
            Provenance::Missed(id(ms).into()),
            Provenance::Earlier(id(ms).into()),
        ] {
            assert_eq!(setup.ingest("a", provenance, "again").appended, 0, "{provenance:?}");
        }
    }
    assert_eq!(setup.hub.head(), head);
    setup.hub.check_settled();
}

#[test]
fn too_large_events_are_counted_and_nothing_else_is_lost() {
    let setup = connected_hub();
    setup.subscribe("a", &[], Loss::Nothing);
    let large = "x".repeat(2_000);
    let arrivals = [
        connected_hub::incoming("a", Provenance::Plain, "1", 0),
        connected_hub::incoming("a", Provenance::Plain, &large, 0),
        connected_hub::incoming("nobody", Provenance::Plain, "-", 0),
        connected_hub::incoming("a", Provenance::Live(id(5).into()), &large, 0),
        connected_hub::incoming("a", Provenance::Live(id(6).into()), "2", 0),
    ];
    let ingested = setup.hub.ingest(setup.token, &arrivals, at(0)).unwrap();
    assert_eq!((ingested.appended, ingested.too_large), (3, 2));
    assert_eq!(ingested.listeners, [setup.worker.slot]);
    assert_eq!(setup.texts("a"), "1 2");
    assert_eq!(setup.texts("nobody"), "-", "a pattern may match it");
    setup.hub.check_settled();
}

#[test]
fn an_open_stream_receives_late_events_that_the_client_has_not_received() {
    let setup = connected_hub();
    let a = setup.listen("a");
    setup.subscribe("b", &[], Loss::Nothing);
    setup.live("b", 500);
    let (at_first, mine) = (setup.hub.head(), setup.subscribe_only("a"));
    setup.catch_up("a", mine, &[100, 200, 300], Loss::Nothing);
    setup.live("a", 600);
    let given = |elsewhere: Elsewhere| {
        let until = setup.hub.head();
        let mut all =
            ReplayCursor::since(Received::at(at_first, elsewhere), until, [a].into_iter());
        all_of(&setup.hub, &mut all, 2, at(0)).1.join(" ")
    };
    assert_eq!(given(Elsewhere::Nothing), "100 200 300 600");
    assert_eq!(given(Elsewhere::UpTo(id(200))), "300 600");
    // Ahead of this nginx.
    assert_eq!(given(Elsewhere::UpTo(id(600))), "");
    // A new client is not owed what was published before it connected.
    assert_eq!(given(Elsewhere::Before { end: id(200), start: at(0).mono + 1 }), "600");
    // None of them is for all streams, so readers of the log have to replay.
    let mut copied = EventCopy::default();
    let plain_sight = (at_first + 1..=setup.hub.head())
        .filter_map(|position| setup.hub.descriptor(position))
        .filter(|found| found.signal().is_none() && setup.hub.copy(*found, at(0), &mut copied));
    assert_eq!(plain_sight.count(), 1);
}

#[test]
fn a_channel_that_is_joined_later_is_merged_by_id() {
    let setup = connected_hub();
    let a = setup.subscribe("a", &[], Loss::Nothing);
    setup.live("a", 100);
    let p = setup.plain("a", "p");
    setup.live("a", 300);
    let b = setup.subscribe("b", &[50, 100, 200, 300, 400], Loss::Nothing);
    setup.live("a", 500);
    setup.hub.check_settled();
    assert_eq!(setup.hub.high_watermark().unwrap(), id(500));
    assert_eq!(setup.resumed(&[a, b], "60-0"), (false, "100 100 p 200 300 300 400 500".into()));
    assert_eq!(setup.resumed(&[a, b], &p), (false, "200 300 300 400 500".into()));
    assert_eq!(fresh(&setup.hub, &[a, b], 2, at(0)), ["300", "300", "400", "500"]);
}

#[test]
fn a_plain_event_that_is_evicted_during_a_search_causes_a_gap() {
    for steps in 1..6 {
        let setup = connected_hub();
        let a = setup.subscribe("a", &[], Loss::Nothing);
        setup.live("a", 100);
        setup.plain("a", "p");
        setup.live("a", 200);
        setup.live("a", 300);
        set_visit_steps(steps);
        let begun =
            setup.hub.begin(&[a], &Resume::From("100-0-9-1".into()), Runs::Joined, at(0)).unwrap();
        let mut cursor = begun.cursor.unwrap();
        // Everything up to the plain event is evicted, and so is it.
        setup.evict("a", 2);
        set_visit_steps(1 << 10);
        let (gaps, texts) = all_of(&setup.hub, &mut cursor, 2, at(0));
        assert_eq!((gaps.len(), texts.join(" ").as_str()), (1, "200 300"), "{steps}");
    }
}
