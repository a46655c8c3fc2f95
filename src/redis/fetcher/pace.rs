//! How much the next request for pages asks for, depending on how large and how quick the replies
//! are.

use std::time::Duration;

use crate::redis::stream_page::PageRequest;

/// Number of entries in the first request, and maximum number in any request.
pub const FIRST: usize = 256;
const MOST: usize = 4_096;
/// Maximum number of streams in a request, and number of entries of each that it should have room
/// for.
const STREAMS: usize = 200;
const EACH: usize = 16;
/// A request that takes less than QUICK may be followed by a larger one, and one that takes longer
/// than SLOW is followed by a smaller one.
const QUICK: Duration = Duration::from_millis(200);
const SLOW: Duration = Duration::from_millis(500);

/// Returns the number of streams in the next request, and the maximum number of entries of each.
pub fn shares(pace: usize, ranges: &[PageRequest]) -> (usize, usize) {
    let streams = (pace / EACH).clamp(1, STREAMS).min(ranges.len());
    (streams, (pace / streams.max(1)).max(1))
}

/// Returns how many of these streams are described in one request, and how many entries that
/// returns: the first and the last of each. A single stream is treated like a single entry.
pub fn described_together(pace: usize, left: usize) -> (usize, usize) {
    let streams = (pace / 2).clamp(1, STREAMS).min(left);
    (streams, if streams == 1 { 1 } else { 2 * streams })
}

/// Returns how many entries to request after a request for this many whose reply was too large or
/// too slow.
pub fn smaller_pace(asked: usize) -> usize {
    (asked / 8).clamp(1, MOST)
}

/// Returns the number of entries in the next request.
pub fn next_pace(pace: usize, asked: usize, few_bytes: bool, took: Duration) -> usize {
    if took > SLOW {
        (asked / 2).clamp(1, MOST)
    } else if took < QUICK && few_bytes {
        (pace * 2).min(MOST)
    } else {
        pace
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::stream_page::IdSpan;

    fn range(most: u64) -> PageRequest {
        PageRequest::of(Vec::new(), IdSpan::Newest, most)
    }

    #[test]
    fn many_streams_share_a_request_and_one_has_it_alone() {
        assert_eq!(shares(FIRST, &vec![range(1); 300]), (16, 16));
        assert_eq!(shares(MOST, &vec![range(1); 300]), (STREAMS, 20));
        assert_eq!(shares(MOST, &[range(1)]), (1, MOST));
        assert_eq!(shares(1, &vec![range(1); 300]), (1, 1));
        assert_eq!(shares(17, &vec![range(1); 300]), (1, 17));
    }

    #[test]
    fn fewer_streams_are_described_together_after_a_request_that_was_too_much() {
        let (mut pace, mut together) = (FIRST, Vec::new());
        while together.last() != Some(&1) {
            let (streams, entries) = described_together(pace, 500);
            together.push(streams);
            pace = smaller_pace(entries);
        }
        assert_eq!(together, [128, 16, 2, 1]);
        assert_eq!(described_together(1, 500), (1, 1));
        assert_eq!(described_together(MOST, 3), (3, 6));
    }

    #[test]
    fn what_comes_quickly_is_followed_by_more_and_what_comes_slowly_by_less() {
        let (quick, slow) = (Duration::ZERO, Duration::from_secs(1));
        assert_eq!(next_pace(256, 256, true, quick), 512);
        assert_eq!(next_pace(MOST, 16, true, quick), MOST);
        assert_eq!(next_pace(256, 256, false, quick), 256);
        assert_eq!(next_pace(256, 200, true, slow), 100);
        assert_eq!(next_pace(256, 1, true, slow), 1);
        assert_eq!((smaller_pace(256), smaller_pace(8), smaller_pace(1)), (32, 1, 1));
    }

    #[test]
    fn the_limits_of_quick_and_slow_are_exact() {
        let (moment, next) = (Duration::from_nanos(1), |took| next_pace(256, 200, true, took));
        let quick = [QUICK - moment, QUICK];
        assert_eq!(quick.map(next), [512, 256]);
        assert_eq!([SLOW, SLOW + moment].map(next), [256, 100]);
        assert_eq!(
            [2_047, 2_048, 2_049].map(|pace| next_pace(pace, 1, true, moment)),
            [4_094, MOST, MOST]
        );
        assert_eq!([7, 8, 15, 16].map(smaller_pace), [1, 1, 1, 2]);
        assert_eq!(smaller_pace(usize::MAX), MOST);
        let ranges = vec![range(1); 300];
        assert_eq!([31, 32].map(|pace| shares(pace, &ranges)), [(1, 31), (2, 16)]);
        assert_eq!([3_199, 3_200].map(|pace| shares(pace, &ranges)), [(199, 16), (STREAMS, 16)]);
        assert_eq!([3, 4].map(|pace| described_together(pace, 9)), [(1, 1), (2, 4)]);
    }
}
