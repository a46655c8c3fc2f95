//! The floor: the minimum that a server of event streams can do. It holds the sockets, answers
//! requests, and turns each POST into a prepared chunk that it sends to each client of the channel.
//!
//! By default it calls `send` once for each event and client. With `--coalesce`, it first reads
//! everything that has arrived on all sockets, and then sends each client everything that it lacks
//! at once. It has no history, no heartbeats, no limits, and no fairness: nothing that a real
//! server needs, and is therefore the baseline for them.

mod channel;
mod request;

use crate::flags::Flags;
use crate::socket::{receive, send, send_waiting, Moved};
use channel::{Channel, Sending};
use request::Request;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{accept_with, SocketFlags};
use std::collections::HashMap;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

const LISTENER: u64 = u64::MAX;

/// A connection. It has 16 bytes, so that nearly all memory of the floor is the kernel's.
pub struct Connection {
    fd: Option<OwnedFd>,
    /// Its channel; `None` before its request.
    channel: Option<u32>,
}

struct Floor {
    listener: TcpListener,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    free: Vec<u32>,
    channels: HashMap<u32, Channel>,
    sending: Sending,
    /// Channels with events that have not been sent.
    dirty: Vec<u32>,
    /// Incomplete requests by connection.
    parts: HashMap<usize, Vec<u8>>,
    buffer: Vec<u8>,
}

pub fn main(mut flags: Flags) -> Result<ExitCode, String> {
    let port: u16 = flags.parsed("port")?.ok_or("--port is needed")?;
    let sending = if flags.switch("coalesce") { Sending::Coalescing } else { Sending::Plain };
    flags.finish()?;
    let mut floor = Floor::new(port, sending).map_err(|error| format!("port {port}: {error}"))?;
    loop {
        floor.turn().map_err(|error| format!("epoll: {error}"))?;
    }
}

impl Floor {
    fn new(port: u16, sending: Sending) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        rustix::net::listen(&listener, 4096)?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self {
            listener,
            epoll,
            connections: Vec::new(),
            free: Vec::new(),
            channels: HashMap::new(),
            sending,
            dirty: Vec::new(),
            parts: HashMap::new(),
            buffer: vec![0; 256 << 10],
        })
    }

    fn turn(&mut self) -> Result<(), Errno> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(512);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        for event in events {
            let (flags, data) = (event.flags, event.data);
            match data.u64() {
                LISTENER => self.accept(),
                index if flags.contains(EventFlags::OUT) => self.catch_up(index as usize),
                index => self.read_request(index as usize),
            }
        }
        while let Some(number) = self.dirty.pop() {
            if let Some(channel) = self.channels.get_mut(&number) {
                channel.send_all(&self.epoll, &self.connections);
            }
        }
        Ok(())
    }

    fn accept(&mut self) {
        while let Ok(fd) = accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
        {
            let index = self.free.pop().unwrap_or(self.connections.len() as u32) as usize;
            let data = EventData::new_u64(index as u64);
            if epoll::add(&self.epoll, &fd, data, EventFlags::IN).is_err() {
                continue;
            }
            let connection = Connection { fd: Some(fd), channel: None };
            match self.connections.get_mut(index) {
                Some(place) => *place = connection,
                None => self.connections.push(connection),
            }
        }
    }

    /// Reads from a connection: a request, part of one, or its end.
    fn read_request(&mut self, index: usize) {
        let Some(fd) = self.connections.get(index).and_then(Connection::fd) else { return };
        let len = match receive(fd, &mut self.buffer) {
            Moved::Bytes(len) => len,
            Moved::Wait => return,
            Moved::End => return self.close(index),
        };
        let came = self.buffer.get(..len).unwrap_or_default();
        let mut joined = self.parts.remove(&index);
        if let Some(joined) = &mut joined {
            joined.extend_from_slice(came);
        }
        match request::read(joined.as_deref().unwrap_or(came)) {
            Request::Part => {
                let kept = joined.unwrap_or_else(|| came.to_vec());
                self.parts.insert(index, kept);
            }
            Request::Stream(channel) => self.open(index, channel),
            Request::Publish(number, data) => {
                let channel = self.channels.entry(number).or_default();
                channel.append(data);
                match self.sending {
                    Sending::Plain => channel.send_newest(&self.epoll, &self.connections),
                    Sending::Coalescing if self.dirty.contains(&number) => {}
                    Sending::Coalescing => self.dirty.push(number),
                }
                self.answer(index, request::CREATED);
            }
            Request::File => self.answer(index, request::FILE),
            Request::Unknown => self.answer(index, request::NOT_FOUND),
        }
    }

    fn open(&mut self, index: usize, number: u32) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let Some(fd) = connection.fd() else { return };
        let begun = set_tcp_nodelay(fd, true).is_ok() && begins(fd);
        connection.channel = Some(number);
        if !begun {
            return self.close(index);
        }
        self.channels.entry(number).or_default().join(index as u32);
    }

    fn answer(&mut self, index: usize, answer: &str) {
        let Some(fd) = self.connections.get(index).and_then(Connection::fd) else { return };
        if send_waiting(fd, answer.as_bytes()).is_err() {
            self.close(index);
        }
    }

    /// Continues to send to a client whose socket was full.
    fn catch_up(&mut self, index: usize) {
        let Some(connection) = self.connections.get(index) else { return };
        let channel = connection.channel.and_then(|number| self.channels.get_mut(&number));
        if let Some(channel) = channel {
            channel.catch_up(&self.epoll, index as u32, connection);
        }
    }

    fn close(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        connection.fd = None;
        let channel = connection.channel.take().and_then(|number| self.channels.get_mut(&number));
        if let Some(channel) = channel {
            channel.leave(index as u32);
        }
        self.free.push(index as u32);
    }
}

impl Connection {
    pub fn fd(&self) -> Option<&OwnedFd> {
        self.fd.as_ref()
    }
}

/// Sends the response header of a stream.
fn begins(fd: &OwnedFd) -> bool {
    matches!(send(fd, request::STREAM.as_bytes()), Moved::Bytes(_))
}
