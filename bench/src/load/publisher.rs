//! A kept connection that POSTs one event at a time; the others of its queue wait for the answer,
//! so that the events of one connection stay in order.

use crate::event::{self, Stamp};
use crate::head::{self, Framing};
use crate::socket::{connect_waiting, receive, send_waiting, Moved};
use std::collections::VecDeque;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// What has come of the answer to the event that is out.
pub enum Answered {
    NotYet,
    Accepted,
    /// With another status than 2xx, which is told.
    Refused(u16),
    /// The connection is gone.
    Gone,
}

/// One connection and the events that wait for it.
pub struct Publisher {
    fd: OwnedFd,
    queue: VecDeque<Stamp>,
    asking: Option<Stamp>,
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// What all requests to publish have in common.
pub struct Form {
    pub to: SocketAddr,
    pub host: String,
    /// The path; `%d` becomes the channel.
    pub path: String,
    pub size: usize,
}

impl Publisher {
    pub fn connect(form: &Form) -> Result<Self, String> {
        let fd = connect_waiting(form.to).map_err(|error| format!("{}: {error}", form.to))?;
        let (request, answer) = (Vec::with_capacity(1024 + form.size), Vec::with_capacity(4096));
        Ok(Self { fd, queue: VecDeque::with_capacity(1024), asking: None, request, answer })
    }

    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub fn idle(&self) -> bool {
        self.asking.is_none() && self.queue.is_empty()
    }

    /// The lane of the event that is out.
    pub fn lane(&self) -> Option<usize> {
        self.asking.map(|stamp| stamp.lane.into())
    }

    /// Publishes the event, now or when those before it are answered.
    pub fn publish(&mut self, form: &Form, stamp: Stamp) -> Result<(), String> {
        self.queue.push_back(stamp);
        self.go_on(form)
    }

    /// Sends the next request, if none is out.
    pub fn go_on(&mut self, form: &Form) -> Result<(), String> {
        if self.asking.is_some() {
            return Ok(());
        }
        let Some(stamp) = self.queue.pop_front() else { return Ok(()) };
        self.request.clear();
        let (before, after) = form.path.split_once("%d").unwrap_or((&form.path, ""));
        let channel = form.path.contains("%d").then_some(stamp.channel);
        let channel: &dyn std::fmt::Display = channel.as_ref().map_or(&"", |number| number);
        let Form { host, size, .. } = form;
        let written = write!(
            self.request,
            "POST {before}{channel}{after} HTTP/1.1\r\nHost: {host}\r\n\
             Content-Type: text/plain\r\nContent-Length: {size}\r\n\r\n"
        );
        written.map_err(|error| error.to_string())?;
        event::write(&stamp, *size, &mut self.request);
        self.asking = Some(stamp);
        send_waiting(&self.fd, &self.request).map_err(|error| format!("publishing: {error}"))
    }

    /// Reads what came of the answer.
    pub fn read(&mut self, buffer: &mut [u8]) -> Answered {
        match receive(&self.fd, buffer) {
            Moved::Wait => return Answered::NotYet,
            Moved::End => return Answered::Gone,
            Moved::Bytes(len) => {
                self.answer.extend_from_slice(buffer.get(..len).unwrap_or_default())
            }
        }
        let Some(head) = head::read(&self.answer) else { return Answered::NotYet };
        let status = head.status();
        let whole = match head.framing {
            Framing::Length(len) => self.answer.len() >= head.len + len,
            Framing::Chunked => self.answer.ends_with(b"0\r\n\r\n"),
            Framing::Plain => true,
        };
        if !whole {
            return Answered::NotYet;
        }
        self.answer.clear();
        self.asking = None;
        match status {
            200..=299 => Answered::Accepted,
            other => Answered::Refused(other),
        }
    }
}
