//! What a connection shows of a client that takes nothing more.

use super::Output;
use nginx_sys::{ngx_connection_t, ngx_http_request_t};

/// How a client went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It closed its connection, or its network did.
    Left,
    /// nginx closed the connection, because the client took nothing for too long.
    TimedOut,
}

impl Output {
    /// How the client went, if its connection shows that it did. Of no use once the request has ended.
    pub fn departure(&self) -> Option<Departure> {
        let r = self.request.get()?.as_ptr();
        let own = self.connection;
        // SAFETY: the request is alive, and so are its connection and the one that carries it.
        unsafe {
            let carrier = carrier(r).unwrap_or(own);
            if (*carrier).timedout() != 0 {
                return Some(Departure::TimedOut);
            }
            (is_dead(own) || is_dead(carrier)).then_some(Departure::Left)
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
    let (read, write) = unsafe { (&*(*c).read, &*(*c).write) };
    // HTTP/2 marks the event by which it tells a stream that its connection is gone.
    let written = write.error() != 0 || write.eof() != 0;
    written || read.error() != 0 || read.eof() != 0 || read.pending_eof() != 0
}

/// The connection that carries a request of HTTP/2 along with others.
///
/// # Safety
/// The request is alive.
unsafe fn carrier(r: *mut ngx_http_request_t) -> Option<*mut ngx_connection_t> {
    #[cfg(ngx_feature = "http_v2")]
    // SAFETY: the caller vouches for the request, which does not outlive its stream and its connection.
    return unsafe { (*r).stream.as_ref().map(|stream| (*stream.connection).connection) };
    #[cfg(not(ngx_feature = "http_v2"))]
    {
        let _ = r;
        None
    }
}
