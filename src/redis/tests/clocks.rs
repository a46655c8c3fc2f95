//! The hub's clock in Redis falls back, or is far ahead.

use super::fake::Fault;
use super::resp::Reply;
use super::*;

const CLOCK: &[u8] = b"sse:{sse}:clock";
const HOUR: u64 = 3_600_000;

fn entry_id(nginx: &Nginx) -> (u64, u64) {
    let mark = nginx.hub.high_watermark().unwrap();
    (mark.ms, mark.seq)
}

#[test]
fn a_clock_that_fell_back_is_raised_above_every_id_that_the_hub_knows() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a"]).await;
        // It is ahead of the time, as the clock of another node may have been.
        redis.state.borrow_mut().store.add(CLOCK, Some((START + HOUR / 2, 0)), &[b"t", b""]);
        let given = redis.publish("a", "1");
        nginx.receives("a", 1).await;
        let id = streams.position();
        {
            let mut state = redis.state.borrow_mut();
            state.store.streams.remove(CLOCK);
            state.store.add(CLOCK, Some((START - HOUR, 0)), &[b"t", b""]);
        }
        redis.disconnect();
        pass(1_000).await;
        nginx.is_up().await;
        assert!(redis.publish("a", "2") > given);
        nginx.receives("a", 2).await;
        assert_eq!(streams.resumed(&id), (0, vec!["2".to_owned()]));

        // It is gone altogether.
        redis.state.borrow_mut().store.streams.remove(CLOCK);
        redis.disconnect();
        pass(1_000).await;
        nginx.is_up().await;
        assert!(redis.publish("a", "3") > given);
        nginx.receives("a", 3).await;
        let expected = ["2", "3"].map(str::to_owned).to_vec();
        assert_eq!(streams.resumed(&id), (0, expected));
    });
}

#[test]
fn a_clock_far_ahead_is_reset_with_a_line_and_one_that_is_a_little_ahead_is_not() {
    run(async {
        let redis = FakeRedis::start().await;
        redis.state.borrow_mut().store.add(CLOCK, Some((START + HOUR / 2, 0)), &[b"t", b""]);
        let first = hub_at(&redis.url(), Source::PubSub).process();
        first.is_up().await;
        assert!(first.lines().is_empty());
        assert_eq!(redis.publish("a", "x").0, START + HOUR / 2);

        redis.state.borrow_mut().store.add(CLOCK, Some((START + 2 * HOUR, 0)), &[b"t", b""]);
        let second = hub_at(&redis.url(), Source::PubSub).process();
        second.is_up().await;
        assert_eq!(second.logged("more than an hour in the future; it was reset"), 1);
        let clock = redis.state.borrow().store.streams[CLOCK].last;
        assert!(clock < (START + HOUR, 0), "{clock:?}");
    });
}

#[test]
fn a_clock_far_ahead_that_cannot_be_reset_is_not_trusted() {
    run(async {
        let (redis, hub) = stage(Source::PubSub).await;
        redis.state.borrow_mut().store.add(CLOCK, Some((START + 2 * HOUR, 0)), &[b"t", b""]);
        redis.fault("EVALSHA", Fault::Reply(Reply::error("NOPERM no permission")), usize::MAX);
        let nginx = hub.process();
        nginx.is_up().await;
        assert_eq!(nginx.logged("could not be reset, so this nginx assigns the ids"), 1);
        nginx.follow(&["a"]).await;
        redis.publish("a", "1");
        assert_eq!(nginx.receives("a", 1).await, ["1"]);
        assert!(entry_id(&nginx) < (START + HOUR, 0));
        assert_eq!(nginx.logged("channel \"a\" has the id"), 1);
        redis.publish("a", "2");
        nginx.receives("a", 2).await;
        assert_eq!(nginx.logged("channel \"a\" has the id"), 1);
    });
}

#[test]
fn a_hub_that_knows_nothing_makes_the_clock_begin() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let clock = redis.state.borrow().store.streams[CLOCK].last;
        assert!(clock.0 >= START && clock.0 < START + 1_000);
        assert!(entry_id(&nginx) >= (START, 0));
    });
}

