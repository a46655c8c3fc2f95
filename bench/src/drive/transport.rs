//! What clients speak with the server, and those of them that need no generator: they only stay.

use super::{h2, tls};

/// See above.
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

    /// Lets clients come that only stay.
    pub fn hold(self, port: u16, clients: usize) -> Result<Staying, String> {
        match self {
            Self::Plain => Err("clients over HTTP/1.1 are the generator's".into()),
            Self::Tls => tls::Clients::connect(port, clients).map(Staying::Tls),
            Self::Http2 { streams } => {
                h2::Clients::connect(port, clients, streams).map(Staying::Http2)
            }
        }
    }
}

/// Clients whose streams are open, until this is dropped.
pub enum Staying {
    Tls(#[allow(dead_code, reason = "holds the clients")] tls::Clients),
    Http2(h2::Clients),
}

impl Staying {
    /// Reads what has come to them, where that is not done by others. An error when a stream is
    /// open no more.
    pub fn attend(&mut self) -> Result<(), String> {
        match self {
            Self::Tls(_) => Ok(()),
            Self::Http2(clients) => clients.attend(),
        }
    }
}
