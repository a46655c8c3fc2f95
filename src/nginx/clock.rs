//! The clocks that the hub uses.

use crate::hub::{MonotonicTime, Now};

/// Two years, in ms. The kernel's monotonic clock starts at boot. Events in Redis can be older than
/// that, and the time of an event must not be negative.
const BEFORE_BOOT: u64 = 2 * 365 * 86_400_000;

/// Returns the current time. The monotonic clock is the kernel's, so it is the same in all
/// processes. nginx's cached time is not used, because it does not advance during a turn of the
/// event loop.
pub fn now() -> Now {
    let (mono, mono_ns) = read(libc::CLOCK_MONOTONIC);
    let (wall, _) = read(libc::CLOCK_REALTIME);
    Now { mono: BEFORE_BOOT + mono, mono_ns, wall }
}

/// Returns the current time of the monotonic clock.
pub fn monotonic() -> MonotonicTime {
    let (ms, ns) = read(libc::CLOCK_MONOTONIC);
    MonotonicTime::new(BEFORE_BOOT + ms, ns)
}

/// Returns milliseconds, and the nanoseconds after them.
fn read(clock: libc::clockid_t) -> (u64, u32) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is a local; both clocks always exist.
    unsafe { libc::clock_gettime(clock, &mut time) };
    let ms =
        (time.tv_sec as u64).saturating_mul(1000).saturating_add(time.tv_nsec as u64 / 1_000_000);
    (ms, (time.tv_nsec % 1_000_000) as u32)
}
