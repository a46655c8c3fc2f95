//! Latencies, counted in buckets that are at most 3% wide. Counting does not allocate.

/// Buckets per power of two, as a power of two.
const FINE: u32 = 5;
const BUCKETS: usize = (64 - FINE as usize + 1) << FINE;

/// Counts of values in nanoseconds.
pub struct Histogram {
    counts: Box<[u64]>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self { counts: vec![0; BUCKETS].into(), total: 0, max: 0 }
    }

    pub fn add(&mut self, nanos: u64) {
        if let Some(count) = self.counts.get_mut(bucket(nanos)) {
            *count += 1;
        }
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    /// Returns the value below which `share` (0 to 1) of all values lie; 0 if there are none.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return upper_bound(index).min(self.max);
            }
        }
        0
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
        self.max = 0;
    }
}

fn bucket(nanos: u64) -> usize {
    let bits = 64 - nanos.leading_zeros();
    let shift = bits.saturating_sub(FINE + 1);
    ((shift as usize) << FINE) + (nanos >> shift) as usize
}

/// Returns the largest value of the bucket.
fn upper_bound(index: usize) -> u64 {
    let shift = (index >> FINE).saturating_sub(1) as u32;
    let mantissa = (index - ((shift as usize) << FINE)) as u64;
    (((mantissa + 1) as u128) << shift).saturating_sub(1).min(u64::MAX as u128) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_and_in_order() {
        for value in [0, 1, 31, 32, 63, 64, 1_000, 123_456, 40_000_000, u64::MAX] {
            let index = bucket(value);
            assert!(index < BUCKETS, "{value}");
            let upper = upper_bound(index);
            assert!(
                upper >= value && (upper - value) as f64 <= value as f64 * 0.04,
                "{value} {upper}"
            );
        }
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), 0);
        (1..=1_000).for_each(|value| histogram.add(value * 1_000));
        let half = histogram.quantile(0.5);
        assert!((500_000..520_000).contains(&half), "{half}");
        assert_eq!(histogram.quantile(1.0), 1_000_000);
        histogram.clear();
        assert_eq!(histogram.max(), 0);
    }
}
