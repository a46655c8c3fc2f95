//! Runs: where streams begin and end if a publisher finishes what it publishes.

use super::*;

fn finish(hub: &Hub, channel: &str, texts: &[&str]) -> Published {
    let events: Vec<_> = texts.iter().map(|text| event(text.as_bytes())).collect();
    hub.publish_and_finish(channel.as_bytes(), &events, None, at(0)).unwrap()
}

/// A hub in which this process has joined channel a.
fn joined(count: u64) -> (Hub, SlotClaim, Membership) {
    let hub = small(count);
    let claim = hub.claim_slot().unwrap();
    let member = hub.join(claim, b"a", at(0)).unwrap();
    (hub, claim, member)
}

/// Everything that a replay delivers until it is done or its run ends, in batches of two events:
/// the texts, with "gap" for a gap event and "end" for the end of a run.
fn until_end(hub: &Hub, cursor: &mut ReplayCursor) -> String {
    let mut sent = Vec::new();
    loop {
        let batch = hub.slice_of(cursor, 2, usize::MAX, at(0)).unwrap();
        sent.extend(batch.gap.map(|_| "gap".to_owned()));
        cursor.gap_sent(&batch);
        for found in &batch.events {
            sent.push(text(&found.event));
            cursor.delivered(found);
        }
        if batch.finished {
            // It stays at the end, however often it is asked.
            assert!(hub.slice_of(cursor, 2, usize::MAX, at(0)).unwrap().finished);
            sent.push("end".to_owned());
        }
        if batch.finished || batch.done {
            return sent.join(" ");
        }
    }
}

fn starting(hub: &Hub, members: &[Membership], resume: &Resume) -> String {
    starting_in(hub, members, resume, Runs::Separate)
}

fn starting_in(hub: &Hub, members: &[Membership], resume: &Resume, runs: Runs) -> String {
    let begun = hub.begin(members, resume, runs, at(0)).unwrap();
    let over = if begun.is_over { "over" } else { "" };
    match begun.cursor {
        None => over.to_owned(),
        Some(mut cursor) => format!("{} {over}", until_end(hub, &mut cursor)).trim().to_owned(),
    }
}

fn after(hub: &Hub, member: Membership, id: &str) -> String {
    starting(hub, &[member], &Resume::From(id.into()))
}

fn new(hub: &Hub, member: Membership, newest: u64) -> String {
    starting(hub, &[member], &Resume::Fresh { newest })
}

#[test]
fn a_finish_is_a_mark_and_not_an_event() {
    let (hub, _, member) = joined(10);
    put(&hub, "a", "1", at(0));
    let (used, head) = (hub.stats().zone_used_bytes, hub.head());
    let finished = finish(&hub, "a", &[]);
    assert_eq!((finished.ids.len(), finished.finished), (0, true));
    assert_eq!((hub.stats().retained_events, hub.stats().zone_used_bytes), (1, used));
    assert_eq!(hub.head(), head + 1);
    assert_eq!(hub.descriptor(head + 1).unwrap().signal(), Some(ControlEntry::Finished));
    let state = RunState { position: head + 1, is_finished: true, is_known: true };
    assert_eq!(hub.run_state(member), state);
    // Finishing it again changes nothing.
    assert!(finish(&hub, "a", &[]).finished);
    assert_eq!((hub.head(), hub.run_state(member)), (head + 1, state));
    // The next event begins another run.
    put(&hub, "a", "2", at(0));
    assert_eq!(hub.run_state(member), RunState { is_finished: false, ..state });
    assert_eq!(hub.run_ends(b"a"), [head]);
    hub.check_settled();
}

#[test]
fn a_finish_does_not_expire_with_its_run() {
    let hub = hub_of(1 << 20, 4096, 10, 1_000);
    let member = hub.join(hub.claim_slot().unwrap(), b"a", at(0)).unwrap();
    let last = put(&hub, "a", "1", at(0));
    finish(&hub, "a", &[]);
    while !hub.sweep(at(5_000)).unwrap().round {}
    assert_eq!(hub.stats().retained_events, 0);
    assert!(hub.run_state(member).is_finished);
    assert_eq!(after(&hub, member, &last.to_string()), "end over");
    assert_eq!(new(&hub, member, 5), "over");
}

