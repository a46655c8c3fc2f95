//! Streams of finished channels in a hub that is connected to Redis.

use super::with_redis::{id, redis_setup, RedisSetup};
use super::*;
use crate::hub::{Loss, Provenance, RedisState, SyncState};

#[test]
fn a_new_client_of_a_finished_channel_that_is_out_of_sync_receives_all_of_the_next_run() {
    let new = || StreamSettings { replay: Replay::All, ..settings() };
    for channels in [&["a"][..], &["a", "b"]] {
        let mut setup = redis_setup();
        for channel in channels {
            setup.catch_up(channel, &[100], Loss::Nothing);
            setup.finish_live(channel, 150);
        }
        setup.bench.hub.set_link(setup.fence, RedisState::Down).unwrap();
        // The next run began before the stream was opened, but not for this nginx.
        let (_, wire) = setup.bench.open(new(), channels, "");
        assert_eq!(received(&wire), ["sse.open"], "nothing of the finished run");
        setup.connect();
        setup.catch_up("a", &[200, 210], Loss::Nothing);
        setup.live("a", 220);
        assert_eq!(received(&wire), ["sse.open", "200", "210", "220"], "{channels:?}");
        assert_eq!(setup.bench.worker.take_ended(), None);
    }
}

#[test]
fn streams_of_a_finished_channel_end_once_it_is_in_sync_whatever_is_read_with_it() {
    for (missing, is_overtaken) in [
        (Loss::Nothing, false),
        (Loss::UpTo(id(150)), false),
        (Loss::UpTo(id(300)), false),
        (Loss::Nothing, true),
    ] {
        let case = format!("{missing:?}, overtaken: {is_overtaken}");
        let mut setup = redis_setup();
        setup.catch_up("a", &[100], Loss::Nothing);
        setup.finish_live("a", 200);
        setup.bench.hub.set_link(setup.fence, RedisState::Down).unwrap();
        // Another run may have begun, so they stay open.
        let (with_id, _) = setup.open(&["a"], "100-0");
        let (new, _) = setup.open(&["a"], "");
        assert_eq!(setup.bench.worker.take_ended(), None, "{case}");
        setup.connect();
        let hub = setup.bench.hub.clone();
        let member = setup.join("a");
        let known = hub.sync_state(member).unwrap();
        hub.record_loss(setup.fence, member, missing).unwrap();
        hub.caught_up(setup.fence, member, known, missing).unwrap();
        if is_overtaken {
            for ms in 1_000..4_000 {
                setup.ingest("b", Provenance::Live(id(ms).into()), "x", setup.bench.now.mono);
            }
        }
        setup.bench.settle();
        let ended: Vec<_> = std::iter::from_fn(|| setup.bench.worker.take_ended()).collect();
        // A loss above the finish can have been another run.
        let is_known = missing != Loss::UpTo(id(300));
        let keys = if is_known { vec![with_id, new] } else { vec![] };
        let all: Vec<_> = keys.into_iter().map(|key| (key, End::Finished)).collect();
        assert_eq!(ended, all, "{case}");
        for (key, end) in ended {
            setup.bench.worker.close(key, end);
        }
        // A finish that follows ends the others.
        setup.live("a", 5_000);
        setup.finish_live("a", 5_001);
        let ended = std::iter::from_fn(|| setup.bench.worker.take_ended()).count();
        assert_eq!(ended, if is_known { 0 } else { 2 }, "{case}");
    }
}

#[test]
fn a_stream_that_was_opened_between_two_runs_is_not_ended_by_the_earlier_one() {
    let mut setup = redis_setup();
    setup.catch_up("a", &[100], Loss::Nothing);
    setup.finish_live("a", 200);
    setup.bench.hub.set_link(setup.fence, RedisState::Down).unwrap();
    let (key, wire) = setup.open(&["a"], "100-0");
    setup.connect();
    setup.catch_up("a", &[300, 310], Loss::Nothing);
    assert_eq!(received(&wire), ["300", "310"]);
    assert_eq!(setup.bench.worker.take_ended(), None);
    setup.finish_live("a", 400);
    assert_eq!(setup.bench.worker.take_ended(), Some((key, End::Finished)));
}

#[test]
fn requests_that_wait_are_woken_but_are_no_subscribers() {
    let one = StreamSettings { max_subscribers: 1, ..settings() };
    let names: [Box<[u8]>; 1] = [b"a"[..].into()];
    let mut setup = redis_setup();
    setup.join("a");
    let outlook = |setup: &RedisSetup, arrival| {
        setup.bench.worker.outlook(&names, &one, ResumeRequest::default(), arrival, setup.bench.now)
    };
    assert_eq!(outlook(&setup, Arrival::Unknown), Outlook::Open);
    let keys = [0; 2].map(|_| setup.bench.worker.inquire(&names, setup.bench.now).unwrap());
    assert_ne!(keys[0], keys[1]);
    assert_eq!(setup.bench.hub.subscribers_of(b"a"), Ok(0));
    let (member, hub) = (setup.join("a"), setup.bench.hub.clone());
    setup.ingest("a", Provenance::Earlier(id(100).into()), "100", 1);
    setup.finish_live("a", 200);
    let woken = hub.caught_up(setup.fence, member, SyncState::Nothing, Loss::Nothing).unwrap();
    assert_eq!(woken, [setup.bench.worker.slot().unwrap()]);
    setup.bench.settle();
    // Redis may have sent something before they came.
    assert!(setup.bench.worker.take_inquiry(setup.bench.now).is_none());
    assert_eq!(outlook(&setup, Arrival::Unknown), Outlook::Open);
    hub.pass_read_barrier(setup.fence, hub.requested_read_barrier() - 1);
    setup.bench.settle();
    let first = setup.bench.worker.take_inquiry(setup.bench.now).unwrap();
    setup.bench.worker.release_inquiry(first);
    assert!(setup.bench.worker.take_inquiry(setup.bench.now).is_none());
    setup.bench.worker.inquire(&names, setup.bench.now).unwrap();
    hub.pass_read_barrier(setup.fence, hub.requested_read_barrier());
    setup.bench.settle();
    // Nothing is to come, and they do not turn each other away.
    while let Some(ready) = setup.bench.worker.take_inquiry(setup.bench.now) {
        assert_eq!(outlook(&setup, ready.arrival), Outlook::Nothing);
        setup.bench.worker.release_inquiry(ready);
    }
    assert!(!setup.bench.worker.has_inquiries());
    // They leave nothing behind.
    assert_eq!(setup.bench.worker.directory.len(), 0);
    // Nor do they turn other processes' streams away.
    setup.live("a", 300);
    setup.bench.hub.set_link(setup.fence, RedisState::Connecting).unwrap();
    setup.bench.worker.inquire(&names, setup.bench.now).unwrap();
    let mut other = new_worker(&setup.bench.hub, Some(1), 2, setup.bench.now);
    let open = |worker: &mut Worker<Client>, now| {
        worker
            .open(
                Client(Rc::default()),
                &Rc::new(one.clone()),
                &names,
                ResumeRequest::default(),
                now,
            )
            .map(drop)
    };
    assert_eq!(open(&mut other, setup.bench.now), Ok(()));
    assert_eq!(open(&mut setup.bench.worker, setup.bench.now), Err(OpenError::TooMany));
    assert_eq!(setup.bench.hub.subscribers_of(b"a"), Ok(1));
}
