//! Runs in a hub that is connected to Redis: finishes arrive as events of a type of their own,
//! live, fetched, twice, or late.

use super::connected_hub::{connected_hub, id, incoming, up_to, ConnectedHub};
use super::deaths::killed::kill_everywhere;
use super::*;

fn finish_incoming(channel: &str, provenance: Provenance) -> IncomingEvent<'_> {
    let event = NewEvent { event_type: b"sse.finish", data: b"" };
    IncomingEvent { event, ..incoming(channel, provenance, "", 0) }
}

impl ConnectedHub {
    fn finish(&self, channel: &str, provenance: Provenance) -> Ingested {
        let ingested = self.hub.ingest(self.token, &[finish_incoming(channel, provenance)], at(0));
        self.hub.check_settled();
        ingested.unwrap()
    }

    fn finish_live(&self, channel: &str, ms: u64) -> Ingested {
        self.finish(channel, Provenance::Live(id(ms).into()))
    }

    fn is_finished(&self, channel: &str) -> bool {
        self.hub.run_state_of(channel.as_bytes()).is_finished
    }

    /// What a client with this id receives, with "end" if its stream ends there.
    fn run_after(&self, member: Membership, from: &str) -> String {
        let resume = Resume::From(from.into());
        let begun = self.hub.begin(&[member], &resume, Runs::Separate, at(0)).unwrap();
        let batch = self.hub.slice_of(&mut begun.cursor.unwrap(), 64, usize::MAX, at(0)).unwrap();
        let mut sent: Vec<String> = batch.events.iter().map(|found| text(&found.event)).collect();
        sent.extend(batch.finished.then(|| "end".to_owned()));
        sent.join(" ")
    }
}

#[test]
fn a_finish_is_applied_in_the_order_of_its_id() {
    let setup = connected_hub();
    let a = setup.subscribe("a", &[], Loss::Nothing);
    setup.live("a", 100);
    let finished = setup.finish_live("a", 200);
    assert_eq!((finished.dealt, finished.appended, finished.listeners.len()), (1, 0, 1));
    assert!(setup.is_finished("a") && setup.texts("a") == "100");
    assert_eq!(setup.run_after(a, "100-0"), "end");
    // The channel was read up to the finish, and the hub knows its id.
    assert_eq!(setup.hub.newest_entry(b"a").unwrap(), Some(id(200).into()));
    let has = |ms| setup.hub.has_event(a, id(ms).into()).unwrap();
    assert_eq!([100, 150, 200, 250].map(has), [true, false, true, false]);
    assert_eq!(setup.hub.high_watermark(), Ok(id(200)));
    // The next run.
    setup.live("a", 300);
    assert!(!setup.is_finished("a"));
    assert_eq!(setup.run_after(a, "50-0"), "100 end");
    assert_eq!(setup.run_after(a, "100-0"), "300");
}

#[test]
fn a_finish_that_arrives_again_does_not_end_a_later_run() {
    let setup = connected_hub();
    let a = setup.subscribe("a", &[], Loss::Nothing);
    setup.live("a", 100);
    setup.finish_live("a", 200);
    let again = |setup: &ConnectedHub| {
        let head = setup.hub.head();
        for provenance in [Provenance::Live, Provenance::Missed, Provenance::Earlier] {
            setup.finish("a", provenance(id(200).into()));
        }
        assert_eq!(setup.hub.head(), head);
    };
    again(&setup);
    assert!(setup.is_finished("a"));
    // Of plain messages, whose ids say nothing.
    setup.plain("a", "plain");
    again(&setup);
    assert!(!setup.is_finished("a"));
    setup.live("a", 300);
    again(&setup);
    assert_eq!(setup.run_after(a, "100-0"), "plain 300");
    // After another channel has raised the high watermark.
    let b = setup.subscribe("b", &[], Loss::Nothing);
    setup.live("b", 900);
    setup.finish_live("b", 1_000);
    again(&setup);
    assert_eq!(setup.run_after(b, "800-0"), "900 end");
}

