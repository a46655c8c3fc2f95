//! Origins (RFC 6454): how a configuration may write one, and which host an origin belongs to.
//!
//! Used by the `sse_cors` directive and by the check for requests from other sites. Origins are
//! compared byte by byte in the form in which browsers send them.

/// Returns an origin as browsers send it: scheme, host and port in lower case, without the scheme's
/// default port.
///
/// Returns `None` if `text` is not an origin: for example if it has a path or a trailing slash, if
/// its host is not ASCII, or for `null`.
pub fn parse(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, (!port.is_empty()).then(|| port.strip_prefix(':').unwrap_or("-")))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let in_brackets = authority.starts_with('[');
    if !is_scheme(scheme) || !(in_brackets || is_name(host)) || !port.is_none_or(is_port) {
        return None;
    }
    Some(match default_port(scheme).and_then(|port| authority.strip_suffix(port)) {
        Some(authority) => format!("{scheme}://{authority}"),
        None => text,
    })
}

/// Whether an origin is the host that a request was sent to, as named in its `Host` header.
pub fn is_of_host(origin: &[u8], host: &[u8]) -> bool {
    let http = [(&b"http://"[..], &b":80"[..]), (b"https://", b":443")];
    http.iter().any(|(scheme, port)| {
        let bare = |host: &[u8]| host.strip_suffix(*port).unwrap_or(host).to_ascii_lowercase();
        origin.strip_prefix(*scheme).is_some_and(|authority| bare(authority) == bare(host))
    })
}

fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn is_name(host: &str) -> bool {
    !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|number| number > 0)
}

fn default_port(scheme: &str) -> Option<&'static str> {
    match scheme {
        "http" => Some(":80"),
        "https" => Some(":443"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_of_host, parse};

    #[test]
    fn origins_are_brought_into_the_form_of_browsers() {
        for (text, origin) in [
            ("https://example.org", "https://example.org"),
            ("HTTPS://Example.ORG", "https://example.org"),
            ("https://example.org:443", "https://example.org"),
            ("http://example.org:80", "http://example.org"),
            ("https://example.org:80", "https://example.org:80"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("http://127.0.0.1:8443", "http://127.0.0.1:8443"),
            ("http://[::1]", "http://[::1]"),
            ("http://[::1]:80", "http://[::1]"),
            ("http://[2001:db8::1]:3000", "http://[2001:db8::1]:3000"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://abc", "chrome-extension://abc"),
        ] {
            assert_eq!(parse(text.as_bytes()).as_deref(), Some(origin), "{text}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "",
            "null",
            "*",
            "example.org",
            "https://",
            "https://example.org/",
            "https://example.org/path",
            "https://example.org?query",
            "https://ann@example.org",
            "https://*.example.org",
            "https://exämple.org",
            "https://example.org:",
            "https://example.org:0",
            "https://example.org:+1",
            "https://example.org:65536",
            "https://example.org:1:2",
            "https://exa mple.org",
            "http://[::1",
            "http://[::1]8080",
            "http://[]",
            "http://[example.org]",
            "1http://example.org",
            "://example.org",
            "//example.org",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"https://example.org\xff"), None);
    }

    #[test]
    fn an_origin_belongs_to_its_host() {
        for (origin, host) in [
            ("http://example.org", "example.org"),
            ("http://example.org", "example.org:80"),
            ("https://example.org", "example.org:443"),
            ("https://example.org", "Example.org"),
            ("http://localhost:8080", "localhost:8080"),
        ] {
            assert!(is_of_host(origin.as_bytes(), host.as_bytes()), "{origin} {host}");
        }
        for (origin, host) in [
            ("http://example.org", "example.com"),
            ("http://example.org:8080", "example.org"),
            ("https://example.org:80", "example.org"),
            ("http://example.org.evil.com", "example.org"),
            ("null", "null"),
            ("", ""),
            ("ftp://example.org", "example.org"),
        ] {
            assert!(!is_of_host(origin.as_bytes(), host.as_bytes()), "{origin} {host}");
        }
    }
}
