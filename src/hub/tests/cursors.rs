//! Streams in Redis whose ids are not those of the hub: below its high watermark, implausible, or
//! started over.

use super::connected_hub::{connected_hub, connected_hub_of, id, ConnectedHub};
use super::*;
use crate::sse::id::EntryId;

const FAR: u64 = 1 << 50;

/// An id in microseconds, as Redis reports it, in a hub whose clock is far below.
fn implausible(ms: u64) -> JudgedId {
    ReportedId::from(id(ms * FAR)).judged(Latest::here(at(0)))
}

fn known(setup: &ConnectedHub, channel: &str) -> SyncState {
    setup.hub.sync_state(setup.subscribe_only(channel)).unwrap()
}

fn interrupted(entry_id: EntryId) -> SyncState {
    SyncState::Interrupted(entry_id.into())
}

#[test]
fn an_implausible_id_does_not_change_the_order() {
    let setup = connected_hub();
    let a = setup.subscribe("a", &[], Loss::Nothing);
    let b = setup.subscribe("b", &[], Loss::Nothing);
    setup.live("b", 100);
    assert_eq!(implausible(5_000).entry_id(), None);
    for (ms, provenance) in [
        (5_000, Provenance::Live as fn(_) -> _),
        (5_001, Provenance::Missed),
        (5_002, Provenance::Earlier),
    ] {
        assert_eq!(setup.ingest("a", provenance(implausible(ms)), &ms.to_string()).appended, 1);
        assert_eq!(setup.ingest("a", provenance(implausible(ms)), "again").appended, 0);
    }
    assert_eq!(setup.hub.high_watermark().unwrap(), id(100));
    setup.live("b", 101);
    assert_eq!(setup.last_id("b"), "101-0");
    assert_eq!(setup.resumed(&[b], "100-0"), (false, "101".into()));
    assert_eq!(setup.resumed(&[a], "100-0").1, "5000 5001 5002");
    assert_eq!(known(&setup, "a"), interrupted(id(5_002 * FAR)));
    setup.hub.check_settled();
}

#[test]
fn below_the_high_watermark_a_stream_continues_from_its_own_last_entry() {
    let setup = connected_hub();
    setup.subscribe("a", &[50], Loss::Nothing);
    setup.subscribe("b", &[], Loss::Nothing);
    setup.live("b", 500);
    setup.live("a", 60);
    assert_eq!(known(&setup, "a"), interrupted(id(60)));
    setup.live("a", 70);
    setup.live("a", 600);
    assert_eq!(known(&setup, "a"), interrupted(id(600)));
    setup.live("b", 700);
    setup.connect();
    setup.subscribe("a", &[600, 650, 710], Loss::Nothing);
    assert_eq!(setup.texts("a"), "50 60 70 600 650 710");
    assert_eq!(known(&setup, "a"), interrupted(id(710)));
    setup.hub.check_settled();
}

#[test]
fn a_stream_that_starts_over_is_delivered_after_a_gap() {
    let setup = connected_hub();
    let a = setup.subscribe("a", &[50], Loss::Nothing);
    setup.live("a", 100);
    let at_end = setup.hub.head();
    setup.connect();
    setup.subscribe("a", &[1, 2, 200], Loss::Everything);
    assert_eq!(setup.texts("a"), "1 2 200");
    // An open stream, and a client that resumes with the last id of the old stream.
    let mut open = ReplayCursor::since(
        Received::at(at_end, Elsewhere::Nothing),
        setup.hub.head(),
        [a].into_iter(),
    );
    let (gaps, texts) = all_of(&setup.hub, &mut open, 64, at(0));
    assert_eq!((gaps.len(), texts.join(" ")), (1, "1 2 200".into()));
    assert_eq!(setup.resumed(&[a], "100-0"), (true, "1 2 200".into()));
    // With ids of the new stream nothing is missing.
    setup.live("a", 201);
    assert_eq!(setup.resumed(&[a], "200-0"), (false, "201".into()));
    setup.hub.check_settled();
}

#[test]
fn a_stream_that_starts_over_needs_no_long_hold_and_repeats_no_id() {
    let setup = connected_hub();
    setup.subscribe("a", &[], Loss::Nothing);
    for ms in 1_000..1_200 {
        setup.live("a", ms);
    }
    setup.connect();
    setup.subscribe("a", &[7], Loss::Everything);
    for _ in 0..2 {
        setup.live("a", 8);
    }
    assert_eq!(setup.texts("a"), "7 8");
    assert_eq!(known(&setup, "a"), interrupted(id(8)));
    setup.hub.check_settled();
}

#[test]
fn a_cursor_is_removed_with_its_record() {
    let setup = connected_hub_of(64 << 10, Source::Streams, 5, 0);
    setup.subscribe("b", &[], Loss::Nothing);
    setup.live("b", 1_000_000);
    for round in 0..1_000 {
        let name = format!("channel {round}");
        let mine = setup.subscribe(&name, &[], Loss::Nothing);
        setup.live(&name, 1_000 + round);
        setup.hub.leave(mine).unwrap();
        let member = setup.subscribe_only(&name);
        assert!(setup.hub.leave_unsubscribed(setup.token, member).unwrap());
        setup.evict(&name, 1);
    }
    setup.hub.check_settled();
}

#[test]
fn the_newest_entry_is_that_of_the_stream() {
    let setup = connected_hub();
    let newest = |channel: &str| setup.hub.newest_entry(channel.as_bytes()).unwrap();
    assert_eq!(newest("a"), None);
    setup.subscribe("a", &[50], Loss::Nothing);
    setup.subscribe("b", &[], Loss::Nothing);
    setup.live("b", 500);
    setup.plain("a", "plain");
    assert_eq!(newest("a"), Some(id(50).into()));
    setup.evict("a", 1);
    setup.live("a", 60);
    assert_eq!(newest("a"), Some(id(60).into()));
    setup.plain("c", "plain");
    assert_eq!(newest("c"), None);
}
