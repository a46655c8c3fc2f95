//! The clock that all processes of one machine share, so that an event can carry the time at which
//! it was due and any of them can tell how long it took.

use rustix::time::{clock_gettime, ClockId, Timespec};

/// Nanoseconds of the monotonic clock.
pub fn nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A duration as system calls take it.
pub fn timespec(nanos: u64) -> Timespec {
    Timespec { tv_sec: (nanos / 1_000_000_000) as i64, tv_nsec: (nanos % 1_000_000_000) as i64 }
}
