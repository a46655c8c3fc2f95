//! A point in time that can be read is read in the same way when it is written in another form.

use crate::sse::calendar::written;
use crate::sse::timestamp::parse;

/// The last day whose year has four digits in all zones, in ms since 1970.
const LAST: u64 = 253_402_214_400_000;

pub fn run(input: &[u8]) {
    let Some(ms) = parse(input) else { return };
    assert!(input.iter().all(u8::is_ascii), "{input:?}");
    if (100_000_000_000..=LAST).contains(&ms) {
        assert_eq!(parse(ms.to_string().as_bytes()), Some(ms));
        let offset = input.iter().map(|byte| i64::from(*byte)).sum::<i64>() % 1440;
        for offset in [0, offset, -offset] {
            assert_eq!(parse(written(ms, offset).as_bytes()), Some(ms), "{offset}");
        }
    }
}
