//! Gaps: events that Redis no longer has, events that are restored from it, and what is reported.

use super::connected_hub::{connected_hub, connected_hub_of, id, up_to, ConnectedHub};
use super::*;

#[test]
fn a_loss_removes_earlier_events_and_is_reported_before_later_ones() {
    let setup = connected_hub();
    let a = setup.subscribe("a", &[], Loss::Nothing);
    setup.live("a", 100);
    let p = setup.plain("a", "p");
    let at_first = setup.hub.head();
    setup.connect();
    let member = setup.subscribe_only("a");
    setup.catch_up("a", member, &[400], up_to(300));
    for from in ["50-0", "100-0", &p, "299-0", "100-0-9-1"] {
        assert_eq!(setup.resumed(&[a], from), (true, "400".into()), "{from}");
    }
    assert_eq!(setup.resumed(&[a], "300-0"), (false, "400".into()));
    // An open stream, batch by batch.
    let until = setup.hub.head();
    let mut cursor =
        ReplayCursor::since(Received::at(at_first, Elsewhere::Nothing), until, [a].into_iter());
    let slice = setup.hub.slice_of(&mut cursor, 1, usize::MAX, at(0)).unwrap();
    assert!(slice.gap.is_some());
    let lost = (at_first + 1..=until).find(|position| {
        setup.hub.descriptor(*position).unwrap().signal() == Some(ControlEntry::Lost)
    });
    assert!(lost.unwrap() < slice.events[0].event.place.position);
    setup.hub.check_settled();
}

#[test]
fn a_loss_is_known_to_the_next_holder_if_this_one_dies() {
    for fresh in [true, false] {
        let setup = connected_hub();
        let a = if fresh { setup.listen("a") } else { setup.subscribe("a", &[100], Loss::Nothing) };
        setup.connect();
        let member = setup.subscribe_only("a");
        setup.hub.record_loss(setup.token, member, up_to(300)).unwrap();
        setup.ingest("a", Provenance::Earlier(id(400).into()), "400");
        // The process dies here. The next holder knows the channel up to 400, and does not report a
        // loss.
        setup.connect();
        let member = setup.subscribe_only("a");
        let known = if fresh { SyncState::Left } else { SyncState::Interrupted };
        assert_eq!(setup.hub.sync_state(member).unwrap(), known(id(400).into()));
        setup.catch_up("a", member, &[], Loss::Nothing);
        assert_eq!(setup.resumed(&[a], "200-0"), (true, "400".into()), "{fresh}");
    }
}

#[test]
fn an_earlier_loss_causes_no_gap_after_an_id_of_this_hub() {
    for count in [10, 0] {
        let setup = connected_hub_of(1 << 18, Source::PubSub, count, 0);
        // Redis has no stream at first, and then has one for a day.
        let a = setup.subscribe("a", &[], up_to(at(0).wall - 86_400_000));
        let opened = format!("0-0-7-{}", setup.hub.head());
        assert_eq!(setup.resumed(&[a], &opened), (false, String::new()));
        let [p, q] = ["p", "q"].map(|text| setup.plain("a", text));
        let owed = |texts: &str| if count > 0 { texts.into() } else { String::new() };
        assert_eq!(setup.resumed(&[a], &p), (count == 0, owed("q")));
        assert_eq!(setup.resumed(&[a], &q), (false, String::new()));
        assert_eq!(setup.resumed(&[a], "0-0"), (true, owed("p q")));
    }
}

#[test]
fn what_was_lost_before_a_channel_was_in_sync_causes_a_gap_only_for_returning_clients() {
    // The id up to which everything was received, whether all channels were in sync then, the
    // newest event that Redis had lost, and whether open streams and clients with the id 100
    // receive a gap event.
    let cases = [
        (200, true, 150, false, true),
        (200, true, 200, false, true),
        (200, true, 90, false, false),
        (200, true, 201, true, true),
        (200, false, 150, true, true),
        (0, true, 150, true, true),
    ];
    // Whether the channel is read after others have gone on.
    let cases = cases.into_iter().flat_map(|case| [false, true].map(|is_later| (case, is_later)));
    for ((received, is_settled, lost, open, returning), is_read_later) in cases {
        let setup = connected_hub();
        // Redis has no stream, and had none since 50.
        let a = setup.subscribe("a", &[], up_to(50));
        if is_settled {
            setup.hub.settled(setup.token).unwrap();
        }
        let opened = Received::at(setup.hub.head(), Elsewhere::Nothing);
        setup.hub.new_epoch(setup.token, id(received)).unwrap();
        setup.hub.set_link(setup.token, RedisState::Up).unwrap();
        let member = setup.subscribe_only("a");
        if is_read_later {
            setup.hub.interrupt(setup.token, member).unwrap();
        }
        setup.catch_up("a", member, &[400], up_to(lost));
        let mut cursor = ReplayCursor::since(opened, setup.hub.head(), [a].into_iter());
        let slice = setup.hub.slice_of(&mut cursor, 9, usize::MAX, at(0)).unwrap();
        assert_eq!(slice.gap.is_some(), open, "{received} {is_settled} {lost} {is_read_later}");
        assert_eq!(slice.events.len(), 1);
        assert_eq!(setup.resumed(&[a], "100-0"), (returning, "400".into()), "{lost}");
        assert_eq!(setup.resumed(&[a], &format!("{lost}-0")), (false, "400".into()), "{lost}");
        setup.hub.check_settled();
    }
}

