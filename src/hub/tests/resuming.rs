//! What a client receives when it connects, resumes, or falls behind: the events that are retained,
//! and one gap event for those that are not.

use super::*;

#[test]
fn a_burst_beyond_count_is_retained_while_memory_is_free() {
    let hub = small(10);
    let claim = hub.claim_slot().unwrap();
    let member = hub.join(claim, b"burst", at(0)).unwrap();
    let first = put(&hub, "burst", "0", at(0));
    for i in 1..=500 {
        put(&hub, "burst", &i.to_string(), at(0));
    }
    // An open stream and a client that resumes receive all; a new client receives what is owed.
    let (gaps, given) = resumed(&hub, &[member], &first.to_string(), at(0));
    assert_eq!((gaps, given.len()), (0, 500));
    let mut cursor =
        ReplayCursor::since(Received::at(1, Elsewhere::Nothing), 501, [member].into_iter());
    assert_eq!(all_of(&hub, &mut cursor, 64, at(0)).1.len(), 500);
    assert_eq!(fresh(&hub, &[member], 100, at(0)).len(), 10);
}

#[test]
fn events_that_are_too_old_are_never_read() {
    let hub = hub_of(1 << 20, 4096, 10, 1_000);
    let claim = hub.claim_slot().unwrap();
    let member = hub.join(claim, b"a", at(0)).unwrap();
    let first = put(&hub, "a", "first", at(0));
    put(&hub, "a", "old", at(1));
    put(&hub, "a", "young", at(500));
    let descriptors: Vec<Descriptor> = (1..=3).map(|i| hub.descriptor(i).unwrap()).collect();
    let mut copied = EventCopy::default();
    let readable = |ms| descriptors.iter().filter(|d| hub.copy(**d, at(ms), &mut copied)).count();
    assert_eq!([0, 999, 1_000, 1_001, 1_499, 1_500].map(readable), [3, 3, 2, 1, 1, 0]);
    assert_eq!(fresh(&hub, &[member], 10, at(1_001)), ["young"]);
    assert_eq!(resumed(&hub, &[member], &first.to_string(), at(1_001)), (1, vec!["young".into()]));
    let beginning =
        hub.begin(&[member], &Resume::From(first.to_string().into()), Runs::Joined, at(1_001));
    let mut cursor = beginning.unwrap().cursor.unwrap();
    // It expires between the start and the first batch.
    assert!(all_of(&hub, &mut cursor, 64, at(1_500)).1.is_empty());
    hub.check_settled();
}

#[test]
fn an_expired_channel_causes_no_gap_for_a_client_that_has_received_all_of_it() {
    let hub = hub_of(1 << 20, 4096, 10, 1_000);
    let claim = hub.claim_slot().unwrap();
    let member = hub.join(claim, b"a", at(0)).unwrap();
    let before = put(&hub, "a", "1", at(0));
    let last = put(&hub, "a", "2", at(0));
    put(&hub, "b", "3", at(0));
    while !hub.sweep(at(5_000)).unwrap().round {}
    assert_eq!(resumed(&hub, &[member], &last.to_string(), at(5_000)), (0, vec![]));
    assert_eq!(resumed(&hub, &[member], &before.to_string(), at(5_000)), (1, vec![]));
}

#[test]
fn a_deleted_channel_still_causes_a_gap() {
    let hub = hub_of(Plan::minimum_bytes(8, 256), 256, 10, 1_000);
    let id = put(&hub, "gone", "1", at(0));
    put(&hub, "gone", "2", at(1));
    for i in 0..1_000 {
        put(&hub, &format!("c{i}"), "x", at(5_000));
    }
    assert!(!hub.knows(b"gone"));
    let claim = hub.claim_slot().unwrap();
    let member = hub.join(claim, b"gone", at(5_000)).unwrap();
    assert_eq!(resumed(&hub, &[member], &id.to_string(), at(5_000)), (1, vec![]));
}

