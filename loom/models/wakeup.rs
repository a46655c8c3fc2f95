//! The wake-up word of a slot: a process that is not woken has seen the event.

use super::*;
use loom::thread;

/// Either the publisher wakes the process, or the process, which is about to read the log, sees the
/// event.
pub fn a_process_is_woken_or_sees_the_event() {
    explore(|seen| {
        let hub = hub();
        let claim = hub.claim_slot().unwrap();
        // The process was woken a moment ago and has not read the log since.
        assert!(hub.needs_wakeup(claim.slot, NOW));
        let process = other_process(&hub);
        let reading = thread::spawn(move || {
            process.clear_wakeup(claim);
            process.head() == 1
        });
        publish(&hub, b"a");
        let is_woken = hub.needs_wakeup(claim.slot, NOW);
        let is_seen = reading.join().unwrap();
        assert!(is_woken || is_seen);
        seen.record(is_seen);
    });
}

/// The same with a publisher in each of two processes: no event is left that the process has not
/// seen and for which nobody has woken it.
pub fn one_of_two_publishers_wakes_a_process_for_what_it_has_not_seen() {
    explore(|seen| {
        let hub = hub();
        let claim = hub.claim_slot().unwrap();
        assert!(hub.needs_wakeup(claim.slot, NOW));
        let (process, second) = (other_process(&hub), other_process(&hub));
        publish(&hub, b"a");
        let reading = thread::spawn(move || {
            process.clear_wakeup(claim);
            process.head()
        });
        let publishing = thread::spawn(move || {
            publish(&second, b"a");
            second.needs_wakeup(claim.slot, NOW)
        });
        let is_woken = hub.needs_wakeup(claim.slot, NOW);
        let (is_woken_again, head) = (publishing.join().unwrap(), reading.join().unwrap());
        assert!(is_woken || is_woken_again || head == 2, "{head}");
        assert!(!(is_woken && is_woken_again) || hub.is_woken(claim));
        seen.record(head == 2);
    });
}
