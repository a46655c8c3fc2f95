//! Idle clients over HTTP/2: connections with one stream or several, held by this process.

use crate::h2::{open, request, Session};
use crate::socket::{connect_from, receive, send_waiting, Moved};
use rustix::net::sockopt::{set_socket_timeout, Timeout};
use rustix::net::{recv, RecvFlags};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Maximum time for a response.
const PATIENCE: Duration = Duration::from_secs(10);

/// Clients whose streams are open until this value is dropped.
pub struct H2Clients(Vec<H2Connection>);

impl H2Clients {
    /// Opens `count` streams, `streams` of them on each connection.
    pub fn connect(port: u16, count: usize, streams: usize) -> Result<Self, String> {
        let mut clients = Self(Vec::with_capacity(count.div_ceil(streams)));
        let mut left = count;
        while left > 0 {
            let streams = streams.min(left);
            clients.0.push(H2Connection::open(port, clients.0.len(), streams)?);
            left -= streams;
        }
        Ok(clients)
    }

    /// Reads and answers what has arrived meanwhile. Fails if a stream has ended.
    pub fn attend(&mut self) -> Result<(), String> {
        self.0.iter_mut().try_for_each(H2Connection::attend)
    }
}

struct H2Connection {
    fd: OwnedFd,
    session: Session,
}

impl H2Connection {
    /// Opens a connection and waits for the response headers of all its streams.
    fn open(port: u16, number: usize, streams: usize) -> Result<Self, String> {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let fd = connect_from(to, number).map_err(describe)?;
        set_socket_timeout(&fd, Timeout::Recv, Some(PATIENCE)).map_err(describe)?;
        let mut first = Vec::new();
        open(&mut first);
        // Streams opened by clients have odd numbers.
        for stream in (1..).step_by(2).take(streams) {
            request(stream, "localhost", "/s?c=0", &mut first);
        }
        send_waiting(&fd, &first).map_err(describe)?;
        let mut connection = Self { fd, session: Session::default() };
        while connection.session.opened < streams {
            let mut buffer = [0; 4096];
            let (len, _) =
                recv(&connection.fd, &mut buffer, RecvFlags::empty()).map_err(describe)?;
            connection.take(buffer.get(..len).unwrap_or_default())?;
        }
        Ok(connection)
    }

    fn attend(&mut self) -> Result<(), String> {
        let mut buffer = [0; 4096];
        loop {
            match receive(&self.fd, &mut buffer) {
                Moved::Wait => return Ok(()),
                Moved::End => return self.take(&[]),
                Moved::Bytes(len) => self.take(buffer.get(..len).unwrap_or_default())?,
            }
        }
    }

    /// Processes received bytes. No bytes means that the server has closed the connection.
    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        if bytes.is_empty() {
            return Err("the server closed a connection".into());
        }
        let mut reply = Vec::new();
        self.session.take(bytes, &mut reply)?;
        send_waiting(&self.fd, &reply).map_err(describe)
    }
}

fn describe(error: rustix::io::Errno) -> String {
    format!("a client over HTTP/2: {error}")
}
