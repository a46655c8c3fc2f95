//! The hub's lock is held by another process that does not release it, and the threads of
//! processes start and end.

use std::sync::{mpsc, Arc};

use super::nginx::{context_of, publish_command, Sockets};
use super::*;
use crate::hub::{Hub, RedisState};
use crate::redis::context::ThreadEvent;
use crate::redis::publisher::PublisherRequest;
use crate::redis::refusal::Refusal;
use crate::redis::thread::Thread;

/// The hub's lock while another thread holds it.
struct HeldLock {
    release: mpsc::Sender<()>,
    holder: std::thread::JoinHandle<()>,
}

impl HeldLock {
    fn of(hub: &Hub) -> HeldLock {
        let (release, released) = mpsc::channel();
        let (held, is_held) = mpsc::channel();
        let hub = hub.clone();
        let holder = std::thread::spawn(move || {
            hub.hold_lock(|| {
                held.send(()).unwrap();
                let _ = released.recv();
            });
        });
        is_held.recv().unwrap();
        HeldLock { release, holder }
    }

    fn release(self) {
        drop(self.release);
        self.holder.join().unwrap();
    }
}

#[test]
fn while_the_lock_is_held_nothing_is_lost_and_it_is_logged_once() {
    run(async {
        let (redis, nginx) = connected(Source::PubSub).await;
        let streams = nginx.follow(&["a"]).await;
        let id = streams.position();
        let lock = HeldLock::of(&nginx.hub);
        redis.publish("a", "1");
        until("it is logged", || nginx.logged("cannot receive events from Redis") == 1).await;
        redis.plain("of nobody", "x");
        redis.publish("a", "2");
        // No connection could be used before the lock is free.
        pass(500).await;
        let made = redis.state.borrow().made;
        pass(3_000).await;
        assert_eq!(redis.state.borrow().made, made);
        lock.release();
        until("it goes on", || nginx.logged("receiving events from Redis again") == 1).await;
        until("it is in sync", || streams.are_in_sync()).await;
        assert_eq!(streams.resumed(&id), (0, ["1", "2"].map(str::to_owned).to_vec()));
        assert_eq!(nginx.logged("cannot receive events from Redis"), 1);
    });
}

#[test]
fn a_held_lock_does_not_matter_while_nothing_arrives() {
    run(async {
        let (redis, nginx) = connected(Source::Streams).await;
        nginx.follow(&["a"]).await;
        pass(1_500).await;
        let lock = HeldLock::of(&nginx.hub);
        pass(3_000).await;
        assert_eq!((nginx.hub.link(), nginx.logged("")), (RedisState::Up, 0));
        lock.release();
        redis.append("a", "1");
        assert_eq!(nginx.receives("a", 1).await, ["1"]);
    });
}

#[test]
fn a_process_that_is_to_quit_does_not_wait_for_the_lock() {
    run(async {
        let (_redis, hub) = stage(Source::PubSub).await;
        // Before it has a connection, and while it waits to make another one.
        for is_connected in [false, true] {
            let nginx = hub.process();
            if is_connected {
                nginx.is_up().await;
            }
            let lock = HeldLock::of(&nginx.hub);
            pass(3_000).await;
            assert_eq!(nginx.logged("cannot receive events from Redis"), usize::from(is_connected));
            // No other process could do more.
            assert!(nginx.hub.try_lease().is_none());
            nginx.retire();
            until("it retires", || nginx.has_retired()).await;
            lock.release();
        }
    });
}

#[test]
fn a_thread_publishes_retires_and_ends() {
    let redis = std::env::temp_dir().join("nginx-sse-test-nothing-listens");
    let hub = hub_at(&format!("redis+unix://{}", redis.display()), Source::PubSub);
    let (context, outbox) = context_of(&hub);
    let thread = Thread::start(vec![(3, context)], |main| Ok(std::thread::spawn(main))).unwrap();
    let taken = std::cell::RefCell::new(Vec::new());
    let wait_for = |is: &dyn Fn(&ThreadEvent) -> bool| {
        let since = std::time::Instant::now();
        while !taken.borrow().iter().any(is) {
            assert!(since.elapsed() < LONGEST);
            std::thread::sleep(MOMENT);
            taken.borrow_mut().extend(outbox.take());
        }
    };
    let command = publish_command("a", "x", None);
    assert!(thread.publish(3, PublisherRequest { ticket: 9, command }));
    wait_for(&|event| {
        let rejected = matches!(
            event,
            ThreadEvent::Published { ticket: 9, result: Err(Refusal::Unreachable(_)) }
        );
        rejected
    });
    thread.retire(Duration::from_secs(60));
    wait_for(&|event| matches!(event, ThreadEvent::Retired));
    drop(thread);
    // Its threads have ended, and hold nothing of the hub.
    assert!(hub.hub.try_lease().is_some());
}

