//! The time at which a permission ends, as `sse_expires` gives it.

/// Parses a number of seconds since 1970, with or without decimal places. Returns ms. Times that
/// are too large are the greatest possible one. Returns `None` if the text is not such a number.
pub fn parse(text: &[u8]) -> Option<u64> {
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let whole = parts.next().filter(|digits| !digits.is_empty())?;
    let places = parts.next();
    let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    if !digits(whole) || places.is_some_and(|places| places.is_empty() || !digits(places)) {
        return None;
    }
    let append =
        |number: u64, digit: &u8| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    let seconds = whole.iter().fold(0, append);
    let padded = places.unwrap_or_default().iter().chain(b"000").take(3);
    Some(seconds.saturating_mul(1000).saturating_add(padded.fold(0, append)))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn seconds_may_have_decimal_places() {
        for (text, ms) in [
            ("0", 0),
            ("1767225600", 1_767_225_600_000),
            ("1767225600.5", 1_767_225_600_500),
            ("1.0009", 1_000),
            ("007.25", 7_250),
            ("99999999999999999999999", u64::MAX),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(ms), "{text}");
        }
        for text in ["", "-1", "+1", "1e9", " 1", "1 ", ".5", "1.", "1.5.5", "now", "1,5", "0x1"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
