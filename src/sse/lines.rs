//! Splits an event stream into lines, which end with CR, LF or CRLF, and with nothing else.
//!
//! Both directions use this splitter: data for clients is split where their parsers would split it,
//! and publishers' batches are parsed by the same rule. Unlike general-purpose line splitters, it
//! does not split at VT, FF, U+0085 or U+2028.

/// Returns the lines of `text` without their ends. The last line is what follows the last line end,
/// and may be empty.
pub fn split(text: &[u8]) -> Lines<'_> {
    Lines { rest: Some(text) }
}

pub struct Lines<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.rest.take()?;
        let end = memchr::memchr2(b'\r', b'\n', text);
        let Some((line, ended)) = end.and_then(|at| text.split_at_checked(at)) else {
            return Some(text);
        };
        self.rest = match ended {
            [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => Some(rest),
            [] => None,
        };
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    fn lines(text: &str) -> Vec<&[u8]> {
        split(text.as_bytes()).collect()
    }

    #[test]
    fn cr_lf_and_crlf_each_end_one_line() {
        assert_eq!(lines("a\rb\nc\r\nd"), [b"a", b"b", b"c", b"d"]);
        assert_eq!(lines("\n\r"), [b"", b"", b""]);
        assert_eq!(lines("\r\r\n\n"), [b"", b"", b"", b""]);
    }

    #[test]
    fn the_last_line_is_there_even_when_empty() {
        assert_eq!(lines(""), [b""]);
        assert_eq!(lines("a\r\n"), [&b"a"[..], b""]);
    }

    #[test]
    fn nothing_else_ends_a_line() {
        let text = "a\u{b}b\u{c}c\u{85}d\u{2028}e\u{2029}f\0g";
        assert_eq!(lines(text), [text.as_bytes()]);
    }
}