/// Returns whether a stream that was open before the connection was lost receives a gap event if
/// Redis has lost what is up to 150.
fn has_gap_after_reconnection(setup: &ConnectedHub, a: Membership, opened: Received) -> bool {
    setup.hub.new_epoch(setup.token, id(200)).unwrap();
    setup.hub.set_link(setup.token, RedisState::Up).unwrap();
    let member = setup.subscribe_only("a");
    setup.catch_up("a", member, &[400], up_to(150));
    let mut cursor = ReplayCursor::since(opened, setup.hub.head(), [a].into_iter());
    setup.hub.slice_of(&mut cursor, 9, usize::MAX, at(0)).unwrap().gap.is_some()
}

#[test]
fn a_channel_with_events_receives_a_gap_event_whatever_the_lost_ids_are() {
    let setup = connected_hub();
    let a = setup.subscribe("a", &[], up_to(50));
    setup.hub.settled(setup.token).unwrap();
    setup.live("a", 100);
    let opened = Received::at(setup.hub.head(), Elsewhere::Nothing);
    assert!(has_gap_after_reconnection(&setup, a, opened));
}

#[test]
fn a_channel_that_lost_its_sync_before_the_connection_was_lost_receives_a_gap_event() {
    let setup = connected_hub();
    let a = setup.subscribe("a", &[], up_to(50));
    setup.hub.settled(setup.token).unwrap();
    let opened = Received::at(setup.hub.head(), Elsewhere::Nothing);
    setup.hub.interrupt(setup.token, a).unwrap();
    assert!(has_gap_after_reconnection(&setup, a, opened));
}

#[test]
fn a_loss_is_recorded_once() {
    let setup = connected_hub();
    setup.listen("a");
    let member = setup.subscribe_only("a");
    for _ in 0..3 {
        setup.hub.record_loss(setup.token, member, up_to(300)).unwrap();
    }
    assert_eq!(setup.hub.head(), 1);
    setup.catch_up("a", member, &[400], up_to(300));
    assert_eq!(setup.hub.head(), 3);
}

#[test]
fn history_that_is_restored_from_redis_is_not_lost() {
    let setup = connected_hub();
    let a = setup.listen("a");
    let member = setup.subscribe_only("a");
    setup.catch_up("a", member, &[100, 200], Loss::Nothing);
    setup.evict("a", 2);
    assert!(setup.resumed(&[a], "150-0").0);
    setup.hub.leave(a).unwrap();
    setup.hub.leave_unsubscribed(setup.token, member).unwrap();
    let a = setup.listen("a");
    let member = setup.subscribe_only("a");
    assert_eq!(setup.hub.sync_state(member).unwrap(), SyncState::Nothing);
    setup.catch_up("a", member, &[100, 200], Loss::Nothing);
    assert_eq!(setup.resumed(&[a], "50-0"), (false, "100 200".into()));
    setup.hub.check_settled();
}

#[test]
fn partly_restored_history_starts_where_that_of_redis_does() {
    let setup = connected_hub();
    let a = setup.subscribe("a", &[100, 200, 300], Loss::Nothing);
    setup.evict("a", 3);
    setup.hub.leave(a).unwrap();
    let member = setup.subscribe_only("a");
    setup.hub.leave_unsubscribed(setup.token, member).unwrap();
    let (a, member) = (setup.listen("a"), setup.subscribe_only("a"));
    setup.catch_up("a", member, &[200, 300], up_to(100));
    assert_eq!(setup.resumed(&[a], "99-0"), (true, "200 300".into()));
    assert_eq!(setup.resumed(&[a], "100-0"), (false, "200 300".into()));
}

#[test]
fn events_evicted_while_history_is_restored_are_lost() {
    let setup = connected_hub();
    let a = setup.listen("a");
    let member = setup.subscribe_only("a");
    for ms in [100, 200, 300] {
        setup.ingest("a", Provenance::Earlier(id(ms).into()), &ms.to_string());
    }
    // The zone was full.
    setup.evict("a", 2);
    setup.hub.caught_up(setup.token, member, SyncState::Nothing, Loss::Nothing).unwrap();
    assert_eq!(setup.resumed(&[a], "100-0"), (true, "300".into()));
    assert_eq!(setup.resumed(&[a], "200-0"), (false, "300".into()));
}

