//! Sends frames past nginx's filters: one call to the kernel, with bytes that all clients share.
//!
//! This is allowed only if the filters would not change a frame. Some filters set flags on the
//! request. Others do not, so a stream's first bytes are sent through the filters, and the output
//! is compared with the input. Both checks are made once for each stream.

use super::filters::count_fitting;
use super::send::{free_tls_buffer, remainder, send_batch, write, Written};
use super::unsent::UNSENT_BUFFERED;
use super::{connection_and_write, Output, SendPath, Sent};
use crate::nginx::bits;
use crate::nginx::macros;
use crate::nginx::request::Request;
use crate::sse::frame::Frame;
use crate::worker::Batch;
use nginx_sys::{
    ngx_chain_t, ngx_connection_t, ngx_http_request_t, ngx_io, ngx_send_chain_pt, off_t,
    NGX_HTTP_OK, NGX_HTTP_VERSION_20,
};
use std::cell::RefCell;
use std::ptr;

/// Capacity of the buffer for a stream's header and first frames, in bytes; enough for most
/// streams.
const FIRST_BYTES: usize = 1024;

thread_local! {
    /// While first bytes are being sent: the connection's `send_chain`, and the captured output.
    static CAPTURE: RefCell<Option<(ngx_send_chain_pt, Vec<u8>)>> = const { RefCell::new(None) };
}

impl Output {
    /// Sends a stream's first frames, and decides on the path of all others.
    pub(super) fn send_first(&self, r: *mut ngx_http_request_t, frames: &[Frame]) -> Sent {
        self.path.set(SendPath::Filters);
        if !may_be_direct(r) {
            return self.send_filtered(r, frames);
        }
        let (c, _) = connection_and_write(r);
        let first = frames.get(..count_fitting(frames)).unwrap_or(frames);
        // SAFETY: the connection is alive; its own function is restored below.
        unsafe {
            CAPTURE.set(Some(((*c).send_chain, Vec::with_capacity(FIRST_BYTES))));
            (*c).send_chain = Some(capture);
        }
        let sent = self.send_filtered(r, first);
        let Some((original, output)) = CAPTURE.take() else { return Sent::Failed };
        // SAFETY: a connection is freed after the handlers of its requests have returned.
        unsafe { (*c).send_chain = original };
        if sent != Sent::All {
            return sent;
        }
        // SAFETY: `send_filtered` has checked that the request is still alive.
        let chunked = unsafe { bits::request::chunked(r) != 0 };
        // The filters frame the buffers of one call together.
        let expected = Frame::joined(first);
        let (path, expected) = if chunked {
            (SendPath::Chunks, &expected.chunk()[..])
        } else {
            (SendPath::Bodies, expected.body())
        };
        if filters_are_idle(r) && output.ends_with(expected) {
            self.path.set(path);
            // The filters are not used from now on.
            self.chains.set(None);
            free_tls_buffer(c);
        }
        // The path of the remaining frames is known now.
        let rest = frames.get(first.len()..).unwrap_or_default();
        match self.send_remaining(r, rest) {
            Sent::Blocked { taken } => Sent::Blocked { taken: first.len() + taken },
            sent => sent,
        }
    }

    fn send_remaining(&self, r: *mut ngx_http_request_t, frames: &[Frame]) -> Sent {
        match self.path.get() {
            _ if frames.is_empty() => Sent::All,
            path @ (SendPath::Chunks | SendPath::Bodies) => {
                self.send_direct(r, path, &Batch::from_frames(frames.to_vec()))
            }
            SendPath::Unknown | SendPath::Filters => self.send_filtered(r, frames),
        }
    }

    /// Sends a batch in one call to the kernel. The worker guarantees that nothing of an earlier
    /// batch is unsent, so this does not check it.
    pub(super) fn send_direct(
        &self,
        r: *mut ngx_http_request_t,
        path: SendPath,
        batch: &Batch,
    ) -> Sent {
        match send_batch(self.connection, self.transport, path, batch) {
            Ok(Written::All) => Sent::All,
            Ok(Written::Part { taken, rest }) => {
                self.unsent.keep(self.connection, rest);
                self.blocked_at(r, taken)
            }
            Err(()) => Sent::Failed,
        }
    }

