//! The protocols that clients use.

/// A transport of HTTP.
#[derive(Clone, Copy, PartialEq)]
pub enum Transport {
    /// HTTP/1.1 in cleartext.
    Plain,
    /// TLS 1.3; for idle clients only.
    Tls,
    /// HTTP/2 in cleartext with prior knowledge, with this many streams per connection; for idle
    /// clients only.
    Http2 { streams: usize },
}

impl Transport {
    /// Returns the parameter of nginx's `listen` directive.
    pub fn listens(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Tls => " ssl",
            Self::Http2 { .. } => " http2",
        }
    }
}
