//! Replays and searches for where they start do a bounded amount of work in each hold of the lock.

use super::super::connected_hub::{connected_hub_of, incoming};
use super::super::*;
use super::{hostile, put_many, with_long_channel};
use crate::hub::memory::meter::{most_in_a_hold, words_of};

/// A process that has joined channels.
fn joined(hub: &Hub, names: &[String]) -> Vec<Membership> {
    let claim = hub.claim_slot().unwrap();
    names.iter().map(|name| hub.join(claim, name.as_bytes(), at(0)).unwrap()).collect()
}

/// The words of one visit to a stream that is behind: its steps, and a batch merged from 64
/// channels.
const VISIT: usize = 48 << 10;

#[test]
fn locating_an_old_id_on_many_channels_takes_several_holds() {
    let hub = hub_of(16 << 20, 4096, 1_000_000, 0);
    let names: Vec<String> = (0..64).map(|i| format!("channel {i}")).collect();
    let members = joined(&hub, &names);
    for name in &names {
        put_many(&hub, name, 1_000);
    }
    let id = put(&hub, "other", "x", at(0)).to_string();
    for name in &names {
        put_many(&hub, name, 1_000);
    }
    let mut visits = 1;
    let words = most_in_a_hold(|| {
        let begun =
            hub.begin(&members, &Resume::From(id.clone().into()), Runs::Joined, at(0)).unwrap();
        let mut cursor = begun.cursor.unwrap();
        while hub.replay(&mut cursor, 64, usize::MAX, at(0)).unwrap().is_none() {
            visits += 1;
        }
    });
    assert!(visits > 30 && words < VISIT, "{visits} visits, {words} words");
    let (gaps, texts) = resumed(&hub, &members[..3], &id, at(0));
    assert_eq!((gaps, texts.len()), (0, 3_000));

    // An id before everything is found at once, and so is everything.
    let first =
        hub.begin(&members, &Resume::Fresh { newest: u64::MAX }, Runs::Joined, at(0)).unwrap();
    let slice = hub.replay(&mut first.cursor.unwrap(), 64, usize::MAX, at(0)).unwrap();
    assert_eq!(slice.unwrap().events.len(), 64);
}

#[test]
fn locating_part_of_a_long_history_takes_several_holds() {
    let hub = with_long_channel(20_000, 0);
    let members = joined(&hub, &["long".into()]);
    hub.set_history(History { count: 10_000, age: 0 }, History::NONE).unwrap();
    let mut texts = 0;
    let words = most_in_a_hold(|| texts = fresh(&hub, &members, 5_000, at(0)).len());
    assert_eq!(texts, 5_000);
    assert!(words < VISIT, "{words} words");
    // Events that are published during the search are not part of the history.
    let begun = hub.begin(&members, &Resume::Fresh { newest: 5_000 }, Runs::Joined, at(0)).unwrap();
    let mut cursor = begun.cursor.unwrap();
    put_many(&hub, "long", 1_000);
    assert_eq!(all_of(&hub, &mut cursor, 64, at(0)).1.len(), 5_000);
}

#[test]
fn locating_a_time_in_a_long_history_takes_several_holds() {
    let hub = with_long_channel(20_000, 0);
    put(&hub, "long", "young", at(100));
    let members = joined(&hub, &["long".into()]);
    let names = [name_of_pattern(b"lo*")];
    let start = at(0).wall;
    for (ms, found, most_visits) in [(0, 20_001, 1), (start, 20_001, 1), (start + 50, 1, 1)] {
        let resume = Resume::Since { ms };
        let mut visits = 0;
        let words = most_in_a_hold(|| {
            let mut cursor =
                hub.begin(&members, &resume, Runs::Joined, at(200)).unwrap().cursor.unwrap();
            while hub.replay(&mut cursor, 64, usize::MAX, at(200)).unwrap().is_none() {
                visits += 1;
            }
        });
        assert!(visits < most_visits && words < VISIT, "{ms}: {visits} visits, {words} words");
        let mut search = hub.begin_pattern_replay(&names, &resume, at(200)).unwrap().cursor;
        assert_eq!(all_found(&hub, search.as_mut().unwrap()).0.len(), found, "{ms}");
    }
    // From the middle, all that is newer is looked at.
    put(&hub, "long", "the middle", at(300));
    put_many(&hub, "long", 20_000);
    let mut visits = 0;
    let words = most_in_a_hold(|| {
        let resume = Resume::Since { ms: start + 250 };
        let mut cursor =
            hub.begin(&members, &resume, Runs::Joined, at(900)).unwrap().cursor.unwrap();
        while hub.replay(&mut cursor, 64, usize::MAX, at(900)).unwrap().is_none() {
            visits += 1;
        }
    });
    assert!(visits > 10 && words < VISIT, "{visits} visits, {words} words");
}

#[test]
fn a_search_by_time_in_a_channel_without_order_is_bounded() {
    let setup = connected_hub_of(8 << 20, Source::PubSub, 1_000_000, 0);
    let a = setup.subscribe("a", &[1, 2], Loss::Nothing);
    for _ in 0..200 {
        let plain = vec![incoming("a", Provenance::Plain, "x", at(0).mono); 64];
        setup.hub.ingest(setup.token, &plain, at(0)).unwrap();
    }
    setup.ingest_at("a", Provenance::Plain, "young", at(500));
    let mut visits = 0;
    let words = most_in_a_hold(|| {
        let resume = Resume::Since { ms: at(400).wall };
        let mut cursor =
            setup.hub.begin(&[a], &resume, Runs::Joined, at(900)).unwrap().cursor.unwrap();
        let batch = loop {
            visits += 1;
            if let Some(batch) = setup.hub.replay(&mut cursor, 64, 4096, at(900)).unwrap() {
                break batch;
            }
        };
        assert_eq!((batch.events.len(), batch.gap.is_some()), (1, false));
    });
    assert!(visits > 10 && words < VISIT, "{visits} visits, {words} words");
}

