//! Times of the machine's monotonic clock that are finer than milliseconds.

/// A time of CLOCK_MONOTONIC, in units of 1/256 ms. Events record it, so it has to fit into 48
/// bits, which it does for 34 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MonotonicTime(u64);

/// One millisecond, as a power of two.
const MS_BITS: u32 = 8;

impl MonotonicTime {
    /// The number of bits that a time takes.
    pub(in crate::hub) const BITS: u32 = 48;

    /// Returns the time that lies `nanoseconds`, less than a millisecond, after `ms`.
    pub const fn new(ms: u64, nanoseconds: u32) -> MonotonicTime {
        let fraction = (nanoseconds as u64) << MS_BITS;
        MonotonicTime((ms << MS_BITS) + fraction / 1_000_000)
    }

    /// Returns the time at a number of milliseconds.
    pub const fn from_ms(ms: u64) -> MonotonicTime {
        MonotonicTime::new(ms, 0)
    }

    /// Returns the time in milliseconds, rounded down.
    pub const fn ms(self) -> u64 {
        self.0 >> MS_BITS
    }

    /// Returns how much later this time is than another one, in microseconds; 0 if it is not later.
    pub const fn microseconds_since(self, earlier: MonotonicTime) -> u64 {
        self.0.saturating_sub(earlier.0).saturating_mul(1_000) >> MS_BITS
    }

    /// Returns the time as an event records it.
    pub(in crate::hub) fn to_bits(self) -> u64 {
        self.0.min((1 << MonotonicTime::BITS) - 1)
    }

    /// Returns a time that an event recorded.
    pub(in crate::hub) fn from_bits(bits: u64) -> MonotonicTime {
        MonotonicTime(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_precise_to_four_microseconds() {
        let time = MonotonicTime::new(70_000, 125_000);
        assert_eq!((time.ms(), MonotonicTime::new(7, 999_999).ms()), (70_000, 7));
        let earlier = MonotonicTime::from_ms(69_998);
        assert_eq!(time.microseconds_since(earlier), 2_125);
        assert_eq!(earlier.microseconds_since(time), 0);
        let apart = MonotonicTime::new(1, 5_000).microseconds_since(MonotonicTime::from_ms(1));
        assert!((2..=5).contains(&apart), "{apart}");
    }

    #[test]
    fn events_record_it_for_decades_and_then_the_latest_possible_time() {
        let year = 365 * 86_400_000;
        let late = MonotonicTime::new(34 * year, 500_000);
        assert_eq!(MonotonicTime::from_bits(late.to_bits()), late);
        let too_late = MonotonicTime::from_ms(36 * year);
        assert_eq!(too_late.to_bits(), (1 << 48) - 1);
        assert_eq!(MonotonicTime::from_ms(u64::MAX >> 20).to_bits() >> 48, 0);
    }
}
