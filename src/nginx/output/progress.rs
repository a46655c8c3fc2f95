//! Detects whether a client accepts bytes during a wait, for `send_timeout`.
//!
//! nginx's count of bytes sent is not sufficient. A TLS library reports a record as sent only when
//! its last byte has been written, and the kernel reports a socket as writable only when a large
//! part of its buffer is free; with a slow client, both happen long after the first byte.
//! Therefore, the kernel is asked how many bytes the client has acknowledged: one system call when
//! a wait begins, and one when it times out.

use crate::nginx::macros;
use nginx_sys::{ngx_connection_t, ngx_http_request_t, off_t};

/// How much a client had accepted at some time.
#[derive(Clone, Copy, Default)]
pub(super) struct SendProgress {
    sent: off_t,
    acknowledged: u32,
}

impl SendProgress {
    /// Returns the current state of a request's client.
    ///
    /// # Safety
    /// The request is alive.
    pub(super) unsafe fn for_request(r: *mut ngx_http_request_t) -> SendProgress {
        // SAFETY: the caller vouches for the request and its connection.
        unsafe {
            let c = (*r).connection;
            SendProgress { sent: (*c).sent, acknowledged: acknowledged(c) }
        }
    }

    /// Whether nginx has sent anything since then.
    ///
    /// # Safety
    /// The connection is alive.
    pub(super) unsafe fn has_sent(self, c: *mut ngx_connection_t) -> bool {
        // SAFETY: the caller vouches for the connection.
        unsafe { (*c).sent != self.sent }
    }

    /// Whether the client has accepted anything since then.
    ///
    /// # Safety
    /// The request is alive.
    pub(super) unsafe fn has_grown(self, r: *mut ngx_http_request_t) -> bool {
        // SAFETY: the caller vouches for the request.
        unsafe {
            let c = (*r).connection;
            self.has_sent(c) || (can_progress(r) && self.acknowledged != acknowledged(c))
        }
    }
}

/// Returns the number of bytes that the client's kernel has acknowledged, modulo 2^32, or 0 if that
/// is not known.
///
/// # Safety
/// The connection is alive.
pub(super) unsafe fn acknowledged(c: *mut ngx_connection_t) -> u32 {
    /// `tcpi_bytes_acked` in the kernel's `struct tcp_info`, a 64-bit number.
    const BYTES_ACKED: usize = 120;
    let mut info = [0u8; BYTES_ACKED + 8];
    let mut len = info.len() as libc::socklen_t;
    // SAFETY: the caller vouches for the connection; the kernel writes no more than `len` bytes. If
    // it writes less, or nothing because this is not TCP, the number remains 0.
    unsafe {
        let at = info.as_mut_ptr().cast();
        libc::getsockopt((*c).fd, libc::IPPROTO_TCP, libc::TCP_INFO, at, &mut len);
    }
    let low =
        info.split_at(BYTES_ACKED).1.first_chunk::<8>().map(|bytes| u64::from_ne_bytes(*bytes));
    low.unwrap_or_default() as u32
}

/// Whether bytes that the client acknowledges count as progress of this response. On a connection
/// that several requests share, they do only if frames of this response are queued on the
/// connection, and not if they wait for the client to open the stream's flow-control window.
///
/// # Safety
/// The request is alive.
unsafe fn can_progress(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: the caller vouches for the request and its HTTP/2 stream.
    unsafe {
        macros::ngx_sse_h2_connection(r).is_null() || macros::ngx_sse_h2_has_queued_frames(r) != 0
    }
}
