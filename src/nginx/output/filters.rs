//! Sends frames through nginx's filters, like any other response: compressed, rate-limited, framed
//! for HTTP/2, or whatever else is configured. The buffers refer to the shared bytes of a frame,
//! which are kept until nginx no longer uses them.

use super::end_filter::detect_end;
use super::unsent::UNSENT_BUFFERED;
use super::writable::{blocked, has_subrequest};
use super::{connection_and_write, Output, Sent};
use crate::nginx::bits;
use crate::nginx::log::Level;
use crate::nginx::this_module::this_module;
use crate::sse::frame::Frame;
use bytes::Bytes;
use nginx_sys::{
    ngx_buf_t, ngx_chain_get_free_buf, ngx_chain_t, ngx_chain_update_chains,
    ngx_http_output_filter, ngx_http_request_t, ngx_http_write_filter, ngx_int_t, ngx_pool_t,
    NGX_ERROR, NGX_HTTP_WRITE_BUFFERED, NGX_LOWLEVEL_BUFFERED,
};
use std::collections::VecDeque;
use std::ptr::{self, NonNull};

/// Maximum number of bytes that are passed to nginx in one call, unless a single frame is larger.
/// nginx buffers what the client does not accept, so this also bounds the memory of a slow client.
pub(super) const PIECE: usize = 16 * 1024;

/// Bits of a connection's `buffered` for bytes that are buffered by the write filter or after it.
const BUFFERED_AT_END: u32 = NGX_HTTP_WRITE_BUFFERED | NGX_LOWLEVEL_BUFFERED;

/// Maximum number of bytes that filters may keep although the client would accept them. A filter
/// that keeps more waits for the end of the response, which a stream does not have.
const MAX_KEPT: usize = 1 << 20;

/// The buffers of one request.
pub(super) struct Chains {
    /// Buffers that can be used again.
    free: *mut ngx_chain_t,
    /// Buffers that nginx is using.
    busy: *mut ngx_chain_t,
    /// The bytes to which the busy buffers refer.
    held: VecDeque<(*mut ngx_buf_t, Bytes)>,
}

impl Default for Chains {
    fn default() -> Chains {
        Chains { free: ptr::null_mut(), busy: ptr::null_mut(), held: VecDeque::new() }
    }
}

impl Chains {
    /// Creates a chain of buffers that refer to the frames. The last buffer is marked to be
    /// flushed. Returns `None` if nginx is out of memory.
    fn link(&mut self, pool: *mut ngx_pool_t, frames: &[Frame]) -> Option<*mut ngx_chain_t> {
        let mut first = ptr::null_mut();
        let mut last: *mut ngx_chain_t = ptr::null_mut();
        for frame in frames.iter().filter(|frame| !frame.body().is_empty()) {
            // SAFETY: the pool is the request's; the list is this value's.
            let link = unsafe { ngx_chain_get_free_buf(pool, &mut self.free) };
            let link = NonNull::new(link)?.as_ptr();
            self.fill(link, frame.body_bytes());
            match NonNull::new(last) {
                None => first = link,
                // SAFETY: the previous link of this chain.
                Some(last) => unsafe { (*last.as_ptr()).next = link },
            }
            last = link;
        }
        if !last.is_null() {
            // SAFETY: as above.
            unsafe { bits::buf::set_flush((*last).buf, 1) };
        }
        Some(first)
    }

    /// Returns the number of bytes that are kept for nginx.
    fn len(&self) -> usize {
        self.held.iter().map(|(_, body)| body.len()).sum()
    }

    fn fill(&mut self, link: *mut ngx_chain_t, body: Bytes) {
        // SAFETY: the link and its buffer are new or unused, and in no list.
        let buffer = unsafe {
            (*link).next = ptr::null_mut();
            ptr::write_bytes((*link).buf, 0, 1);
            &mut *(*link).buf
        };
        let range = body.as_ptr_range();
        buffer.start = range.start.cast_mut();
        buffer.pos = buffer.start;
        buffer.end = range.end.cast_mut();
        buffer.last = buffer.end;
        // `memory` means read-only: filters must not write to the bytes that all clients share.
        // SAFETY: as above.
        unsafe { bits::buf::set_memory(buffer, 1) };
        buffer.tag = this_module().cast_mut().cast();
        self.held.push_back((buffer, body));
    }

    /// Releases the buffers that nginx no longer uses, after a chain was passed.
    fn update(&mut self, pool: *mut ngx_pool_t, mut chain: *mut ngx_chain_t) {
        let tag = this_module().cast_mut().cast();
        let Chains { free, busy, held } = self;
        // SAFETY: the pool is the living request's; the lists are this value's.
        unsafe { ngx_chain_update_chains(pool, free, busy, &mut chain, tag) };
        // SAFETY: the buffers are in the request's pool.
        while held.front().is_some_and(|(buffer, _)| unsafe { (**buffer).pos == (**buffer).last }) {
            held.pop_front();
        }
        if held.is_empty() {
            // Frees the memory that a burst needed.
            held.shrink_to(8);
        }
    }
}

impl Output {
    fn with_chains<R>(&self, call: impl FnOnce(&mut Chains) -> R) -> R {
        let mut chains = self.chains.take().unwrap_or_default();
        let result = call(&mut chains);
        self.chains.set(Some(chains));
        result
    }

