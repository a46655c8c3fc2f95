//! A channel of the floor: its clients, and a buffer of the chunks that some of them still have to
//! receive. A client is a position in that buffer.

use super::Connection;
use crate::socket::{send, Moved};
use rustix::event::epoll::{self, EventData, EventFlags};
use std::io::Write;
use std::os::fd::OwnedFd;

/// Bytes that are buffered for clients that lag. Clients that lag further receive nothing any more.
const KEPT: usize = 8 << 20;

/// How many events are sent with one system call.
#[derive(Clone, Copy, PartialEq)]
pub enum Sending {
    Plain,
    Coalescing,
}

/// A client: its connection, and the number of the channel's bytes sent to it.
struct Receiver {
    connection: u32,
    lost: bool,
    sent: u64,
}

/// A channel and its clients.
#[derive(Default)]
pub struct Channel {
    clients: Vec<Receiver>,
    chunks: Vec<u8>,
    /// Number of bytes before `chunks`, and the offset of the newest chunk.
    before: u64,
    newest: u64,
}

impl Channel {
    pub fn join(&mut self, connection: u32) {
        let sent = self.before + self.chunks.len() as u64;
        self.clients.push(Receiver { connection, lost: false, sent });
    }

    pub fn leave(&mut self, connection: u32) {
        if let Some(place) = self.clients.iter().position(|one| one.connection == connection) {
            self.clients.swap_remove(place);
        }
    }

    /// Frames an event like the module does: data, an id, and a blank line in one chunk.
    pub fn append(&mut self, data: &[u8]) {
        if self.chunks.len() > KEPT {
            let gone = self.chunks.len() / 2;
            self.chunks.drain(..gone);
            self.before += gone as u64;
        }
        self.newest = self.before + self.chunks.len() as u64;
        const ID: &[u8] = b"\nid: 1763807585123-0-2891336453\n\n";
        let len = b"data: ".len() + data.len() + ID.len();
        // Writing to a Vec cannot fail.
        let _ = write!(self.chunks, "{len:x}\r\ndata: ");
        self.chunks.extend_from_slice(data);
        self.chunks.extend_from_slice(ID);
        self.chunks.extend_from_slice(b"\r\n");
    }

    /// Sends the newest chunk to all clients that have received everything before it.
    pub fn send_newest(&mut self, epoll: &OwnedFd, connections: &[Connection]) {
        let Self { clients, chunks, before, newest } = self;
        let start = (*newest - *before) as usize;
        let chunk = chunks.get(start..).unwrap_or_default();
        for client in clients.iter_mut().filter(|client| client.sent == *newest) {
            give(epoll, client, chunk, connections.get(client.connection as usize));
        }
    }

    /// Sends all clients everything that they lack, with one call each.
    pub fn send_all(&mut self, epoll: &OwnedFd, connections: &[Connection]) {
        let newest = self.newest;
        for client in &mut self.clients {
            let start = client.sent.saturating_sub(self.before) as usize;
            if client.sent >= self.before && client.sent <= newest && !client.lost {
                let chunks = self.chunks.get(start..).unwrap_or_default();
                give(epoll, client, chunks, connections.get(client.connection as usize));
            }
        }
    }

    /// Sends a client what it lacks, because its socket accepts bytes again.
    pub fn catch_up(&mut self, epoll: &OwnedFd, index: u32, connection: &Connection) {
        let end = self.before + self.chunks.len() as u64;
        let Some(client) = self.clients.iter_mut().find(|one| one.connection == index) else {
            return;
        };
        let Some(start) = client.sent.checked_sub(self.before) else {
            client.lost = true; // its place is gone, and with it the framing
            return arm(epoll, client, connection, EventFlags::IN);
        };
        let chunks = self.chunks.get(start as usize..).unwrap_or_default();
        give(epoll, client, chunks, Some(connection));
        if client.sent == end {
            arm(epoll, client, connection, EventFlags::IN);
        }
    }
}

/// Calls `send` once. If the socket does not accept everything, it is watched until it accepts
/// more.
fn give(epoll: &OwnedFd, client: &mut Receiver, bytes: &[u8], connection: Option<&Connection>) {
    let Some(connection) = connection else { return };
    let Some(fd) = connection.fd() else { return };
    let taken = match send(fd, bytes) {
        Moved::Bytes(len) => len,
        Moved::Wait => 0,
        Moved::End => return, // its end will be read
    };
    client.sent += taken as u64;
    if taken < bytes.len() {
        arm(epoll, client, connection, EventFlags::IN | EventFlags::OUT);
    }
}

fn arm(epoll: &OwnedFd, client: &Receiver, connection: &Connection, flags: EventFlags) {
    if let Some(fd) = connection.fd() {
        let data = EventData::new_u64(client.connection.into());
        // A socket that cannot be watched is being closed.
        let _ = epoll::modify(epoll, fd, data, flags);
    }
}
