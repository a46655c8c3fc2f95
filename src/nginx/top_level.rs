//! Proof that requests may be freed: that the caller is at the top of nginx's event loop.
//!
//! A request that is finalized and whose posted requests are run may be freed, with all of its
//! memory. nginx runs posted requests itself once a handler of a request has returned, so code that
//! such a handler calls never frees the request under it. Events that are no request's have to do
//! both, and must know that no handler of a request is on the stack. `TopLevel` is the proof:
//! whatever may free a request takes one, and only the handlers of such events have one to give.

use nginx_sys::{ngx_connection_t, ngx_http_finalize_request, ngx_http_run_posted_requests};
use nginx_sys::{ngx_http_request_t, ngx_int_t};
use std::marker::PhantomData;

/// Proof that nginx's event loop has called an event of the module, and no handler of a request is
/// running. Taken by exclusive reference, so that no request is freed while another is being ended.
pub struct TopLevel(PhantomData<*mut ()>);

impl TopLevel {
    /// # Safety
    /// The caller is the handler of a timer, of a posted event, or of a descriptor that no request
    /// has, and nginx's event loop has called it.
    pub(super) unsafe fn enter() -> TopLevel {
        TopLevel(PhantomData)
    }

    /// Ends a request, and runs what it has posted. Afterwards the request may be gone.
    ///
    /// # Safety
    /// The request is alive.
    pub(super) unsafe fn finalize(&mut self, r: *mut ngx_http_request_t, status: ngx_int_t) {
        // SAFETY: the caller vouches for the request, whose connection outlives it; once it is
        // finalized only the connection is used, as in nginx's own code.
        unsafe {
            let c = (*r).connection;
            ngx_http_finalize_request(r, status);
            self.run_posted(c);
        }
    }

    /// Runs what the request of a connection has posted. Afterwards the request may be gone.
    ///
    /// # Safety
    /// The connection is alive and serves requests, or did until a moment ago.
    pub(super) unsafe fn run_posted(&mut self, c: *mut ngx_connection_t) {
        // SAFETY: the caller vouches for the connection.
        unsafe { ngx_http_run_posted_requests(c) };
    }
}
