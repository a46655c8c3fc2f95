//! A persistent connection for publishing. Events beyond the limit of events in flight are queued,
//! so that the events of one connection stay in order.

use super::form::{Form, Said};
use crate::event::Stamp;
use crate::socket::{connect_waiting, receive, send_waiting, Moved};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

/// The result of a read: confirmations, or the end of the connection.
#[derive(Default)]
pub struct Answered {
    pub accepted: u64,
    pub refused: u64,
    /// Why a publish was rejected.
    pub why: Option<String>,
    pub gone: bool,
}

/// A connection and its queue of events.
pub struct Publisher {
    fd: OwnedFd,
    queue: VecDeque<Stamp>,
    /// Events in flight.
    out: usize,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Publisher {
    pub fn connect(form: &Form) -> Result<Self, String> {
        let fd = connect_waiting(form.to).map_err(|error| format!("{}: {error}", form.to))?;
        let (request, answer) = (Vec::with_capacity(1024 + form.size), Vec::with_capacity(4096));
        Ok(Self { fd, queue: VecDeque::with_capacity(1024), out: 0, request, answer })
    }

    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub fn idle(&self) -> bool {
        self.out == 0 && self.queue.is_empty()
    }

    /// Queues an event; `go_on` publishes it.
    pub fn add(&mut self, stamp: Stamp) {
        self.queue.push_back(stamp);
    }

    /// Sends as many queued events as may be in flight.
    pub fn go_on(&mut self, form: &mut Form) -> Result<(), String> {
        self.request.clear();
        while self.out < form.at_once() {
            let Some(stamp) = self.queue.pop_front() else { break };
            form.write(&stamp, &mut self.request);
            self.out += 1;
        }
        send_waiting(&self.fd, &self.request).map_err(|error| format!("publishing: {error}"))
    }

    /// Reads responses.
    pub fn read(&mut self, buffer: &mut [u8], form: &Form) -> Answered {
        let mut answered = Answered::default();
        match receive(&self.fd, buffer) {
            Moved::Wait => return answered,
            Moved::End => return Answered { gone: true, ..answered },
            Moved::Bytes(len) => {
                self.answer.extend_from_slice(buffer.get(..len).unwrap_or_default());
            }
        }
        let mut read = 0;
        while let Some((said, len)) = form.read(self.answer.get(read..).unwrap_or_default()) {
            read += len;
            self.out = self.out.saturating_sub(1);
            match said {
                Said::Accepted => answered.accepted += 1,
                Said::Refused(why) => {
                    answered.refused += 1;
                    answered.why = Some(why);
                }
            }
        }
        self.answer.drain(..read);
        answered
    }
}
