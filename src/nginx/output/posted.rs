//! Requests that filters make out of events (SSI's `include`): nginx runs them after it has called a
//! handler of the connection. After a turn of the worker, which writes to many, this does.

use super::{set_log_request, Output};
use crate::nginx::top_level::TopLevel;
use std::cell::RefCell;
use std::rc::Rc;

thread_local! {
    /// Streams whose requests have posted others since the last call.
    static POSTED: RefCell<Vec<Rc<Output>>> = const { RefCell::new(Vec::new()) };
}

impl Output {
    /// Remembers the stream if its filters have posted requests.
    pub(super) fn note_posted(self: &Rc<Output>) {
        // SAFETY: a request is alive for as long as its output has it, and so is its main request.
        let posted = self.request.get().is_some_and(|r| unsafe {
            let main = (*r.as_ptr()).main;
            !(*main).posted_requests.is_null()
        });
        if posted {
            POSTED.with(|all| all.borrow_mut().push(self.clone()));
        }
    }
}

/// Runs what filters have posted while the worker wrote. The worker is not in use any more by then: what
/// runs may write to streams and end requests.
pub fn run_posted(top: &mut TopLevel) {
    for output in POSTED.take() {
        let Some(r) = output.request.get() else { continue };
        let c = output.connection;
        // SAFETY: the request is alive, and so is its connection; afterwards neither is used.
        unsafe {
            set_log_request(c, r.as_ptr());
            top.run_posted(c);
        }
    }
}