#[test]
fn a_thread_that_is_dropped_while_it_serves_has_ended() {
    let redis = std::env::temp_dir().join("nginx-sse-test-nothing-listens");
    let hub = hub_at(&format!("redis+unix://{}", redis.display()), Source::PubSub);
    let (context, _outbox) = context_of(&hub);
    let thread = Thread::start(vec![(0, context)], |main| Ok(std::thread::spawn(main))).unwrap();
    let since = std::time::Instant::now();
    while hub.hub.try_lease().is_some() {
        assert!(since.elapsed() < LONGEST);
        std::thread::sleep(MOMENT);
    }
    drop(thread);
    assert!(hub.hub.try_lease().is_some());
}

#[test]
fn a_thread_that_cannot_be_started_is_an_error() {
    let hub = hub_at("redis://127.0.0.1:1", Source::PubSub);
    let fails = |_| Err(std::io::Error::other("no thread"));
    let (context, _outbox) = context_of(&hub);
    assert!(Thread::start(vec![(0, context)], fails).is_err());
    let (context, _outbox) = context_of(&hub);
    let ends = |main: Box<dyn FnOnce() + Send>| {
        drop(main);
        Ok(std::thread::spawn(|| {}))
    };
    assert!(Thread::start(vec![(0, context)], ends).is_err());
}

#[test]
fn without_a_waker_the_thread_looks_every_50_ms() {
    run(async {
        let redis = FakeRedis::start().await;
        let mut hub = hub_at(&redis.url(), Source::PubSub);
        hub.wakers = Box::leak(Box::new(Sockets::exhausted()));
        let nginx = hub.process();
        nginx.is_up().await;
        pass(500).await;
        let since = elapsed();
        nginx.follow(&["a"]).await;
        assert!((1..200).contains(&(elapsed() - since)), "{}", elapsed() - since);
    });
}

#[test]
fn a_waker_makes_the_thread_look_at_once() {
    run(async {
        let (_redis, nginx) = connected(Source::PubSub).await;
        // Nothing else wakes it at these times.
        pass(150).await;
        for _ in 0..5 {
            let since = elapsed();
            let streams = nginx.follow(&["a"]).await;
            assert!(elapsed() - since < 20, "{}", elapsed() - since);
            streams.close();
            pass(15_000).await;
        }
        assert_eq!(Arc::strong_count(&nginx.outbox), 2);
    });
}

#[test]
fn a_zone_without_room_for_another_channel_is_logged_once() {
    run(async {
        let redis = FakeRedis::start().await;
        let history = crate::hub::History { count: 1, age: 0 };
        let shared = nginx::hub_of(&redis.url(), Source::PubSub, 1 << 17, history);
        let hub = &shared.hub;
        let workers: Vec<_> = (0..2).map(|_| hub.claim_slot().unwrap()).collect();
        let mut count = 0;
        let mut join = |worker, name: &str| {
            let member = hub.join(worker, name.as_bytes(), now()).ok()?;
            hub.set_streams(worker, member, 1);
            count += 1;
            Some(member)
        };
        // Each channel has two listeners, and no room for a third.
        let names = (0..).map(|number| format!("c{number}"));
        for name in names {
            if workers.iter().any(|worker| join(*worker, &name).is_none()) {
                break;
            }
        }
        assert!(count > 100);
        let nginx = shared.process();
        nginx.is_up().await;
        until("it is logged", || nginx.logged("the zone has no room for another channel") == 1)
            .await;
        pass(5_000).await;
        assert_eq!(nginx.logged("the zone has no room"), 1);
    });
}
