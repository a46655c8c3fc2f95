//! Runs the requests that filters post while a worker sends events (`include` of SSI). nginx runs
//! posted requests after each handler of a connection, but a worker's turn sends to many
//! connections.

use super::{set_log_request, Output};
use crate::nginx::top_level::TopLevel;
use std::cell::RefCell;
use std::rc::Rc;

thread_local! {
    /// Streams whose requests have posted requests since the last `run_posted`.
    static POSTED: RefCell<Vec<Rc<Output>>> = const { RefCell::new(Vec::new()) };
}

impl Output {
    /// Records the stream if its filters have posted requests.
    pub(super) fn note_posted(self: &Rc<Output>) {
        // SAFETY: a request and its main request are alive while `Output::request` is set.
        let posted = self.request.get().is_some_and(|r| unsafe {
            let main = (*r.as_ptr()).main;
            !(*main).posted_requests.is_null()
        });
        if posted {
            POSTED.with(|all| all.borrow_mut().push(self.clone()));
        }
    }
}

/// Runs the requests that filters have posted. Must not be called while a worker is in use, because
/// posted requests can write to streams and end requests.
pub fn run_posted(top: &mut TopLevel) {
    for output in POSTED.take() {
        let Some(r) = output.request.get() else { continue };
        let c = output.connection;
        // SAFETY: the request and its connection are alive. Neither is used afterwards.
        unsafe {
            set_log_request(c, r.as_ptr());
            top.run_posted(c);
        }
    }
}