    /// Sends the rest of a frame of which the client has received a part.
    pub(super) fn send_unsent(&self, r: *mut ngx_http_request_t) -> Result<(), ()> {
        if !is_clear(r) {
            return Ok(());
        }
        let c = self.connection;
        let Some(rest) = self.unsent.take(c) else { return Ok(()) };
        let sent = write(c, self.transport, &rest)?;
        self.unsent.keep(c, remainder(&rest, sent));
        Ok(())
    }
}

/// Whether there are unsent bytes, and the socket can be written to directly now.
fn is_clear(r: *mut ngx_http_request_t) -> bool {
    let (c, write) = connection_and_write(r);
    // SAFETY: callers have checked that the request is alive.
    unsafe {
        bits::connection::error(c) == 0
            && bits::connection::buffered(c) == UNSENT_BUFFERED
            && bits::request::buffered(r) == 0
            && (*r).out.is_null()
            && bits::event::delayed(write) == 0
            && bits::event::ready(write) != 0
    }
}

/// Whether the request's kind and its connection allow sending past the filters.
fn may_be_direct(r: *mut ngx_http_request_t) -> bool {
    let (c, _) = connection_and_write(r);
    // SAFETY: callers have checked that the request is alive.
    unsafe {
        let plain = match ((*c).send, ngx_io.send) {
            (Some(own), Some(system)) => ptr::fn_addr_eq(own, system),
            _ => false,
        };
        (plain || macros::ngx_sse_is_tls(c) != 0)
            && r == (*r).main
            && (*r).http_version < NGX_HTTP_VERSION_20 as usize
            && (*r).headers_out.status == NGX_HTTP_OK as usize
            // With `post_action`, the request continues after the client has disconnected, which
            // nginx's write filter handles.
            && Request::from_raw(r).is_some_and(|r| r.core_location().post_action.len == 0)
    }
}

/// Whether no filter has announced that it needs the body, and none has buffered any of it.
fn filters_are_idle(r: *mut ngx_http_request_t) -> bool {
    let (c, _) = connection_and_write(r);
    // SAFETY: callers have checked that the request is alive.
    unsafe {
        (*r).postponed.is_null()
            && bits::request::filter_need_in_memory(r) == 0
            && bits::request::filter_need_temporary(r) == 0
            // TLS always sets this flag.
            && (bits::request::main_filter_need_in_memory(r) == 0 || macros::ngx_sse_is_tls(c) != 0)
            && (*r).headers_out.content_encoding.is_null()
            && (*r).headers_out.content_length_n == -1
            && (*r).limit_rate == 0
            && bits::request::header_only(r) == 0
            && (*r).out.is_null()
            && bits::request::buffered(r) == 0
            && bits::connection::buffered(c) == 0
    }
}

/// Replaces a connection's `send_chain` while first bytes are sent.
unsafe extern "C" fn capture(
    c: *mut ngx_connection_t,
    chain: *mut ngx_chain_t,
    limit: off_t,
) -> *mut ngx_chain_t {
    let failed = usize::MAX as *mut ngx_chain_t;
    let original = CAPTURE.with(|captured| {
        let mut captured = captured.try_borrow_mut().ok()?;
        let (original, output) = captured.as_mut()?;
        // SAFETY: nginx passes a chain of valid buffers.
        unsafe { record(chain, output) };
        *original
    });
    match original {
        // SAFETY: the connection's own function, with its own arguments.
        Some(original) => unsafe { original(c, chain, limit) },
        None => failed,
    }
}

/// Appends the contents of a chain's buffers to `output`.
///
/// # Safety
/// `link` is the start of a chain of valid buffers.
unsafe fn record(mut link: *mut ngx_chain_t, output: &mut Vec<u8>) {
    while !link.is_null() {
        // SAFETY: the caller vouches for the chain.
        let buffer = unsafe { &*(*link).buf };
        let length = (buffer.last as usize).saturating_sub(buffer.pos as usize);
        // SAFETY: as above.
        if unsafe { bits::buf::in_file(buffer) } == 0 && length > 0 {
            // SAFETY: the bytes from `pos` to `last` are the buffer's contents.
            let piece = unsafe { std::slice::from_raw_parts(buffer.pos.cast_const(), length) };
            output.extend_from_slice(piece);
        }
        // SAFETY: as above; the last link's `next` is null.
        link = unsafe { (*link).next };
    }
}
