//! Responses: headers, and responses that are sent at once.
//!
//! nginx may queue a header, or any part of a body, until the client accepts more (`NGX_AGAIN`).
//! This is not an error: later output is queued behind it, and nginx sends everything. Therefore,
//! sending a header does not return a status; the result is whether a body may follow.

use super::bits;
use super::macros;
use super::pool::{bytes, copied, NoMemory};
use super::request::{Outcome, Request, HTTP_3};
use nginx_sys::{
    ngx_buf_t, ngx_chain_t, ngx_create_temp_buf, ngx_http_output_filter, ngx_http_send_header,
    ngx_http_send_special, ngx_int_t, ngx_list_push, ngx_posted_events, ngx_str_t, ngx_table_elt_t,
    ngx_tcp_nodelay, ngx_uint_t, NGX_ERROR, NGX_HTTP_LAST, NGX_HTTP_VERSION_11,
    NGX_HTTP_VERSION_20, NGX_HTTP_WRITE_BUFFERED, NGX_OK, NGX_SSL_BUFFERED,
};
use std::ptr;

/// The bits of a connection's `buffered` that nginx and its filters use.
const BITS_OF_NGINX: u32 = 0xff;

/// What follows the header of a response.
#[must_use]
pub enum AfterHeader<'r> {
    /// The body. The header may still be queued; it is sent before the body in any case.
    Body(Body<'r>),
    /// Nothing: the response ends with its header (HEAD), a filter has replaced it by another one,
    /// or it failed. The outcome is what the handler returns to nginx.
    Nothing(Outcome),
}

/// The right to send the body of a response whose header was handed to nginx.
pub struct Body<'r> {
    request: &'r Request,
}

impl Request {
    /// Sets the status of the response.
    pub fn set_status(&self, status: u16) {
        // SAFETY: the request is alive. If its header has been sent, this has no effect.
        unsafe { (*self.raw()).headers_out.status = ngx_uint_t::from(status) };
    }

    /// Sets the `Content-Type` of the response to exactly these bytes.
    pub fn set_content_type(&self, content_type: &'static str) {
        // SAFETY: the request is alive.
        let headers = unsafe { &mut (*self.raw()).headers_out };
        headers.content_type =
            ngx_str_t { len: content_type.len(), data: content_type.as_ptr().cast_mut() };
        headers.content_type_len = content_type.len();
        headers.content_type_lowcase = ptr::null_mut();
        headers.charset = ngx_str_t::empty();
    }

    /// Makes nginx send the response even if the request has conditions (`If-Match`,
    /// `If-None-Match: *`, `If-Unmodified-Since`). nginx would compare them with the headers of the
    /// response, which have no versions, after the request has taken effect.
    pub(super) fn ignore_conditions(&self) {
        // SAFETY: the request is alive.
        unsafe { bits::request::set_disable_not_modified(self.raw(), 1) };
    }

    /// Sets a header of the response and replaces existing headers with this name.
    pub fn set_header(&self, name: &'static str, value: &str) -> Result<(), NoMemory> {
        self.remove_headers(name, |_| true);
        self.add_header(name, value)
    }

