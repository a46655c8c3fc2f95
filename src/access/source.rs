//! How requests carry tokens: the `Authorization` header (RFC 6750), a cookie (RFC 6265), and an
//! argument of the query string.

/// Returns the token of an `Authorization` header with the scheme `Bearer`.
pub fn bearer(header: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"Bearer";
    let (scheme, rest) = header.split_at_checked(SCHEME.len())?;
    let token = rest.trim_ascii();
    let is_bearer = scheme.eq_ignore_ascii_case(SCHEME) && rest.first() == Some(&b' ');
    (is_bearer && !token.is_empty()).then_some(token)
}

/// Returns the value of the first cookie with this name in the `Cookie` headers of a request. The
/// case of the name matters. An empty value is none.
pub fn cookie<'h>(headers: impl Iterator<Item = &'h [u8]>, name: &[u8]) -> Option<&'h [u8]> {
    let mut pairs = headers.flat_map(|header| header.split(|byte| *byte == b';'));
    let value = pairs.find_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (key, value) = pair.split_at_checked(at)?;
        (key.trim_ascii() == name).then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })?;
    let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some(quoted.unwrap_or(value)).filter(|value| !value.is_empty())
}

/// Overwrites the values of all arguments with this name with asterisks, behind the first question
/// mark of a request line or an address. The case of the name does not matter. Returns whether the
/// text has changed.
pub fn mask_argument(text: &mut [u8], name: &[u8]) -> bool {
    let Some(start) = text.iter().position(|byte| *byte == b'?') else { return false };
    mask_in_query(text.get_mut(start + 1..).unwrap_or_default(), name)
}

/// Overwrites the values of all arguments with this name with asterisks in a query string, which
/// ends at a space. Returns whether the text has changed.
pub fn mask_in_query(text: &mut [u8], name: &[u8]) -> bool {
    let end = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
    let query = text.get_mut(..end).unwrap_or_default();
    let mut has_changed = false;
    for argument in query.split_mut(|byte| *byte == b'&') {
        let Some((key, value)) = argument.split_at_mut_checked(name.len()) else { continue };
        if let (true, [b'=', value @ ..]) = (key.eq_ignore_ascii_case(name), value) {
            value.fill(b'*');
            has_changed |= !value.is_empty();
        }
    }
    has_changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_follows_its_scheme_and_spaces() {
        for header in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c ", "Bearer  a.b.c"] {
            assert_eq!(bearer(header.as_bytes()), Some(&b"a.b.c"[..]), "{header}");
        }
        for header in ["", "Bearer", "Bearer ", "Bearer\ta", "Basic a", "Bearera", "é Bearer a"] {
            assert_eq!(bearer(header.as_bytes()), None, "{header}");
        }
    }

    #[test]
    fn the_first_cookie_with_the_name_counts() {
        let find = |headers: &[&str]| {
            let value = cookie(headers.iter().map(|header| header.as_bytes()), b"session");
            value.map(|value| String::from_utf8_lossy(value).into_owned())
        };
        assert_eq!(find(&["a=1; session=x; session=y"]), Some("x".into()));
        assert_eq!(find(&["a=1", "session=x"]), Some("x".into()));
        assert_eq!(find(&["session=\"x\""]), Some("x".into()));
        assert_eq!(find(&[";;  session = x ;"]), Some("x".into()));
        assert_eq!(find(&["session=a=b"]), Some("a=b".into()));
        for header in
            ["", "Session=x", "asession=x", "session", "session=", "session=\"\"", "x=session=y"]
        {
            assert_eq!(find(&[header]), None, "{header}");
        }
        assert_eq!(find(&["session=; session=x"]), None);
    }

    #[test]
    fn every_value_of_the_argument_is_masked_and_nothing_else() {
        let masked = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            let has_changed = mask_argument(&mut bytes, b"token");
            assert_eq!(has_changed, bytes != text.as_bytes(), "{text}");
            String::from_utf8(bytes).unwrap()
        };
        for (text, wanted) in [
            ("GET /token=x?token=abc HTTP/1.1", "GET /token=x?token=*** HTTP/1.1"),
            ("/s?token=a&b=token=c&TOKEN=de&token=", "/s?token=*&b=token=c&TOKEN=**&token="),
            ("/s?xtoken=a&token&tokens=b&a?token=c", "/s?xtoken=a&token&tokens=b&a?token=c"),
            ("/s?token=a?token=b#c", "/s?token=***********"),
            ("/s", "/s"),
            ("/s?", "/s?"),
        ] {
            assert_eq!(masked(text), wanted);
        }
    }
}
