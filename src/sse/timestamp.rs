//! Points in time as clients and applications write them: a number since 1970, or the date and time
//! of RFC 3339.

/// Numbers below this are seconds; the others are milliseconds. As seconds, it is the year 5138; as
/// milliseconds, it is 1973.
const FIRST_MILLISECONDS: u64 = 100_000_000_000;
const DAY: i64 = 86_400;

/// Parses a point in time. Returns it in milliseconds since 1970, rounded down; earlier times are
/// 0, and a number that is too large is the greatest possible time. Returns `None` if the text is
/// not a valid time.
pub fn parse(text: &[u8]) -> Option<u64> {
    number(TimeText(text)).or_else(|| date_time(TimeText(text)))
}

/// Parses a number of seconds or milliseconds, which may have decimal places.
fn number(mut text: TimeText<'_>) -> Option<u64> {
    let whole = text.digits()?.iter().fold(0u64, |number, digit| {
        number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    });
    let thousandths = text.decimal_places()?;
    text.end()?;
    if whole < FIRST_MILLISECONDS {
        Some(whole * 1000 + thousandths)
    } else {
        Some(whole)
    }
}

/// Parses `YYYY-MM-DDThh:mm:ss[.fraction]` with the zone `Z`, `+hh:mm`, or `-hh:mm`. A space may
/// stand in place of the `T`.
fn date_time(mut text: TimeText<'_>) -> Option<u64> {
    let year = text.number(4, 0..=9999)?;
    text.any(b"-")?;
    let month = text.number(2, 1..=12)?;
    text.any(b"-")?;
    let day = text.number(2, 1..=days_in(year, month))?;
    text.any(b"Tt ")?;
    let hour = text.number(2, 0..=23)?;
    text.any(b":")?;
    let minute = text.number(2, 0..=59)?;
    text.any(b":")?;
    // 60 is a leap second, which counts as the next one.
    let second = text.number(2, 0..=60)?;
    let thousandths = text.decimal_places()?;
    let offset = match text.any(b"Zz+-")? {
        sign @ (b'+' | b'-') => {
            let hours = text.number(2, 0..=23)?;
            text.any(b":")?;
            let minutes = text.number(2, 0..=59)?;
            let east = hours * 3600 + minutes * 60;
            if sign == b'+' {
                east
            } else {
                -east
            }
        }
        _ => 0,
    };
    text.end()?;
    let seconds =
        days_since_1970(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset;
    Some(u64::try_from(seconds).map_or(0, |seconds| seconds * 1000 + thousandths))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Returns the number of days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let before = |year: i64| {
        let last = year - 1;
        year * 365 + last.div_euclid(4) - last.div_euclid(100) + last.div_euclid(400)
    };
    let months: i64 = (1..month).map(|month| days_in(year, month)).sum();
    before(year) - before(1970) + months + day - 1
}

/// The rest of a text. Each method removes what it has read.
struct TimeText<'t>(&'t [u8]);

