//! Slots, wake-ups, and the lock, when their owners die or stop. A thread that ends stands for a
//! process that was killed: the kernel releases its robust mutexes in the same way.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::hub::memory::layout::{header, slot};
use crate::hub::memory::region::Died;

/// Runs a function in a process of its own, which then dies.
fn in_one_that_dies<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join().unwrap())
}

#[test]
fn slots_of_dead_processes_are_found_and_reused() {
    let hub = roomy();
    let living = hub.claim_slot().unwrap();
    assert!(!hub.reap_dead());
    let (dead, member) = in_one_that_dies(|| {
        let claim = hub.claim_slot().unwrap();
        let member = hub.join(claim, b"a", at(0)).unwrap();
        hub.set_streams(claim, member, 7);
        hub.report(claim, 7, 0);
        (claim, member)
    });
    assert_eq!((hub.subscribers(member).unwrap(), hub.stats().subscribers), (7, 7));
    assert!(hub.reap_dead());
    assert!(!hub.reap_dead());
    assert_eq!((hub.subscribers(member).unwrap(), hub.stats().subscribers), (0, 0));
    let again = hub.claim_slot().unwrap();
    assert_eq!(again.slot, dead.slot);
    assert!(again.generation > dead.generation);
    assert_ne!(living.slot, again.slot);
    let done = hub.publish(b"a", &[event(b"1")], None, at(0)).unwrap();
    assert_eq!((done.subscribers, done.listeners), (0, vec![]));
    hub.check_settled();
}

#[test]
fn a_slot_of_a_dead_process_can_be_claimed_before_it_is_reaped() {
    let hub = roomy();
    let (dead, member) = in_one_that_dies(|| {
        let claim = hub.claim_slot().unwrap();
        assert!(hub.needs_wakeup(claim.slot, at(0)));
        (claim, hub.join(claim, b"a", at(0)).unwrap())
    });
    let again = hub.claim_slot().unwrap();
    assert_eq!(again.slot, dead.slot);
    assert_eq!(hub.subscribers(member).unwrap(), 0);
    // A wake-up of the dead process does not keep the new one from being woken.
    assert!(hub.needs_wakeup(again.slot, at(1)));
}

#[test]
fn every_slot_can_be_claimed_once() {
    let hub = roomy();
    let claims: Vec<SlotClaim> = std::iter::from_fn(|| hub.claim_slot()).collect();
    assert_eq!(claims.len(), hub.slots());
    hub.release_slot(claims[3]);
    assert_eq!(hub.claim_slot().unwrap().slot, claims[3].slot);
    assert_eq!(hub.claim_slot(), None);
}

#[test]
fn a_process_that_lost_its_slot_changes_nothing() {
    let hub = small(1);
    let (claim, other) = (hub.claim_slot().unwrap(), hub.claim_slot().unwrap());
    let member = hub.join(claim, b"a", at(0)).unwrap();
    hub.release_slot(claim);
    hub.leave(member).unwrap();
    assert!(!hub.is_idle(b"a"));
    while !hub.sweep(at(0)).unwrap().round {}
    assert!(hub.is_idle(b"a"));
    hub.leave(member).unwrap();
    hub.check_settled();
    let theirs = hub.join(other, b"a", at(0)).unwrap();
    hub.set_streams(other, theirs, 3);
    hub.leave(member).unwrap();
    hub.set_streams(claim, member, 9);
    assert_eq!(hub.subscribers(theirs).unwrap(), 3);
    hub.leave(theirs).unwrap();
    hub.leave(theirs).unwrap();
    hub.check_settled();
}

#[test]
fn a_generation_that_wraps_around_does_not_look_like_an_empty_pair() {
    let hub = small(1);
    let claim = hub.claim_slot().unwrap();
    hub.release_slot(claim);
    hub.region.set(hub.layout.slot(claim.slot, slot::GENERATION), (1 << 22) - 1);
    let again = hub.claim_slot().unwrap();
    assert_eq!((again.slot, again.generation), (0, 1 << 22));
    let member = hub.join(again, b"a", at(0)).unwrap();
    hub.set_streams(again, member, 0);
    hub.check_settled();
    hub.leave(member).unwrap();
    hub.check_settled();
}

