//! Words of commands.

pub fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

pub fn is(word: &[u8], wanted: &str) -> bool {
    word.eq_ignore_ascii_case(wanted.as_bytes())
}