#[test]
fn a_replay_ends_at_each_finish_that_it_reaches() {
    let (hub, _, member) = joined(100);
    let ids = [put(&hub, "a", "1", at(0)), put(&hub, "a", "2", at(0))];
    let more = finish(&hub, "a", &["3", "4", "5"]).ids;
    let second = finish(&hub, "a", &["6"]).ids;
    let third = put(&hub, "a", "7", at(0));
    for (id, expected) in [
        (ids[0], "2 3 4 5 end"),
        (ids[1], "3 4 5 end"),
        (more[1], "5 end"),
        // It has passed the first finish, whether or not it received an end for it.
        (more[2], "6 end"),
        (second[0], "7"),
        (third, ""),
    ] {
        assert_eq!(after(&hub, member, &id.to_string()), expected, "after {id}");
    }
    // An open stream that has fallen behind.
    let head = hub.head();
    let since_known = |position, until, runs, known| {
        let received = Received::at(position, Elsewhere::Nothing);
        let cursor = ReplayCursor::since(received, until, [member].into_iter());
        until_end(&hub, &mut cursor.with_runs(runs, known))
    };
    let since = |position, until, runs| since_known(position, until, runs, Default::default());
    assert_eq!(since(0, head, Runs::Separate), "1 2 3 4 5 end");
    // The finishes are at 6 and 8. It has received the last event, and not the end.
    assert_eq!(since(5, head, Runs::Separate), "end");
    let known = |passed, next| KnownRunEnds { passed, next };
    assert_eq!(since_known(5, head, Runs::Separate, known(0, Some(6))), "end");
    // It was opened behind the first finish.
    assert_eq!(since_known(6, head, Runs::Separate, known(6, Some(8))), "6 end");
    assert_eq!(since(7, head, Runs::Separate), "end");
    assert_eq!(since_known(8, head, Runs::Separate, known(8, None)), "7");
    assert_eq!(since(7, 7, Runs::Separate), "");
    assert_eq!(since(0, head, Runs::Joined), "1 2 3 4 5 6 7");
}

#[test]
fn a_client_without_an_id_begins_in_the_newest_run() {
    let (hub, _, member) = joined(100);
    assert_eq!(new(&hub, member, 9), "");
    finish(&hub, "a", &["1", "2"]);
    assert_eq!(new(&hub, member, 9), "1 2 end");
    assert_eq!(new(&hub, member, 1), "2 end");
    assert_eq!(new(&hub, member, 0), "over");
    put(&hub, "a", "3", at(0));
    put(&hub, "a", "4", at(0));
    for (newest, expected) in [(9, "3 4"), (1, "4"), (0, "")] {
        assert_eq!(new(&hub, member, newest), expected);
    }
    // An id that is not from here: a gap, and the newest run.
    assert_eq!(after(&hub, member, "1-0-9"), "gap 3 4");
    finish(&hub, "a", &[]);
    assert_eq!(after(&hub, member, "1-0-9"), "gap 3 4 end");
    assert_eq!(new(&hub, member, 9), "3 4 end");
    // Without its events, there is a gap, and then the end.
    hub.forget_channel(b"a", at(0)).unwrap();
    assert_eq!(after(&hub, member, "1-0-9"), "gap end");
    assert_eq!(new(&hub, member, 9), "over");
}

#[test]
fn a_finished_run_is_withheld_from_new_clients_of_which_it_is_required() {
    let (hub, claim, a) = joined(100);
    let b = hub.join(claim, b"b", at(0)).unwrap();
    let new = |members: &[Membership]| {
        starting_in(&hub, members, &Resume::Fresh { newest: 9 }, Runs::InProgress)
    };
    let first = put(&hub, "a", "1", at(0)).to_string();
    assert_eq!(new(&[a]), "1");
    finish(&hub, "a", &["2"]);
    assert_eq!(new(&[a]), "over");
    // Of several channels, only if all are finished.
    assert_eq!(new(&[a, b]), "1 2");
    finish(&hub, "b", &["3"]);
    assert_eq!(new(&[a, b]), "over");
    // A client with an id receives what it lacks.
    let resume = Resume::From(first.into());
    assert_eq!(starting_in(&hub, &[a], &resume, Runs::InProgress), "2 end");
    put(&hub, "a", "4", at(0));
    assert_eq!(new(&[a]), "4");
}

