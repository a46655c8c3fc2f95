//! The life of a slot: its process dies, others notice it and take the slot.

use super::*;
use crate::hub::layout::{header, slot};
use crate::hub::memory::lock::{RobustLock, WORDS};
use crate::hub::Counter;
use loom::thread;

/// Releases the slot as the kernel does when its process dies.
fn die(hub: &Hub, number: usize) {
    let at = hub.layout.slot(number, slot::LIFE);
    RobustLock::at(hub.region.words(at, WORDS)).die_with();
}

/// While a process dies, another one looks for dead processes, and a third one wants a slot: the
/// slot is cleared once, its streams are counted as ended once, the death is reported once, and at
/// most one process gets the slot.
pub fn a_death_is_noticed_once() {
    explore(|seen| {
        let hub = hub();
        let dead = hub.claim_slot().unwrap();
        hub.report(dead, 3, 0);
        assert!(!hub.reap_dead());
        let (reaper, heir) = (other_process(&hub), other_process(&hub));
        let reaping = thread::spawn(move || reaper.reap_dead());
        let claiming = thread::spawn(move || heir.claim_slot());
        die(&hub, dead.slot);
        let (reaped, claim) = (reaping.join().unwrap(), claiming.join().unwrap());
        seen.record(claim.is_some());
        let reaped_later = hub.reap_dead();
        assert!(reaped != reaped_later, "reported once: {reaped} {reaped_later}");
        let stats = hub.stats();
        assert_eq!((stats.subscribers, stats.counter(Counter::EndedExit)), (0, 3));
        assert_eq!(hub.region.get(header::DEATHS), 1);
        let generation = hub.region.get(hub.layout.slot(dead.slot, slot::GENERATION));
        assert!(generation > dead.generation);
        if let Some(claim) = claim {
            assert_eq!((claim.slot, claim.generation), (dead.slot, generation));
            assert!(hub.claim_slot().is_none(), "it is taken");
        } else {
            assert!(hub.claim_slot().is_some(), "it is free");
        }
    });
}

/// Two processes want the slot that a third one releases: one of them gets it.
pub fn a_released_slot_has_one_new_process() {
    explore(|seen| {
        let hub = hub();
        let old = hub.claim_slot().unwrap();
        let others = [other_process(&hub), other_process(&hub)];
        let claiming = others.map(|process| thread::spawn(move || process.claim_slot()));
        hub.release_slot(old);
        let claims = claiming.map(|thread| thread.join().unwrap());
        let taken: Vec<_> = claims.iter().flatten().collect();
        seen.record(taken.len() == 1);
        assert!(taken.len() <= 1);
        for claim in taken {
            assert!(claim.generation > old.generation);
        }
        assert_eq!(hub.stats().counter(Counter::EndedExit), 0);
    });
}
