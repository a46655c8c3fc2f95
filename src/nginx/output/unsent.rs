//! The unsent rest of a frame that was sent in part.

use crate::nginx::bits;
use bytes::Bytes;
use nginx_sys::ngx_connection_t;
use std::cell::Cell;

/// The module's bit in a connection's `buffered`, in which nginx records which parts of it have
/// buffered bytes. nginx's own modules use lower bits.
pub(super) const UNSENT_BUFFERED: u32 = 0x80;

/// The unsent rest of a frame. It is rarely present, and takes one word if it is not. If it is, the
/// connection's `buffered` has `UNSENT_BUFFERED`, which nginx checks before it closes a connection.
#[derive(Default)]
pub(super) struct Unsent(Cell<Option<Box<Bytes>>>);

impl Unsent {
    /// Takes the bytes, to send them now.
    pub(super) fn take(&self, c: *mut ngx_connection_t) -> Option<Box<Bytes>> {
        let rest = self.0.take();
        if rest.is_some() {
            // SAFETY: callers have checked that the connection is alive.
            unsafe {
                bits::connection::set_buffered(c, bits::connection::buffered(c) & !UNSENT_BUFFERED)
            };
        }
        rest
    }

    /// Keeps bytes that were not sent; does nothing if there are none.
    pub(super) fn keep(&self, c: *mut ngx_connection_t, rest: Bytes) {
        if rest.is_empty() {
            return;
        }
        self.0.set(Some(Box::new(rest)));
        // SAFETY: callers have checked that the connection is alive.
        unsafe {
            bits::connection::set_buffered(c, bits::connection::buffered(c) | UNSENT_BUFFERED)
        };
    }
}

/// Whether the client of this connection has received a frame only in part.
pub(super) fn has_unsent(c: *mut ngx_connection_t) -> bool {
    // SAFETY: callers have checked that the connection is alive.
    unsafe { bits::connection::buffered(c) & UNSENT_BUFFERED != 0 }
}
