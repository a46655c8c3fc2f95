//! A client: connects, requests its stream, and passes what it receives to the parser.

use crate::body::Body;
use crate::event::Stamp;
use crate::head::{self, Framing};
use crate::socket::{receive, Moved};
use std::os::fd::OwnedFd;

/// The state of a client.
pub enum Client {
    /// Not connected yet, or closed.
    Closed,
    Dialing(OwnedFd),
    /// The request has been sent; holds the received part of the response header.
    Asked(OwnedFd, Vec<u8>),
    Open(OwnedFd, Body),
    /// Open, but never read again.
    Silent(#[allow(dead_code, reason = "holds the connection")] OwnedFd),
}

/// The result of reading from an open client.
pub enum Came {
    Bytes,
    Nothing,
    End,
    Malformed,
}

/// The result of reading a response header.
pub enum Opening {
    NotYet,
    /// The stream is open.
    Open,
    /// The stream is open, and part of it has arrived.
    Begun,
    Refused,
}

impl Client {
    /// Returns the socket, unless the client is closed.
    pub fn fd(&self) -> Option<&OwnedFd> {
        match self {
            Self::Closed => None,
            Self::Dialing(fd) | Self::Asked(fd, _) | Self::Open(fd, _) | Self::Silent(fd) => {
                Some(fd)
            }
        }
    }

    /// Reads the response header. Events that arrive with it are passed to `found`.
    pub fn answer(&mut self, buffer: &mut [u8], found: impl FnMut(Stamp, usize)) -> Opening {
        let Self::Asked(fd, kept) = self else { return Opening::Refused };
        let len = match receive(&*fd, buffer) {
            Moved::Bytes(len) => len,
            Moved::Wait => return Opening::NotYet,
            Moved::End => return Opening::Refused,
        };
        kept.extend_from_slice(buffer.get(..len).unwrap_or_default());
        let Some(head) = head::read(kept) else { return Opening::NotYet };
        if head.status() != 200 {
            return Opening::Refused;
        }
        let (mut body, begun) =
            (Body::new(head.framing == Framing::Chunked), kept.len() > head.len);
        if body.take(kept.get(head.len..).unwrap_or_default(), found).is_err() || body.ended() {
            return Opening::Refused;
        }
        let Self::Asked(fd, _) = std::mem::replace(self, Self::Closed) else {
            return Opening::Refused;
        };
        *self = Self::Open(fd, body);
        if begun {
            Opening::Begun
        } else {
            Opening::Open
        }
    }

    /// Returns how long the client of an open stream is to wait before it reconnects, in ms.
    pub fn retry(&self) -> Option<u32> {
        match self {
            Self::Open(_, body) => body.retry(),
            _ => None,
        }
    }

    /// Reads from an open stream.
    pub fn read(&mut self, buffer: &mut [u8], found: impl FnMut(Stamp, usize)) -> Came {
        let Self::Open(fd, body) = self else { return Came::Nothing };
        match receive(&*fd, buffer) {
            Moved::Wait => Came::Nothing,
            Moved::End => Came::End,
            Moved::Bytes(len) => match body.take(buffer.get(..len).unwrap_or_default(), found) {
                Err(_) => Came::Malformed,
                Ok(()) if body.ended() => Came::End,
                Ok(()) => Came::Bytes,
            },
        }
    }

    /// Stops reading an open stream for good.
    pub fn silence(&mut self) {
        match std::mem::replace(self, Self::Closed) {
            Self::Open(fd, _) => *self = Self::Silent(fd),
            other => *self = other,
        }
    }
}
