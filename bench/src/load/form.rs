//! How an event is published: by an HTTP request, as a plain message of Redis, or as a durable
//! event by the module's script.

use super::config::Way;
use crate::event::{self, Stamp};
use crate::head::{self, Framing};
use crate::resp::{self, RedisConnection, Reply};
use std::io::Write;
use std::net::SocketAddr;

const SCRIPT: &str = include_str!("../../../lua/publish.lua");

/// The parts that all publishes have in common.
pub struct Form {
    pub to: SocketAddr,
    pub size: usize,
    kind: Kind,
    data: Vec<u8>,
}

enum Kind {
    Post {
        host: String,
        path: String,
    },
    Plain,
    /// By the script with this digest.
    Durable(String),
}

/// The meaning of a response.
#[derive(Debug, PartialEq)]
pub enum Said {
    Accepted,
    Refused(String),
}

impl Form {
    /// Creates the form for the server `to`, which clients call `host`.
    pub fn new(way: &Way, to: SocketAddr, host: &str, size: usize) -> Result<Self, String> {
        let (to, kind) = match way {
            Way::None => (to, Kind::Plain),
            Way::Post(path) => (to, Kind::Post { host: host.to_owned(), path: path.clone() }),
            Way::Plain(redis) => (*redis, Kind::Plain),
            Way::Durable(redis) => {
                let digest = RedisConnection::open(*redis)?.ask(&["SCRIPT", "LOAD", SCRIPT])?;
                (*redis, Kind::Durable(digest))
            }
        };
        Ok(Self { to, size, kind, data: Vec::with_capacity(size) })
    }

    /// Maximum number of events in flight on one connection.
    pub fn at_once(&self) -> usize {
        match self.kind {
            Kind::Post { .. } => 1,
            Kind::Plain | Kind::Durable(_) => usize::MAX,
        }
    }

    /// Appends the bytes that publish an event.
    pub fn write(&mut self, stamp: &Stamp, out: &mut Vec<u8>) {
        self.data.clear();
        event::write(stamp, self.size, &mut self.data);
        let channel = stamp.channel;
        match &self.kind {
            Kind::Post { host, path } => {
                let (before, after) = path.split_once("%d").unwrap_or((path, ""));
                let channel = path.contains("%d").then_some(channel);
                let channel: &dyn std::fmt::Display = channel.as_ref().map_or(&"", |number| number);
                // Writing to a Vec cannot fail.
                let _ = write!(
                    out,
                    "POST {before}{channel}{after} HTTP/1.1\r\nHost: {host}\r\n\
                     Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
                    self.data.len()
                );
                out.extend_from_slice(&self.data);
            }
            Kind::Plain => {
                resp::write(&[b"PUBLISH", channel.to_string().as_bytes(), &self.data], out);
            }
            Kind::Durable(digest) => {
                let key = format!("sse:{{sse}}:s:{channel}");
                resp::write(
                    &[b"EVALSHA", digest.as_bytes(), b"1", key.as_bytes(), &self.data],
                    out,
                );
            }
        }
    }

    /// Parses a response. Returns its meaning and its length in bytes; `None` if it is incomplete.
    pub fn read(&self, bytes: &[u8]) -> Option<(Said, usize)> {
        match self.kind {
            Kind::Post { .. } => read_head(bytes),
            Kind::Plain | Kind::Durable(_) => resp::read(bytes).map(|(answer, len)| match answer {
                Reply::Value(_) => (Said::Accepted, len),
                Reply::Error(why) => {
                    (Said::Refused(String::from_utf8_lossy(why).into_owned()), len)
                }
            }),
        }
    }
}

fn read_head(bytes: &[u8]) -> Option<(Said, usize)> {
    let head = head::read(bytes)?;
    let whole = match head.framing {
        Framing::Length(len) => bytes.len() >= head.len + len,
        Framing::Chunked => bytes.ends_with(b"0\r\n\r\n"),
        Framing::Plain => true,
    };
    // Only one is in flight at a time, so everything received belongs to this response.
    whole.then(|| match head.status() {
        200..=299 => (Said::Accepted, bytes.len()),
        other => (Said::Refused(other.to_string()), bytes.len()),
    })
}
