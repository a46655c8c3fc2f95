//! Runs that are owed until they are finished, and clients that receive them whole or not at all.

use super::deaths::killed::kill_everywhere;
use super::*;
use crate::hub::invariants::inspection::FoundStart;

const FOREVER: History = History { count: 1_000, age: 0 };

/// A hub that owes this, and a channel that this process has joined.
fn joined(history: History, runs: History) -> (Hub, SlotClaim, Membership) {
    let hub = hub_of(1 << 20, 4096, history.count, history.age);
    hub.set_history(history, runs).unwrap();
    let claim = hub.claim_slot().unwrap();
    let member = hub.join(claim, b"a", at(0)).unwrap();
    (hub, claim, member)
}

fn finish(hub: &Hub, channel: &str, texts: &[&str], now: Now) {
    let events: Vec<_> = texts.iter().map(|text| event(text.as_bytes())).collect();
    hub.publish_and_finish(channel.as_bytes(), &events, None, now).unwrap();
}

/// What a client with this id receives first: the texts, "incomplete", or "over".
fn in_run(hub: &Hub, members: &[Membership], id: &str, runs: Runs, now: Now) -> String {
    let begun = hub.begin(members, &Resume::InRun(id.into()), runs, now).unwrap();
    let names: Vec<Box<[u8]>> =
        members.iter().map(|member| hub.lock().unwrap().name(member.record).into()).collect();
    let resume = Resume::InRun(id.into());
    assert_eq!(hub.is_incomplete(&names, &resume, runs, now), Ok(begun.is_incomplete));
    if begun.is_incomplete {
        return "incomplete".into();
    }
    let mut sent = Vec::new();
    if let Some(mut cursor) = begun.cursor {
        loop {
            let batch = hub.slice_of(&mut cursor, 2, usize::MAX, now).unwrap();
            sent.extend(batch.gap.map(|_| "gap".to_owned()));
            cursor.gap_sent(&batch);
            for found in &batch.events {
                sent.push(text(&found.event));
                cursor.delivered(found);
            }
            if batch.finished || batch.done {
                break;
            }
        }
    }
    if begun.is_over {
        sent.push("over".into());
    }
    sent.join(" ")
}

fn new(hub: &Hub, member: Membership, now: Now) -> String {
    in_run(hub, &[member], "", Runs::Separate, now)
}

/// Evicts what channels have beyond what they are owed, as if the zone were full.
fn evict_surplus(hub: &Hub) {
    let guard = hub.lock().unwrap();
    for name in [&b"a"[..], b"b"] {
        let Some(record) = guard.find(name) else { continue };
        while u64::from(guard.events(record)) > guard.owed(record, guard.events(record)) {
            guard.evict(record, &mut Budget::for_hold());
        }
    }
}

#[test]
fn an_unfinished_run_is_owed_besides_history_and_a_finished_one_is_not() {
    let (hub, _, member) = joined(History { count: 2, age: 0 }, History { count: 4, age: 0 });
    for text in ["1", "2", "3"] {
        put(&hub, "a", text, at(0));
    }
    evict_surplus(&hub);
    assert_eq!(new(&hub, member, at(0)), "1 2 3");
    finish(&hub, "a", &["4"], at(0));
    assert_eq!(new(&hub, member, at(0)), "1 2 3 4");
    hub.check_settled();
    // A finished run is owed by the history only.
    evict_surplus(&hub);
    assert_eq!(hub.retained_texts(b"a").len(), 2);
    assert_eq!(new(&hub, member, at(0)), "incomplete");
    put(&hub, "a", "5", at(0));
    evict_surplus(&hub);
    assert_eq!(new(&hub, member, at(0)), "5");
    for text in ["6", "7", "8"] {
        put(&hub, "a", text, at(0));
    }
    evict_surplus(&hub);
    assert_eq!(new(&hub, member, at(0)), "5 6 7 8");
    // A run is owed up to COUNT.
    put(&hub, "a", "9", at(0));
    evict_surplus(&hub);
    assert_eq!(hub.retained_texts(b"a").len(), 4);
    assert_eq!(new(&hub, member, at(0)), "incomplete");
    hub.check_settled();
}

#[test]
fn an_unfinished_run_expires_by_an_age_of_its_own() {
    let (hub, _, member) = joined(History { count: 9, age: 100 }, History { count: 9, age: 1_000 });
    put(&hub, "a", "1", at(0));
    put(&hub, "a", "2", at(500));
    while !hub.sweep(at(900)).unwrap().round {}
    assert_eq!(new(&hub, member, at(900)), "1 2");
    assert_eq!(new(&hub, member, at(1_000)), "incomplete");
    finish(&hub, "a", &[], at(1_000));
    // What is left of it expires by the history's age, and then there is nothing.
    assert_eq!(new(&hub, member, at(1_000)), "over");
    put(&hub, "a", "3", at(1_000));
    assert_eq!(new(&hub, member, at(1_500)), "3");
    finish(&hub, "a", &["4"], at(1_500));
    assert_eq!(new(&hub, member, at(1_500)), "incomplete");
}