impl<'t> TimeText<'t> {
    /// Reads at least one digit.
    fn digits(&mut self) -> Option<&'t [u8]> {
        let count = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(digits).filter(|digits| !digits.is_empty())
    }

    /// Reads a number with exactly `count` digits within a range.
    fn number(&mut self, count: usize, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
        range.contains(&number).then_some(number)
    }

    /// Reads one of these bytes.
    fn any(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        bytes.contains(first).then_some(*first)
    }

    /// Reads decimal places, if there are any. Returns the thousandths, rounded down.
    fn decimal_places(&mut self) -> Option<u64> {
        let Some(rest) = self.0.strip_prefix(b".") else { return Some(0) };
        self.0 = rest;
        let digits = self.digits()?.iter().map(|digit| u64::from(digit - b'0'));
        let three = digits.chain([0, 0]).take(3);
        Some(three.fold(0, |number, digit| number * 10 + digit))
    }

    /// Checks that nothing is left.
    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::calendar::written;
    use proptest::prelude::*;

    #[test]
    fn times_are_numbers_or_dates_of_rfc_3339() {
        for (text, ms) in [
            ("0", 0),
            ("1763807585", 1_763_807_585_000),
            ("1763807585.123", 1_763_807_585_123),
            ("1763807585.5", 1_763_807_585_500),
            ("1763807585.1239999", 1_763_807_585_123),
            ("1763807585123", 1_763_807_585_123),
            ("1763807585123.9", 1_763_807_585_123),
            ("99999999999", 99_999_999_999_000),
            ("100000000000", 100_000_000_000),
            ("0001763807585", 1_763_807_585_000),
            ("18446744073709551615", u64::MAX),
            ("99999999999999999999999999", u64::MAX),
            ("1970-01-01T00:00:00Z", 0),
            ("2025-11-22T10:33:05Z", 1_763_807_585_000),
            ("2025-11-22t10:33:05z", 1_763_807_585_000),
            ("2025-11-22 10:33:05Z", 1_763_807_585_000),
            ("2025-11-22T10:33:05.1Z", 1_763_807_585_100),
            ("2025-11-22T10:33:05.123456789Z", 1_763_807_585_123),
            ("2025-11-22T11:33:05.123+01:00", 1_763_807_585_123),
            ("2025-11-22T05:03:05-05:30", 1_763_807_585_000),
            ("2025-11-22T10:33:05-00:00", 1_763_807_585_000),
            ("2024-02-29T23:59:60Z", 1_709_251_200_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
            ("1969-12-31T23:59:59Z", 0),
            ("0000-01-01T00:00:00Z", 0),
            ("1970-01-01T00:30:00+01:00", 0),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(ms), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_times() {
        for text in [
            "",
            " ",
            "-1",
            "+1",
            "1e9",
            "0x10",
            "1763807585.",
            ".5",
            "1.5.5",
            "1763807585 ",
            " 1763807585",
            "now",
            "yesterday",
            "2025-11-22",
            "2025-11-22T10:33:05",
            "2025-11-22T10:33Z",
            "2025-11-22T10:33:05.Z",
            "2025-11-22T10:33:05,5Z",
            "2025-11-22T10:33:05+0100",
            "2025-11-22T10:33:05+01",
            "2025-11-22T10:33:05 01:00",
            "2025-11-22T10:33:05+24:00",
            "2025-11-22T10:33:05ZZ",
            "2025-11-22T24:00:00Z",
            "2025-11-22T10:60:05Z",
            "2025-11-22T10:33:61Z",
            "2025-13-22T10:33:05Z",
            "2025-00-22T10:33:05Z",
            "2025-02-29T10:33:05Z",
            "1900-02-29T10:33:05Z",
            "2025-11-31T10:33:05Z",
            "2025-11-00T10:33:05Z",
            "25-11-22T10:33:05Z",
            "12025-11-22T10:33:05Z",
            "2025-W47-6T10:33:05Z",
            "2025-11-22T10%3A33%3A05Z",
            "\u{661}\u{667}",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_written_time_is_read_again(
            ms in 0u64..253_402_300_800_000,
            offset in -1439i64..=1439,
        ) {
            // Within the years that have four digits.
            let ms = ms.clamp(86_400_000, 253_402_214_400_000);
            prop_assert_eq!(parse(written(ms, offset).as_bytes()), Some(ms));
            if ms / 1000 < FIRST_MILLISECONDS {
                let seconds = format!("{}.{:03}", ms / 1000, ms % 1000);
                prop_assert_eq!(parse(seconds.as_bytes()), Some(ms));
            }
        }

        #[test]
        fn any_bytes_are_read_or_not(text in prop::collection::vec(any::<u8>(), 0..40)) {
            parse(&text);
        }

        #[test]
        fn one_wrong_byte_is_no_other_day(at in 0usize..24, byte: u8) {
            let mut text = b"2025-11-22T10:33:05.123Z".to_vec();
            let is_other = std::mem::replace(&mut text[at], byte) != byte;
            if let Some(ms) = parse(&text) {
                prop_assert!(!is_other || byte.is_ascii_digit() || b"Tt Zz".contains(&byte));
                prop_assert_eq!(parse(written(ms, 0).as_bytes()), Some(ms));
            }
        }
    }
}
