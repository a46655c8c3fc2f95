//! Lists of header names, as browsers send them in `Access-Control-Request-Headers`.

/// Maximum length of a list in bytes.
const MAX_LEN: usize = 1024;

/// Parses a comma-separated list of header names and returns it with one comma and space between
/// names.
///
/// Returns `None` if the list has no name, is longer than 1,024 bytes, or contains anything that is
/// not a token (RFC 9110, 5.6.2). Empty elements are skipped.
pub fn parse(list: &[u8]) -> Option<String> {
    if list.len() > MAX_LEN {
        return None;
    }
    let list = std::str::from_utf8(list).ok()?;
    let names = list.split(',').map(|name| name.trim_matches([' ', '\t']));
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    let valid = !names.is_empty() && names.iter().all(|name| name.bytes().all(is_token));
    valid.then(|| names.join(", "))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_as_they_came() {
        assert_eq!(parse(b"datastar-request").as_deref(), Some("datastar-request"));
        assert_eq!(parse(b"a,B-c ,\t d").as_deref(), Some("a, B-c, d"));
        assert_eq!(parse(b",a,, b,").as_deref(), Some("a, b"));
        assert_eq!(parse(b"!#$%&'*+-.^_`|~0").as_deref(), Some("!#$%&'*+-.^_`|~0"));
    }

    #[test]
    fn what_is_no_list_of_names_is_refused() {
        for list in
            ["", " ", ",", "a b", "a\r\nb: c", "a:", "\"a\"", "a;b", "a/b", "(a)", "a,é", "\0"]
        {
            assert_eq!(parse(list.as_bytes()), None, "{list:?}");
        }
        assert_eq!(parse(b"a\xff"), None);
    }

    #[test]
    fn a_list_has_at_most_a_kibibyte() {
        assert_eq!(parse(&[b'a'; MAX_LEN]).map(|list| list.len()), Some(MAX_LEN));
        assert_eq!(parse(&[b'a'; MAX_LEN + 1]), None);
    }
}