#[test]
fn a_client_that_lost_the_end_of_a_run_is_not_given_the_next_one_with_it() {
    let (hub, _, member) = joined(2);
    let first = put(&hub, "a", "1", at(0));
    finish(&hub, "a", &["2", "3"]);
    let guard = hub.lock().unwrap();
    for _ in 0..3 {
        guard.evict(member.record, &mut Budget::for_hold());
    }
    drop(guard);
    put(&hub, "a", "4", at(0));
    assert_eq!(after(&hub, member, &first.to_string()), "gap end");
    let batch = Resume::From(first.to_string().into());
    let mut cursor = hub.begin(&[member], &batch, Runs::Separate, at(0)).unwrap().cursor.unwrap();
    let gap = hub.slice_of(&mut cursor, 1, 99, at(0)).unwrap().gap.unwrap();
    assert_eq!(after(&hub, member, &gap.to_string()), "4");
    // An open stream that had received the first event.
    let received = Received::at(1, Elsewhere::Nothing);
    let cursor = ReplayCursor::since(received, hub.head(), [member].into_iter());
    assert_eq!(
        until_end(&hub, &mut cursor.with_runs(Runs::Separate, Default::default())),
        "gap end"
    );
}

#[test]
fn nothing_is_to_come_of_finished_channels_only() {
    let (hub, claim, a) = joined(10);
    let b = hub.join(claim, b"b", at(0)).unwrap();
    let names = |names: &[&str]| -> Vec<Box<[u8]>> {
        names.iter().map(|name| name.as_bytes().into()).collect()
    };
    let activity = |channels: &[&str]| {
        let found = hub.activity(&names(channels)).unwrap();
        (found.unknown, found.finished, found.running)
    };
    // A stream that waits makes no channel known.
    assert_eq!(activity(&["a", "b", "c"]), (3, 0, 0));
    let last = put(&hub, "a", "1", at(0));
    finish(&hub, "b", &[]);
    assert_eq!(activity(&["a", "b", "c"]), (1, 1, 1));
    let is_over = |channels: &[&str]| {
        hub.is_over(&names(channels), &Resume::From(last.to_string().into()), at(0)).unwrap()
    };
    assert_eq!([&["a", "b"][..], &["b"], &["b", "c"]].map(is_over), [false, true, false]);
    finish(&hub, "a", &[]);
    assert!(is_over(&["a", "b"]));
    assert_eq!(starting(&hub, &[a, b], &Resume::From(last.to_string().into())), "over");
    // Several channels have no common end of a run.
    let first = Resume::From("1700000000000-0-7".into());
    assert_eq!(starting(&hub, &[a, b], &first), "1");
    put(&hub, "b", "2", at(0));
    assert!(!is_over(&["a", "b"]) && is_over(&["a"]));
}

#[test]
fn a_finish_that_is_repeated_with_its_key_does_not_end_the_next_run() {
    let (hub, _, member) = joined(10);
    let send =
        |key: &[u8]| hub.publish_and_finish(b"a", &[event(b"last")], Some(key), at(0)).unwrap();
    let first = send(b"k");
    put(&hub, "a", "next", at(0));
    assert_eq!(send(b"k"), first);
    assert!(!hub.run_state(member).is_finished);
    // Also without events.
    let bare = |key: &[u8]| hub.publish_and_finish(b"a", &[], Some(key), at(0)).unwrap();
    assert_eq!((bare(b"bare").ids.len(), hub.run_state(member).is_finished), (0, true));
    put(&hub, "a", "another", at(0));
    assert!(bare(b"bare").finished && !hub.run_state(member).is_finished);
    // A key whose publish has not finished the run.
    hub.publish(b"a", &[event(b"x")], Some(b"open"), at(0)).unwrap();
    assert!(!bare(b"open").finished && !hub.run_state(member).is_finished);
    hub.check_settled();
}

#[test]
fn a_publish_that_is_refused_finishes_nothing() {
    let (hub, _, member) = joined(10);
    put(&hub, "a", "1", at(0));
    let large = "x".repeat(5_000);
    let events = [event(b"fits"), event(large.as_bytes())];
    let refused = hub.publish_and_finish(b"a", &events, Some(b"k"), at(0));
    assert_eq!(refused.err(), Some(PublishError::TooLarge));
    assert_eq!((hub.head(), hub.run_state(member).is_finished), (1, false));
}

#[test]
fn a_finish_creates_the_channel() {
    let hub = small(10);
    finish(&hub, "new", &[]);
    assert_eq!(hub.activity(&[Box::from(&b"new"[..])]).unwrap().finished, 1);
    hub.check_settled();
}
