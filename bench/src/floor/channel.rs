//! One channel of the floor: its clients, and the chunks that some of them may still have to get,
//! one behind the other. A client is a position in them.

use super::Connection;
use crate::socket::{send, Moved};
use rustix::event::epoll::{self, EventData, EventFlags};
use std::io::Write;
use std::os::fd::OwnedFd;

/// Bytes that are kept for clients that lag; who lags further gets nothing any more.
const KEPT: usize = 8 << 20;

/// How many events go out with one system call.
#[derive(Clone, Copy, PartialEq)]
pub enum Sending {
    Plain,
    Coalescing,
}

/// A client: its connection, and how many bytes of the channel it has been sent.
struct Client {
    connection: u32,
    lost: bool,
    sent: u64,
}

/// See above.
#[derive(Default)]
pub struct Channel {
    clients: Vec<Client>,
    chunks: Vec<u8>,
    /// How many bytes came before `chunks`, and where its newest chunk begins.
    before: u64,
    newest: u64,
}

impl Channel {
    pub fn join(&mut self, connection: u32) {
        let sent = self.before + self.chunks.len() as u64;
        self.clients.push(Client { connection, lost: false, sent });
    }

    pub fn leave(&mut self, connection: u32) {
        if let Some(place) = self.clients.iter().position(|one| one.connection == connection) {
            self.clients.swap_remove(place);
        }
    }

    /// Frames an event as the module does: data, an id, an empty line, in one chunk.
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

    /// Sends the newest chunk to all who have had everything before it.
    pub fn send_newest(&mut self, epoll: &OwnedFd, connections: &[Connection]) {
        let Self { clients, chunks, before, newest } = self;
        let start = (*newest - *before) as usize;
        let chunk = chunks.get(start..).unwrap_or_default();
        for client in clients.iter_mut().filter(|client| client.sent == *newest) {
            give(epoll, client, chunk, connections.get(client.connection as usize));
        }
    }

    /// Sends everybody all that is waiting, in one call each.
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

    /// Sends a client what is waiting for it, because its socket takes bytes again.
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

/// One `send`; when the socket does not take it all, it is watched until it takes more.
fn give(epoll: &OwnedFd, client: &mut Client, bytes: &[u8], connection: Option<&Connection>) {
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

fn arm(epoll: &OwnedFd, client: &Client, connection: &Connection, flags: EventFlags) {
    if let Some(fd) = connection.fd() {
        let data = EventData::new_u64(client.connection.into());
        // A socket that cannot be watched is one that is being closed.
        let _ = epoll::modify(epoll, fd, data, flags);
    }
}