#[test]
fn an_overtaken_client_receives_one_gap() {
    let hub = hub_of(Plan::minimum_bytes(8, 256), 256, 1, 0);
    let claim = hub.claim_slot().unwrap();
    let member = hub.join(claim, b"a", at(0)).unwrap();
    let put_some = |n: u64| {
        for i in 0..n {
            put(&hub, "a", &i.to_string(), at(0));
        }
    };
    put_some(1_000);
    let (at_first, until) = (hub.head() - 10, hub.head());
    let mut cursor = ReplayCursor::since(
        Received::at(at_first, Elsewhere::Nothing),
        until,
        [member].into_iter(),
    );
    let slice = hub.slice_of(&mut cursor, 5, usize::MAX, at(0)).unwrap();
    assert_eq!((slice.gap, slice.events.len()), (None, 5));
    slice.events.iter().for_each(|found| cursor.delivered(found));
    // While it waits, everything up to `until` is evicted, and more.
    put_some(1_000);
    let (mut gaps, given) = all_of(&hub, &mut cursor, 5, at(0));
    assert!(given.is_empty());
    let mut next = ReplayCursor::since(
        Received::at(until, Elsewhere::Nothing),
        hub.head(),
        [member].into_iter(),
    );
    let (more, given) = all_of(&hub, &mut next, 5, at(0));
    gaps.extend(more);
    assert_eq!(gaps.len(), 1);
    assert_eq!(given.len(), hub.retained(b"a").len());
}

#[test]
fn batches_are_bounded_by_bytes_too() {
    let hub = small(100);
    let claim = hub.claim_slot().unwrap();
    let member = hub.join(claim, b"a", at(0)).unwrap();
    for size in [3_000, 10, 10, 3_000, 3_000] {
        put(&hub, "a", &"x".repeat(size), at(0));
    }
    let mut cursor =
        ReplayCursor::since(Received::at(0, Elsewhere::Nothing), 5, [member].into_iter());
    let mut counts = Vec::new();
    loop {
        let slice = hub.slice_of(&mut cursor, 64, 3_100, at(0)).unwrap();
        counts.push(slice.events.len());
        slice.events.iter().for_each(|found| cursor.delivered(found));
        if slice.done {
            break;
        }
    }
    assert_eq!(counts, [3, 1, 1]);
}

#[test]
fn batches_of_patterns_are_bounded_by_bytes_too() {
    let hub = small(100);
    for (i, size) in [3_000, 10, 10, 3_000, 3_500, 10].into_iter().enumerate() {
        put(&hub, &format!("a{}", i % 3), &"x".repeat(size), at(0));
    }
    let names = [name_of_pattern(b"a*")];
    let begun = hub.begin_pattern_replay(&names, &Resume::Fresh { newest: 10 }, at(0)).unwrap();
    let mut replay = begun.cursor.unwrap();
    let mut counts = Vec::new();
    let is_done = (0..1_000).any(|_| {
        let Some(batch) = hub.replay_patterns(&mut replay, 64, 3_100, at(0)).unwrap() else {
            return false;
        };
        counts.push(batch.events.len());
        batch.events.iter().for_each(|found| replay.delivered(found));
        batch.done
    });
    assert!(is_done);
    counts.retain(|&count| count > 0);
    assert_eq!(counts, [3, 1, 1, 1]);
}

#[test]
fn a_replay_searches_for_its_start_once() {
    let hub = small(1_000);
    let claim = hub.claim_slot().unwrap();
    let join = |name: &str| hub.join(claim, name.as_bytes(), at(0)).unwrap();
    let members = ["a", "b"].map(join);
    for i in 0..600 {
        put(&hub, if i < 300 { "a" } else { "b" }, &i.to_string(), at(0));
    }
    let mut cursor =
        ReplayCursor::since(Received::at(0, Elsewhere::Nothing), 600, members.into_iter());
    assert!(format!("{cursor:?}").contains("Seek"));
    let slice = hub.slice_of(&mut cursor, 1, usize::MAX, at(0)).unwrap();
    cursor.delivered(&slice.events[0]);
    // Searching backwards again with each batch would take quadratic time.
    assert!(!format!("{cursor:?}").contains("Seek"));
    assert_eq!(all_of(&hub, &mut cursor, 7, at(0)).1.len(), 599);
}