#[test]
fn a_finish_that_comes_late_ends_the_run_before_it() {
    let setup = connected_hub();
    let a = setup.subscribe("a", &[], Loss::Nothing);
    for ms in [100, 200, 400] {
        setup.live("a", ms);
    }
    setup.finish("a", Provenance::Missed(id(300).into()));
    assert!(!setup.is_finished("a"));
    assert_eq!(setup.run_after(a, "100-0"), "200 end");
    assert_eq!(setup.run_after(a, "200-0"), "400");
}

#[test]
fn finishes_are_fetched_with_the_history() {
    let setup = connected_hub();
    let member = setup.subscribe_only("a");
    let a = setup.listen("a");
    let known = setup.hub.sync_state(member).unwrap();
    for ms in [100, 200] {
        setup.ingest("a", Provenance::Earlier(id(ms).into()), &ms.to_string());
        setup.finish("a", Provenance::Earlier(id(ms + 50).into()));
    }
    setup.hub.caught_up(setup.token, member, known, Loss::Nothing).unwrap();
    assert!(setup.is_finished("a"));
    assert_eq!(setup.run_after(a, "50-0"), "100 end");
    assert_eq!(setup.run_after(a, "100-0"), "200 end");
    // A channel of which Redis has only the finish.
    setup.finish("new", Provenance::Earlier(id(30).into()));
    assert!(setup.is_finished("new"));
    assert_eq!(setup.hub.newest_entry(b"new").unwrap(), Some(id(30).into()));
    // What a pattern brings ends nothing: its streams pass over finishes.
    setup.finish("stray", Provenance::Strayed(Some(id(500).into())));
    assert!(!setup.hub.knows(b"stray"));
}

#[test]
fn a_process_may_die_while_it_ingests_a_finish() {
    let setup = connected_hub();
    setup.subscribe("a", &[], Loss::Nothing);
    setup.ingest("a", Provenance::Live(id(100).into()), "0.");
    let arrivals = [
        incoming("a", Provenance::Live(id(200).into()), "1.", 0),
        finish_incoming("a", Provenance::Live(id(300).into())),
        incoming("a", Provenance::Live(id(400).into()), "2.", 0),
        finish_incoming("a", Provenance::Live(id(500).into())),
        finish_incoming("new", Provenance::Live(id(600).into())),
    ];
    let ingest = |hub: &Hub| {
        hub.ingest(setup.token, &arrivals, at(0)).unwrap();
    };
    let deaths = kill_everywhere(&setup.hub, ingest, |before, found, after| {
        assert!(before.head <= found.head && found.head <= after.head);
        assert!(after.channels[0].starts_with(&found.channels[0]));
        if found.head == after.head - 1 {
            assert!(setup.is_finished("a") && !setup.is_finished("new"));
        }
    });
    assert!(deaths > 60, "{deaths}");
}

#[test]
fn a_loss_above_a_finish_can_have_been_another_run() {
    let known = |is_finished, is_known| (is_finished, is_known);
    let state = |setup: &ConnectedHub, channel: &str| {
        let RunState { is_finished, is_known, .. } = setup.hub.run_state_of(channel.as_bytes());
        (is_finished, is_known)
    };
    for (missing, is_finished) in [
        (Loss::Nothing, true),
        (up_to(150), true),
        (up_to(200), true),
        (up_to(201), false),
        (Loss::Everything, false),
    ] {
        let setup = connected_hub();
        setup.subscribe("a", &[], Loss::Nothing);
        setup.live("a", 100);
        setup.finish_live("a", 200);
        let member = setup.subscribe_only("a");
        let sync_state = setup.hub.sync_state(member).unwrap();
        setup.hub.record_loss(setup.token, member, missing).unwrap();
        setup.hub.caught_up(setup.token, member, sync_state, missing).unwrap();
        assert_eq!(state(&setup, "a"), known(is_finished, true), "{missing:?}");
        // A finish that follows is known to follow.
        setup.finish_live("a", 500);
        assert_eq!(state(&setup, "a"), known(true, true), "{missing:?}");
        setup.hub.caught_up(setup.token, member, sync_state, missing).unwrap();
        assert_eq!(state(&setup, "a"), known(true, true), "{missing:?}");
        setup.hub.check_settled();
    }
}

