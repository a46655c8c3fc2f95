//! Gaps: what Redis does not have any more, what comes back, and what is reported.

use super::lease::{id, joined, joined_of, up_to};
use super::*;

#[test]
fn a_loss_removes_earlier_events_and_is_reported_before_later_ones() {
    let joined = joined();
    let a = joined.subscribe("a", &[], Loss::Nothing);
    joined.live("a", 100);
    let p = joined.plain("a", "p");
    let at_first = joined.hub.head();
    joined.connect();
    let member = joined.subscribe_only("a");
    joined.catch_up("a", member, &[400], up_to(300));
    for from in ["50-0", "100-0", &p, "299-0", "100-0-9-1"] {
        assert_eq!(joined.resumed(&[a], from), (true, "400".into()), "{from}");
    }
    assert_eq!(joined.resumed(&[a], "300-0"), (false, "400".into()));
    // An open stream, batch by batch.
    let until = joined.hub.head();
    let mut cursor =
        ReplayCursor::since(Received::at(at_first, Elsewhere::Nothing), until, [a].into_iter());
    let slice = joined.hub.slice_of(&mut cursor, 1, usize::MAX, at(0)).unwrap();
    assert!(slice.gap.is_some());
    let lost = (at_first + 1..=until).find(|position| {
        joined.hub.descriptor(*position).unwrap().signal() == Some(ControlEntry::Lost)
    });
    assert!(lost.unwrap() < slice.events[0].event.place.position);
    joined.hub.check_settled();
}

#[test]
fn a_loss_is_known_to_the_next_holder_if_this_one_dies() {
    for fresh in [true, false] {
        let joined = joined();
        let a =
            if fresh { joined.listen("a") } else { joined.subscribe("a", &[100], Loss::Nothing) };
        joined.connect();
        let member = joined.subscribe_only("a");
        joined.hub.record_loss(joined.token, member, up_to(300)).unwrap();
        joined.come("a", Provenance::Earlier(id(400).into()), "400");
        // The process dies here. The next holder knows the channel up to 400, and does not report a
        // loss.
        joined.connect();
        let member = joined.subscribe_only("a");
        let known = if fresh { SyncState::Left } else { SyncState::Interrupted };
        assert_eq!(joined.hub.sync_state(member).unwrap(), known(id(400).into()));
        joined.catch_up("a", member, &[], Loss::Nothing);
        assert_eq!(joined.resumed(&[a], "200-0"), (true, "400".into()), "{fresh}");
    }
}

#[test]
fn what_was_lost_before_a_place_of_this_hub_is_no_gap_behind_it() {
    for count in [10, 0] {
        let joined = joined_of(1 << 18, Source::PubSub, count, 0);
        // Redis has no stream at first, and then has one for a day.
        let a = joined.subscribe("a", &[], up_to(at(0).wall - 86_400_000));
        let opened = format!("0-0-7-{}", joined.hub.head());
        assert_eq!(joined.resumed(&[a], &opened), (false, String::new()));
        let [p, q] = ["p", "q"].map(|text| joined.plain("a", text));
        let owed = |texts: &str| if count > 0 { texts.into() } else { String::new() };
        assert_eq!(joined.resumed(&[a], &p), (count == 0, owed("q")));
        assert_eq!(joined.resumed(&[a], &q), (false, String::new()));
        assert_eq!(joined.resumed(&[a], "0-0"), (true, owed("p q")));
    }
}

#[test]
fn a_hole_is_entered_once() {
    let joined = joined();
    joined.listen("a");
    let member = joined.subscribe_only("a");
    for _ in 0..3 {
        joined.hub.record_loss(joined.token, member, up_to(300)).unwrap();
    }
    assert_eq!(joined.hub.head(), 1);
    joined.catch_up("a", member, &[400], up_to(300));
    assert_eq!(joined.hub.head(), 3);
}

#[test]
fn history_that_came_back_is_not_lost() {
    let joined = joined();
    let a = joined.listen("a");
    let member = joined.subscribe_only("a");
    joined.catch_up("a", member, &[100, 200], Loss::Nothing);
    joined.evict("a", 2);
    assert!(joined.resumed(&[a], "150-0").0);
    joined.hub.leave(a).unwrap();
    joined.hub.leave_unsubscribed(joined.token, member).unwrap();
    let a = joined.listen("a");
    let member = joined.subscribe_only("a");
    assert_eq!(joined.hub.sync_state(member).unwrap(), SyncState::Nothing);
    joined.catch_up("a", member, &[100, 200], Loss::Nothing);
    assert_eq!(joined.resumed(&[a], "50-0"), (false, "100 200".into()));
    joined.hub.check_settled();
}

#[test]
fn history_that_comes_back_in_part_begins_where_redis_has_it() {
    let joined = joined();
    let a = joined.subscribe("a", &[100, 200, 300], Loss::Nothing);
    joined.evict("a", 3);
    joined.hub.leave(a).unwrap();
    let member = joined.subscribe_only("a");
    joined.hub.leave_unsubscribed(joined.token, member).unwrap();
    let (a, member) = (joined.listen("a"), joined.subscribe_only("a"));
    joined.catch_up("a", member, &[200, 300], up_to(100));
    assert_eq!(joined.resumed(&[a], "99-0"), (true, "200 300".into()));
    assert_eq!(joined.resumed(&[a], "100-0"), (false, "200 300".into()));
}

#[test]
fn what_is_evicted_while_history_comes_back_is_lost_after_all() {
    let joined = joined();
    let a = joined.listen("a");
    let member = joined.subscribe_only("a");
    for ms in [100, 200, 300] {
        joined.come("a", Provenance::Earlier(id(ms).into()), &ms.to_string());
    }
    // The zone was full.
    joined.evict("a", 2);
    joined.hub.caught_up(joined.token, member, SyncState::Nothing, Loss::Nothing).unwrap();
    assert_eq!(joined.resumed(&[a], "100-0"), (true, "300".into()));
    assert_eq!(joined.resumed(&[a], "200-0"), (false, "300".into()));
}

#[test]
fn what_redis_has_lost_as_well_stays_lost() {
    let joined = joined();
    let a = joined.subscribe("a", &[100, 200], Loss::Nothing);
    joined.evict("a", 2);
    let member = joined.subscribe_only("a");
    joined.hub.set_out_of_sync(joined.token, member).unwrap();
    // The stream in Redis was deleted.
    joined.hub.caught_up(joined.token, member, SyncState::Nothing, Loss::Nothing).unwrap();
    assert_eq!(joined.resumed(&[a], "150-0"), (true, String::new()));
}

#[test]
fn a_removed_channel_leaves_a_low_watermark_only_if_redis_cannot_restore_it() {
    for plain in [false, true] {
        let joined = joined();
        let a = joined.subscribe("a", &[], Loss::Nothing);
        joined.live("a", 100);
        if plain {
            joined.plain("a", "p");
        }
        joined.hub.leave(a).unwrap();
        joined.hub.release_slot(joined.holder);
        while !joined.hub.sweep(at(0)).unwrap().round {}
        joined.evict("a", 1 + usize::from(plain));
        let guard = joined.hub.lock().unwrap();
        guard.remove_record(guard.find(b"a").unwrap());
        drop(guard);
        assert!(!joined.hub.knows(b"a"));
        assert_eq!(joined.hub.low_watermark_of(b"a").position > 0, plain);
    }
}
