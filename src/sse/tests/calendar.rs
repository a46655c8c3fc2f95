//! Writes times as RFC 3339 does, by counting the days of all years: a second implementation, with
//! which the parser of times is compared.

/// Returns a time in milliseconds since 1970 as the date and time of a zone that is `offset`
/// minutes east.
pub fn written(ms: u64, offset: i64) -> String {
    let local = ms as i64 + offset * 60_000;
    let (mut days, rest) = (local.div_euclid(86_400_000), local.rem_euclid(86_400_000));
    let mut year = 1970;
    let is_leap = |year: i64| year % 400 == 0 || year % 4 == 0 && year % 100 != 0;
    let days_of = |year| if is_leap(year) { 366 } else { 365 };
    while days >= days_of(year) {
        days -= days_of(year);
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= months[month] {
        days -= months[month];
        month += 1;
    }
    let (seconds, ms) = (rest / 1000, rest % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let zone = match offset {
        0 => "Z".to_owned(),
        _ => {
            let sign = if offset < 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", offset.abs() / 60, offset.abs() % 60)
        }
    };
    let (month, day) = (month + 1, days + 1);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}{zone}")
}
