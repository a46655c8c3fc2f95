//! A header filter that calls the module before nginx sends the header of any response.

use super::guard::guarded;
use super::request::Request;
use nginx_sys::{
    ngx_http_output_header_filter_pt, ngx_http_request_t, ngx_http_top_header_filter, ngx_int_t,
    NGX_ERROR,
};
use std::sync::OnceLock;

static mut NEXT: ngx_http_output_header_filter_pt = None;

/// The function that is called. Set once, before any request is served.
static BEFORE_HEADER: OnceLock<BeforeHeader> = OnceLock::new();

/// A function that is called before a header is sent.
pub(super) type BeforeHeader = fn(&Request) -> Result<(), super::pool::NoMemory>;

/// Installs the filter before those that are installed already.
///
/// # Safety
/// Called while nginx calls the modules' postconfiguration functions, in their order.
pub(super) unsafe fn install(before_header: BeforeHeader) {
    BEFORE_HEADER.get_or_init(|| before_header);
    // SAFETY: both are written only while nginx reads a configuration, on its only thread.
    unsafe {
        NEXT = ngx_http_top_header_filter;
        ngx_http_top_header_filter = Some(filter);
    }
}

unsafe extern "C" fn filter(r: *mut ngx_http_request_t) -> ngx_int_t {
    guarded(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx passes a living request.
        let request = unsafe { Request::from_raw(r) };
        if let (Some(request), Some(before_header)) = (request, BEFORE_HEADER.get()) {
            if before_header(&request).is_err() {
                return NGX_ERROR as ngx_int_t;
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
