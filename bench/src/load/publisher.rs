//! A kept connection to publish on. Events that may not be out yet wait for the answers to those
//! before them, so that the events of one connection stay in order.

use super::form::{Form, Said};
use crate::event::Stamp;
use crate::socket::{connect_waiting, receive, send_waiting, Moved};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

/// What a read came to: answers that say so, or the end of the connection.
#[derive(Default)]
pub struct Answered {
    pub accepted: u64,
    pub refused: u64,
    /// Why one was refused.
    pub why: Option<String>,
    pub gone: bool,
}

/// One connection and the events that wait for it.
pub struct Publisher {
    fd: OwnedFd,
    queue: VecDeque<Stamp>,
    /// Events that are not answered.
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

    /// Has the event published when `go_on` finds that its turn has come.
    pub fn add(&mut self, stamp: Stamp) {
        self.queue.push_back(stamp);
    }

    /// Sends what may be out.
    pub fn go_on(&mut self, form: &mut Form) -> Result<(), String> {
        self.request.clear();
        while self.out < form.at_once() {
            let Some(stamp) = self.queue.pop_front() else { break };
            form.write(&stamp, &mut self.request);
            self.out += 1;
        }
        send_waiting(&self.fd, &self.request).map_err(|error| format!("publishing: {error}"))
    }

    /// Reads what has come of answers.
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
