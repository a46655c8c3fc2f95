//! Streams of channels whose publishers finish their runs.

use super::*;

type ClientWire = Rc<RefCell<Wire>>;

fn all() -> StreamSettings {
    StreamSettings { replay: Replay::All, finished: Finished::Replay, ..settings() }
}

/// What a client has received, without the open event.
fn text_of(wire: &ClientWire) -> String {
    received(wire).into_iter().filter(|heard| heard != "sse.open").collect::<Vec<_>>().join(" ")
}

impl Bench {
    /// Closes the streams that have ended, all because of a finish, and returns them.
    pub fn finished(&mut self) -> Vec<StreamKey> {
        let mut finished = Vec::new();
        while let Some((key, end)) = self.worker.take_ended() {
            assert_eq!(end, End::Finished);
            self.worker.close(key, end);
            finished.push(key);
        }
        finished
    }
}

#[test]
fn live_streams_receive_everything_before_the_finish_and_end() {
    let mut bench = bench(1 << 20, HISTORY);
    let streams: Vec<_> = (0..5).map(|_| bench.open(settings(), &["a"], "")).collect();
    let (other, other_wire) = bench.open(settings(), &["b"], "");
    bench.publish("a", "1");
    bench.finish("a", &["2", "3"]);
    bench.settle();
    assert_eq!(bench.finished(), streams.iter().map(|(key, _)| *key).collect::<Vec<_>>());
    let mut retries = Vec::new();
    for (_, wire) in &streams {
        assert_eq!(text_of(wire), "1 2 3");
        let text = String::from_utf8(wire.borrow().bytes.clone()).unwrap();
        let last = text.strip_suffix("\n:\n").unwrap().rsplit("retry: ").next().unwrap();
        retries.push(last.parse::<u64>().unwrap());
    }
    assert!(retries.iter().all(|retry| (3_000..=4_000).contains(retry)), "{retries:?}");
    retries.dedup();
    assert!(retries.len() > 1, "all are to return at the same moment");
    assert_eq!(bench.hub.stats().counter(Counter::EndedFinished), 5);
    bench.publish("b", "x");
    bench.settle();
    assert_eq!((text_of(&other_wire).as_str(), bench.worker.info(other).is_some()), ("x", true));
}

#[test]
fn a_channel_that_is_in_sync_again_does_not_end_streams_before_a_later_finish() {
    let mut bench = bench(1 << 20, HISTORY);
    let (_, wire) = bench.open(settings(), &["a"], "");
    bench.publish("a", "1");
    bench.settle();
    // Read later than the entry that says that the channel is in sync.
    let in_sync = bench.hub.head();
    bench.finish("a", &["2"]);
    let channel = bench.worker.directory.by_name(b"a").unwrap();
    bench.worker.recheck_run(channel, in_sync);
    assert_eq!(bench.worker.directory.get(channel).unwrap().run_ends.newest(), 0);
    bench.settle();
    assert_eq!((text_of(&wire).as_str(), bench.finished().len()), ("1 2", 1));
    // A finish before it does.
    let finished = bench.hub.head();
    let (_, _) =
        bench.open(StreamSettings { finished: Finished::Ignored, ..settings() }, &["a"], "");
    let channel = bench.worker.directory.by_name(b"a").unwrap();
    bench.worker.recheck_run(channel, finished + 1);
    assert_eq!(bench.worker.directory.get(channel).unwrap().run_ends.newest(), finished + 1);
}

#[test]
fn a_stream_never_receives_two_runs() {
    let mut bench = bench(1 << 20, HISTORY);
    let (key, wire) = bench.open(settings(), &["a"], "");
    let (passing, all) =
        bench.open(StreamSettings { finished: Finished::Ignored, ..settings() }, &["a"], "");
    // It is served after a stream that passes over the ends of runs.
    let (last, last_wire) = bench.open(settings(), &["a"], "");
    // This process reads all of it in one turn.
    bench.finish("a", &["1", "2"]);
    bench.finish("a", &["3"]);
    bench.publish("a", "4");
    bench.settle();
    assert_eq!(bench.finished(), [key, last]);
    assert_eq!((text_of(&wire).as_str(), text_of(&last_wire).as_str()), ("1 2", "1 2"));
    assert_eq!((text_of(&all).as_str(), bench.worker.info(passing).is_some()), ("1 2 3 4", true));
    // It returns, for each of the others.
    let (second, wire) = bench.open(settings(), &["a"], &last_id(&wire));
    assert_eq!((text_of(&wire).as_str(), bench.finished()), ("3", vec![second]));
    let (third, wire) = bench.open(settings(), &["a"], &last_id(&wire));
    bench.finish("a", &[]);
    bench.settle();
    assert_eq!((text_of(&wire).as_str(), bench.finished()), ("4", vec![third]));
}