#[test]
fn the_newest_id_of_quiet_channels_becomes_the_position_within_two_seconds() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a"]).await;
        let id = redis.publish("of nobody here", "x");
        pass(2_000).await;
        assert_eq!(entry_id(&nginx), id);
        // Not while something with a lower id may still be appended.
        redis.fault("XREVRANGE sse:{sse}:s:b", Fault::Hold, 1);
        let _others = nginx.open(&["b"]);
        until("it is read", || redis.count("XREVRANGE sse:{sse}:s:b") > 0).await;
        redis.publish("of nobody here", "y");
        pass(1_500).await;
        assert_eq!(entry_id(&nginx), id);
        assert!(streams.are_in_sync());
        redis.repair();
        until("it is raised", || entry_id(&nginx) > id).await;
    });
}

#[test]
fn the_time_is_that_of_redis_even_if_its_clock_is_set() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        pass(1_000).await;
        assert!(nginx.hub.clock(now()).abs_diff(wall()) < 1_000);
        let ahead = wall() + 600_000;
        let time = Reply::list([(ahead / 1_000).to_string(), "0".to_owned()]);
        redis.fault("TIME", Fault::Reply(time), 1);
        pass(3_000).await;
        assert!(nginx.hub.clock(now()).abs_diff(wall() + 600_000) < 5_000);
        pass(4_000).await;
        assert!(nginx.hub.clock(now()).abs_diff(wall()) < 1_000);
    });
}

#[test]
fn ids_are_plausible_by_the_time_in_redis_if_its_clock_is_set() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        nginx.follow(&["a"]).await;
        let ahead = wall() + 2 * HOUR;
        let time = Reply::list([(ahead / 1_000).to_string(), "0".to_owned()]);
        redis.fault("TIME", Fault::Reply(time), usize::MAX);
        pass(4_000).await;
        redis.state.borrow_mut().store.add(CLOCK, Some((ahead, 0)), &[b"t", b""]);
        let id = redis.publish("a", "1");
        nginx.receives("a", 1).await;
        assert_eq!((id.0, entry_id(&nginx)), (ahead, id));
        assert!(nginx.lines().is_empty(), "{:?}", nginx.lines());
    });
}

#[test]
fn an_id_from_when_this_machines_clock_was_far_ahead_is_not_written_to_the_clock() {
    run(async {
        let (redis, hub) = stage(Source::PubSub).await;
        AHEAD.set(3 * HOUR);
        redis.state.borrow_mut().store.add(CLOCK, Some((START + 2 * HOUR, 0)), &[b"t", b""]);
        let nginx = hub.process();
        nginx.is_up().await;
        nginx.follow(&["a", "b"]).await;
        let given = redis.publish("a", "1");
        nginx.receives("a", 1).await;
        assert_eq!(entry_id(&nginx), given);
        AHEAD.set(0);
        redis.state.borrow_mut().store.streams.remove(CLOCK);
        redis.disconnect();
        pass(1_000).await;
        nginx.is_up().await;
        assert_eq!(nginx.logged("more than an hour in the future"), 0);
        assert!(redis.publish("b", "2") < (START + HOUR, 0));
        assert_eq!(nginx.receives("b", 1).await, ["2"]);
    });
}

#[test]
fn what_a_clock_that_fell_back_has_issued_is_new_although_its_ids_are_low() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a", "b"]).await;
        redis.publish("a", "1");
        redis.state.borrow_mut().store.add(CLOCK, Some((START + HOUR / 2, 0)), &[b"t", b""]);
        redis.publish("b", "2");
        nginx.receives("b", 1).await;
        let id = streams.position();
        redis.stop().await;
        redis.state.borrow_mut().store.streams.remove(CLOCK);
        let given = redis.publish("a", "3");
        assert!(given < (START + HOUR / 2, 0));
        redis.fault("XRANGE sse:{sse}:s:a", Fault::Wait, 1);
        redis.resume().await;
        let read = redis.count("XRANGE sse:{sse}:s:a");
        until("it is read", || redis.count("XRANGE sse:{sse}:s:a") > read).await;
        // The clock has been corrected by now.
        redis.publish("a", "4");
        redis.publish("b", "5");
        redis.repair();
        until("they are in sync", || streams.are_in_sync()).await;
        let (gaps, mut texts) = streams.resumed(&id);
        texts.sort();
        assert_eq!((gaps, texts), (0, ["3", "4", "5"].map(str::to_owned).to_vec()));
    });
}

