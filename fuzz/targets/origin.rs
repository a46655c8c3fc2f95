//! Origins are brought into one form, which is its own form, and a site's own origin is recognized.

use super::input::Input;
use crate::sse::origin::{is_of_host, parse};

pub fn run(input: &[u8]) {
    if let Some(origin) = parse(input) {
        assert_eq!(parse(origin.as_bytes()).as_deref(), Some(&origin[..]));
        assert!(origin.len() <= input.len());
        let in_header = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
        assert!(origin.bytes().all(in_header), "{origin:?}");
        assert!(
            !origin.contains(['/', '*', ',', '?', '#', '@']) || origin.matches('/').count() == 2
        );
        let (scheme, authority) = origin.split_once("://").unwrap();
        let is_web = matches!(scheme, "http" | "https");
        assert_eq!(is_of_host(origin.as_bytes(), authority.as_bytes()), is_web);
        assert_eq!(is_of_host(origin.as_bytes(), authority.to_uppercase().as_bytes()), is_web);
        assert!(!is_of_host(origin.as_bytes(), format!("{authority}.evil.example").as_bytes()));
    }

    let mut input = Input(input);
    let (host, origin) = (input.piece(), input.rest());
    if is_of_host(origin, host) {
        // Whatever else they are, their names are the same.
        let (_, name) = split(origin);
        let without_port = |host: &[u8]| match host.iter().rposition(|byte| *byte == b':') {
            Some(at) => host[..at].to_ascii_lowercase(),
            None => host.to_ascii_lowercase(),
        };
        assert!(
            without_port(name) == without_port(host)
                || name.eq_ignore_ascii_case(host)
                || without_port(name).eq_ignore_ascii_case(host)
                || without_port(host).eq_ignore_ascii_case(name)
        );
    }
}

fn split(origin: &[u8]) -> (&[u8], &[u8]) {
    let at = origin.windows(3).position(|three| three == b"://").unwrap();
    (&origin[..at], &origin[at + 3..])
}
