//! Random numbers from the kernel: tags of hubs, seeds of workers, when refused clients come back.

/// 64 random bits. Falls back on the clock and the process's number where the kernel has none to
/// give, which keeps two workers apart; nothing secret is made of these.
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

/// A random number from `low` up to and including `high`.
pub fn between(low: u64, high: u64) -> u64 {
    low + bits() % (high.saturating_sub(low) + 1)
}
