//! The worker's handle of a client's connection, with or without a request.

use super::{Lean, Output};
use crate::nginx::request::Request;
use crate::worker::{Batch, Sent, Socket};
use std::rc::Rc;

/// The worker's handle of a client's connection.
pub enum Client {
    /// A stream that is a request of nginx.
    Request(Rc<Output>),
    /// A lean stream, whose request has been released.
    Lean(Rc<Lean>),
}

impl Socket for Client {
    fn send(&mut self, batch: &Batch) -> Sent {
        match self {
            Client::Request(output) => output.send(batch),
            Client::Lean(lean) => lean.send(batch),
        }
    }

    fn is_interrupted_by_reset(&self) -> bool {
        match self {
            Client::Request(output) => {
                output.with_request(Request::is_interrupted_by_reset).unwrap_or_default()
            }
            Client::Lean(_) => false,
        }
    }

    fn prefetch(&self) -> usize {
        let connection = match self {
            Client::Request(output) => output.request.get().map(|_| output.connection),
            Client::Lean(lean) => lean.alive(),
        };
        // nginx reads the level of the connection's log whenever it sends.
        // SAFETY: the connection and its log outlive `Output::request`, and a lean stream forgets
        // its connection when it closes it.
        connection
            .map_or(0, |c| unsafe { (*c).fd as usize ^ (*c).sent as usize ^ (*(*c).log).log_level })
    }
}
