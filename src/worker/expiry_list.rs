//! The streams whose permission ends at a time of the wall clock. If the clock is set, their
//! deadlines are computed again, some of them in each turn.

use super::keys::StreamKey;

/// The streams, in no order.
#[derive(Debug, Default)]
pub struct ExpiryList {
    streams: Vec<StreamKey>,
    /// The streams before this index have not been looked at since the clock was set.
    unchecked: usize,
}

impl ExpiryList {
    /// Adds a stream, whose deadline is up to date, and returns its index.
    pub fn add(&mut self, stream: StreamKey) -> u32 {
        self.streams.push(stream);
        self.streams.len() as u32 - 1
    }

    /// Removes a stream. Returns the stream that has moved to its index.
    pub fn remove(&mut self, index: u32) -> Option<StreamKey> {
        let index = index as usize;
        if index >= self.streams.len() {
            return None;
        }
        self.streams.swap_remove(index);
        // A stream that moves to a lower index may be looked at again, but none is left out.
        self.unchecked = self.unchecked.min(self.streams.len());
        self.streams.get(index).copied()
    }

    /// Starts to look at all streams.
    pub fn start(&mut self) {
        self.unchecked = self.streams.len();
    }

    /// Returns whether there are streams to look at.
    pub fn has_unchecked(&self) -> bool {
        self.unchecked > 0
    }

    /// Returns the next stream to look at.
    pub fn next_unchecked(&mut self) -> Option<StreamKey> {
        self.unchecked = self.unchecked.checked_sub(1)?;
        self.streams.get(self.unchecked).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn key(number: u64) -> StreamKey {
        StreamKey::from_raw(1 << 32 | number)
    }

    #[test]
    fn the_last_stream_moves_to_the_place_of_one_that_is_removed() {
        let mut list = ExpiryList::default();
        let indices = [1, 2, 3].map(|number| list.add(key(number)));
        assert_eq!(indices, [0, 1, 2]);
        assert_eq!(list.remove(0), Some(key(3)));
        assert_eq!((list.remove(2), list.remove(u32::MAX)), (None, None));
        assert_eq!(list.remove(1), None);
        list.start();
        assert_eq!((list.next_unchecked(), list.next_unchecked()), (Some(key(3)), None));
    }

    #[test]
    fn every_stream_that_stays_is_looked_at_whichever_others_are_removed() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut list = ExpiryList::default();
            let mut indices: Vec<(StreamKey, u32)> =
                (1..20).map(|number| (key(number), list.add(key(number)))).collect();
            list.start();
            let mut checked = BTreeSet::new();
            while list.has_unchecked() {
                if random.bool() && !indices.is_empty() {
                    let (_, index) = indices.swap_remove(random.usize(..indices.len()));
                    let moved = list.remove(index);
                    for (other, at) in &mut indices {
                        if Some(*other) == moved {
                            *at = index;
                        }
                    }
                }
                checked.extend(list.next_unchecked());
            }
            assert!(indices.iter().all(|(stream, _)| checked.contains(stream)), "{seed}");
        }
    }
}
