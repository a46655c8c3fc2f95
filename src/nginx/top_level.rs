//! Proof that the caller is at the top of nginx's event loop, where requests may be freed.
//!
//! Finalizing a request and running its posted requests may free it. In a request's handler, nginx
//! runs posted requests only after the handler has returned, so the handler's own request is not
//! freed while it runs. Events that do not belong to a request have to run posted requests
//! themselves, which is safe only if no handler of a request is on the stack. `TopLevel` proves
//! that: every function that can free a request takes one, and only the handlers of such events can
//! create one.

use nginx_sys::{ngx_connection_t, ngx_http_finalize_request, ngx_http_run_posted_requests};
use nginx_sys::{ngx_http_request_t, ngx_int_t};
use std::marker::PhantomData;

/// Proof that nginx's event loop has called an event of the module, and that no handler of a
/// request is running. It is passed by exclusive reference, so that no request is freed while
/// another is being ended.
pub struct TopLevel(PhantomData<*mut ()>);

impl TopLevel {
    /// Creates the proof.
    ///
    /// # Safety
    /// The caller is the handler of a timer, a posted event, or a descriptor that does not belong
    /// to a request, and nginx's event loop has called it.
    pub(super) unsafe fn enter() -> TopLevel {
        TopLevel(PhantomData)
    }

    /// Finalizes a request and runs its posted requests, which may free the request.
    ///
    /// # Safety
    /// The request is alive.
    pub(super) unsafe fn finalize(&mut self, r: *mut ngx_http_request_t, status: ngx_int_t) {
        // SAFETY: the caller vouches for the request, whose connection outlives it. Once the
        // request is finalized, only the connection is used, as in nginx's own code.
        unsafe {
            let c = (*r).connection;
            ngx_http_finalize_request(r, status);
            self.run_posted(c);
        }
    }

    /// Runs the posted requests of a connection, which may free its request.
    ///
    /// # Safety
    /// The connection serves a request, or served one that was finalized just now.
    pub(super) unsafe fn run_posted(&mut self, c: *mut ngx_connection_t) {
        // SAFETY: the caller vouches for the connection.
        unsafe { ngx_http_run_posted_requests(c) };
    }
}
