//! Responses that nginx reads from an upstream (`proxy_pass`, `fastcgi_pass`, and the like).

use super::content_type_filter::is_event_stream;
use super::macros;
use super::pool::{bytes, NoMemory};
use super::request::Request;
use nginx_sys::{ngx_int_t, ngx_msec_t, NGX_OK};

/// A response that nginx reads from an upstream and is about to pass on.
pub struct UpstreamResponse<'r> {
    request: &'r Request,
}

impl Request {
    /// Returns the response to a main request, if it is read from an upstream, is neither stored
    /// nor cached, and the upstream does not ask for buffering. Called before the header is sent.
    pub fn live_upstream_response(&self) -> Option<UpstreamResponse<'_>> {
        // SAFETY: the request is alive.
        if unsafe { (*self.raw()).upstream.is_null() } {
            return None;
        }
        // SAFETY: the request is alive.
        let is_live = unsafe { macros::ngx_sse_is_live_from_upstream(self.raw()) != 0 };
        is_live.then_some(UpstreamResponse { request: self })
    }

    /// Returns the `Content-Type` of the response, unless the module has set it.
    pub fn foreign_content_type(&self) -> Option<&[u8]> {
        // SAFETY: the request is alive, and the value is in its memory.
        unsafe {
            let is_own = is_event_stream(self.raw());
            (!is_own).then(|| bytes(&(*self.raw()).headers_out.content_type))
        }
    }
}

impl UpstreamResponse<'_> {
    /// Makes nginx pass the response on as it arrives.
    pub fn unbuffer(&self) {
        // SAFETY: the request is alive and has an upstream.
        unsafe { macros::ngx_sse_upstream_unbuffer(self.request.raw()) };
    }

    /// Replaces the timeout between two reads of the response, if it is not longer than `longest`.
    /// Times are in ms.
    pub fn set_read_timeout(&self, longest: u64, timeout: u64) -> Result<(), NoMemory> {
        let ms = |time: u64| ngx_msec_t::try_from(time).unwrap_or(ngx_msec_t::MAX);
        // SAFETY: the request is alive and has an upstream.
        let set = unsafe {
            macros::ngx_sse_upstream_set_read_timeout(self.request.raw(), ms(longest), ms(timeout))
        };
        if set == NGX_OK as ngx_int_t {
            Ok(())
        } else {
            Err(NoMemory)
        }
    }
}
