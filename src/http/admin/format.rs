//! The format in which a GET request of `sse_admin` is answered.

use super::AdminError;
use crate::nginx::request::Request;
use crate::sse::accept;

/// A format of a response to GET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminFormat {
    /// A list of channels, or a channel.
    Json,
    /// The page for people.
    Page,
    /// A channel's events.
    Stream,
}

impl AdminFormat {
    /// Returns the format that a request asks for. The argument `format` takes precedence over
    /// `Accept`. Without a preference, or if no format is acceptable, the result is JSON.
    pub fn for_request(request: &Request) -> Result<AdminFormat, AdminError> {
        let accept = request.header("Accept").unwrap_or_default();
        match request.argument("format") {
            None => match accept::preferred(accept, from_media_type) {
                // The output of a subrequest has to end.
                Some(AdminFormat::Stream) if request.is_subrequest() => Ok(AdminFormat::Json),
                preferred => Ok(preferred.unwrap_or(AdminFormat::Json)),
            },
            Some(b"json") => Ok(AdminFormat::Json),
            Some(b"html") => Ok(AdminFormat::Page),
            Some(_) => Err(AdminError::new(400, "format must be json or html")),
        }
    }
}

fn from_media_type(media_type: &[u8]) -> Option<AdminFormat> {
    match media_type {
        b"application/json" | b"application/*" | b"*/*" => Some(AdminFormat::Json),
        b"text/html" | b"text/*" => Some(AdminFormat::Page),
        b"text/event-stream" => Some(AdminFormat::Stream),
        _ => None,
    }
}
