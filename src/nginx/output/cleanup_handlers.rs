//! The cleanup handlers of a request, which nginx calls when the request ends.

use crate::nginx::{request, request_data};
use nginx_sys::{ngx_http_cleanup_t, ngx_http_request_t, ngx_pool_cleanup_t};
use std::ptr;

/// The newest entries of a request's two lists of cleanup handlers. Both lists only grow, so equal
/// values mean that no handler has been added.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct CleanupHandlers {
    request: *mut ngx_http_cleanup_t,
    pool: *mut ngx_pool_cleanup_t,
}

impl CleanupHandlers {
    /// The value of no request, for a stream whose own handlers are not known yet.
    pub(super) const NONE: CleanupHandlers =
        CleanupHandlers { request: ptr::null_mut(), pool: ptr::null_mut() };

    /// Returns the current handlers of a request.
    ///
    /// # Safety
    /// The request is alive.
    pub(super) unsafe fn for_request(r: *mut ngx_http_request_t) -> CleanupHandlers {
        // SAFETY: the caller vouches for the request and its pool.
        unsafe { CleanupHandlers { request: (*r).cleanup, pool: (*(*r).pool).cleanup } }
    }

    /// Whether there are only handlers of this module, which need nothing of the request but to be
    /// called when it ends. nginx's proxy module leaves an entry without a handler behind.
    ///
    /// # Safety
    /// The request that these handlers belong to is alive.
    pub(super) unsafe fn are_own(self) -> bool {
        let mut entry = self.request;
        while !entry.is_null() {
            // SAFETY: the caller vouches for the request, whose pool holds the list.
            let (handler, next) = unsafe { ((*entry).handler, (*entry).next) };
            if handler.is_some() && !request::is_end_action(handler) {
                return false;
            }
            entry = next;
        }
        let mut entry = self.pool;
        while !entry.is_null() {
            // SAFETY: as above; the pool has the list.
            let (handler, next) = unsafe { ((*entry).handler, (*entry).next) };
            if !request_data::is_own(handler) {
                return false;
            }
            entry = next;
        }
        true
    }
}