/// Returns a Redis whose clock was half an hour ahead and then lost, and a process that has
/// connected again, with its streams of `a` and `b`.
async fn after_the_clock_fell_back() -> (FakeRedis, Nginx, Streams) {
    let (redis, nginx) = connected(Source::PubSub).await;
    let streams = nginx.follow(&["a", "b"]).await;
    redis.publish("a", "1");
    redis.state.borrow_mut().store.add(CLOCK, Some((START + HOUR / 2, 0)), &[b"t", b""]);
    redis.publish("b", "2");
    nginx.receives("b", 1).await;
    redis.stop().await;
    redis.state.borrow_mut().store.streams.remove(CLOCK);
    redis.resume().await;
    pass(1_000).await;
    nginx.is_up().await;
    (redis, nginx, streams)
}

#[test]
fn messages_of_a_clock_that_fell_back_are_new_although_they_waited() {
    run(async {
        let (redis, _nginx, streams) = after_the_clock_fell_back().await;
        let id = streams.position();
        redis.publish_unheard("a", "3");
        redis.fault("XRANGE sse:{sse}:s:a", Fault::Hold, 1);
        redis.publish("a", "4");
        redis.publish("b", "5");
        pass(10).await;
        redis.publish("a", "6");
        redis.repair();
        until("they are in sync", || streams.are_in_sync()).await;
        let (gaps, mut texts) = streams.resumed(&id);
        texts.sort();
        assert_eq!((gaps, texts), (0, ["3", "4", "5", "6"].map(str::to_owned).to_vec()));
    });
}

#[test]
fn events_of_a_clock_that_falls_back_again_are_new_to_clients_that_return() {
    run(async {
        let (redis, _nginx, streams) = after_the_clock_fell_back().await;
        let id = streams.position();
        // It is lost once more after it was corrected, and a message waits until its channel, of
        // which nothing is missing, was read.
        redis.state.borrow_mut().store.streams.remove(CLOCK);
        redis.fault("XRANGE sse:{sse}:s:a", Fault::Hold, 1);
        let read = redis.count("XRANGE sse:{sse}:s:a");
        redis.forge("a", super::doubts::FORGED, &format!("{}-0", wall() + 1_000), "forged");
        until("it is read", || redis.count("XRANGE sse:{sse}:s:a") > read).await;
        assert!(redis.publish("a", "3") < (START + HOUR / 2, 0));
        pass(10).await;
        redis.repair();
        until("they are in sync", || streams.are_in_sync()).await;
        assert_eq!(streams.resumed(&id), (0, vec!["3".to_owned()]));
    });
}

#[test]
fn a_user_who_may_not_read_the_clock_receives_events_by_name_and_through_patterns() {
    run(async {
        let (redis, hub) = stage(Source::PubSub).await;
        let error = Reply::error("NOPERM no permission for this key");
        redis.fault("XREVRANGE sse:{sse}:clock", Fault::Reply(error), usize::MAX);
        let nginx = hub.process();
        nginx.is_up().await;
        nginx.follow(&["a"]).await;
        let pattern = nginx.follow_pattern("b*").await;
        let id = pattern.position();
        pass(3_000).await;
        redis.publish("a", "1");
        redis.publish("b1", "2");
        nginx.receives("a", 1).await;
        until("it arrives", || pattern.resumed(&id).1 == ["2"]).await;
        // The connection is still the first one.
        assert_eq!(redis.count("SUBSCRIBE sse:{sse}:ctl"), 1);
    });
}

#[test]
fn applications_streams_have_no_clock() {
    run(async {
        let (redis, nginx) = connected(Source::Streams).await;
        nginx.follow(&["a"]).await;
        redis.append("a", "1");
        nginx.receives("a", 1).await;
        pass(3_000).await;
        assert_eq!(redis.count("XREVRANGE sse:{sse}:clock") + redis.count("XADD"), 0);
    });
}

#[test]
fn a_connection_that_is_restored_relies_on_what_the_last_one_has_received() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a"]).await;
        redis.publish("a", "1");
        nginx.receives("a", 1).await;
        pass(1_500).await;
        let id = streams.position();
        redis.disconnect();
        redis.publish("a", "2");
        assert_eq!(nginx.receives("a", 2).await, ["1", "2"]);
        until("it is in sync", || streams.are_in_sync()).await;
        assert_eq!(streams.resumed(&id), (0, vec!["2".to_owned()]));
        // Only a stream that may have lost entries is described.
        assert_eq!(redis.count("XINFO"), 0);
    });
}
