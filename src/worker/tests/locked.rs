//! What a worker does while another process holds the hub's lock, and after one has died.

use super::*;

/// Opens a stream of this channel, and closes it while the lock is not available.
fn open_and_close(bench: &mut Bench, channel: &str) {
    let (key, _) = bench.open(settings(), &[channel], "");
    let hub = bench.hub.clone();
    hub.while_locked(|| bench.worker.close(key, End::Client));
    assert_eq!(bench.worker.upkeep.pending_leaves(), 1);
}

#[test]
fn a_channel_that_could_not_be_left_is_left_later() {
    let mut bench = bench(1 << 20, HISTORY);
    open_and_close(&mut bench, "a");
    assert_eq!(bench.hub.channel(b"a").unwrap().unwrap().subscribers, 0);
    assert!(!bench.hub.is_idle(b"a"));
    assert_eq!(bench.worker.tick_interval(), timer_wheel::STEP);
    bench.pass_time(200);
    assert!(bench.worker.upkeep.pending_leaves() == 0 && bench.hub.is_idle(b"a"));
}

#[test]
fn a_channel_that_is_joined_again_before_it_could_be_left_stays() {
    let mut bench = bench(1 << 20, HISTORY);
    open_and_close(&mut bench, "a");
    let (_, wire) = bench.open(settings(), &["a"], "");
    bench.pass_time(200);
    assert!(bench.worker.upkeep.pending_leaves() == 0);
    assert_eq!(bench.hub.channel(b"a").unwrap().unwrap().subscribers, 1);
    bench.publish("a", "received");
    bench.settle();
    assert_eq!(received(&wire).last().unwrap(), "received");
}

#[test]
fn closing_many_streams_while_the_lock_is_held_waits_for_it_once() {
    let mut bench = bench(1 << 20, HISTORY);
    let keys: Vec<_> =
        (0..1_000).map(|i| bench.open(settings(), &[&format!("c{}", i % 100)], "").0).collect();
    let hub = bench.hub.clone();
    hub.while_locked(|| {
        let start = std::time::Instant::now();
        assert!(bench.hub.channel(b"c1").is_err());
        let once = start.elapsed();
        let start = std::time::Instant::now();
        keys.into_iter().for_each(|key| bench.worker.close(key, End::Client));
        (0..10).for_each(|_| bench.pass_time(100));
        let all = start.elapsed();
        assert_eq!(bench.worker.upkeep.pending_leaves(), 100);
        // Otherwise, each of a hundred channels would have waited, and again at each check.
        assert!(all < once * 20, "{all:?} for all against {once:?} for one attempt");
    });
    bench.pass_time(200);
    assert!(bench.worker.upkeep.pending_leaves() == 0);
}

#[test]
fn presence_events_that_cannot_be_published_are_published_later() {
    let mut bench = bench(1 << 20, HISTORY);
    bench.worker.presence = Presence::enabled();
    let (_, watcher) = bench.open(settings(), &["sse.presence"], "");
    bench.open(settings(), &["a"], "");
    let hub = bench.hub.clone();
    hub.while_locked(|| bench.pass_time(300));
    bench.pass_time(300);
    let events = received(&watcher);
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[1].contains(r#""came":1,"channel":"a","subscribers":1,"went":0"#), "{events:?}");
}

#[test]
fn presence_waits_while_the_zone_is_being_cleared() {
    let mut bench = bench(4 << 20, HISTORY);
    bench.worker.presence = Presence::enabled();
    let (_, watcher) = bench.open(settings(), &["sse.presence"], "");
    bench.open(settings(), &["a"], "");
    let (hub, now) = (bench.hub.clone(), bench.now);
    let (other, gone) = (hub.claim_slot().unwrap(), hub.claim_slot().unwrap());
    let mut joined = Vec::new();
    while let Ok(member) = hub.join(other, format!("channel {}", joined.len()).as_bytes(), now) {
        joined.push(member);
    }
    // Clearing the subscriptions of this process takes longer than a publish waits.
    hub.release_slot(gone);
    bench.worker.presence.make_due();
    bench.worker.turn(now);
    assert_eq!(received(&watcher), ["sse.open"]);
    joined.iter().take(10).for_each(|member| hub.leave(*member).unwrap());
    bench.pass_time(1_000);
    let events = received(&watcher);
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[1].contains(r#""came":1,"channel":"a""#), "{events:?}");
}

#[test]
fn after_a_death_presence_events_cover_every_channel_soon() {
    let mut bench = bench(1 << 21, HISTORY);
    bench.worker.presence = Presence::enabled();
    let (_, watcher) = bench.open(settings(), &["sse.presence"], "");
    std::thread::scope(|scope| {
        let hub = &bench.hub;
        let process = scope.spawn(|| {
            let slot = hub.claim_slot().unwrap();
            for i in 0..180 {
                let member = hub.join(slot, format!("c{i}").as_bytes(), START).unwrap();
                hub.set_streams(slot, member, 2);
            }
        });
        process.join().unwrap();
    });
    // The periodic sweep is somewhere in the table.
    let buckets = bench.hub.buckets();
    let mut swept = 0;
    while swept < buckets / 2 {
        swept += bench.hub.sweep(START).unwrap().buckets;
    }
    bench.pass_time(1_500);
    let events = received(&watcher);
    let lost = events.iter().filter(|news| news.contains(r#""subscribers":0,"went":2"#)).count();
    assert_eq!(lost, 180);
}
