//! The histogram of delivery times: how long it took from the publishing of an event until a worker
//! had served the streams of its channel.

use crate::hub::memory::atomic::Ordering;
use crate::hub::memory::layout::header;
use crate::hub::Hub;

/// The upper bounds of the buckets in microseconds. One more bucket, without a bound, follows.
pub const BUCKET_BOUNDS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// The number of buckets.
const BUCKETS: usize = BUCKET_BOUNDS.len() + 1;

// Each bucket has a word in the region's header, and so has the sum.
const _: () = assert!(BUCKETS <= header::DELIVERY_BUCKET_COUNT);

/// A histogram of delivery times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryTimes {
    /// The number of times in each bucket, without those in lower buckets.
    buckets: [u64; BUCKETS],
    /// The sum of all times in microseconds.
    total: u64,
}

impl DeliveryTimes {
    /// Adds a time in microseconds.
    pub fn add(&mut self, time: u64) {
        let bucket = BUCKET_BOUNDS.partition_point(|bound| *bound < time);
        self.buckets[bucket] += 1;
        self.total += time;
    }

    /// Returns the number of times.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Returns the sum of all times in microseconds.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Returns each bound in microseconds with the number of times up to it.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let counts = self.buckets.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        BUCKET_BOUNDS.into_iter().zip(counts)
    }
}

impl Hub {
    /// Adds delivery times to the hub's histogram, and removes them from `times`.
    pub fn add_delivery_times(&self, times: &mut DeliveryTimes) {
        let add = |at: usize, by: u64| {
            if by > 0 {
                self.region.word(at).fetch_add(by, Ordering::Relaxed);
            }
        };
        for (i, count) in times.buckets.iter().enumerate() {
            add(header::DELIVERY_BUCKETS + i, *count);
        }
        add(header::DELIVERY_TOTAL, times.total);
        *times = DeliveryTimes::default();
    }

    /// Returns the hub's histogram, of all processes, since the hub was created.
    pub(in crate::hub) fn delivery_times(&self) -> DeliveryTimes {
        DeliveryTimes {
            buckets: std::array::from_fn(|i| self.region.get(header::DELIVERY_BUCKETS + i)),
            total: self.region.get(header::DELIVERY_TOTAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::tests::hub_of;

    #[test]
    fn a_time_is_counted_in_the_bucket_of_the_lowest_bound_that_it_does_not_exceed() {
        let mut times = DeliveryTimes::default();
        for time in [0, 100, 101, 1_000, 10_000_000, 10_000_001, 3_600_000_000] {
            times.add(time);
        }
        let cumulative: Vec<(u64, u64)> = times.cumulative().collect();
        let expected = BUCKET_BOUNDS.map(|bound| match bound {
            0..=100 => (bound, 2),
            101..=500 => (bound, 3),
            501..=5_000_000 => (bound, 4),
            _ => (bound, 5),
        });
        assert_eq!(cumulative, expected);
        assert_eq!((times.count(), times.total()), (7, 3_620_001_202));
    }

    #[test]
    fn the_bounds_rise() {
        assert!(BUCKET_BOUNDS.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn the_times_of_all_processes_are_added_once() {
        let hub = hub_of(1 << 18, 1024, 10, 0);
        let other = hub.clone();
        let mut times = DeliveryTimes::default();
        times.add(70);
        times.add(20_000_000);
        let mut more = times;
        hub.add_delivery_times(&mut times);
        hub.add_delivery_times(&mut times);
        other.add_delivery_times(&mut more);
        let stats = hub.stats();
        assert_eq!((stats.delivery_times.count(), stats.delivery_times.total()), (4, 40_000_140));
        assert_eq!(stats.delivery_times.cumulative().next(), Some((100, 2)));
    }
}
