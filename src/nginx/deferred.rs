//! Deferred responses: requests that are answered later, when a result from outside nginx has
//! arrived.

use super::bits;
use super::output::set_log_request;
use super::pool::NoMemory;
use super::request::{Outcome, Request};
use super::top_level::TopLevel;
use nginx_sys::ngx_http_request_t;
use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;

/// A request that waits for its response. It may end before.
pub struct DeferredResponse(Cell<Option<NonNull<ngx_http_request_t>>>);

impl Request {
    /// Makes the request wait for its response, for a content handler that has not read the body.
    /// The handler returns the outcome.
    pub fn answer_later(&self) -> Result<(Rc<DeferredResponse>, Outcome), NoMemory> {
        let later = self.later()?;
        // SAFETY: the request and its main request are alive. Finalizing the request decrements the
        // count, as for any handler that returns NGX_DONE.
        unsafe {
            let main = (*self.raw()).main;
            bits::request::set_count(main, bits::request::count(main) + 1);
        }
        Ok((later, Outcome::DONE))
    }

    /// Makes the request wait for its response, for a handler of the body, which then returns no
    /// outcome.
    pub fn later(&self) -> Result<Rc<DeferredResponse>, NoMemory> {
        let later = Rc::new(DeferredResponse(Cell::new(NonNull::new(self.raw()))));
        let ended = later.clone();
        self.on_end(move || ended.0.set(None))?;
        Ok(later)
    }
}

impl DeferredResponse {
    /// Returns whether the request still waits.
    pub fn is_awaited(&self) -> bool {
        self.0.get().is_some()
    }

    /// Calls `respond` to send the response, if the request still waits, and ends the request with
    /// the outcome.
    pub fn answer(&self, top: &mut TopLevel, respond: impl FnOnce(&Request) -> Outcome) {
        let Some(r) = self.0.take() else { return };
        let r = r.as_ptr();
        // SAFETY: the request has not ended; its end clears the pointer.
        unsafe {
            set_log_request((*r).connection, r);
            let outcome = Request::from_raw(r).map_or(Outcome::ERROR, |request| respond(&request));
            top.finalize(r, outcome.0);
        }
    }
}
