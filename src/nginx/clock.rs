//! The two clocks that the hub goes by.

use crate::hub::Now;

/// Two years, in ms. The kernel's monotonic clock begins with the machine; events that Redis kept may be
/// older than that, and have to be born at a time that is not below zero.
const BEFORE_BOOT: u64 = 2 * 365 * 86_400_000;

/// The time now, in ms. The monotonic one is the kernel's, so all processes agree on it; nginx's
/// cached time is not used, because it stands still while a long turn is served.
pub fn now() -> Now {
    Now { mono: BEFORE_BOOT + read(libc::CLOCK_MONOTONIC), wall: read(libc::CLOCK_REALTIME) }
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local that outlives the call; both clocks always exist.
    unsafe { libc::clock_gettime(clock, &mut time) };
    (time.tv_sec as u64).saturating_mul(1000).saturating_add(time.tv_nsec as u64 / 1_000_000)
}