#[test]
fn without_an_age_of_the_history_runs_expire_all_the_same() {
    let (hub, _, member) = joined(History { count: 1, age: 0 }, History { count: 9, age: 1_000 });
    for text in ["1", "2"] {
        put(&hub, "a", text, at(0));
    }
    assert_eq!(new(&hub, member, at(999)), "1 2");
    assert_eq!(new(&hub, member, at(1_000)), "incomplete");
    let texts: Vec<_> = hub.retained_texts(b"a").into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["2"], "the history owes it");
}

#[test]
fn a_client_with_an_id_receives_no_hole() {
    let (hub, _, member) = joined(History { count: 2, age: 0 }, FOREVER);
    let first = put(&hub, "a", "1", at(0)).to_string();
    let second = put(&hub, "a", "2", at(0)).to_string();
    put(&hub, "a", "3", at(0));
    let after = |id: &str| in_run(&hub, &[member], id, Runs::Separate, at(0));
    assert_eq!(after(&first), "2 3");
    finish(&hub, "a", &["4"], at(0));
    assert_eq!(after(&first), "2 3 4");
    evict_surplus(&hub);
    assert_eq!(after(&first), "incomplete");
    assert_eq!(after(&second), "3 4");
    // The next run does not fill the hole of this one.
    put(&hub, "a", "5", at(0));
    evict_surplus(&hub);
    assert_eq!((after(&first), after(&second)), ("incomplete".into(), "incomplete".into()));
    // An id that means nothing begins in the newest run.
    assert_eq!(after("17-3"), "gap 5");
    hub.forget_channel(b"a", at(0)).unwrap();
    assert_eq!(after("17-3"), "incomplete");
    assert_eq!(new(&hub, member, at(0)), "incomplete");
    // Finished by its publisher, the next event begins another run.
    finish(&hub, "a", &[], at(0));
    put(&hub, "a", "6", at(0));
    assert_eq!(new(&hub, member, at(0)), "6");
}

#[test]
fn a_hub_without_history_keeps_the_run_for_clients_that_return() {
    let (hub, _, member) = joined(History::NONE, FOREVER);
    let first = put(&hub, "a", "1", at(0)).to_string();
    put(&hub, "a", "2", at(0));
    evict_surplus(&hub);
    assert_eq!(new(&hub, member, at(0)), "1 2");
    assert_eq!(in_run(&hub, &[member], &first, Runs::Separate, at(0)), "2");
}

#[test]
fn of_several_channels_finished_runs_that_are_incomplete_are_left_out() {
    let (hub, claim, a) = joined(History { count: 1, age: 0 }, FOREVER);
    let b = hub.join(claim, b"b", at(0)).unwrap();
    put(&hub, "a", "1", at(0));
    put(&hub, "b", "2", at(0));
    put(&hub, "a", "3", at(0));
    let both = |runs| in_run(&hub, &[a, b], "", runs, at(0));
    assert_eq!(both(Runs::Separate), "1 2 3");
    finish(&hub, "a", &[], at(0));
    evict_surplus(&hub);
    assert_eq!(both(Runs::Separate), "2");
    assert_eq!(in_run(&hub, &[a], "", Runs::Separate, at(0)), "incomplete");
    // A stream that passes over finishes waits for the next run.
    assert_eq!(in_run(&hub, &[a], "", Runs::Joined, at(0)), "");
    assert_eq!(in_run(&hub, &[a], "", Runs::InProgress, at(0)), "over");
    put(&hub, "a", "4", at(0));
    assert_eq!(both(Runs::Separate), "2 4");
    hub.forget_channel(b"b", at(0)).unwrap();
    assert_eq!(both(Runs::Separate), "incomplete");
}

