//! Readers without the lock, beside a writer that reuses memory as fast as it can. Under Miri, a
//! few steps cover memory orders that do not occur on test machines.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

const CHANNELS: [&str; 3] = ["a", "b", "c"];

/// The steps of a test that is also bounded by time.
fn steps(of_miri: u64) -> impl Iterator<Item = u64> {
    let end = Instant::now() + Duration::from_millis(400);
    let last = if cfg!(miri) { of_miri } else { u64::MAX };
    (0..last).take_while(move |_| cfg!(miri) || Instant::now() < end)
}

/// Reads the positions that `pick` takes from the head, while events of `size` bytes are published
/// on three channels in turn. Whatever is read is complete, and belongs to the channel that it
/// names.
fn read_beside_a_writer(hub: &Hub, size: usize, of_miri: u64, pick: impl Fn(u64, u64) -> u64) {
    let claim = hub.claim_slot().unwrap();
    let filler = hub.join(claim, b"filler", at(0)).unwrap();
    // Three, so that the event that takes an entry's place in the ring is of another channel.
    let members = CHANNELS.map(|name| hub.join(claim, name.as_bytes(), at(0)).unwrap());
    let before = hub.head();
    let data_of = |position: u64| {
        if position > before {
            format!("{position:08}").repeat(size / 8)
        } else {
            String::new()
        }
    };
    let mut read = 0;
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for position in steps(of_miri).map(|step| before + 1 + step) {
                let (channel, data) = (CHANNELS[position as usize % 3], data_of(position));
                put(hub, channel, &data, at(0));
            }
        });
        let mut copied = EventCopy::default();
        for turn in 0.. {
            if writer.is_finished() {
                break;
            }
            let position = pick(hub.head(), turn);
            let Some(found) = hub.descriptor(position).filter(|_| position > 0) else {
                thread::yield_now();
                continue;
            };
            let owner = if position > before { members[position as usize % 3] } else { filler };
            assert_eq!(found.channel, owner.channel(), "the channel of {position}");
            if hub.copy(found, at(0), &mut copied) {
                assert!(text(&copied) == data_of(position), "torn: {position}");
                read += 1;
            }
        }
    });
    assert!(read > 0 || cfg!(miri));
}

#[test]
fn no_torn_event_is_read_while_memory_is_reused() {
    let hub = hub_of(Plan::minimum_bytes(8, 2_000), 2_000, 1, 0);
    // The oldest event that may exist: it is the next to be evicted.
    let held = hub.layout.blocks as u64 / 12;
    read_beside_a_writer(&hub, 1_600, 40, |head, turn| head.saturating_sub(held - turn % 6));
}

#[test]
fn no_ring_entry_is_mistaken_for_another() {
    let hub = hub_of(1 << 20, 200, 1, 0);
    let ring = hub.layout.ring as u64;
    // Filled, so that events are evicted from the first step on.
    let batch = [event(b""); 64];
    while hub.head() < 2 * ring {
        hub.publish(b"filler", &batch, None, at(0)).unwrap();
    }
    // The oldest event that the ring can name: its entry is the next to be overwritten.
    let edge = |head: u64, turn| head.saturating_sub(ring - 1 - turn % 3);
    read_beside_a_writer(&hub, 8, 60, edge);
}

#[test]
fn deleted_events_are_not_read_and_their_neighbours_are() {
    let hub = hub_of(Plan::minimum_bytes(8, 2_000), 2_000, 4, 0);
    let forgotten = AtomicU64::new(0);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for step in steps(20) {
                let published = hub.publish(b"a", &[event(b"a"); 8], None, at(0)).unwrap();
                assert_eq!(published.ids.len(), 8);
                let last = hub.head();
                put(&hub, "b", "b", at(0));
                hub.forget_channel(b"a", at(0)).unwrap().unwrap();
                forgotten.store(last, Ordering::SeqCst);
                if step % 3 > 0 {
                    while hub.free_detached().unwrap() {}
                }
            }
        });
        let mut copied = EventCopy::default();
        for turn in 0.. {
            if writer.is_finished() {
                break;
            }
            let before = forgotten.load(Ordering::SeqCst);
            let position = hub.head().saturating_sub(turn % 24);
            let Some(found) = hub.descriptor(position).filter(|_| position > 0) else { continue };
            if hub.copy(found, at(0), &mut copied) && text(&copied) == "a" {
                assert!(position > before, "{position} was forgotten");
            }
            thread::yield_now();
        }
    });
    // The newest event of the other channel is retained, whatever waits to be freed.
    let found = hub.descriptor(hub.head()).unwrap();
    assert!(hub.copy(found, at(0), &mut EventCopy::default()));
}

#[test]
fn either_the_process_is_woken_or_it_sees_the_event() {
    let rounds = if cfg!(miri) { 10 } else { 2_000 };
    let hub = roomy();
    let claim = hub.claim_slot().unwrap();
    for round in 0..rounds {
        // The process was woken a moment ago: it is woken again only if it has cleared that.
        while hub.needs_wakeup(claim.slot, at(0)) {}
        let before = hub.head();
        let ready = AtomicU64::new(0);
        let meet = || {
            ready.fetch_add(1, Ordering::SeqCst);
            while ready.load(Ordering::SeqCst) < 2 {
                std::hint::spin_loop();
                thread::yield_now();
            }
        };
        let (rang, seen) = thread::scope(|scope| {
            let publisher = scope.spawn(|| {
                meet();
                put(&hub, "a", "x", at(0));
                hub.needs_wakeup(claim.slot, at(0))
            });
            meet();
            hub.clear_wakeup(claim);
            let seen = hub.head() > before;
            (publisher.join().unwrap(), seen)
        });
        assert!(rang || seen, "asleep in round {round}");
    }
}

#[test]
fn no_torn_resume_point_is_read() {
    let hub = hub_of(256 << 10, 200, 10, 0);
    let mut valid = vec![hub.resume_point().unwrap()];
    let mut read = Vec::new();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut last = Vec::new();
            for step in steps(40) {
                // The milliseconds increase while the number falls to zero, and the reverse.
                let batch = vec![event(b"x"); 1 + step as usize % 5];
                let published = patiently(|| hub.publish(b"a", &batch, None, at(step / 3)));
                last.extend(published.ids.last().copied());
            }
            last
        });
        while !writer.is_finished() {
            read.extend(hub.resume_point());
        }
        valid.extend(writer.join().unwrap());
    });
    read.dedup();
    assert!(read.is_sorted_by_key(|id| id.entry_id()));
    for id in read {
        assert!(valid.binary_search_by_key(&id.entry_id(), |id| id.entry_id()).is_ok(), "{id}");
    }
}