#[test]
fn a_process_may_die_before_any_store_of_claiming_reaping_or_releasing_a_slot() {
    type Work = fn(&Hub);
    let take: Work = |hub| assert!(hub.claim_slot().is_some());
    let leave: Work = |hub| {
        let claim = hub.claim_slot().unwrap();
        hub.release_slot(claim);
    };
    let bury: Work = |hub| assert!(hub.reap_dead());
    for work in [take, leave, bury] {
        for stores in 0.. {
            let hub = roomy();
            let member = in_one_that_dies(|| {
                let claim = hub.claim_slot().unwrap();
                hub.join(claim, b"a", at(0)).unwrap()
            });
            let died = in_one_that_dies(|| {
                hub.region.die_before(stores);
                let end = catch_unwind(AssertUnwindSafe(|| work(&hub)));
                end.is_err_and(|why| why.is::<Died>())
            });
            hub.region.defuse();
            while hub.reap_dead() {}
            assert_eq!(hub.subscribers(member).unwrap(), 0);
            assert_eq!(std::iter::from_fn(|| hub.claim_slot()).count(), hub.slots());
            hub.check_settled();
            if !died {
                break;
            }
        }
    }
}

#[test]
fn the_lock_of_a_dead_process_is_taken_over() {
    let hub = roomy();
    in_one_that_dies(|| std::mem::forget(hub.lock().unwrap()));
    put(&hub, "a", "1", at(0));
    assert_eq!(hub.stats().counter(Counter::Repairs), 1);
    hub.check_settled();
}

#[test]
fn the_next_owner_of_the_lock_completes_the_transaction_of_a_dead_process() {
    let mut half_way = 0;
    for stores in 0.. {
        let hub = roomy();
        put(&hub, "a", "1", at(0));
        let died = in_one_that_dies(|| {
            hub.region.die_before(stores);
            let end = catch_unwind(AssertUnwindSafe(|| {
                // Not released, as if the process had been killed.
                let guard = std::mem::ManuallyDrop::new(hub.lock().unwrap());
                let record = guard.find(b"a").unwrap();
                guard.evict(record, &mut Budget::for_hold());
            }));
            end.is_err_and(|why| why.is::<Died>())
        });
        hub.region.defuse();
        let committed = hub.region.get(header::REDO_LEN) != 0;
        half_way += usize::from(committed);
        hub.check_settled();
        assert_eq!(hub.stats().counter(Counter::Repairs), 1);
        assert!(hub.retained(b"a").is_empty() || !committed && died);
        if !died {
            break;
        }
    }
    assert!(half_way > 5, "{half_way}");
}

#[test]
fn each_process_that_checks_notices_a_death() {
    type Work = fn(&Hub, SlotClaim);
    let ask_for_others: Work = |hub, living| assert!(!hub.has_others(&[living]));
    let take: Work = |hub, _| assert!(hub.claim_slot().is_some());
    let bury: Work = |hub, _| assert!(hub.reap_dead());
    for (work, wakes) in [(ask_for_others, true), (take, true), (bury, false)] {
        let hub = roomy();
        let living = hub.claim_slot().unwrap();
        let member = in_one_that_dies(|| {
            let claim = hub.claim_slot().unwrap();
            let member = hub.join(claim, b"a", at(0)).unwrap();
            hub.set_streams(claim, member, 7);
            hub.report(claim, 7, 0);
            member
        });
        assert_eq!((hub.subscribers(member).unwrap(), hub.stats().subscribers), (7, 7));
        work(&hub, living);
        assert_eq!((hub.subscribers(member).unwrap(), hub.stats().subscribers), (0, 0));
        assert_eq!(hub.stats().counter(Counter::EndedExit), 7);
        // One process still has to wake the others, once.
        assert_eq!((hub.reap_dead(), hub.reap_dead()), (wakes, false));
    }
}

fn publish(hub: &Hub) -> Result<Published, PublishError> {
    hub.publish(b"a", &[event(b"1")], None, at(0))
}

#[test]
fn a_process_waits_once_for_a_lock_that_is_not_released() {
    let hub = roomy();
    let refused = Err(PublishError::Busy(Locked::Held));
    hub.while_locked(|| {
        assert!(!hub.is_stuck());
        let start = Instant::now();
        assert_eq!(publish(&hub), refused);
        let once = start.elapsed();
        assert!(once >= Duration::from_millis(100));
        assert!(hub.is_stuck());
        let start = Instant::now();
        for _ in 0..1_000 {
            assert_eq!(publish(&hub), refused);
        }
        let thousand = start.elapsed();
        assert!(thousand < once * 100, "{thousand:?} against {once:?} for one");
        // Another process does not know of it, and waits once.
        assert!(!Hub::attach(hub.region.clone()).unwrap().is_stuck());
    });
    assert!(!hub.is_stuck());
    publish(&hub).unwrap();
    // The next hold is waited for like any other.
    hub.while_locked(|| {
        assert!(!hub.is_stuck());
        let start = Instant::now();
        assert_eq!(publish(&hub), refused);
        assert!(start.elapsed() >= Duration::from_millis(100));
    });
    assert_eq!(hub.head(), 1);
}

