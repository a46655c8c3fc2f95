//! The clock that all processes of a machine share, so that an event can carry the time at which it
//! was due and every process can compute its latency.

use rustix::time::{clock_gettime, ClockId, Timespec};

/// Returns the time of the monotonic clock in ns.
pub fn nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Converts ns to the form that system calls use.
pub fn timespec(nanos: u64) -> Timespec {
    Timespec { tv_sec: (nanos / 1_000_000_000) as i64, tv_nsec: (nanos % 1_000_000_000) as i64 }
}
