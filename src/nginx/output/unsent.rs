//! What is left of a frame that a client has received in part.

use crate::nginx::bits;
use bytes::Bytes;
use nginx_sys::ngx_connection_t;
use std::cell::Cell;

/// A bit of a connection's `buffered`, nginx's record of who still has bytes for the client. nginx's own
/// modules use the six below 0x40, and of those the response of a stream meets.
pub(super) const UNSENT_BUFFERED: u32 = 0x80;

/// What is left of the frame that the client is in the middle of: seldom anything, and one word long
/// then. Its connection says so in `buffered`, where nginx looks before it closes a connection.
#[derive(Default)]
pub(super) struct Unsent(Cell<Option<Box<Bytes>>>);

impl Unsent {
    pub(super) fn take(&self, c: *mut ngx_connection_t) -> Option<Box<Bytes>> {
        let rest = self.0.take();
        if rest.is_some() {
            // SAFETY: callers have seen that the connection is alive.
            unsafe {
                bits::connection::set_buffered(c, bits::connection::buffered(c) & !UNSENT_BUFFERED)
            };
        }
        rest
    }

    pub(super) fn keep(&self, c: *mut ngx_connection_t, rest: Bytes) {
        if rest.is_empty() {
            return;
        }
        self.0.set(Some(Box::new(rest)));
        // SAFETY: callers have seen that the connection is alive.
        unsafe {
            bits::connection::set_buffered(c, bits::connection::buffered(c) | UNSENT_BUFFERED)
        };
    }
}

/// Whether the client of this connection is in the middle of a frame.
pub(super) fn has_unsent(c: *mut ngx_connection_t) -> bool {
    // SAFETY: callers have seen that the connection is alive.
    unsafe { bits::connection::buffered(c) & UNSENT_BUFFERED != 0 }
}
