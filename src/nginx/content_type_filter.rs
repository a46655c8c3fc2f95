//! A header filter that keeps a stream's `Content-Type` as it is.
//!
//! nginx's charset filter can be told, by `charset_types`, to add a parameter to any type; clients
//! have to be sent `text/event-stream` and nothing behind it, in UTF-8 always. The handler makes
//! that filter believe that the charset is known, which keeps it from the body; this one runs after
//! it (`module` says how) and takes that name away again.

use super::bits;
use super::guard::guarded;
use super::request::Request;
use nginx_sys::{
    ngx_http_output_header_filter_pt, ngx_http_request_t, ngx_http_top_header_filter, ngx_int_t,
    ngx_str_t, NGX_ERROR,
};
use std::ptr;

/// A `static`, since the filter knows its own responses by this address: each use of a `const` may
/// have a copy of its own.
static EVENT_STREAM: &str = "text/event-stream";
const CHARSET: &str = "utf-8";

static mut NEXT: ngx_http_output_header_filter_pt = None;

/// Puts the filter in front of those that were there before.
///
/// # Safety
/// Called while nginx calls the modules' postconfiguration functions, in their order.
pub(super) unsafe fn install() {
    // SAFETY: configurations are read by one thread, and only then are the two written.
    unsafe {
        NEXT = ngx_http_top_header_filter;
        ngx_http_top_header_filter = Some(filter);
    }
}

impl Request {
    /// Makes the answer an event stream. It has no version that a client could have already, or ask for:
    /// conditions (`If-None-Match: *`, `If-Unmodified-Since`) do not apply to it.
    pub fn set_event_stream(&self) {
        self.set_content_type(EVENT_STREAM);
        // SAFETY: the request is alive.
        unsafe { bits::request::set_disable_not_modified(self.raw(), 1) };
        // SAFETY: the request is alive.
        let headers = unsafe { &mut (*self.raw()).headers_out };
        headers.charset = ngx_str_t { len: CHARSET.len(), data: CHARSET.as_ptr().cast_mut() };
        headers.override_charset = ptr::null_mut();
    }
}

/// Whether the response is an event stream of the module.
///
/// # Safety
/// The request is alive.
pub(super) unsafe fn is_event_stream(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: the caller vouches for the request.
    ptr::eq(unsafe { (*r).headers_out.content_type.data }, EVENT_STREAM.as_ptr())
}

unsafe extern "C" fn filter(r: *mut ngx_http_request_t) -> ngx_int_t {
    guarded(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx hands over a living request.
        unsafe {
            if is_event_stream(r) {
                (*r).headers_out.charset = ngx_str_t::empty();
            }
        }
        // SAFETY: set by `install`, which comes before any request.
        match unsafe { NEXT } {
            // SAFETY: the filter that was there before.
            Some(next) => unsafe { next(r) },
            None => NGX_ERROR as ngx_int_t,
        }
    })
}
