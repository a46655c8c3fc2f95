//! A header filter that keeps the `Content-Type` of streams unchanged.
//!
//! With `charset_types`, nginx's charset filter can convert any content type and add a parameter to
//! it. Streams must be sent as `text/event-stream` without parameters, and in UTF-8. So the handler
//! sets the charset of the response, which makes the charset filter leave the body alone. This
//! filter runs after the charset filter (see the module order in `crate::module`) and removes the
//! charset again.

use super::guard::guarded;
use super::request::Request;
use nginx_sys::{
    ngx_http_output_header_filter_pt, ngx_http_request_t, ngx_http_top_header_filter, ngx_int_t,
    ngx_str_t, NGX_ERROR,
};
use std::ptr;

/// The content type of streams. The filter recognizes them by this address, so it is a `static`: a
/// `const` may have several addresses.
static EVENT_STREAM: &str = "text/event-stream";
const CHARSET: &str = "utf-8";

static mut NEXT: ngx_http_output_header_filter_pt = None;

/// Installs the filter before those that are installed already.
///
/// # Safety
/// Called while nginx calls the modules' postconfiguration functions, in their order.
pub(super) unsafe fn install() {
    // SAFETY: both are written only while nginx reads a configuration, on its only thread.
    unsafe {
        NEXT = ngx_http_top_header_filter;
        ngx_http_top_header_filter = Some(filter);
    }
}

impl Request {
    /// Makes the response an event stream.
    pub fn set_event_stream(&self) {
        self.set_content_type(EVENT_STREAM);
        self.ignore_conditions();
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
        // SAFETY: nginx passes a living request.
        unsafe {
            if is_event_stream(r) {
                (*r).headers_out.charset = ngx_str_t::empty();
            }
        }
        // SAFETY: `install` has set it before any request is served.
        match unsafe { NEXT } {
            // SAFETY: the next filter, with the argument of this one.
            Some(next) => unsafe { next(r) },
            None => NGX_ERROR as ngx_int_t,
        }
    })
}
