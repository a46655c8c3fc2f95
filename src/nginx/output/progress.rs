//! Whether a client that is waited for takes bytes meanwhile, which is what `send_timeout` asks.
//!
//! nginx's count of bytes sent does not tell. A TLS library reports a record when the last byte of it has
//! left, and the kernel reports room when a good part of its buffer is free, at a slow client long after
//! the first byte. So the kernel is asked how much the client's side has acknowledged; this costs a system
//! call where waiting begins and one where the time is over.

use crate::nginx::macros;
use nginx_sys::{ngx_connection_t, ngx_http_request_t, off_t};

/// How much a client had taken at some moment.
#[derive(Clone, Copy, Default)]
pub(super) struct SendProgress {
    sent: off_t,
    acknowledged: u32,
}

impl SendProgress {
    /// # Safety
    /// The request is alive.
    pub(super) unsafe fn for_request(r: *mut ngx_http_request_t) -> SendProgress {
        // SAFETY: the caller vouches for the request and its connection.
        unsafe {
            let c = (*r).connection;
            SendProgress { sent: (*c).sent, acknowledged: acknowledged(c) }
        }
    }

    /// Whether nginx has sent anything since.
    ///
    /// # Safety
    /// The connection is alive.
    pub(super) unsafe fn has_sent(self, c: *mut ngx_connection_t) -> bool {
        // SAFETY: the caller vouches for the connection.
        unsafe { (*c).sent != self.sent }
    }

    /// Whether the client has taken anything since.
    ///
    /// # Safety
    /// The request is alive.
    pub(super) unsafe fn has_grown(self, r: *mut ngx_http_request_t) -> bool {
        // SAFETY: the caller vouches for the request.
        unsafe {
            let c = (*r).connection;
            self.has_sent(c) || (is_on_its_way(r) && self.acknowledged != acknowledged(c))
        }
    }
}

/// The number of bytes that the other side's kernel has acknowledged, modulo 2^32; 0 where there is none
/// to be had.
///
/// # Safety
/// The connection is alive.
pub(super) unsafe fn acknowledged(c: *mut ngx_connection_t) -> u32 {
    /// `tcpi_bytes_acked` in the kernel's `struct tcp_info`, a 64-bit number.
    const BYTES_ACKED: usize = 120;
    let mut info = [0u8; BYTES_ACKED + 8];
    let mut len = info.len() as libc::socklen_t;
    // SAFETY: the caller vouches for the connection; the kernel writes no more than `len` bytes. Where
    // it writes less, or nothing (it is no TCP), the place stays 0.
    unsafe {
        let at = info.as_mut_ptr().cast();
        libc::getsockopt((*c).fd, libc::IPPROTO_TCP, libc::TCP_INFO, at, &mut len);
    }
    let low =
        info.split_at(BYTES_ACKED).1.first_chunk::<8>().map(|bytes| u64::from_ne_bytes(*bytes));
    low.unwrap_or_default() as u32
}

/// Whether what the client takes from the connection brings it nearer to bytes of this response. Where
/// others share the connection, that is so only for frames that wait in its queue; what waits for the
/// client to open the stream's window gets nearer only with that.
///
/// # Safety
/// The request is alive.
unsafe fn is_on_its_way(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: the caller vouches for the request, of which a stream of HTTP/2 is a part.
    unsafe {
        macros::ngx_sse_h2_connection(r).is_null() || macros::ngx_sse_h2_has_queued_frames(r) != 0
    }
}
