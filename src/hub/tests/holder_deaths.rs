//! A holder of the subscription dies before every store: the next one finds the hub intact, and the
//! operation is complete or has not happened.

use super::connected_hub::{connected_hub_of, id, incoming, ConnectedHub};
use super::deaths::killed::{kill_everywhere, Snapshot};
use super::*;
use crate::hub::memory::layout::header;

/// Creates a hub with a holder and a worker, and with some events on channels `a` and `b`.
fn hub_with_events() -> ConnectedHub {
    let setup = connected_hub_of(64 << 10, Source::PubSub, 5, 0);
    for channel in ["a", "b"] {
        setup.subscribe(channel, &[], Loss::Nothing);
    }
    for ms in 1..8 {
        setup.ingest("a", Provenance::Live(id(ms * 10).into()), "live.");
        setup.ingest("b", Provenance::Plain, "plain.");
    }
    setup
}

/// Checks that a prefix of the events was appended.
fn a_prefix(before: &Snapshot, found: &Snapshot, after: &Snapshot) {
    assert!(before.head <= found.head && found.head <= after.head);
    for (found, after) in found.channels.iter().zip(&after.channels) {
        assert!(after.starts_with(found), "{found:?} {after:?}");
    }
}

#[test]
fn ingesting() {
    let setup = hub_with_events();
    let long = "~".repeat(700) + ".";
    let arrivals = [
        incoming("a", Provenance::Plain, "1.", 0),
        incoming("b", Provenance::Live(id(100).into()), &long, 0),
        incoming("a", Provenance::Missed(id(90).into()), "2.", 0),
        incoming("nobody", Provenance::Plain, "x.", 0),
        incoming("a", Provenance::Live(id(100).into()), "3.", 0),
    ];
    // If they are ingested again, only the plain ones are new.
    let ingest = |hub: &Hub| {
        hub.ingest(setup.token, &arrivals, at(0)).unwrap();
    };
    let deaths = kill_everywhere(&setup.hub, ingest, a_prefix);
    assert!(deaths > 60, "{deaths}");
}

#[test]
fn a_process_may_die_while_it_ingests_below_the_high_watermark() {
    let setup = hub_with_events();
    setup.ingest("b", Provenance::Live(id(500).into()), "ahead.");
    let below = |ms, data| incoming("a", Provenance::Live(id(ms).into()), data, 0);
    let arrivals = [below(80, "1."), below(90, "2."), below(600, "3.")];
    let ingest = |hub: &Hub| {
        hub.ingest(setup.token, &arrivals, at(0)).unwrap();
    };
    kill_everywhere(&setup.hub, ingest, a_prefix);
    // What the channel has is not read again, and what it does not have is.
    setup.hub.check_settled();
    ingest(&setup.hub);
    assert_eq!(setup.texts("a").matches("1. 2. 3.").count(), 1);
    let head = setup.hub.head();
    ingest(&setup.hub);
    assert_eq!(setup.hub.head(), head);
}

#[test]
fn a_stream_starts_over() {
    let setup = hub_with_events();
    setup.ingest("b", Provenance::Live(id(500).into()), "ahead.");
    setup.ingest("a", Provenance::Live(id(80).into()), "below.");
    let member = setup.subscribe_only("a");
    let lose = |hub: &Hub| hub.record_loss(setup.token, member, Loss::Everything).unwrap();
    kill_everywhere(&setup.hub, lose, |_, found, after| {
        assert!(found.head <= after.head);
    });
    lose(&setup.hub);
    assert_eq!(setup.hub.sync_state(member).unwrap(), SyncState::Interrupted(id(0).into()));
    assert_eq!(setup.texts("a"), "");
}

#[test]
fn the_count_after_the_marker_equals_the_number_of_messages() {
    let setup = hub_with_events();
    setup.hub.announce_successor(5).unwrap();
    setup.hub.marker_was_read(setup.token, 5).unwrap();
    let head = setup.hub.head();
    let ingest = |hub: &Hub| {
        hub.ingest(setup.token, &[incoming("a", Provenance::Plain, "1.", 0)], at(0)).unwrap();
    };
    kill_everywhere(&setup.hub, ingest, |_, found, _| {
        assert_eq!(setup.hub.region.get(header::BEHIND_MARKER), found.head - head);
    });
}

#[test]
fn ingesting_into_a_full_zone() {
    let setup = hub_with_events();
    let long = "=".repeat(150) + ".";
    while setup.hub.stats().counter(Counter::Evicted) < 3 {
        setup.ingest("b", Provenance::Plain, &long);
    }
    let ingest = |hub: &Hub| {
        hub.ingest(
            setup.token,
            &[incoming("a", Provenance::Live(id(500).into()), &long, 0)],
            at(0),
        )
        .unwrap();
    };
    kill_everywhere(&setup.hub, ingest, |before, found, after| {
        assert!(found.head == before.head || found == after);
    });
}

