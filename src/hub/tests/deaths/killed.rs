//! Runs an operation that is killed before each of its stores, and looks at the hub afterwards.

use std::panic::{catch_unwind, AssertUnwindSafe};

use super::super::*;
use crate::hub::log::delivery::is_late;
use crate::hub::memory::layout::{header, slot, SLOT};
use crate::hub::memory::lock;
use crate::hub::memory::region::Died;

pub const CHANNELS: [&str; 4] = ["a", "b", "long", "new"];

/// A channel whose name needs two more blocks.
pub fn long_name() -> Vec<u8> {
    vec![b'l'; 255]
}

pub fn name(channel: &str) -> Vec<u8> {
    match channel {
        "long" => long_name(),
        short => short.into(),
    }
}

/// What others see of a hub: the head, and the positions and texts that each channel retains.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub head: u64,
    pub channels: Vec<Vec<(u64, String)>>,
}

pub fn snapshot(hub: &Hub) -> Snapshot {
    let channels = CHANNELS.iter().map(|channel| hub.retained_texts(&name(channel)));
    Snapshot { channels: channels.collect(), head: hub.head() }
}

/// Reads without the lock. All texts end with "." to show torn ones.
pub fn read(hub: &Hub, position: u64) -> Option<String> {
    let mut copied = EventCopy::default();
    let found = hub.descriptor(position).filter(|found| found.signal().is_none())?;
    let whole = hub.copy(found, at(0), &mut copied);
    whole.then(|| text(&copied)).inspect(|text| assert!(text.ends_with('.'), "torn: {text}"))
}

/// Copies all words except those of mutexes, which contain their owners.
pub fn save(hub: &Hub) -> Vec<(usize, u64)> {
    let lives = hub.layout.slot(0, 0)..hub.layout.slot(hub.layout.slots, 0);
    let is_lock = |at: &usize| {
        (header::LOCK..header::LOCK + lock::WORDS).contains(at)
            || lives.contains(at) && (at - lives.start) % SLOT < slot::LIFE + lock::WORDS
    };
    let words = (0..hub.region.size()).filter(|at| !is_lock(at));
    words.map(|at| (at, hub.region.get(at))).collect()
}

pub fn restore(hub: &Hub, saved: &[(usize, u64)]) {
    for &(at, value) in saved {
        hub.region.set(at, value);
    }
}

/// Runs `operation` from the same state again and again, killed before each of its stores, and
/// calls `judge` each time with what was visible before, after, and when it died. Returns how
/// often.
pub fn kill_everywhere(
    hub: &Hub,
    operation: impl Fn(&Hub),
    judge: impl Fn(&Snapshot, &Snapshot, &Snapshot),
) -> usize {
    let saved = save(hub);
    let before = snapshot(hub);
    operation(hub);
    hub.check_settled();
    let after = snapshot(hub);
    for deaths in 0.. {
        restore(hub, &saved);
        hub.region.die_before(deaths as i64);
        let end = catch_unwind(AssertUnwindSafe(|| operation(hub)));
        if hub.region.defuse() {
            end.unwrap();
            return deaths;
        }
        assert!(end.unwrap_err().is::<Died>());
        let other = Hub::attach(hub.region.clone()).unwrap();
        for position in 1..=other.head() {
            read(&other, position);
        }
        other.check();
        let found = snapshot(&other);
        reads_what_is_retained(&other, &found);
        judge(&before, &found, &after);
        // The next process performs the same operation.
        operation(&other);
        other.check_settled();
    }
    unreachable!()
}

/// Checks that reading without the lock returns exactly what the channels retain, except late
/// events.
fn reads_what_is_retained(hub: &Hub, seen: &Snapshot) {
    let named = CHANNELS.map(|channel| hub.lock().unwrap().find(&name(channel)));
    let is_named = |position: &u64| {
        let found = hub.descriptor(*position);
        found.is_some_and(|found| named.contains(&Some(found.channel)))
    };
    let read: Vec<_> = (1..=seen.head)
        .filter(is_named)
        .filter_map(|position| Some((position, read(hub, position)?)))
        .collect();
    let came_late = |position: u64| {
        let block = hub.descriptor(position).unwrap().block;
        is_late(hub.region.get(hub.layout.block(block, layout::event::BORN)))
    };
    let mut retained = seen.channels.concat();
    retained.retain(|(position, _)| !came_late(*position));
    retained.sort();
    assert_eq!(read, retained);
}
