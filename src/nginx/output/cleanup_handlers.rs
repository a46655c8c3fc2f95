//! Who is told of a request's end: what modules have nginx call then.

use nginx_sys::{ngx_http_cleanup_t, ngx_http_request_t, ngx_pool_cleanup_t};
use std::ptr;

/// The newest entries of a request's two lists of what is called at its end. As both lists only grow,
/// equal ones mean that nothing has been added.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct CleanupHandlers {
    request: *mut ngx_http_cleanup_t,
    pool: *mut ngx_pool_cleanup_t,
}

impl CleanupHandlers {
    /// What no request has: nothing is known to be the module's own.
    pub(super) const NONE: CleanupHandlers =
        CleanupHandlers { request: ptr::null_mut(), pool: ptr::null_mut() };

    /// # Safety
    /// The request is alive.
    pub(super) unsafe fn for_request(r: *mut ngx_http_request_t) -> CleanupHandlers {
        // SAFETY: the caller vouches for the request and its pool.
        unsafe { CleanupHandlers { request: (*r).cleanup, pool: (*(*r).pool).cleanup } }
    }

    /// Whether anybody is told. nginx's proxy leaves an entry behind that calls nothing.
    ///
    /// # Safety
    /// The request that it is of is alive.
    pub(super) unsafe fn is_empty(self) -> bool {
        let mut entry = self.request;
        while !entry.is_null() {
            // SAFETY: the caller vouches for the request, in whose memory the list lies.
            unsafe {
                if (*entry).handler.is_some() {
                    return false;
                }
                entry = (*entry).next;
            }
        }
        self.pool.is_null()
    }
}
