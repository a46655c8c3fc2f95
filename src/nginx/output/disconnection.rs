//! Determines from a connection whether its client has disconnected.

use super::Output;
use crate::nginx::bits;
use crate::nginx::macros;
use nginx_sys::{ngx_connection_t, ngx_http_request_t};

/// How a client disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnection {
    /// The client closed the connection, or the network failed.
    Closed,
    /// The client accepted nothing for `send_timeout`.
    TimedOut,
}

impl Output {
    /// Returns how the client disconnected, or `None` if it has not. Returns `None` if the request
    /// has ended.
    pub fn disconnection(&self) -> Option<Disconnection> {
        let r = self.request.get()?.as_ptr();
        let own = self.connection;
        // SAFETY: the request is alive, and so are its connection and, in HTTP/2, the connection
        // that carries it.
        unsafe {
            let carrier = carrier(r).unwrap_or(own);
            if bits::connection::timedout(carrier) != 0 {
                return Some(Disconnection::TimedOut);
            }
            (is_dead(own) || is_dead(carrier)).then_some(Disconnection::Closed)
        }
    }
}

/// Whether an event of the connection has seen an error or the end of input. The connection's
/// `error` cannot be used, because nginx also sets it when a filter fails.
///
/// # Safety
/// The connection is alive.
unsafe fn is_dead(c: *mut ngx_connection_t) -> bool {
    // SAFETY: the caller vouches for the connection; its events live as long.
    unsafe {
        let (read, write) = ((*c).read, (*c).write);
        // nginx sets one of these when it ends an HTTP/2 stream because its connection is closed.
        let write_failed = bits::event::error(write) != 0 || bits::event::eof(write) != 0;
        write_failed
            || bits::event::error(read) != 0
            || bits::event::eof(read) != 0
            || bits::event::pending_eof(read) != 0
    }
}

/// Returns the connection that an HTTP/2 request shares with others.
///
/// # Safety
/// The request is alive.
unsafe fn carrier(r: *mut ngx_http_request_t) -> Option<*mut ngx_connection_t> {
    // SAFETY: the caller vouches for the request, whose HTTP/2 stream and connection outlive it.
    let carrier = unsafe { macros::ngx_sse_h2_connection(r) };
    (!carrier.is_null()).then_some(carrier)
}