#[test]
fn a_forgotten_channel_continues_its_run_and_does_not_begin_one() {
    let (hub, claim, _) = joined(History { count: 9, age: 0 }, History { count: 9, age: 5_000 });
    let forget = |name: &[u8]| {
        let guard = hub.lock().unwrap();
        let record = guard.find(name).unwrap();
        while guard.events(record) > 0 {
            guard.evict(record, &mut Budget::for_hold());
        }
        guard.remove_record(record);
    };
    let resume = Resume::InRun(Vec::new());
    let is_incomplete =
        |name: &[u8], now| hub.is_incomplete(&[name.into()], &resume, Runs::Separate, now).unwrap();
    put(&hub, "open", "1", at(0));
    finish(&hub, "done", &["1"], at(0));
    forget(b"open");
    forget(b"done");
    assert!(is_incomplete(b"open", at(10)) && !is_incomplete(b"done", at(10)));
    let open = hub.join(claim, b"open", at(10)).unwrap();
    assert_eq!(new(&hub, open, at(10)), "incomplete");
    for name in ["open", "done"] {
        put(&hub, name, "2", at(10));
    }
    let done = hub.join(claim, b"done", at(10)).unwrap();
    assert_eq!(
        (new(&hub, open, at(10)), new(&hub, done, at(10))),
        ("incomplete".into(), "2".into())
    );
    assert!(hub.run_state(open).is_known);
    finish(&hub, "open", &["3"], at(10));
    put(&hub, "open", "4", at(10));
    assert_eq!(new(&hub, open, at(10)), "4");
    // Once no run can be owed any more, the next event begins one.
    put(&hub, "other", "1", at(20));
    forget(b"other");
    let other = hub.join(claim, b"other", at(7_000)).unwrap();
    put(&hub, "other", "2", at(7_000));
    assert_eq!(new(&hub, other, at(7_000)), "2");
    hub.check_settled();
}

#[test]
fn a_process_may_die_while_the_beginning_of_a_run_is_recorded_or_leaves() {
    let (hub, _, member) = joined(History { count: 1, age: 0 }, FOREVER);
    finish(&hub, "a", &["0."], at(0));
    let begin = |hub: &Hub| {
        put(hub, "a", "1.", at(0));
    };
    kill_everywhere(&hub, begin, |before, found, after| {
        let has_begun = found.head == after.head;
        assert!(has_begun || found.head == before.head);
        let position = if has_begun { found.head } else { 1 };
        assert_eq!(hub.run_start_of(b"a"), Some(FoundStart::At(position)));
    });
    let evict = |hub: &Hub| {
        let guard = hub.lock().unwrap();
        while guard.events(member.record) > 0 {
            guard.evict(member.record, &mut Budget::for_hold());
        }
    };
    kill_everywhere(&hub, evict, |_, _, _| {
        let retained = hub.retained(b"a");
        let start = hub.run_start_of(b"a").unwrap();
        match retained.last() {
            Some(first) => assert_eq!(start, FoundStart::At(*first)),
            None => assert_eq!(start, FoundStart::Cut),
        }
    });
    let forget = |hub: &Hub| {
        hub.forget_channel(b"a", at(0)).unwrap();
    };
    put(&hub, "a", "2.", at(0));
    kill_everywhere(&hub, forget, |_, _, _| {
        assert_eq!(hub.run_start_of(b"a"), Some(FoundStart::Cut))
    });
    let finish = |hub: &Hub| finish(hub, "a", &[], at(0));
    kill_everywhere(&hub, finish, |_, _, _| {
        assert_eq!(hub.run_start_of(b"a"), Some(FoundStart::Cut))
    });
}

#[test]
fn a_process_may_die_while_a_channel_with_an_open_run_is_forgotten() {
    let (hub, _, _) = joined(History { count: 1, age: 0 }, FOREVER);
    put(&hub, "open", "1.", at(0));
    let forget = |hub: &Hub| {
        let guard = hub.lock().unwrap();
        let Some(record) = guard.find(b"open") else { return };
        while guard.events(record) > 0 {
            guard.evict(record, &mut Budget::for_hold());
        }
        guard.remove_record(record);
    };
    kill_everywhere(&hub, forget, |_, _, _| {
        let resume = Resume::InRun(Vec::new());
        let is_incomplete =
            hub.is_incomplete(&[b"open"[..].into()], &resume, Runs::Separate, at(0)).unwrap();
        assert_eq!(is_incomplete, hub.retained(b"open").is_empty());
    });
    let create = |hub: &Hub| {
        put(hub, "open", "2.", at(0));
    };
    kill_everywhere(&hub, create, |_, _, _| {
        assert!(matches!(hub.run_start_of(b"open"), None | Some(FoundStart::Cut)));
    });
}

#[test]
fn a_changed_setting_changes_what_is_owed() {
    let (hub, _, member) = joined(History { count: 1, age: 0 }, History::NONE);
    for text in ["1", "2", "3"] {
        put(&hub, "a", text, at(0));
    }
    hub.set_history(History { count: 1, age: 0 }, FOREVER).unwrap();
    hub.check_settled();
    evict_surplus(&hub);
    assert_eq!(new(&hub, member, at(0)), "1 2 3");
    hub.set_history(History { count: 1, age: 0 }, History::NONE).unwrap();
    evict_surplus(&hub);
    assert_eq!(new(&hub, member, at(0)), "incomplete");
}
