//! Reads and discards what a client sends while it receives a stream. Otherwise, unread bytes could
//! hide that the client has disconnected.

use crate::nginx::bits;
use crate::nginx::guard::guarded;
use crate::nginx::macros::ngx_post_event;
use nginx_sys::{
    ngx_connection_t, ngx_handle_read_event, ngx_http_finalize_request, ngx_http_request_t,
    ngx_http_test_reading, ngx_int_t, ngx_posted_next_events, ngx_uint_t, NGX_AGAIN, NGX_ERROR,
    NGX_HTTP_VERSION_20, NGX_OK,
};

/// Number of reads from one client in one turn of the event loop.
const READS: usize = 8;

/// The result of discarding what a client has sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Discarded {
    /// Number of bytes that were discarded.
    pub(super) bytes: usize,
    /// The state of the client's side afterwards.
    pub(super) then: Incoming,
}

/// The state of a client's side of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// Nothing more has arrived. nginx calls again when something does, or on disconnection.
    Nothing,
    /// More has arrived than is read at once. nginx calls again in the next turn.
    More,
    /// The client has disconnected.
    Closed,
    /// nginx cannot watch the connection.
    Failed,
}

/// Reads and discards what a client has sent.
///
/// # Safety
/// The connection is alive and its socket is not used for another request.
pub(super) unsafe fn discard_incoming(c: *mut ngx_connection_t) -> Discarded {
    // SAFETY: the caller vouches for the connection, and its events live as long.
    let read = unsafe { (*c).read };
    let mut bytes = 0;
    // SAFETY: as above.
    if unsafe { bits::event::pending_eof(read) } != 0 {
        return Discarded { bytes, then: Incoming::Closed };
    }
    for _ in 0..READS {
        let mut ignored = [0u8; 1024];
        // SAFETY: as above; nginx writes no more than the buffer holds.
        let got = unsafe {
            let Some(recv) = (*c).recv else { return Discarded { bytes, then: Incoming::Failed } };
            recv(c, ignored.as_mut_ptr(), ignored.len())
        };
        match usize::try_from(got) {
            Ok(1..) => bytes += got as usize,
            Err(_) if got == NGX_AGAIN as isize => {
                // SAFETY: as above.
                let watched = unsafe { ngx_handle_read_event(read, 0) };
                let then = if watched == NGX_OK as ngx_int_t {
                    Incoming::Nothing
                } else {
                    Incoming::Failed
                };
                return Discarded { bytes, then };
            }
            _ => return Discarded { bytes, then: Incoming::Closed },
        }
    }
    // Continue in the next turn, so that a client that sends without end does not delay others.
    // SAFETY: as above; the queue is nginx's own.
    unsafe { ngx_post_event(read, &raw mut ngx_posted_next_events) };
    Discarded { bytes, then: Incoming::More }
}

/// The `read_event_handler` of a stream's request: the client has sent something, or has
/// disconnected.
///
/// On a connection that is kept alive, the bytes are the next request and are not read.
pub(super) unsafe extern "C" fn watch_client(r: *mut ngx_http_request_t) {
    guarded((), || {
        // SAFETY: nginx calls this with a living request, which is not used after it is finalized.
        unsafe {
            let is_http1 = (*r).http_version < NGX_HTTP_VERSION_20 as ngx_uint_t;
            if is_http1 && bits::request::keepalive(r) == 0 {
                let c = (*r).connection;
                let discarded = discard_incoming(c);
                if discarded.bytes > 0 {
                    // More bytes may still arrive when the response ends.
                    bits::request::set_lingering_close(r, 1);
                }
                match discarded.then {
                    Incoming::Nothing | Incoming::More => return,
                    Incoming::Failed => {
                        return ngx_http_finalize_request(r, NGX_ERROR as ngx_int_t)
                    }
                    // `ngx_http_test_reading` checks this flag.
                    Incoming::Closed => bits::event::set_pending_eof((*c).read, 1),
                }
            }
            ngx_http_test_reading(r);
        }
    });
}
