//! Streams in Redis whose ids are not those of the hub: below its high watermark, implausible, or
//! started over.

use super::lease::{id, joined, joined_of, Joined};
use super::*;
use crate::sse::id::EntryId;

const FAR: u64 = 1 << 50;

/// An id in microseconds, as Redis reports it, in a hub whose clock is far below.
fn implausible(ms: u64) -> JudgedId {
    ReportedId::from(id(ms * FAR)).judged(Latest::here(at(0)))
}

fn known(joined: &Joined, channel: &str) -> SyncState {
    joined.hub.sync_state(joined.subscribe_only(channel)).unwrap()
}

fn interrupted(entry_id: EntryId) -> SyncState {
    SyncState::Interrupted(entry_id.into())
}

#[test]
fn an_implausible_id_does_not_change_the_order() {
    let joined = joined();
    let a = joined.subscribe("a", &[], Loss::Nothing);
    let b = joined.subscribe("b", &[], Loss::Nothing);
    joined.live("b", 100);
    assert_eq!(implausible(5_000).entry_id(), None);
    for (ms, provenance) in [
        (5_000, Provenance::Live as fn(_) -> _),
        (5_001, Provenance::Missed),
        (5_002, Provenance::Earlier),
    ] {
        assert_eq!(joined.come("a", provenance(implausible(ms)), &ms.to_string()).appended, 1);
        assert_eq!(joined.come("a", provenance(implausible(ms)), "again").appended, 0);
    }
    assert_eq!(joined.hub.high_watermark().unwrap(), id(100));
    joined.live("b", 101);
    assert_eq!(joined.last_id("b"), "101-0");
    assert_eq!(joined.resumed(&[b], "100-0"), (false, "101".into()));
    assert_eq!(joined.resumed(&[a], "100-0").1, "5000 5001 5002");
    assert_eq!(known(&joined, "a"), interrupted(id(5_002 * FAR)));
    joined.hub.check_settled();
}

#[test]
fn below_the_high_watermark_a_stream_continues_from_its_own_last_entry() {
    let joined = joined();
    joined.subscribe("a", &[50], Loss::Nothing);
    joined.subscribe("b", &[], Loss::Nothing);
    joined.live("b", 500);
    joined.live("a", 60);
    assert_eq!(known(&joined, "a"), interrupted(id(60)));
    joined.live("a", 70);
    joined.live("a", 600);
    assert_eq!(known(&joined, "a"), interrupted(id(600)));
    joined.live("b", 700);
    joined.connect();
    joined.subscribe("a", &[600, 650, 710], Loss::Nothing);
    assert_eq!(joined.texts("a"), "50 60 70 600 650 710");
    assert_eq!(known(&joined, "a"), interrupted(id(710)));
    joined.hub.check_settled();
}

#[test]
fn a_stream_that_starts_over_is_delivered_behind_a_gap() {
    let joined = joined();
    let a = joined.subscribe("a", &[50], Loss::Nothing);
    joined.live("a", 100);
    let at_end = joined.hub.head();
    joined.connect();
    joined.subscribe("a", &[1, 2, 200], Loss::Everything);
    assert_eq!(joined.texts("a"), "1 2 200");
    // An open stream, and a client that resumes with the last id of the old stream.
    let mut open = ReplayCursor::since(
        Received::at(at_end, Elsewhere::Nothing),
        joined.hub.head(),
        [a].into_iter(),
    );
    let (gaps, texts) = all_of(&joined.hub, &mut open, 64, at(0));
    assert_eq!((gaps.len(), texts.join(" ")), (1, "1 2 200".into()));
    assert_eq!(joined.resumed(&[a], "100-0"), (true, "1 2 200".into()));
    // With ids of the new stream nothing is missing.
    joined.live("a", 201);
    assert_eq!(joined.resumed(&[a], "200-0"), (false, "201".into()));
    joined.hub.check_settled();
}

#[test]
fn a_stream_that_starts_over_takes_no_long_hold_and_no_number_twice() {
    let joined = joined();
    joined.subscribe("a", &[], Loss::Nothing);
    for ms in 1_000..1_200 {
        joined.live("a", ms);
    }
    joined.connect();
    joined.subscribe("a", &[7], Loss::Everything);
    for _ in 0..2 {
        joined.live("a", 8);
    }
    assert_eq!(joined.texts("a"), "7 8");
    assert_eq!(known(&joined, "a"), interrupted(id(8)));
    joined.hub.check_settled();
}

#[test]
fn a_cursor_goes_with_its_record() {
    let joined = joined_of(64 << 10, Source::Streams, 5, 0);
    joined.subscribe("b", &[], Loss::Nothing);
    joined.live("b", 1_000_000);
    for round in 0..1_000 {
        let name = format!("channel {round}");
        let mine = joined.subscribe(&name, &[], Loss::Nothing);
        joined.live(&name, 1_000 + round);
        joined.hub.leave(mine).unwrap();
        let member = joined.subscribe_only(&name);
        assert!(joined.hub.leave_unsubscribed(joined.token, member).unwrap());
        joined.evict(&name, 1);
    }
    joined.hub.check_settled();
}

#[test]
fn the_newest_entry_is_that_of_the_stream() {
    let joined = joined();
    let newest = |channel: &str| joined.hub.newest_entry(channel.as_bytes()).unwrap();
    assert_eq!(newest("a"), None);
    joined.subscribe("a", &[50], Loss::Nothing);
    joined.subscribe("b", &[], Loss::Nothing);
    joined.live("b", 500);
    joined.plain("a", "plain");
    assert_eq!(newest("a"), Some(id(50).into()));
    joined.evict("a", 1);
    joined.live("a", 60);
    assert_eq!(newest("a"), Some(id(60).into()));
    joined.plain("c", "plain");
    assert_eq!(newest("c"), None);
}