/// Takes the last event of a run, and then the finish and `others` more runs in one turn.
fn finishes_in_one_turn(bench: &mut Bench, others: usize) -> Vec<(StreamKey, ClientWire)> {
    let streams = vec![bench.open(settings(), &["a"], ""), bench.open(all(), &["a"], "")];
    bench.publish("a", "1");
    bench.settle();
    bench.finish("a", &[]);
    for i in 0..others {
        bench.finish("a", &[&format!("other {i}")]);
    }
    streams
}

fn assert_one_run(bench: &mut Bench, streams: &[(StreamKey, ClientWire)], case: &str) {
    let texts: Vec<String> = streams.iter().map(|(_, wire)| text_of(wire)).collect();
    assert_eq!(texts, ["1", "1"], "{case}");
    let keys: Vec<_> = streams.iter().map(|(key, _)| *key).collect();
    assert_eq!(bench.finished(), keys, "{case}");
}

#[test]
fn a_stream_that_has_taken_a_run_receives_nothing_of_the_next_ones() {
    for others in [1, 2, 9, 100] {
        let mut bench = bench(1 << 20, History { count: 1_000, age: 600_000 });
        let streams = finishes_in_one_turn(&mut bench, others);
        bench.settle();
        assert_one_run(&mut bench, &streams, &format!("{others} other runs"));
        let (_, wire) = bench.open(settings(), &["a"], &last_id(&streams[0].1));
        assert_eq!((text_of(&wire).as_str(), bench.finished().len()), ("other 0", 1));
    }
}

#[test]
fn a_stream_that_has_taken_a_run_receives_nothing_of_the_next_ones_without_its_last_event() {
    for others in [1, 2] {
        // It expires before the run is finished.
        let mut bench = bench(1 << 20, History { count: 10, age: 1_000 });
        let streams: Vec<_> = (0..2).map(|_| bench.open(settings(), &["a"], "")).collect();
        bench.publish("a", "1");
        bench.settle();
        bench.pass_time(5_000);
        assert_eq!(bench.hub.stats().retained_events, 0);
        bench.finish("a", &[]);
        for i in 0..others {
            bench.finish("a", &[&format!("other {i}")]);
        }
        bench.settle();
        assert_one_run(&mut bench, &streams, &format!("{others} other runs"));
    }
}

#[test]
fn a_stream_that_has_taken_a_run_receives_nothing_of_the_next_ones_if_it_was_overtaken() {
    let mut bench = bench(1 << 20, History { count: 10_000, age: 600_000 });
    let streams = finishes_in_one_turn(&mut bench, 2);
    for i in 0..3_000 {
        bench.publish("b", &format!("{i}"));
    }
    bench.settle();
    assert_one_run(&mut bench, &streams, "overtaken");
}

#[test]
fn a_slow_client_has_taken_everything_before_its_stream_ends() {
    let mut bench = bench(1 << 20, HISTORY);
    let (key, wire) = bench.open(settings(), &["a"], "");
    wire.borrow_mut().room = 1;
    let texts = ["1", "2", "3", "4"];
    bench.finish("a", &texts);
    bench.publish("a", "later");
    bench.settle();
    for taken in 1..=4 {
        assert_eq!((text_of(&wire), bench.finished()), (texts[..taken].join(" "), vec![]));
        wire.borrow_mut().room = 1;
        bench.worker.writable(key, bench.now);
        bench.settle();
    }
    // The last retry was taken, too.
    wire.borrow_mut().room = 1;
    bench.worker.writable(key, bench.now);
    bench.settle();
    assert_eq!((text_of(&wire).as_str(), bench.finished()), ("1 2 3 4", vec![key]));
}

#[test]
fn streams_that_were_overtaken_by_the_ring_end_too() {
    let mut bench = bench(1 << 20, History { count: 10_000, age: 600_000 });
    let (key, wire) = bench.open(settings(), &["a"], "");
    bench.publish("a", "1");
    bench.finish("a", &["2"]);
    bench.publish("a", "3");
    for i in 0..3_000 {
        bench.publish("b", &format!("{i}"));
    }
    bench.settle();
    assert_eq!((text_of(&wire).as_str(), bench.finished()), ("1 2", vec![key]));
    // Without any event.
    let (key, wire) = bench.open(settings(), &["c"], "");
    bench.finish("c", &[]);
    for i in 0..3_000 {
        bench.publish("b", &format!("{i}"));
    }
    bench.settle();
    assert_eq!((text_of(&wire).as_str(), bench.finished()), ("", vec![key]));
}

