//! The media type that a client prefers, by the `Accept` header of its request.

/// Returns the value of the accepted media type with the highest quality, the first of equals.
/// `value_of` returns the value of a media type in lower case, or `None` if it is not served.
/// Returns `None` if no media type is acceptable.
pub fn preferred<T>(accept: &[u8], value_of: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    let mut best = None;
    let mut best_quality = 0;
    for range in accept.split(|byte| *byte == b',') {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let Some(value) = value_of(&media_type) else { continue };
        let quality = parts.find_map(quality).unwrap_or(1000);
        if quality > best_quality {
            (best, best_quality) = (Some(value), quality);
        }
    }
    best
}

/// Parses `q=0.75` as 750. Values that are not numbers count as 0.
fn quality(parameter: &[u8]) -> Option<u32> {
    let value = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    let value: Option<f32> = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
    Some((value.unwrap_or(0.0).clamp(0.0, 1.0) * 1000.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::preferred;

    fn letter(media_type: &[u8]) -> Option<char> {
        match media_type {
            b"text/a" | b"*/*" => Some('a'),
            b"text/b" => Some('b'),
            _ => None,
        }
    }

    #[test]
    fn the_highest_quality_wins_and_then_the_first() {
        for (accept, expected) in [
            ("text/b, text/a", Some('b')),
            ("text/a, text/b", Some('a')),
            ("text/a;q=0.5, TEXT/B ; level=1; q=0.6", Some('b')),
            ("text/c, text/b;q=0.1", Some('b')),
            ("*/*;Q=0.2, text/b;q=0.1", Some('a')),
        ] {
            assert_eq!(preferred(accept.as_bytes(), letter), expected, "{accept}");
        }
    }

    #[test]
    fn what_is_not_acceptable_is_not_preferred() {
        for accept in ["", "text/c", "text/a;q=0", "text/b;q=x", ",;,", "text/a;q=-1"] {
            assert_eq!(preferred(accept.as_bytes(), letter), None, "{accept}");
        }
    }
}
