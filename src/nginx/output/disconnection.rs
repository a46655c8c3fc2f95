//! What a connection shows of a client that takes nothing more.

use super::Output;
use crate::nginx::bits;
use crate::nginx::macros;
use nginx_sys::{ngx_connection_t, ngx_http_request_t};

/// How a client went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnection {
    /// It closed its connection, or its network did.
    Closed,
    /// nginx closed the connection, because the client took nothing for too long.
    TimedOut,
}

impl Output {
    /// How the client went, if its connection shows that it did. Of no use once the request has ended.
    pub fn disconnection(&self) -> Option<Disconnection> {
        let r = self.request.get()?.as_ptr();
        let own = self.connection;
        // SAFETY: the request is alive, and so are its connection and the one that carries it.
        unsafe {
            let carrier = carrier(r).unwrap_or(own);
            if bits::connection::timedout(carrier) != 0 {
                return Some(Disconnection::TimedOut);
            }
            (is_dead(own) || is_dead(carrier)).then_some(Disconnection::Closed)
        }
    }
}

/// Whether reading or writing has come to an end. The connection's own mark does not tell: nginx sets it
/// whenever a filter fails, too.
///
/// # Safety
/// The connection is alive.
unsafe fn is_dead(c: *mut ngx_connection_t) -> bool {
    // SAFETY: the caller vouches for the connection; its events live as long.
    unsafe {
        let (read, write) = ((*c).read, (*c).write);
        // HTTP/2 marks the event by which it tells a stream that its connection is gone.
        let written = bits::event::error(write) != 0 || bits::event::eof(write) != 0;
        written
            || bits::event::error(read) != 0
            || bits::event::eof(read) != 0
            || bits::event::pending_eof(read) != 0
    }
}

/// The connection that carries a request of HTTP/2 along with others.
///
/// # Safety
/// The request is alive.
unsafe fn carrier(r: *mut ngx_http_request_t) -> Option<*mut ngx_connection_t> {
    // SAFETY: the caller vouches for the request, which does not outlive its stream and its connection.
    let carrier = unsafe { macros::ngx_sse_h2_connection(r) };
    (!carrier.is_null()).then_some(carrier)
}
