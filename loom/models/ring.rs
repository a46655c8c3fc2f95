//! The ring: events are read without the lock while others are appended, entries are overwritten,
//! and blocks are reused.
//!
//! The writer is the first thread. A reader only loads, so whatever it could see in the middle of
//! the writer's work, it can also see afterwards, as values that are outdated; preemptions add
//! little.

use super::*;
use loom::thread;

/// Reads an event in another process, while `write` runs in this one. Returns what was read.
fn read_beside(
    hub: &Hub,
    position: u64,
    write: impl FnOnce(),
) -> (u64, Option<crate::hub::Descriptor>, Option<EventCopy>) {
    let reader = other_process(hub);
    let reading = thread::spawn(move || {
        let head = reader.head();
        let found = (position <= head).then(|| reader.descriptor(position)).flatten();
        let mut copied = EventCopy::default();
        let is_copied = found.is_some_and(|found| reader.copy(found, NOW, &mut copied));
        (head, found, is_copied.then_some(copied))
    });
    write();
    reading.join().unwrap()
}

/// If a process sees the head, it finds the event, whole.
pub fn an_event_up_to_the_head_is_read_whole() {
    explore(|seen| {
        let hub = hub();
        let (head, found, copied) = read_beside(&hub, 1, || publish(&hub, b"a"));
        seen.record(head == 1);
        if head == 1 {
            assert!(found.is_some(), "its entry was not overwritten");
            let copied = copied.expect("it was not evicted");
            assert_eq!((data(&copied), copied.place.position), (1, 1));
        }
    });
}

/// An entry that is being overwritten is not mistaken for another one.
pub fn an_overwritten_entry_names_its_own_event_or_none() {
    explore(|seen| {
        let hub = hub();
        // Of two channels in turn, so that an entry that mixes two positions is noticed.
        (0..RING).for_each(|i| publish(&hub, [b"a", b"b"][i as usize % 2]));
        let before = hub.descriptor(1).unwrap();
        let (_, found, copied) = read_beside(&hub, 1, || publish(&hub, b"b"));
        seen.record(found.is_some());
        if let Some(found) = found {
            assert_eq!(found, before);
            assert_eq!(data(&copied.expect("it was not evicted")), 1);
        }
    });
}

/// Blocks that are reused while an event is copied from them are noticed.
pub fn a_copy_of_an_expired_event_is_whole_or_discarded() {
    explore_within(Some(2), |seen| {
        let hub = hub();
        publish(&hub, b"a");
        let before = hub.descriptor(1).unwrap();
        let (_, found, copied) = read_beside(&hub, 1, || publish_at(&hub, b"a", LATER));
        let after = hub.descriptor(2).unwrap();
        assert_eq!(after.block, before.block, "its block was not reused");
        assert_eq!(found, Some(before));
        seen.record(copied.is_some());
        if let Some(copied) = copied {
            assert_eq!((data(&copied), copied.place.position), (1, 1));
        }
    });
}