#[test]
fn a_stream_of_several_channels_ends_when_all_are_finished() {
    let mut bench = bench(1 << 20, HISTORY);
    let (key, wire) = bench.open(settings(), &["a", "b"], "");
    bench.finish("a", &["1"]);
    bench.publish("b", "2");
    bench.settle();
    assert_eq!(bench.finished(), []);
    bench.publish("a", "3");
    bench.finish("b", &["4"]);
    bench.settle();
    assert_eq!((text_of(&wire).as_str(), bench.finished()), ("1 2 3 4", vec![]));
    bench.finish("a", &[]);
    bench.settle();
    assert_eq!(bench.finished(), [key]);
    // Finished and begun again before this process reads it.
    let (_, wire) = bench.open(settings(), &["c", "d"], "");
    bench.finish("c", &["5"]);
    bench.finish("d", &["6"]);
    bench.publish("c", "7");
    bench.settle();
    assert_eq!((text_of(&wire).as_str(), bench.finished()), ("5 6 7", vec![]));
    // A slow client.
    let (key, wire) = bench.open(settings(), &["e", "f"], "");
    wire.borrow_mut().room = 1;
    bench.finish("e", &["8"]);
    bench.finish("f", &["9"]);
    bench.settle();
    assert_eq!(bench.finished(), []);
    wire.borrow_mut().room = 9;
    bench.worker.writable(key, bench.now);
    bench.settle();
    assert_eq!((text_of(&wire).as_str(), bench.finished()), ("8 9", vec![key]));
}

#[test]
fn streams_that_return_to_several_finished_channels_receive_the_rest_and_end() {
    let mut bench = bench(1 << 20, HISTORY);
    let first = bench.publish("a", "1");
    bench.finish("a", &["2"]);
    bench.finish("b", &["3"]);
    let (key, wire) = bench.open(settings(), &["a", "b"], &first);
    assert_eq!((text_of(&wire).as_str(), bench.finished()), ("2 3", vec![key]));
    let (key, wire) = bench.open(settings(), &["a", "b"], &last_id(&wire));
    assert_eq!((text_of(&wire).as_str(), bench.finished()), ("", vec![key]));
}

#[test]
fn patterns_pass_over_finishes() {
    let mut bench = bench(1 << 20, HISTORY);
    let name = crate::hub::name_of_pattern(b"a*");
    let pattern = std::str::from_utf8(&name).unwrap().to_owned();
    let (_, wire) = bench.open(settings(), &[&pattern], "");
    bench.finish("a1", &["1"]);
    bench.publish("a2", "2");
    bench.finish("a2", &[]);
    bench.settle();
    assert_eq!((text_of(&wire).as_str(), bench.finished()), ("1 2", vec![]));
}

#[test]
fn a_new_client_of_a_finished_channel_receives_what_the_location_says() {
    let mut bench = bench(1 << 20, HISTORY);
    bench.finish("a", &["old"]);
    bench.finish("a", &["1", "2"]);
    let replay_one = StreamSettings { replay: Replay::Count(1), ..all() };
    let nothing = StreamSettings { finished: Finished::NoContent, ..all() };
    for (settings, expected) in [(all(), "1 2"), (replay_one, "2"), (nothing, "")] {
        let (key, wire) = bench.open(settings, &["a"], "");
        assert_eq!((text_of(&wire).as_str(), bench.finished()), (expected, vec![key]));
    }
    let ignored = StreamSettings { finished: Finished::Ignored, ..all() };
    let (_, wire) = bench.open(ignored, &["a"], "");
    assert_eq!((text_of(&wire).as_str(), bench.finished()), ("old 1 2", vec![]));
}