    /// Adds a header to the response, beside existing ones with this name.
    pub fn add_header(&self, name: &'static str, value: &str) -> Result<(), NoMemory> {
        // SAFETY: the list is the request's own.
        let element = unsafe { ngx_list_push(&raw mut (*self.raw()).headers_out.headers) };
        let element: *mut ngx_table_elt_t = element.cast();
        if element.is_null() {
            return Err(NoMemory);
        }
        // SAFETY: a new element of the list. It is zeroed, so that it is not sent if copying the
        // value fails.
        unsafe { ptr::write_bytes(element, 0, 1) };
        // SAFETY: the pool is the request's.
        let value = unsafe { copied(self.pool(), value.as_bytes()) }?;
        // SAFETY: as above.
        let element = unsafe { &mut *element };
        element.key = ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() };
        element.value = value;
        element.hash = 1;
        Ok(())
    }

    /// Removes the headers of the response with this name whose value is `unwanted`.
    pub fn remove_headers(&self, name: &str, unwanted: impl Fn(&[u8]) -> bool) {
        // SAFETY: the list is the request's own.
        let mut part = unsafe { &raw mut (*self.raw()).headers_out.headers.part };
        while !part.is_null() {
            // SAFETY: a part of the list.
            let (elements, count) = unsafe { ((*part).elts, (*part).nelts) };
            let elements: *mut ngx_table_elt_t = elements.cast();
            for index in 0..count {
                // SAFETY: the part has `count` elements.
                let element = unsafe { &mut *elements.add(index) };
                // SAFETY: keys and values of headers are in the request's memory.
                let (key, value) = unsafe { (bytes(&element.key), bytes(&element.value)) };
                if key.eq_ignore_ascii_case(name.as_bytes()) && unwanted(value) {
                    // nginx sends no header whose hash is zero.
                    element.hash = 0;
                }
            }
            // SAFETY: as above; the last part's `next` is null.
            part = unsafe { (*part).next };
        }
    }

    /// Closes the connection after this response, and announces it in the header. Has no effect
    /// over HTTP/2 and later.
    pub fn close_afterwards(&self) {
        // SAFETY: the request is alive.
        unsafe {
            if (*self.raw()).http_version < NGX_HTTP_VERSION_20 as ngx_uint_t {
                bits::request::set_keepalive(self.raw(), 0);
            }
        }
    }

    /// Ends the response without the end-of-response marker, once the client has accepted what was
    /// sent: over HTTP/1.1, nginx closes the connection, and over HTTP/2 and HTTP/3, it resets the
    /// stream. HTTP/1.0 has no marker. Returns the outcome that ends the request.
    pub(super) fn interrupt(&self) -> Outcome {
        let r = self.raw();
        // SAFETY: the request is alive.
        let version = unsafe { (*r).http_version };
        if version < NGX_HTTP_VERSION_11 as ngx_uint_t {
            // SAFETY: as above, and its header was sent.
            return Outcome(unsafe { ngx_http_send_special(r, NGX_HTTP_LAST as ngx_uint_t) });
        }
        self.close_afterwards();
        self.discard_kept_by_filters();
        self.flush_reset_soon();
        if version < HTTP_3 {
            return Outcome::OK;
        }
        // Without an error, nginx would complete the QUIC stream.
        // SAFETY: as above, and so is its connection.
        unsafe { bits::connection::set_error(self.connection(), 1) };
        Outcome::ERROR
    }

    /// Returns whether [`Request::interrupt`] resets a stream of HTTP/2 or HTTP/3.
    pub(super) fn is_interrupted_by_reset(&self) -> bool {
        // SAFETY: the request is alive.
        unsafe { (*self.raw()).http_version >= NGX_HTTP_VERSION_20 as ngx_uint_t }
    }

    /// Makes nginx not wait for what filters keep until the end of the response, which an
    /// interrupted one does not have. A subrequest's output is waited for.
    fn discard_kept_by_filters(&self) {
        let (r, c) = (self.raw(), self.connection());
        let at_end = NGX_HTTP_WRITE_BUFFERED | NGX_SSL_BUFFERED;
        // SAFETY: the request and its connection are alive.
        unsafe {
            if !(*r).postponed.is_null() {
                return;
            }
            bits::request::set_buffered(r, 0);
            // Some filters mark the connection, with bits that HTTP/2 uses for its own. If bytes
            // are still to be sent, these filters may have more that follows them.
            let buffered = bits::connection::buffered(c);
            let is_plain = (*r).http_version < NGX_HTTP_VERSION_20 as ngx_uint_t;
            if is_plain && (*r).out.is_null() && buffered & at_end == 0 {
                bits::connection::set_buffered(c, buffered & !BITS_OF_NGINX);
            }
        }
    }

    /// Makes nginx send the RST_STREAM with which it is about to close an HTTP/2 response. nginx
    /// queues it, and sends it with the next frame of another stream of the connection.
    pub fn flush_reset_soon(&self) {
        // SAFETY: the request is alive.
        let shared = unsafe { macros::ngx_sse_h2_connection(self.raw()) };
        if !shared.is_null() {
            // SAFETY: the connection is alive, and so is its event, whose handler sends what is
            // queued. nginx removes the event from the queue if it closes the connection.
            unsafe { macros::ngx_post_event((*shared).write, &raw mut ngx_posted_events) };
        }
    }

    /// Sends status and headers.
    pub fn send_header(&self) -> AfterHeader<'_> {
        // SAFETY: the request is alive.
        let (status, over) = unsafe {
            let status = ngx_http_send_header(self.raw());
            let r = self.raw();
            (status, bits::request::header_only(r) != 0 || bits::request::filter_finalize(r) != 0)
        };
        // The condition that nginx's own handlers use.
        let failed = status == NGX_ERROR as ngx_int_t || status > NGX_OK as ngx_int_t;
        if failed || over {
            return AfterHeader::Nothing(Outcome(status));
        }
        AfterHeader::Body(Body { request: self })
    }

    /// Sends a complete response, whose status and other headers are set, and discards the body of
    /// the request.
    pub fn answer(&self, content_type: &'static str, body: &[u8]) -> Outcome {
        self.discard_body();
        self.ignore_conditions();
        self.set_content_type(content_type);
        // SAFETY: the request is alive.
        unsafe { (*self.raw()).headers_out.content_length_n = body.len() as i64 };
        match self.send_header() {
            AfterHeader::Body(rest) => rest.send(body),
            AfterHeader::Nothing(outcome) => outcome,
        }
    }

    /// Sends a response without a body, whose status and headers are set, and discards the body of
    /// the request.
    pub fn answer_without_body(&self) -> Outcome {
        self.discard_body();
        match self.send_header() {
            AfterHeader::Body(body) => body.end(),
            AfterHeader::Nothing(outcome) => outcome,
        }
    }

    /// Sets TCP_NODELAY, so that the kernel sends each event at once, unless `tcp_nodelay off` is
    /// set.
    pub fn send_without_delay(&self) -> Result<(), NoMemory> {
        if self.core_location().tcp_nodelay == 0 {
            return Ok(());
        }
        // SAFETY: the connection is alive; nginx ignores connections that are not TCP.
        match unsafe { ngx_tcp_nodelay(self.connection()) } {
            status if status == NGX_OK as isize => Ok(()),
            _ => Err(NoMemory),
        }
    }
}

