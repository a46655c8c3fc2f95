//! Responses that a filter ends: one may mark any buffer as the last of the response (`ngx.arg[2]` of
//! Lua's `body_filter_by_lua_block`), and nginx tells the handler nothing. A body filter behind the others
//! sees the mark.

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
    /// The event stream whose last buffer came by most recently.
    static ENDED: Cell<*mut ngx_http_request_t> = const { Cell::new(ptr::null_mut()) };
}

/// Puts the filter in front of those that were there before.
///
/// # Safety
/// Called while nginx calls the modules' postconfiguration functions, in their order.
pub(in crate::nginx) unsafe fn install() {
    // SAFETY: configurations are read by one thread, and only then are the two written.
    unsafe {
        NEXT = ngx_http_top_body_filter;
        ngx_http_top_body_filter = Some(filter);
    }
}

/// Runs `pass`, which gives nginx something of this response's body. Whether that ended the response.
pub(super) fn detect_end<R>(r: *mut ngx_http_request_t, pass: impl FnOnce() -> R) -> (R, bool) {
    ENDED.set(ptr::null_mut());
    let result = pass();
    (result, ENDED.replace(ptr::null_mut()) == r)
}

unsafe extern "C" fn filter(r: *mut ngx_http_request_t, chain: *mut ngx_chain_t) -> ngx_int_t {
    guarded(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx hands over a living request and a chain of living buffers.
        if unsafe { is_event_stream(r) && has_last(chain) } {
            ENDED.set(r);
        }
        // SAFETY: set by `install`, which comes before any request.
        match unsafe { NEXT } {
            // SAFETY: the filter that was there before.
            Some(next) => unsafe { next(r, chain) },
            None => NGX_ERROR as ngx_int_t,
        }
    })
}

/// # Safety
/// `link` begins a chain of living buffers.
unsafe fn has_last(mut link: *mut ngx_chain_t) -> bool {
    while !link.is_null() {
        // SAFETY: the caller vouches for the chain, whose last `next` is null.
        unsafe {
            if bits::buf::last_buf((*link).buf) != 0 {
                return true;
            }
            link = (*link).next;
        }
    }
    false
}