#[test]
fn a_request_is_answered_with_nothing_if_nothing_is_to_come() {
    let mut bench = bench(1 << 20, HISTORY);
    let first = bench.publish("running", "1");
    let middle = bench.publish("finished", "2");
    let last = bench.finish("finished", &["3"]).pop().unwrap();
    let no_204 = StreamSettings { finished: Finished::Ignored, ..settings() };
    let unknown = StreamSettings { unknown_channel: UnknownChannel::NoContent, ..settings() };
    let both = StreamSettings { finished: Finished::Ignored, ..unknown.clone() };
    for (settings, channels, id, expected) in [
        (settings(), &["finished"][..], "", true),
        (settings(), &["finished"], &*last, true),
        (settings(), &["finished"], &middle, false),
        (settings(), &["finished"], "1-0", false),
        (settings(), &["running"], "", false),
        (settings(), &["running"], &first, false),
        (settings(), &["finished", "running"], "", false),
        (settings(), &["none"], "", false),
        (settings(), &["finished", "none"], "", false),
        (all(), &["finished"], "", false),
        (all(), &["finished"], &last, true),
        (StreamSettings { replay: Replay::Off, ..all() }, &["finished"], "", true),
        (no_204.clone(), &["finished"], "", false),
        (no_204, &["finished"], &last, false),
        (unknown.clone(), &["none"], "", true),
        (unknown.clone(), &["none"], &last, false),
        (unknown.clone(), &["none", "finished"], "", true),
        (unknown.clone(), &["none", "running"], "", false),
        (both.clone(), &["none"], "", true),
        (both, &["finished"], "", false),
    ] {
        let names: Vec<Box<[u8]>> = channels.iter().map(|name| name.as_bytes().into()).collect();
        let outlook = bench.worker.outlook(
            &names,
            &settings,
            ResumeRequest::from_id(id.as_bytes()),
            Arrival::Unknown,
            bench.now,
        );
        let is_nothing = outlook == Outlook::Nothing;
        assert_eq!(is_nothing, expected, "{channels:?} after {id:?}: {settings:?}");
        assert!(is_nothing || outlook == Outlook::Stream);
    }
    // A client that is turned away is to come back.
    let names = [Box::from(&b"finished"[..])];
    bench.worker.drain(1_000, bench.now);
    let outlook = bench.worker.outlook(
        &names,
        &settings(),
        ResumeRequest::default(),
        Arrival::Unknown,
        bench.now,
    );
    assert_eq!(outlook, Outlook::Stream);
}

#[test]
fn the_open_event_of_a_finished_channel_has_an_id_to_return_with() {
    let mut bench = bench(1 << 20, HISTORY);
    bench.finish("a", &["1"]);
    let (key, wire) = bench.open(settings(), &["a"], "");
    assert_eq!((received(&wire), bench.finished()), (vec!["sse.open".to_owned()], vec![key]));
    assert!(last_id(&wire).ends_with("-7"));
    let names = [Box::from(&b"a"[..])];
    let id = last_id(&wire);
    let outlook = bench.worker.outlook(
        &names,
        &settings(),
        ResumeRequest::from_id(id.as_bytes()),
        Arrival::Unknown,
        bench.now,
    );
    assert_eq!(outlook, Outlook::Nothing);
}

/// Returns what a new client of a channel or pattern would be answered with.
fn outlook_of(bench: &Bench, settings: &StreamSettings, name: Box<[u8]>) -> Outlook {
    let request = ResumeRequest::default();
    bench.worker.outlook(&[name], settings, request, Arrival::Unknown, bench.now)
}

#[test]
fn streams_of_patterns_are_always_opened() {
    let bench = bench(1 << 20, HISTORY);
    let settings = StreamSettings { unknown_channel: UnknownChannel::NoContent, ..settings() };
    assert_eq!(outlook_of(&bench, &settings, (*b"none").into()), Outlook::Nothing);
    let pattern = crate::hub::name_of_pattern(b"none*");
    assert_eq!(outlook_of(&bench, &settings, pattern), Outlook::Stream);
}

#[test]
fn a_run_without_its_beginning_is_not_replayed() {
    let mut bench = bench(1 << 20, HISTORY);
    bench.publish("a", "1");
    bench.now.mono += 2 * HISTORY.age;
    bench.now.wall += 2 * HISTORY.age;
    bench.publish("a", "2");
    for finished in [Finished::Ignored, Finished::NoContent, Finished::Replay] {
        let run = StreamSettings { replay: Replay::Run, finished, ..settings() };
        assert_eq!(outlook_of(&bench, &run, (*b"a").into()), Outlook::Incomplete, "{finished:?}");
    }
    let all = StreamSettings { replay: Replay::All, ..settings() };
    assert_eq!(outlook_of(&bench, &all, (*b"a").into()), Outlook::Stream);
}
