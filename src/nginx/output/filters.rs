//! Frames through nginx's filters, as any other answer goes: compressed, limited, framed for
//! HTTP/2 or whatever else is configured. Buffers point to the shared bytes of a frame, which are
//! held until nginx has let go of them.

use super::end_filter::detect_end;
use super::unsent::UNSENT_BUFFERED;
use super::{blocked, connection_and_write, has_subrequest, Output, Sent};
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

/// How much is handed to nginx in one call, unless one frame alone is larger. What a client does
/// not take stays with nginx, so this also bounds what a slow client holds.
pub(super) const PIECE: usize = 16 * 1024;

/// Bits of a connection's `buffered` for what the last of the filters has, or what comes behind it.
const BEHIND_THE_OTHERS: u32 = NGX_HTTP_WRITE_BUFFERED | NGX_LOWLEVEL_BUFFERED;

/// The most that filters may keep of a stream whose client would take it, in bytes. A filter that keeps
/// more waits for the end of the response.
const KEPT_BY_FILTERS: usize = 1 << 20;

/// The buffers of one request: those that nginx has, those to be used again, and what they show.
pub(super) struct Chains {
    free: *mut ngx_chain_t,
    busy: *mut ngx_chain_t,
    held: VecDeque<(*mut ngx_buf_t, Bytes)>,
}

impl Default for Chains {
    fn default() -> Chains {
        Chains { free: ptr::null_mut(), busy: ptr::null_mut(), held: VecDeque::new() }
    }
}