#[test]
fn events_that_redis_has_also_lost_stay_lost() {
    let setup = connected_hub();
    let a = setup.subscribe("a", &[100, 200], Loss::Nothing);
    setup.evict("a", 2);
    let member = setup.subscribe_only("a");
    setup.hub.interrupt(setup.token, member).unwrap();
    // The stream in Redis was deleted.
    setup.hub.caught_up(setup.token, member, SyncState::Nothing, Loss::Nothing).unwrap();
    assert_eq!(setup.resumed(&[a], "150-0"), (true, String::new()));
}

#[test]
fn a_removed_channel_leaves_a_low_watermark_only_if_redis_cannot_restore_it() {
    for plain in [false, true] {
        let setup = connected_hub();
        let a = setup.subscribe("a", &[], Loss::Nothing);
        setup.live("a", 100);
        if plain {
            setup.plain("a", "p");
        }
        setup.hub.leave(a).unwrap();
        setup.hub.release_slot(setup.holder);
        while !setup.hub.sweep(at(0)).unwrap().round {}
        setup.evict("a", 1 + usize::from(plain));
        let guard = setup.hub.lock().unwrap();
        guard.remove_record(guard.find(b"a").unwrap());
        drop(guard);
        assert!(!setup.hub.knows(b"a"));
        assert_eq!(setup.hub.low_watermark_of(b"a").position > 0, plain);
    }
}

#[test]
fn a_new_client_receives_no_gap_event_for_what_is_lost_before_its_first_event() {
    for (channel, pattern) in [("a", None), ("a", Some("*"))] {
        let setup = connected_hub();
        let a = setup.subscribe(channel, &[], Loss::Nothing);
        let new = Resume::Fresh { newest: u64::MAX };
        setup.live("a", 100);
        setup.live("a", 200);
        let texts = match pattern {
            None => {
                let begun = setup.hub.begin(&[a], &new, Runs::Joined, at(0)).unwrap();
                let mut cursor = begun.cursor.unwrap();
                setup.hub.forget_for_all(setup.token, b"a", at(0)).unwrap();
                setup.live("a", 300);
                let (gaps, texts) = all_of(&setup.hub, &mut cursor, 3, at(0));
                assert!(gaps.is_empty());
                // It has everything up to the end of the replay.
                assert_eq!(cursor.until(), setup.hub.head());
                texts
            }
            Some(pattern) => {
                let names = [name_of_pattern(pattern.as_bytes())];
                let begun = setup.hub.begin_pattern_replay(&names, &new, at(0)).unwrap();
                let mut replay = begun.cursor.unwrap();
                // The channels have been scanned, and nothing was delivered.
                while setup.hub.replay_patterns(&mut replay, 1, 1, at(0)).unwrap().is_none() {}
                setup.hub.forget_for_all(setup.token, b"a", at(0)).unwrap();
                setup.live("a", 300);
                let mut texts = Vec::new();
                loop {
                    let batch = setup.hub.replay_patterns(&mut replay, 3, 99, at(0)).unwrap();
                    let Some(batch) = batch else { continue };
                    assert_eq!(batch.gap, None);
                    texts.extend(batch.events.iter().map(|found| text(&found.event)));
                    batch.events.iter().for_each(|found| replay.delivered(found));
                    if batch.done {
                        break texts;
                    }
                }
            }
        };
        assert_eq!(texts, ["300"]);
    }
}

#[test]
fn deleting_a_stream_of_an_application_concerns_only_its_own_ids() {
    let setup = connected_hub_of(1 << 18, Source::Streams, 100, 0);
    let a = setup.subscribe("a", &[], Loss::Nothing);
    setup.subscribe("b", &[], Loss::Nothing);
    setup.live("a", 100);
    setup.live("b", 900);
    setup.hub.forget_for_all(setup.token, b"a", at(0)).unwrap();
    setup.live("a", 200);
    // A client that has received, from another nginx, more than was deleted.
    assert_eq!(setup.resumed(&[a], "150-0"), (false, "200".into()));
    assert_eq!(setup.resumed(&[a], "50-0"), (true, "200".into()));
}

#[test]
fn what_redis_gives_back_is_not_lost_any_more() {
    let setup = connected_hub();
    let a = setup.subscribe("a", &[100, 200, 300], Loss::Nothing);
    setup.evict("a", 3);
    setup.hub.leave(a).unwrap();
    let holders = setup.hub.join(setup.holder, b"a", at(0)).unwrap();
    assert_eq!(setup.hub.leave_unsubscribed(setup.token, holders), Ok(true));
    let a = setup.subscribe("a", &[200, 300], up_to(100));
    assert_eq!(setup.resumed(&[a], "150-0"), (false, "200 300".into()));
    assert_eq!(setup.resumed(&[a], "50-0"), (true, "200 300".into()));
}
