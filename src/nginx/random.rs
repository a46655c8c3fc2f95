//! Random numbers from the kernel, for the tags of hubs, the seeds of workers, and reconnection
//! times.

/// Returns 64 random bits. If the kernel has none, they are derived from the clocks and the
/// process's id, which differ between workers. They are not used for secrets.
pub fn bits() -> u64 {
    let mut value = 0u64;
    // SAFETY: the buffer is a local of exactly that length.
    let got = unsafe { libc::getrandom((&raw mut value).cast(), size_of::<u64>(), 0) };
    if got == size_of::<u64>() as isize {
        return value;
    }
    let now = super::clock::now();
    now.wall.rotate_left(32) ^ now.mono ^ (u64::from(std::process::id()) << 20)
}

/// Returns a random number from `low` to `high`, inclusive.
pub fn between(low: u64, high: u64) -> u64 {
    low + bits() % (high.saturating_sub(low) + 1)
}
