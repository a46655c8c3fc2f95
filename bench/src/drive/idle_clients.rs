//! Clients that need no generator: they open a stream and stay idle.

use super::h2::H2Clients;
use super::tls::TlsClients;
use super::transport::Transport;

/// Clients whose streams are open until this value is dropped.
pub enum IdleClients {
    Tls(#[allow(dead_code, reason = "holds the clients")] TlsClients),
    Http2(H2Clients),
}

impl IdleClients {
    /// Connects clients over a transport other than plain HTTP/1.1, which the generator handles.
    pub fn connect(transport: Transport, port: u16, clients: usize) -> Result<Self, String> {
        match transport {
            Transport::Plain => Err("clients over HTTP/1.1 are the generator's".into()),
            Transport::Tls => TlsClients::connect(port, clients).map(Self::Tls),
            Transport::Http2 { streams } => {
                H2Clients::connect(port, clients, streams).map(Self::Http2)
            }
        }
    }

    /// Processes what the clients have received, if no other process does that. Fails if a stream
    /// has ended.
    pub fn attend(&mut self) -> Result<(), String> {
        match self {
            Self::Tls(_) => Ok(()),
            Self::Http2(clients) => clients.attend(),
        }
    }
}