#[test]
fn expired_events_are_removed_gradually_before_a_stream_starts() {
    let hub = with_long_channel(20_000, 1_000);
    let id = put(&hub, "long", "young", at(900)).to_string();
    let members = joined(&hub, &["long".into()]);
    let now = at(1_500);
    // A client without replay does not wait.
    let begun = hub.begin(&members, &Resume::Fresh { newest: 0 }, Runs::Joined, now).unwrap();
    assert!(begun.cursor.is_none());
    let mut visits = 0;
    let words = most_in_a_hold(|| {
        let begun = hub.begin(&members, &Resume::Fresh { newest: 10 }, Runs::Joined, now).unwrap();
        let mut cursor = begun.cursor.unwrap();
        let slice = loop {
            visits += 1;
            if let Some(slice) = hub.replay(&mut cursor, 64, usize::MAX, now).unwrap() {
                break slice;
            }
        };
        assert_eq!((slice.events.len(), slice.gap.is_some()), (1, false));
    });
    assert!(visits > 50 && words < VISIT, "{visits} visits, {words} words");
    assert_eq!(resumed(&hub, &members, &id, now), (0, vec![]));
    hub.check_settled();

    // A channel on which everything has expired has no events, and the stream receives its first
    // id.
    put_many(&hub, "gone", 5_000);
    let members = joined(&hub, &["gone".into()]);
    let begun =
        hub.begin(&members, &Resume::Fresh { newest: 10 }, Runs::Joined, at(9_000)).unwrap();
    let slice = hub.slice_of(&mut begun.cursor.unwrap(), 64, 100, at(9_000)).unwrap();
    assert_eq!((slice.events.len(), slice.done, slice.begins), (0, true, Some(begun.end)));
}

#[test]
fn an_event_evicted_during_a_seek_causes_a_gap() {
    let hub = hub_of(8 << 20, 4096, 1_000_000, 0);
    put_many(&hub, "long", 10_000);
    let id = put(&hub, "long", "x", at(0)).to_string();
    put_many(&hub, "long", 10_000);
    let members = joined(&hub, &["long".into()]);
    let begun = hub.begin(&members, &Resume::From(id.into()), Runs::Joined, at(0)).unwrap();
    let mut cursor = begun.cursor.unwrap();
    assert!(hub.replay(&mut cursor, 64, usize::MAX, at(0)).unwrap().is_none());
    let guard = hub.lock().unwrap();
    let record = guard.find(b"long").unwrap();
    (0..15_000).for_each(|_| guard.evict(record, &mut Budget::for_hold()));
    drop(guard);
    let (gaps, texts) = all_of(&hub, &mut cursor, 64, at(0));
    assert_eq!((gaps.len(), texts.len()), (1, 5_001));
}

/// Returns all texts of a pattern replay, and the number of visits that it took.
fn all_found(hub: &Hub, search: &mut PatternReplay) -> (Vec<String>, usize) {
    let (mut texts, mut visits) = (Vec::new(), 0);
    loop {
        visits += 1;
        let Some(slice) = hub.replay_patterns(search, 64, usize::MAX, at(0)).unwrap() else {
            continue;
        };
        search.gap_sent();
        for found in &slice.events {
            texts.push(text(&found.event));
            search.delivered(found);
        }
        if slice.done {
            return (texts, visits);
        }
    }
}

#[test]
fn replaying_many_channels_takes_less_than_quadratic_time() {
    let hub = hub_of(4 << 20, 4096, 10, 0);
    let names = [name_of_pattern(b"*")];
    for i in 0..2_000 {
        put(&hub, &format!("channel {i}"), &format!("{i}"), at(0));
    }
    let expected: Vec<String> = (0..2_000).map(|i| i.to_string()).collect();
    let begin =
        || hub.begin_pattern_replay(&names, &Resume::Fresh { newest: 10 }, at(0)).unwrap().cursor;
    let (mut search, mut other) = (begin().unwrap(), begin().unwrap());
    let mut most = 0;
    let words = words_of(|| {
        most = most_in_a_hold(|| assert_eq!(all_found(&hub, &mut search).0, expected));
    });
    // Five channels at first: nine scans, and not four hundred.
    assert!(words < 9 * 2_000 * 100 && most < VISIT, "{words} words, {most} in a hold");
    // Another replay gets what is left. Then it takes longer, and finds the same.
    assert_eq!(all_found(&hub, &mut other).0, expected);
    drop((search, other));
    assert_eq!(all_found(&hub, &mut begin().unwrap()).0, expected);
}

#[test]
fn a_search_in_a_long_channel_is_bounded() {
    let hub = with_long_channel(20_000, 0);
    let id = put(&hub, "other", "x", at(0)).to_string();
    put_many(&hub, "long", 5_000);
    let names: Vec<_> = (0..64).map(hostile).chain([name_of_pattern(b"lo*")]).collect();
    let resume = Resume::From(id.into());
    let mut search = hub.begin_pattern_replay(&names, &resume, at(0)).unwrap().cursor.unwrap();
    let mut found = (Vec::new(), 0);
    let words = most_in_a_hold(|| found = all_found(&hub, &mut search));
    assert_eq!(found.0.len(), 5_000);
    assert!(words < VISIT, "{words} words");
}
