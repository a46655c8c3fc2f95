//! What clients speak with the server.

/// A transport of HTTP.
#[derive(Clone, Copy, PartialEq)]
pub enum Transport {
    /// HTTP/1.1 in cleartext.
    Plain,
    /// TLS 1.3; clients only stay.
    Tls,
    /// HTTP/2 in cleartext, known beforehand, with so many streams a connection; clients only stay.
    Http2 { streams: usize },
}

impl Transport {
    /// What nginx's `listen` says of it.
    pub fn listens(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Tls => " ssl",
            Self::Http2 { .. } => " http2",
        }
    }
}
