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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_escaped_and_cut() {
        let shown = |bytes: &[u8]| Escaped(bytes).to_string();
        assert_eq!(shown(b"a\n\"\xff"), "a\\n\\\"\\xff");
        assert_eq!(shown(&[b'a'; 128]), "a".repeat(128));
        assert_eq!(shown(&[b'a'; 129]), "a".repeat(128) + "...");
    }
}