impl Chains {
    /// Links buffers that show the frames, the last of which says that nothing is to be kept back
    /// for more.
    fn link(&mut self, pool: *mut ngx_pool_t, frames: &[Frame]) -> Option<*mut ngx_chain_t> {
        let mut first = ptr::null_mut();
        let mut last: *mut ngx_chain_t = ptr::null_mut();
        for frame in frames.iter().filter(|frame| !frame.body().is_empty()) {
            // SAFETY: the pool is the request's, the list our own.
            let link = unsafe { ngx_chain_get_free_buf(pool, &mut self.free) };
            let link = NonNull::new(link)?.as_ptr();
            self.fill(link, frame.body_bytes());
            match NonNull::new(last) {
                None => first = link,
                // SAFETY: a link that was just made.
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

    /// Bytes that are held for nginx.
    fn len(&self) -> usize {
        self.held.iter().map(|(_, body)| body.len()).sum()
    }

    fn fill(&mut self, link: *mut ngx_chain_t, body: Bytes) {
        // SAFETY: the link and its buffer are ours and in no list.
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
        // `memory`: filters may not write to what all clients share.
        // SAFETY: as above.
        unsafe { bits::buf::set_memory(buffer, 1) };
        buffer.tag = this_module().cast_mut().cast();
        self.held.push_back((buffer, body));
    }

    /// Sorts out which buffers nginx is done with, after a chain was passed.
    fn update(&mut self, pool: *mut ngx_pool_t, mut chain: *mut ngx_chain_t) {
        let tag = this_module().cast_mut().cast();
        let Chains { free, busy, held } = self;
        // SAFETY: the pool is the living request's, and the lists are our own.
        unsafe { ngx_chain_update_chains(pool, free, busy, &mut chain, tag) };
        // SAFETY: the buffers lie in the request's pool.
        while held.front().is_some_and(|(buffer, _)| unsafe { (**buffer).pos == (**buffer).last }) {
            held.pop_front();
        }
        if held.is_empty() {
            // What a burst needed is not kept for as long as the client stays.
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

    /// Sends frames through the filters, in pieces, until they keep something back.
    pub(super) fn send_filtered(&self, r: *mut ngx_http_request_t, frames: &[Frame]) -> Sent {
        let mut taken = 0;
        while let Some(rest) = frames.get(taken..).filter(|rest| !rest.is_empty()) {
            let count = count_fitting(rest);
            // SAFETY: callers have seen that the request is alive.
            let pool = unsafe { (*r).pool };
            let piece = rest.get(..count).unwrap_or(rest);
            let Some(chain) = self.with_chains(|chains| chains.link(pool, piece)) else {
                return Sent::Failed;
            };
            if self.pass(r, chain).is_err() {
                return Sent::Failed;
            }
            if takes_more(r) && self.resume_filters(r).is_err() {
                return Sent::Failed;
            }
            taken += count;
            if blocked(r) {
                return self.blocked_at(r, taken);
            }
        }
        Sent::All
    }

    /// Has nginx go on with what it keeps, as its own writer does. With nothing kept the last of the filters
    /// would take an empty chain for a fault.
    pub(super) fn resume_filters(&self, r: *mut ngx_http_request_t) -> Result<(), ()> {
        if has_output(r) || has_input(r) {
            self.pass(r, ptr::null_mut())?;
        }
        if has_output(r) && !has_input(r) && takes_more(r) {
            // A filter that has nothing hands no empty chain on (gzip), or has lost the mark that nothing
            // is to be kept back for more: the last of them is called by itself.
            // SAFETY: the request is still alive.
            let status = unsafe { ngx_http_write_filter((*r).main, ptr::null_mut()) };
            self.passed(r, status, ptr::null_mut())?;
        }
        let kept = self.kept_by_filters();
        if blocked(r) || kept <= KEPT_BY_FILTERS {
            return Ok(());
        }
        self.with_request(|request| {
            let line =
                format_args!("sse: a filter keeps {kept} bytes of a stream, which is closed");
            request.log(Level::Error, line);
        });
        Err(())
    }

    /// Bytes that nginx has been given and has neither sent nor copied.
    fn kept_by_filters(&self) -> usize {
        let chains = self.chains.take();
        let kept = chains.as_ref().map_or(0, |chains| chains.len());
        self.chains.set(chains);
        kept
    }

    /// Gives nginx a chain (or nothing, to go on with what it has), and lets go of what is sent.
    pub(super) fn pass(
        &self,
        r: *mut ngx_http_request_t,
        chain: *mut ngx_chain_t,
    ) -> Result<(), ()> {
        // SAFETY: the request is alive; what the buffers show stays until `held` lets it go.
        let (status, over) = detect_end(r, || unsafe { ngx_http_output_filter(r, chain) });
        let passed = self.passed(r, status, chain);
        self.ended_by_filter.set(over);
        if over {
            return Err(());
        }
        passed
    }

    /// Lets go of what is sent.
    fn passed(
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
        match status == NGX_ERROR as ngx_int_t {
            true => Err(()),
            false => Ok(()),
        }
    }
}

/// Whether the last of the filters has something, or what comes behind it.
fn has_output(r: *mut ngx_http_request_t) -> bool {
    let (c, _) = connection_and_write(r);
    // SAFETY: callers have seen that the request is alive.
    unsafe { !(*r).out.is_null() || bits::connection::buffered(c) & BEHIND_THE_OTHERS != 0 }
}

/// Whether one of the others says that it has something.
fn has_input(r: *mut ngx_http_request_t) -> bool {
    let (c, _) = connection_and_write(r);
    // SAFETY: callers have seen that the request is alive.
    unsafe {
        bits::connection::buffered(c) & !(BEHIND_THE_OTHERS | UNSENT_BUFFERED) != 0
            || bits::request::buffered(r) != 0
            || !(*r).postponed.is_null()
    }
}

/// Whether nothing but the filters themselves keeps back what they were given.
fn takes_more(r: *mut ngx_http_request_t) -> bool {
    let (_, write) = connection_and_write(r);
    // SAFETY: callers have seen that the request is alive. nginx posts the event of a connection that has
    // had its share of this turn (`sendfile_max_chunk`).
    let ready = unsafe {
        bits::event::ready(write) != 0
            && bits::event::delayed(write) == 0
            && bits::event::posted(write) == 0
    };
    ready && !has_subrequest(r)
}

/// How many frames are handed over together.
pub(super) fn count_fitting(frames: &[Frame]) -> usize {
    let mut bytes = 0usize;
    let count_fitting = frames.iter().take_while(|frame| {
        bytes = bytes.saturating_add(frame.body().len());
        bytes <= PIECE
    });
    count_fitting.count().max(1)
}