#[test]
fn a_lock_that_is_free_again_is_not_stuck_whatever_its_holder_left() {
    let hub = roomy();
    let mutex = crate::hub::RobustLock::at(hub.region.words(header::LOCK, crate::hub::LOCK_WORDS));
    let (held, release) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    thread::scope(|scope| {
        // It does not get as far as storing that it holds the lock.
        scope.spawn(|| {
            assert_eq!(mutex.try_lock(|| {}), crate::hub::Attempt::Taken);
            held.wait();
            release.wait();
            mutex.unlock();
        });
        held.wait();
        let start = Instant::now();
        publish(&hub).unwrap_err();
        let once = start.elapsed();
        for _ in 0..1_000 {
            publish(&hub).unwrap_err();
        }
        assert!(hub.is_stuck());
        assert!(start.elapsed() < once * 100);
        release.wait();
    });
    assert!(!hub.is_stuck());
    // A holder that dies while it is waited for.
    thread::scope(|scope| {
        let holder = scope.spawn(|| {
            std::mem::forget(hub.lock().unwrap());
            held.wait();
            release.wait();
        });
        held.wait();
        publish(&hub).unwrap_err();
        assert!(hub.is_stuck());
        release.wait();
        holder.join().unwrap();
    });
    assert!(!hub.is_stuck());
    publish(&hub).unwrap();
}

#[test]
fn a_busy_lock_is_waited_for_however_often_a_stuck_one_was_given_up() {
    let hub = roomy();
    hub.while_locked(|| publish(&hub).unwrap_err());
    let (held, start) = (std::sync::Barrier::new(2), Instant::now());
    thread::scope(|scope| {
        scope.spawn(|| {
            let guard = hub.lock().unwrap();
            held.wait();
            thread::sleep(Duration::from_millis(5));
            drop(guard);
        });
        held.wait();
        patiently(|| publish(&hub));
    });
    assert!(start.elapsed() >= Duration::from_millis(5));
}

#[test]
fn no_wake_up_is_lost() {
    const EVENTS: u64 = 20_000;
    let hub = roomy();
    let claim = hub.claim_slot().unwrap();
    // The counter stands for an eventfd.
    let written = AtomicU64::new(0);
    let start = Instant::now();
    let mono = || Now { mono: 1 + start.elapsed().as_millis() as u64, ..Now::default() };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for i in 0..EVENTS / 2 {
                    put(&hub, "a", "x", mono());
                    if hub.needs_wakeup(claim.slot, mono()) && i % 97 != 0 {
                        written.fetch_add(1, Ordering::SeqCst);
                    }
                    if i % 97 == 0 {
                        // The process was killed before its write: the next one wakes again, after
                        // 50 ms.
                        written.fetch_add(u64::from(i + 97 > EVENTS / 2), Ordering::SeqCst);
                    }
                }
            });
        }
        let mut read = 0;
        while read < EVENTS {
            let waiting = Instant::now();
            while written.swap(0, Ordering::SeqCst) == 0 {
                assert!(waiting.elapsed() < Duration::from_secs(10), "asleep at {read}");
                thread::yield_now();
            }
            hub.clear_wakeup(claim);
            read = hub.head();
        }
    });
}

#[test]
fn streams_of_matching_patterns_are_counted_with_those_of_the_channel() {
    let hub = roomy();
    let (mine, other) = (hub.claim_slot().unwrap(), hub.claim_slot().unwrap());
    let open = |claim, name: &[u8], streams| {
        hub.set_streams(claim, hub.join(claim, name, at(0)).unwrap(), streams);
    };
    open(mine, b"room:1", 2);
    open(other, b"room:1", 3);
    open(mine, &name_of_pattern(b"room:*"), 10);
    open(other, &name_of_pattern(b"*:1"), 20);
    open(other, &name_of_pattern(b"user:*"), 40);
    for (channel, streams) in [("room:1", 35), ("room:2", 10), ("x:1", 20), ("x", 0)] {
        assert_eq!(hub.subscribers_with_patterns(channel.as_bytes()), Ok(streams), "{channel}");
    }
}

#[test]
fn an_event_is_delivered_once_all_processes_with_streams_have_read_it() {
    let hub = roomy();
    let (mine, other) = (hub.claim_slot().unwrap(), hub.claim_slot().unwrap());
    let idle = hub.claim_slot().unwrap();
    let members = [mine, other].map(|claim| hub.join(claim, b"a", at(0)).unwrap());
    assert_eq!(hub.is_delivered(members[0]), Ok(true));
    hub.set_streams(mine, members[0], 1);
    hub.set_streams(other, members[1], 1);
    put(&hub, "a", "x", at(0));
    let end = hub.head();
    for (claim, read, expected) in
        [(mine, end, false), (other, end - 1, false), (other, end, true), (idle, 0, true)]
    {
        hub.report(claim, 1, read);
        assert_eq!(hub.is_delivered(members[0]), Ok(expected), "{read}");
    }
}
