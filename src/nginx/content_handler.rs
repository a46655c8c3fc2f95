//! The content handler of locations whose requests the module answers.

use super::conf_context::ConfContext;
use super::conf_error::ConfError;
use super::request::{self, Outcome, Request};
use nginx_sys::{ngx_http_request_t, ngx_int_t};
use std::ptr;
use std::sync::OnceLock;

/// The module's function that answers requests. Set once, before nginx reads any location.
static ANSWER: OnceLock<fn(&Request) -> Outcome> = OnceLock::new();

/// Sets the function that answers requests.
pub(super) fn install(answer: fn(&Request) -> Outcome) {
    ANSWER.get_or_init(|| answer);
}

impl ConfContext<'_> {
    /// Makes the module answer the requests of this location. Fails if another directive does so
    /// already.
    pub fn answer_requests(&mut self) -> Result<(), ConfError> {
        if self.inherit_handler() {
            return Ok(());
        }
        Err(ConfError::message("two directives of this location would answer its requests"))
    }

    /// Makes the module answer the requests of this block, as in the enclosing block. Returns false
    /// if another directive does so already.
    pub fn inherit_handler(&mut self) -> bool {
        let core = self.core_location();
        if core.handler.is_some() {
            return false;
        }
        core.handler = Some(answer);
        true
    }

    /// Whether the module still answers the requests of this location, which a later directive may
    /// have changed.
    pub fn answers_requests(&mut self) -> bool {
        let own: unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t = answer;
        self.core_location().handler.is_some_and(|handler| ptr::fn_addr_eq(handler, own))
    }
}

unsafe extern "C" fn answer(r: *mut ngx_http_request_t) -> ngx_int_t {
    let Some(answer) = ANSWER.get() else { return Outcome::status(500).0 };
    // SAFETY: nginx calls content handlers with a living request.
    unsafe {
        request::handle(r, |request| {
            #[cfg(feature = "sanitized")]
            super::planted::commit(request);
            answer(request)
        })
    }
}