impl Body<'_> {
    /// The request that is answered.
    pub fn request(&self) -> &Request {
        self.request
    }

    /// Sends these bytes and the end of the response.
    pub fn send(self, bytes: &[u8]) -> Outcome {
        if bytes.is_empty() {
            return self.end();
        }
        self.pass(bytes, |buffer, request| {
            // SAFETY: `pass` has created the buffer.
            unsafe {
                bits::buf::set_last_buf(buffer, u32::from(!request.is_subrequest()));
                bits::buf::set_last_in_chain(buffer, 1);
            }
        })
    }

    /// Sends these bytes and ends the response without the end-of-response marker.
    pub fn send_and_interrupt(self, bytes: &[u8]) -> Outcome {
        let request = self.request;
        // SAFETY: `pass` has created the buffer.
        let sent = self.pass(bytes, |buffer, _| unsafe { bits::buf::set_flush(buffer, 1) });
        if sent == Outcome::ERROR {
            return sent;
        }
        request.interrupt()
    }

    /// Passes these bytes, which must not be empty, to nginx's filters. `mark` sets the buffer's
    /// flags.
    fn pass(self, bytes: &[u8], mark: impl FnOnce(*mut ngx_buf_t, &Request)) -> Outcome {
        let request = self.request;
        // SAFETY: the pool is the request's.
        let buffer: *mut ngx_buf_t = unsafe { ngx_create_temp_buf(request.pool(), bytes.len()) };
        if buffer.is_null() {
            return Outcome::ERROR;
        }
        // SAFETY: the buffer is new and has this size.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), (*buffer).pos, bytes.len()) };
        // SAFETY: as above.
        let filled = unsafe { &mut *buffer };
        filled.last = filled.pos.wrapping_add(bytes.len());
        mark(buffer, request);
        let mut chain = ngx_chain_t { buf: buffer, next: ptr::null_mut() };
        // SAFETY: nginx copies the chain's links; the buffer is in the request's pool.
        Outcome(unsafe { ngx_http_output_filter(request.raw(), &mut chain) })
    }

    /// Sends the end of the response.
    pub fn end(self) -> Outcome {
        // SAFETY: the request is alive and its header was sent.
        Outcome(unsafe { ngx_http_send_special(self.request.raw(), NGX_HTTP_LAST as ngx_uint_t) })
    }
}
