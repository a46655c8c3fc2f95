//! Tests that setting the system clock back does not prolong the wait for the lock.
//!
//! The test program's own `clock_gettime` shows a thread that asks for it a system clock that is
//! ahead of the kernel's. A deadline that is computed with it, and waited for in the kernel, is as
//! late as if the clock had been set back in between.

use std::cell::Cell;
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::hub::memory::layout::header;
use crate::hub::memory::lock::{Attempt, RobustLock, WORDS};

thread_local! {
    /// By how many seconds the thread's system clock is ahead.
    static AHEAD: Cell<i64> = const { Cell::new(0) };
}

#[allow(unsafe_code)]
#[no_mangle]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> i32 {
    // SAFETY: the caller's pointer goes to the kernel as it is.
    let status = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    if status == 0 && clock == libc::CLOCK_REALTIME {
        // SAFETY: the kernel has just written to it.
        unsafe { (*time).tv_sec += AHEAD.get() };
    }
    status as i32
}

#[test]
fn a_clock_that_is_set_back_does_not_stretch_the_wait_for_the_lock() {
    let hub = roomy();
    let ended = hub.while_locked(|| {
        let (sender, receiver) = mpsc::channel();
        let hub = hub.clone();
        // Not joined: if it does wait for an hour, the test fails before.
        std::thread::spawn(move || {
            AHEAD.set(3_600);
            let lock = RobustLock::at(hub.region.words(header::LOCK, WORDS));
            let attempt = lock.lock_within(Duration::from_millis(20), || {});
            let _ = sender.send(attempt);
        });
        receiver.recv_timeout(Duration::from_secs(30))
    });
    assert_eq!(ended, Ok(Attempt::Busy));
}
