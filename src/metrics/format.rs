//! Chooses the format of the figures by a request's `?format=` or `Accept`.

use crate::sse::accept;

/// A format of the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON, once.
    Json,
    /// Prometheus' text format.
    Prometheus,
    /// The page for people.
    Page,
    /// JSON every second, as an event stream.
    Stream,
    /// One word for load balancers.
    Health,
}

/// `?format=` names an unknown format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("format must be json, prometheus, html, or health")]
pub struct UnknownFormat;

impl Format {
    /// Returns the format that a request asks for. `format` takes precedence over `accept`. Of the
    /// accepted formats the one with the highest quality wins, and the first of equals. Without a
    /// preference, or if no format is acceptable, the result is JSON.
    pub fn for_request(
        format: Option<&[u8]>,
        accept: Option<&[u8]>,
    ) -> Result<Format, UnknownFormat> {
        match format {
            None => Ok(accepted(accept.unwrap_or_default())),
            Some(b"json") => Ok(Format::Json),
            Some(b"prometheus") => Ok(Format::Prometheus),
            Some(b"html") => Ok(Format::Page),
            Some(b"health") => Ok(Format::Health),
            Some(_) => Err(UnknownFormat),
        }
    }
}

fn accepted(accept: &[u8]) -> Format {
    accept::preferred(accept, from_media_type).unwrap_or(Format::Json)
}

fn from_media_type(media_type: &[u8]) -> Option<Format> {
    match media_type {
        b"application/json" | b"application/*" | b"*/*" => Some(Format::Json),
        b"text/plain" | b"application/openmetrics-text" => Some(Format::Prometheus),
        b"text/html" | b"text/*" => Some(Format::Page),
        b"text/event-stream" => Some(Format::Stream),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_accept(accept: &str) -> Format {
        Format::for_request(None, Some(accept.as_bytes())).unwrap()
    }

    #[test]
    fn json_is_the_default() {
        assert_eq!(Format::for_request(None, None), Ok(Format::Json));
        for accept in
            ["", "*/*", "application/json", "image/png", "text/html;q=0", "text/html;q=x", ",;,"]
        {
            assert_eq!(by_accept(accept), Format::Json, "{accept}");
        }
    }

    #[test]
    fn scrapers_get_prometheus() {
        for accept in [
            "text/plain; version=0.0.4",
            "TEXT/PLAIN;version=0.0.4;q=1,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
        ] {
            assert_eq!(by_accept(accept), Format::Prometheus, "{accept}");
        }
    }

    #[test]
    fn browsers_get_the_page_and_their_event_sources_the_stream() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        assert_eq!(by_accept(browser), Format::Page);
        assert_eq!(by_accept("text/event-stream"), Format::Stream);
        assert_eq!(by_accept("application/json, text/plain, */*"), Format::Json);
        assert_eq!(by_accept("*/*;q=0.1, text/html;q=0.2"), Format::Page);
    }

    #[test]
    fn the_argument_takes_precedence_over_the_header() {
        let html = Some(b"text/html".as_slice());
        assert_eq!(Format::for_request(Some(b"prometheus"), html), Ok(Format::Prometheus));
        assert_eq!(Format::for_request(Some(b"json"), html), Ok(Format::Json));
        assert_eq!(Format::for_request(Some(b"html"), None), Ok(Format::Page));
        assert_eq!(Format::for_request(Some(b"xml"), html), Err(UnknownFormat));
        assert_eq!(Format::for_request(Some(b""), html), Err(UnknownFormat));
    }
}
