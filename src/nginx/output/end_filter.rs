//! Detects when another filter ends a stream's response. A filter can mark any buffer as the last
//! one of the response (in Lua, `ngx.arg[2]` of `body_filter_by_lua_block`), which nginx does not
//! report to the handler. This body filter runs after such filters and sees the mark.

use crate::nginx::bits;
use crate::nginx::content_type_filter::is_event_stream;
use crate::nginx::guard::guarded;
use nginx_sys::{
    ngx_chain_t, ngx_http_output_body_filter_pt, ngx_http_request_t, ngx_http_top_body_filter,
    ngx_int_t, NGX_ERROR,
};
use std::cell::Cell;
use std::ptr;

static mut NEXT: ngx_http_output_body_filter_pt = None;

thread_local! {
    /// The event stream whose last buffer has been seen most recently.
    static ENDED: Cell<*mut ngx_http_request_t> = const { Cell::new(ptr::null_mut()) };
}

/// Installs the filter before those that are installed already.
///
/// # Safety
/// Called while nginx calls the modules' postconfiguration functions, in their order.
pub(in crate::nginx) unsafe fn install() {
    // SAFETY: both are written only while nginx reads a configuration, on its only thread.
    unsafe {
        NEXT = ngx_http_top_body_filter;
        ngx_http_top_body_filter = Some(filter);
    }
}

/// Calls `pass`, which passes a part of a response's body to nginx. Also returns whether a filter
/// ended the response.
pub(super) fn detect_end<R>(r: *mut ngx_http_request_t, pass: impl FnOnce() -> R) -> (R, bool) {
    ENDED.set(ptr::null_mut());
    let result = pass();
    (result, ENDED.replace(ptr::null_mut()) == r)
}

unsafe extern "C" fn filter(r: *mut ngx_http_request_t, chain: *mut ngx_chain_t) -> ngx_int_t {
    guarded(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx passes a living request and a chain of valid buffers.
        if unsafe { is_event_stream(r) && has_last(chain) } {
            ENDED.set(r);
        }
        // SAFETY: `install` has set it before any request is served.
        match unsafe { NEXT } {
            // SAFETY: the next filter, with the arguments of this one.
            Some(next) => unsafe { next(r, chain) },
            None => NGX_ERROR as ngx_int_t,
        }
    })
}

/// Whether a chain contains the last buffer of a response.
///
/// # Safety
/// `link` is the start of a chain of valid buffers.
unsafe fn has_last(mut link: *mut ngx_chain_t) -> bool {
    while !link.is_null() {
        // SAFETY: the caller vouches for the chain; the last link's `next` is null.
        unsafe {
            if bits::buf::last_buf((*link).buf) != 0 {
                return true;
            }
            link = (*link).next;
        }
    }
    false
}
