//! `sse_proxy_unbuffered`, `sse_proxy_read_timeout`: event streams of an upstream, which nginx
//! would hold back in its buffers, and end after a minute of silence.

use crate::conf::Location;
use crate::nginx::pool::NoMemory;
use crate::nginx::request::Request;
use crate::sse::content_type::is_event_stream;

/// The longest read timeout that is replaced, in ms: nginx's default. A longer one was set on
/// purpose.
const LONGEST_REPLACED: u64 = 60_000;

/// Lets the response pass without delay if it is an event stream of an upstream.
pub fn before_header(request: &Request) -> Result<(), NoMemory> {
    if !request.foreign_content_type().is_some_and(is_event_stream) {
        return Ok(());
    }
    let conf = &Location::for_request(request).proxied;
    if !conf.unbuffered && conf.read_timeout.is_none() {
        return Ok(());
    }
    // Last, because it may evaluate variables of the cache's conditions.
    let Some(response) = request.live_upstream_response() else { return Ok(()) };
    if conf.unbuffered {
        response.unbuffer();
    }
    match conf.read_timeout {
        Some(timeout) => response.set_read_timeout(LONGEST_REPLACED, timeout),
        None => Ok(()),
    }
}
