//! The page for administrators: a single file that requests nothing but its own location.

use crate::metrics::HTML;
use crate::nginx::pool::NoMemory;
use crate::nginx::request::{Outcome, Request};
use ::base64::engine::general_purpose::STANDARD;
use ::base64::Engine;
use ring::digest::{digest, SHA256};
use std::fmt::Write;
use std::sync::OnceLock;

const PAGE: &str = include_str!("page.html");

/// Headers that depend on the page's content.
struct Headers {
    etag: String,
    /// `Content-Security-Policy`: the page may run its own script and use its own style, which are
    /// identified by their hashes, and connect to its own server. It cannot be framed, so that no
    /// other page can make its visitors click on it.
    policy: String,
}

impl Headers {
    fn new() -> Headers {
        let (style, script) = (inside("style"), inside("script"));
        let mut etag = "W/\"".to_owned();
        for byte in digest(&SHA256, PAGE.as_bytes()).as_ref().iter().take(16) {
            // Writing to a string does not fail.
            let _ = write!(etag, "{byte:02x}");
        }
        etag.push('"');
        let policy = format!(
            "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash_source(style),
            hash_source(script),
        );
        Headers { etag, policy }
    }
}

/// Answers with the page, or with 304 if the client has it.
pub fn answer(request: &Request) -> Result<Outcome, NoMemory> {
    static HEADERS: OnceLock<Headers> = OnceLock::new();
    let headers = HEADERS.get_or_init(Headers::new);
    request.set_header("Vary", "Accept")?;
    request.set_header("Cache-Control", "no-cache")?;
    request.set_header("ETag", &headers.etag)?;
    request.set_header("Content-Security-Policy", &headers.policy)?;
    request.set_header("X-Content-Type-Options", "nosniff")?;
    request.set_header("Referrer-Policy", "no-referrer")?;
    if is_current(request.header("If-None-Match").unwrap_or_default(), &headers.etag) {
        request.set_status(304);
        return Ok(request.answer_without_body());
    }
    request.set_status(200);
    Ok(request.answer(HTML, PAGE.as_bytes()))
}

/// Whether an `If-None-Match` header contains the tag.
fn is_current(if_none_match: &[u8], etag: &str) -> bool {
    let mut tags = if_none_match.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let opaque = etag.trim_start_matches("W/").as_bytes();
    tags.any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == opaque)
}

/// Returns the content of the page's only element with this name.
fn inside(element: &str) -> &'static str {
    let content = PAGE.split_once(&format!("<{element}>")).map_or("", |(_, rest)| rest);
    content.split_once(&format!("</{element}>")).map_or("", |(content, _)| content)
}

/// Returns the hash of a script or style as a policy names it.
fn hash_source(content: &str) -> String {
    format!("sha256-{}", STANDARD.encode(digest(&SHA256, content.as_bytes())))
}
