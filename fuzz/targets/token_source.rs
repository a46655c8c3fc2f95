//! A cookie that is found stands in the headers under its name, and no value of an argument is left
//! after it was masked.

use crate::access::source::{bearer, cookie, mask_argument};

pub fn run(input: &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let (name, text) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    find_cookie(name, text);
    mask(name, text);
    if let Some(token) = bearer(text) {
        assert!(text[..6].eq_ignore_ascii_case(b"bearer") && text[6] == b' ');
        assert!(!token.is_empty() && token.trim_ascii() == token);
    }
}

fn find_cookie(name: &[u8], text: &[u8]) {
    let lines = || text.split(|byte| *byte == b'\n');
    let Some(value) = cookie(lines(), name) else { return };
    assert!(!value.is_empty() && !value.contains(&b';') && !value.contains(&b'\n'));
    let is_it = |pair: &[u8]| {
        let rest = pair.trim_ascii().strip_prefix(name).unwrap_or_default().trim_ascii_start();
        let found = rest.strip_prefix(b"=").unwrap_or_default().trim_ascii();
        found == value || found == [b"\"", value, b"\""].concat()
    };
    assert!(lines().any(|line| line.split(|byte| *byte == b';').any(is_it)));
}

fn mask(name: &[u8], text: &[u8]) {
    let mut masked = text.to_vec();
    mask_argument(&mut masked, name);
    assert_eq!(masked.len(), text.len());
    let start = text.iter().position(|byte| *byte == b'?').map_or(text.len(), |at| at + 1);
    assert_eq!(masked[..start], text[..start]);
    let end =
        text[start..].iter().position(|byte| *byte == b' ').map_or(text.len(), |at| start + at);
    assert_eq!(masked[end..], text[end..]);
    let (before, after) = (&text[start..end], &masked[start..end]);
    let pairs = before.split(|byte| *byte == b'&').zip(after.split(|byte| *byte == b'&'));
    let mut count = 0;
    for (old, new) in pairs {
        count += 1;
        let key = new.get(..name.len()).unwrap_or_default();
        if new.get(name.len()) == Some(&b'=') && key.eq_ignore_ascii_case(name) {
            assert!(new[name.len() + 1..].iter().all(|byte| *byte == b'*'));
        } else {
            assert_eq!(old, new);
        }
    }
    assert_eq!(count, before.split(|byte| *byte == b'&').count());
}
