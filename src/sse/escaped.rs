//! Untrusted bytes, escaped for log lines.

use std::fmt;

/// Displays bytes with everything but printable ASCII escaped, cut at 128 bytes, so that no client
/// can forge a line of the error log.
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.get(..128).unwrap_or(self.0);
        write!(f, "{}", shown.escape_ascii())?;
        if shown.len() < self.0.len() {
            f.write_str("...")?;
        }
        Ok(())
    }
}

/// Returns a log line with its control characters escaped, whatever it was made of. A line that has
/// none, as nearly all do, is returned as it is.
pub fn single_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut line = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_contains_no_control_characters() {
        let line = |text: &str| single_line(text.to_owned());
        assert_eq!(line("\"é\" \\n"), "\"é\" \\n");
        assert_eq!(line("ERR a\r\n2026\x1b[2K\u{85}"), "ERR a\\r\\n2026\\u{1b}[2K\\u{85}");
    }

    #[test]
    fn bytes_are_escaped_and_cut() {
        let shown = |bytes: &[u8]| Escaped(bytes).to_string();
        assert_eq!(shown(b"a\n\"\xff"), "a\\n\\\"\\xff");
        assert_eq!(shown(&[b'a'; 128]), "a".repeat(128));
        assert_eq!(shown(&[b'a'; 129]), "a".repeat(128) + "...");
    }
}