#[test]
fn catching_up() {
    let setup = hub_with_events();
    setup.connect();
    let member = setup.subscribe_only("a");
    let caught_up = |hub: &Hub| {
        let known = hub.sync_state(member).unwrap();
        hub.record_loss(setup.token, member, Loss::UpTo(id(60))).unwrap();
        hub.caught_up(setup.token, member, known, Loss::UpTo(id(60))).unwrap();
    };
    kill_everywhere(&setup.hub, caught_up, |before, found, after| {
        let hub = &setup.hub;
        let step = found.head == after.head;
        assert_eq!(hub.in_sync(&[member]), step);
        assert!(before.channels[0].ends_with(&found.channels[0]));
        // What is lost is covered by the low watermark at every moment.
        let first = found.channels[0].first().map_or(u64::MAX, |first| first.0);
        let gone = before.channels[0].iter().filter(|event| event.0 < first).count();
        let low_watermark = hub.low_watermark_of(b"a").entry_id.ms;
        assert!(low_watermark >= 10 * gone as u64, "{low_watermark} {gone}");
        assert!(!step || low_watermark == 60);
    });
}

#[test]
fn restoring_history() {
    let setup = hub_with_events();
    setup.evict("a", 7);
    setup.hub.leave(setup.listen("a")).unwrap();
    let member = setup.subscribe_only("a");
    assert!(setup.hub.leave_unsubscribed(setup.token, member).unwrap());
    let member = setup.subscribe_only("a");
    let caught_up = |hub: &Hub| {
        let known = hub.sync_state(member).unwrap();
        let come = |ms| incoming("a", Provenance::Earlier(id(ms).into()), "back.", 0);
        hub.ingest(setup.token, &[come(60), come(70)], at(0)).unwrap();
        hub.caught_up(setup.token, member, known, Loss::UpTo(id(50))).unwrap();
    };
    kill_everywhere(&setup.hub, caught_up, |_, found, after| {
        let low_watermark = setup.hub.low_watermark_of(b"a").entry_id.ms;
        assert_eq!(low_watermark, if found.head == after.head { 50 } else { 70 });
    });
}

#[test]
fn requesting_a_sync() {
    let setup = hub_with_events();
    let mine = setup.listen("new");
    let want = |hub: &Hub| {
        assert_eq!(hub.request_sync(mine).unwrap(), Some(setup.holder.slot));
    };
    kill_everywhere(&setup.hub, want, |before, found, after| {
        let last = setup.hub.descriptor(setup.hub.head()).and_then(|found| found.signal());
        assert_eq!(last == Some(ControlEntry::Wanted), found.head == after.head);
        assert_eq!(before.channels, found.channels);
    });
}

#[test]
fn leaving_a_channel_without_listeners() {
    let setup = hub_with_events();
    let member = setup.subscribe_only("quiet");
    setup.catch_up("quiet", member, &[], Loss::Nothing);
    let leave = |hub: &Hub| {
        hub.leave_unsubscribed(setup.token, member).unwrap();
    };
    kill_everywhere(&setup.hub, leave, |before, found, _| {
        assert_eq!(before, found);
        // A process that joins now finds that the holder has setup, or requests a sync.
        let mine = setup.hub.join(setup.worker, b"quiet", at(0)).unwrap();
        let slices = (0..setup.hub.layout.buckets).step_by(256);
        let mut bridged =
            slices.flat_map(|from| setup.hub.joined_by(setup.holder.slot, from).unwrap().0);
        assert!(bridged.any(|name| name == b"quiet") || !setup.hub.in_sync(&[mine]));
        setup.hub.leave(mine).unwrap();
    });
}

#[test]
fn taking_over() {
    let setup = hub_with_events();
    let (hub, token) = (&setup.hub, setup.token);
    let same = |before: &Snapshot, found: &Snapshot, _: &Snapshot| assert_eq!(before, found);
    kill_everywhere(hub, |hub| hub.retire(token).unwrap(), same);
    kill_everywhere(hub, |hub| hub.announce_successor(5).unwrap(), same);
    kill_everywhere(hub, |hub| hub.freeze(token, 5).unwrap(), same);
    kill_everywhere(hub, |hub| hub.marker_was_read(token, 5).unwrap(), same);
    kill_everywhere(hub, |hub| hub.new_epoch(token, id(0)).unwrap(), same);
    hub.marker_was_read(token, 5).unwrap();
    setup.ingest("a", Provenance::Plain, "x.");
    let claim = hub.claim_slot().unwrap();
    let number = hub.region.get(header::FENCING_TOKEN);
    let take_over = |hub: &Hub| {
        hub.take_over(claim, 5, at(0)).unwrap();
    };
    kill_everywhere(hub, take_over, |before, found, _| {
        assert_eq!(before, found);
        // Either the holder has everything, or the successor.
        let taken = hub.region.get(header::FENCING_TOKEN) > number;
        assert_eq!(hub.holder_slot() == Some(claim.slot), taken);
        assert_eq!(hub.region.get(header::BEHIND_MARKER), u64::from(!taken));
        assert_eq!(hub.has_read_marker(5), !taken);
    });
}
