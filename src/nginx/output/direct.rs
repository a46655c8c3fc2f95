//! Frames past nginx's filters: one call to the kernel with bytes that all clients share.
//!
//! Allowed only where the filters would leave a frame as it is. Their flags tell of some that would
//! not; others set none, so the stream's first bytes go through the filters and are compared with
//! what comes out at the other end. Both are looked at, once, and neither costs anything later.

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

/// Bytes of most streams' header and beginning.
const FIRST_BYTES: usize = 1024;

thread_local! {
    /// While first bytes are on their way: where they really go, and what they have become.
    static CAPTURE: RefCell<Option<(ngx_send_chain_pt, Vec<u8>)>> = const { RefCell::new(None) };
}

impl Output {
    /// Sends a stream's first bytes, and finds out which way the others may go.
    pub(super) fn send_first(&self, r: *mut ngx_http_request_t, frames: &[Frame]) -> Sent {
        self.path.set(SendPath::Filters);
        if !may_be_direct(r) {
            return self.send_filtered(r, frames);
        }
        let (c, _) = connection_and_write(r);
        let first = frames.get(..count_fitting(frames)).unwrap_or(frames);
        // SAFETY: the connection is alive; its own function is put back below.
        unsafe {
            CAPTURE.set(Some(((*c).send_chain, Vec::with_capacity(FIRST_BYTES))));
            (*c).send_chain = Some(capture);
        }
        let sent = self.send_filtered(r, first);
        let Some((original, output)) = CAPTURE.take() else { return Sent::Failed };
        // SAFETY: a connection outlives its requests' handlers.
        unsafe { (*c).send_chain = original };
        if sent != Sent::All {
            return sent;
        }
        // SAFETY: `send_filtered` has seen that the request is still alive.
        let chunked = unsafe { bits::request::chunked(r) != 0 };
        // What was handed over together the filters leave together.
        let expected = Frame::joined(first);
        let (path, expected) = match chunked {
            true => (SendPath::Chunks, &expected.chunk()[..]),
            false => (SendPath::Bodies, expected.body()),
        };
        if filters_are_idle(r) && output.ends_with(expected) {
            self.path.set(path);
            // From now on nothing goes through the filters.
            self.chains.set(None);
            free_tls_buffer(c);
        }
        // The rest of a long beginning takes the way that is known by now.
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

    /// Sends a batch in one call to the kernel. Nothing is kept of an earlier one, here or by nginx, as
    /// the worker promises, so nothing has to be asked before.
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

    /// Goes on with the frame that the client is in the middle of.
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

/// Whether there is a rest, and nothing stands between it and the socket at this moment.
fn is_clear(r: *mut ngx_http_request_t) -> bool {
    let (c, write) = connection_and_write(r);
    // SAFETY: callers have seen that the request is alive.
    unsafe {
        bits::connection::error(c) == 0
            && bits::connection::buffered(c) == UNSENT_BUFFERED
            && bits::request::buffered(r) == 0
            && (*r).out.is_null()
            && bits::event::delayed(write) == 0
            && bits::event::ready(write) != 0
    }
}

/// What no first bytes can tell: the request's kind, and a connection of its own.
fn may_be_direct(r: *mut ngx_http_request_t) -> bool {
    let (c, _) = connection_and_write(r);
    // SAFETY: callers have seen that the request is alive.
    unsafe {
        let plain = match ((*c).send, ngx_io.send) {
            (Some(own), Some(system)) => ptr::fn_addr_eq(own, system),
            _ => false,
        };
        (plain || macros::ngx_sse_is_tls(c) != 0)
            && r == (*r).main
            && (*r).http_version < NGX_HTTP_VERSION_20 as usize
            && (*r).headers_out.status == NGX_HTTP_OK as usize
            // It has the request go on after the client is gone, which the last of the filters knows.
            && Request::from_raw(r).is_some_and(|r| r.core_location().post_action.len == 0)
    }
}

/// Whether no filter has said that it wants the body, and none has kept any of it.
fn filters_are_idle(r: *mut ngx_http_request_t) -> bool {
    let (c, _) = connection_and_write(r);
    // SAFETY: callers have seen that the request is alive.
    unsafe {
        (*r).postponed.is_null()
            && bits::request::filter_need_in_memory(r) == 0
            && bits::request::filter_need_temporary(r) == 0
            // On TLS this mark is always there.
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

/// Stands in for a connection's `send_chain` while first bytes are sent.
unsafe extern "C" fn capture(
    c: *mut ngx_connection_t,
    chain: *mut ngx_chain_t,
    limit: off_t,
) -> *mut ngx_chain_t {
    let failed = usize::MAX as *mut ngx_chain_t;
    let original = CAPTURE.with(|captured| {
        let mut captured = captured.try_borrow_mut().ok()?;
        let (original, output) = captured.as_mut()?;
        // SAFETY: nginx hands over a chain of living buffers.
        unsafe { record(chain, output) };
        *original
    });
    match original {
        // SAFETY: the function that the connection had before, with what it was to be given.
        Some(original) => unsafe { original(c, chain, limit) },
        None => failed,
    }
}

/// # Safety
/// `link` begins a chain of living buffers.
unsafe fn record(mut link: *mut ngx_chain_t, output: &mut Vec<u8>) {
    while !link.is_null() {
        // SAFETY: the caller vouches for the chain.
        let buffer = unsafe { &*(*link).buf };
        let length = (buffer.last as usize).saturating_sub(buffer.pos as usize);
        // SAFETY: as above.
        if unsafe { bits::buf::in_file(buffer) } == 0 && length > 0 {
            // SAFETY: what lies between a buffer's two marks is to be sent.
            let piece = unsafe { std::slice::from_raw_parts(buffer.pos.cast_const(), length) };
            output.extend_from_slice(piece);
        }
        // SAFETY: as above; the last link's `next` is null.
        link = unsafe { (*link).next };
    }
}