#[test]
fn an_entry_of_which_the_hub_has_nothing_is_of_a_run_in_progress() {
    let setup = connected_hub();
    let member = setup.subscribe_only("a");
    let (hub, token) = (&setup.hub, setup.token);
    let state = || hub.run_state(member);
    // What may have been lost of a channel that may never have had anything.
    hub.record_loss(token, member, up_to(50)).unwrap();
    hub.caught_up(token, member, SyncState::Nothing, up_to(50)).unwrap();
    assert_eq!(state(), RunState::default());
    hub.note_entry(token, member, id(60).into()).unwrap();
    assert_eq!(state(), RunState { is_known: true, ..RunState::default() });
    setup.finish_live("a", 200);
    for (entry, is_finished) in [(100, true), (200, true), (300, false)] {
        hub.note_entry(token, member, id(entry).into()).unwrap();
        assert_eq!(state().is_finished, is_finished, "{entry}");
    }
    hub.check_settled();
}

#[test]
fn where_a_run_begins_is_known_by_its_numbers_by_a_finish_or_by_being_first() {
    use crate::hub::invariants::inspection::FoundStart;
    let place = |event: IncomingEvent<'static>, run_place| IncomingEvent { run_place, ..event };
    let earlier = |ms| incoming("a", Provenance::Earlier(id(ms).into()), "x", 0);
    let live = |ms| incoming("a", Provenance::Live(id(ms).into()), "x", 0);
    let ingest = |setup: &ConnectedHub, events: &[IncomingEvent<'_>]| {
        setup.hub.ingest(setup.token, events, at(0)).unwrap();
        setup.hub.check();
        setup.hub.run_start_of(b"a").unwrap()
    };
    use RunPlace::{First, Later, Unknown};
    // What a channel that was just joined has lost, its entries, and the event at which its run
    // begins.
    for (is_lost, places, begins) in [
        (false, [Unknown, Unknown], Some(0)),
        (false, [First, Later], Some(0)),
        (false, [Later, Later], None),
        (false, [Later, First], Some(1)),
        (true, [Unknown, Unknown], None),
        (true, [First, Later], Some(0)),
        (true, [Unknown, First], Some(1)),
    ] {
        let setup = connected_hub();
        let member = setup.subscribe_only("a");
        if is_lost {
            setup.hub.record_loss(setup.token, member, up_to(50)).unwrap();
            setup.hub.note_entry(setup.token, member, id(50).into()).unwrap();
        }
        let entries = [place(earlier(100), places[0]), place(earlier(200), places[1])];
        let start = ingest(&setup, &entries);
        let positions = setup.hub.retained(b"a");
        let expected =
            begins.map_or(FoundStart::Cut, |first: usize| FoundStart::At(positions[first]));
        assert_eq!(start, expected, "{is_lost} {places:?}");
        // Messages have no number: they continue the run until a finish.
        assert_eq!(ingest(&setup, &[live(300)]), expected, "{is_lost} {places:?}");
        setup.finish_live("a", 400);
        let next = ingest(&setup, &[live(500)]);
        assert_eq!(next, FoundStart::At(setup.hub.head()), "{is_lost} {places:?}");
    }
    // A finish that comes late shows where the run that is in progress begins.
    let setup = connected_hub();
    setup.subscribe_only("a");
    ingest(&setup, &[live(100), live(300)]);
    let (hub, first) = (&setup.hub, setup.hub.retained(b"a")[1]);
    let late = IncomingEvent {
        event: NewEvent { event_type: crate::sse::finish::EVENT_TYPE, data: b"" },
        ..earlier(200)
    };
    assert_eq!(ingest(&setup, &[late]), FoundStart::At(first));
    // An event that was skipped can have been the first.
    setup.finish_live("a", 400);
    hub.skip_event(setup.token, b"a").unwrap();
    assert_eq!(ingest(&setup, &[live(500)]), FoundStart::Cut);
    hub.check_settled();
}