    /// Sends frames through the filters, in pieces, until the stream has to wait.
    pub(super) fn send_filtered(&self, r: *mut ngx_http_request_t, frames: &[Frame]) -> Sent {
        let mut taken = 0;
        while let Some(rest) = frames.get(taken..).filter(|rest| !rest.is_empty()) {
            let count = count_fitting(rest);
            // SAFETY: callers have checked that the request is alive.
            let pool = unsafe { (*r).pool };
            let piece = rest.get(..count).unwrap_or(rest);
            let Some(chain) = self.with_chains(|chains| chains.link(pool, piece)) else {
                return Sent::Failed;
            };
            if self.pass(r, chain).is_err() {
                return Sent::Failed;
            }
            if could_send(r) && self.resume_filters(r).is_err() {
                return Sent::Failed;
            }
            taken += count;
            if blocked(r) {
                return self.blocked_at(r, taken);
            }
        }
        Sent::All
    }

    /// Makes nginx continue with the bytes that it has buffered, as `ngx_http_writer` does. Does
    /// nothing if there are none, because the write filter treats an empty chain as an error.
    pub(super) fn resume_filters(&self, r: *mut ngx_http_request_t) -> Result<(), ()> {
        if has_output(r) || has_input(r) {
            self.pass(r, ptr::null_mut())?;
        }
        if has_output(r) && !has_input(r) && could_send(r) {
            // A filter without data does not pass on an empty chain (gzip), or it has dropped the
            // flush mark. So the write filter is called directly.
            // SAFETY: the request is still alive.
            let status = unsafe { ngx_http_write_filter((*r).main, ptr::null_mut()) };
            self.after_pass(r, status, ptr::null_mut())?;
        }
        let kept = self.kept_by_filters();
        if blocked(r) || kept <= MAX_KEPT {
            return Ok(());
        }
        self.with_request(|request| {
            let line = format_args!(
                "sse: stream is closed: a filter keeps {kept} bytes instead of passing them on"
            );
            request.log(Level::Error, line);
        });
        Err(())
    }

    /// Returns the number of bytes that were passed to nginx and that it has neither sent nor
    /// copied.
    fn kept_by_filters(&self) -> usize {
        let chains = self.chains.take();
        let kept = chains.as_ref().map_or(0, |chains| chains.len());
        self.chains.set(chains);
        kept
    }

    /// Passes a chain to the filters, or null to continue with what they have, and releases what
    /// was sent.
    pub(super) fn pass(
        &self,
        r: *mut ngx_http_request_t,
        chain: *mut ngx_chain_t,
    ) -> Result<(), ()> {
        // SAFETY: the request is alive; `held` keeps the buffers' bytes.
        let (status, ended) = detect_end(r, || unsafe { ngx_http_output_filter(r, chain) });
        let passed = self.after_pass(r, status, chain);
        self.ended_by_filter.set(ended);
        if ended {
            return Err(());
        }
        passed
    }

    /// Releases what was sent, after a chain was passed. Fails if that ended the request, or
    /// failed.
    fn after_pass(
        &self,
        r: *mut ngx_http_request_t,
        status: ngx_int_t,
        chain: *mut ngx_chain_t,
    ) -> Result<(), ()> {
        if self.request.get().is_none() {
            return Err(());
        }
        // SAFETY: the request is still alive.
        let pool = unsafe { (*r).pool };
        self.with_chains(|chains| chains.update(pool, chain));
        if status == NGX_ERROR as ngx_int_t {
            return Err(());
        }
        Ok(())
    }
}

/// Whether the write filter, or something after it, has buffered bytes.
fn has_output(r: *mut ngx_http_request_t) -> bool {
    let (c, _) = connection_and_write(r);
    // SAFETY: callers have checked that the request is alive.
    unsafe { !(*r).out.is_null() || bits::connection::buffered(c) & BUFFERED_AT_END != 0 }
}

/// Whether another filter reports that it has buffered bytes.
fn has_input(r: *mut ngx_http_request_t) -> bool {
    let (c, _) = connection_and_write(r);
    // SAFETY: callers have checked that the request is alive.
    unsafe {
        bits::connection::buffered(c) & !(BUFFERED_AT_END | UNSENT_BUFFERED) != 0
            || bits::request::buffered(r) != 0
            || !(*r).postponed.is_null()
    }
}

/// Whether bytes that are still buffered are kept by the filters alone: the socket is writable, and
/// no subrequest comes first.
fn could_send(r: *mut ngx_http_request_t) -> bool {
    let (_, write) = connection_and_write(r);
    // SAFETY: callers have checked that the request is alive. nginx posts the event of a connection
    // that has sent enough in this turn (`sendfile_max_chunk`).
    let ready = unsafe {
        bits::event::ready(write) != 0
            && bits::event::delayed(write) == 0
            && bits::event::posted(write) == 0
    };
    ready && !has_subrequest(r)
}

/// Returns the number of frames that fit into one piece; at least one.
pub(super) fn count_fitting(frames: &[Frame]) -> usize {
    let mut bytes = 0usize;
    let count_fitting = frames.iter().take_while(|frame| {
        bytes = bytes.saturating_add(frame.body().len());
        bytes <= PIECE
    });
    count_fitting.count().max(1)
}