#[test]
fn without_history_nothing_is_replayed_and_a_gap_is_sent() {
    let hub = hub_of(1 << 20, 4096, 0, 0);
    let claim = hub.claim_slot().unwrap();
    let member = hub.join(claim, b"a", at(0)).unwrap();
    let first = put(&hub, "a", "1", at(0));
    let last = put(&hub, "a", "2", at(0));
    assert!(fresh(&hub, &[member], 5, at(0)).is_empty());
    assert_eq!(resumed(&hub, &[member], &first.to_string(), at(0)), (1, vec![]));
    assert_eq!(resumed(&hub, &[member], &last.to_string(), at(0)), (0, vec![]));
    assert_eq!(resumed(&hub, &[member], "nonsense", at(0)), (1, vec![]));
    // Open streams still receive all.
    let mut cursor =
        ReplayCursor::since(Received::at(0, Elsewhere::Nothing), 2, [member].into_iter());
    assert_eq!(all_of(&hub, &mut cursor, 64, at(0)), (vec![], vec!["1".into(), "2".into()]));
}

#[test]
fn a_client_that_resumes_from_a_gap_receives_no_second_gap() {
    let hub = hub_of(Plan::minimum_bytes(8, 256), 256, 10, 0);
    let claim = hub.claim_slot().unwrap();
    let members: Vec<Membership> =
        ["a", "b"].iter().map(|name| hub.join(claim, name.as_bytes(), at(0)).unwrap()).collect();
    let first = put(&hub, "a", "first", at(0));
    for i in 0..500 {
        put(&hub, ["a", "b"][i % 2], &i.to_string(), at(i as u64 / 3));
    }
    for id in [first.to_string(), "0-0".into(), "evil".into()] {
        // One channel at a time: of two, one may have lost what is newer than the other's oldest
        // event.
        for members in [&members[..1], &members[1..]] {
            let beginning =
                hub.begin(members, &Resume::From(id.clone().into()), Runs::Joined, at(0)).unwrap();
            let (gaps, given) = all_of(&hub, &mut beginning.cursor.unwrap(), 7, at(0));
            assert_eq!(gaps.len(), 1);
            assert_eq!(resumed(&hub, members, &gaps[0].to_string(), at(0)), (0, given));
        }
        let beginning = hub.begin(&members, &Resume::From(id.into()), Runs::Joined, at(0)).unwrap();
        let (gaps, given) = all_of(&hub, &mut beginning.cursor.unwrap(), 7, at(0));
        assert_eq!(resumed(&hub, &members, &gaps[0].to_string(), at(0)).1, given);
    }
}

#[test]
fn a_loss_after_the_end_of_a_replay_is_reported_by_the_next() {
    let hub = small(10);
    let claim = hub.claim_slot().unwrap();
    let member = hub.join(claim, b"a", at(0)).unwrap();
    for i in 0..3 {
        put(&hub, "a", &i.to_string(), at(0));
    }
    let mut cursor =
        ReplayCursor::since(Received::at(1, Elsewhere::Nothing), 2, [member].into_iter());
    hub.forget_channel(b"a", at(0)).unwrap();
    let slice = hub.slice_of(&mut cursor, 64, usize::MAX, at(0)).unwrap();
    assert_eq!((slice.gap, slice.done, slice.overtaken), (None, true, true));
    let mut next =
        ReplayCursor::since(Received::at(2, Elsewhere::Nothing), 3, [member].into_iter());
    let slice = hub.slice_of(&mut next, 64, usize::MAX, at(0)).unwrap();
    assert!(slice.gap.is_some() && slice.done && !slice.overtaken);
}
