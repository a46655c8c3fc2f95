//! What a client sends while its stream runs. Nobody needs it, but as long as it is not read the
//! client's departure may go unnoticed behind it.

use crate::nginx::bits;
use crate::nginx::guard::guarded;
use crate::nginx::macros::ngx_post_event;
use nginx_sys::{
    ngx_connection_t, ngx_handle_read_event, ngx_http_finalize_request, ngx_http_request_t,
    ngx_http_test_reading, ngx_int_t, ngx_posted_next_events, ngx_uint_t, NGX_AGAIN, NGX_ERROR,
    NGX_HTTP_VERSION_20, NGX_OK,
};

/// Reads from one client in one turn of the loop.
const READS: usize = 8;

/// What came of dropping what a client had sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Discarded {
    /// How many bytes it was.
    pub(super) bytes: usize,
    /// What is known of the client afterwards.
    pub(super) then: Incoming,
}

/// What is known of a client after what it had sent was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// It has sent no more for now; the loop calls when there is more, or when it leaves.
    Nothing,
    /// It has sent more than is read at once; the loop calls again in its next turn.
    More,
    /// It is gone.
    Gone,
    /// The loop cannot watch the connection any more.
    Failed,
}

/// Reads and drops what a client has sent.
///
/// # Safety
/// The connection is alive and its socket is not used for another request.
pub(super) unsafe fn discard_incoming(c: *mut ngx_connection_t) -> Discarded {
    // SAFETY: the caller vouches for the connection, and its events live as long.
    let read = unsafe { (*c).read };
    let mut bytes = 0;
    // SAFETY: as above.
    if unsafe { bits::event::pending_eof(read) } != 0 {
        return Discarded { bytes, then: Incoming::Gone };
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
                let then = match watched == NGX_OK as ngx_int_t {
                    true => Incoming::Nothing,
                    false => Incoming::Failed,
                };
                return Discarded { bytes, then };
            }
            _ => return Discarded { bytes, then: Incoming::Gone },
        }
    }
    // Others first: a client that sends without end is read in turn with them.
    // SAFETY: as above; the queue is nginx's own.
    unsafe { ngx_post_event(read, &raw mut ngx_posted_next_events) };
    Discarded { bytes, then: Incoming::More }
}

/// nginx calls this when the client of a stream has sent something, or has left.
///
/// On a connection that is used again, bytes are the next request and stay where they are.
pub(super) unsafe extern "C" fn watch_client(r: *mut ngx_http_request_t) {
    guarded((), || {
        // SAFETY: nginx calls with a living request; once it is finalized it is not touched.
        unsafe {
            let own = (*r).http_version < NGX_HTTP_VERSION_20 as ngx_uint_t;
            if own && bits::request::keepalive(r) == 0 {
                let c = (*r).connection;
                let discarded = discard_incoming(c);
                if discarded.bytes > 0 {
                    // More may be on its way when the response ends.
                    bits::request::set_lingering_close(r, 1);
                }
                match discarded.then {
                    Incoming::Nothing | Incoming::More => return,
                    Incoming::Failed => {
                        return ngx_http_finalize_request(r, NGX_ERROR as ngx_int_t)
                    }
                    // What nginx goes by in the function below.
                    Incoming::Gone => bits::event::set_pending_eof((*c).read, 1),
                }
            }
            ngx_http_test_reading(r);
        }
    });
}
