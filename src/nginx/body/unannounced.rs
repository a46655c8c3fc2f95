//! Reads a body whose length the client has not announced: in chunks (HTTP/1.1), or without
//! `Content-Length` (HTTP/2).
//!
//! nginx would write such a body to a temporary file, which blocks the event loop, before the
//! module could look at its size. With `request_body_no_buffering`, as for `proxy_request_buffering
//! off`, nginx passes on each piece as it arrives. The pieces are copied into one buffer, and
//! reading stops at the limit.

use super::{append, arrived, WithBody};
use crate::nginx::bits;
use crate::nginx::guard::guarded;
use crate::nginx::pool::NoMemory;
use crate::nginx::request::{Outcome, Request};
use nginx_sys::{
    ngx_buf_t, ngx_chain_t, ngx_http_block_reading, ngx_http_finalize_request,
    ngx_http_read_unbuffered_request_body, ngx_http_request_t, ngx_int_t, NGX_AGAIN, NGX_OK,
};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::ptr;

/// The part of a body that has arrived. It is the request's context until the body is complete.
struct PartialBody {
    limit: usize,
    bytes: RefCell<Vec<u8>>,
    exceeds_limit: Cell<bool>,
}

enum BodyState {
    /// More will arrive.
    Waiting,
    /// The body is complete, or larger than the limit.
    Over,
    /// nginx could not read it; the request ends with this outcome.
    Failed(Outcome),
}

impl Request {
    /// Makes nginx pass on the body piece by piece, of which at most `limit` bytes are kept. The
    /// handler of the body must be `arrived_in_part`. nginx clears the flag again if all of the
    /// body is there.
    pub(super) fn read_unbuffered(&self, limit: usize) -> Result<(), NoMemory> {
        self.set_context(PartialBody {
            limit,
            bytes: RefCell::default(),
            exceeds_limit: Cell::default(),
        })?;
        // SAFETY: the request is alive.
        unsafe { bits::request::set_request_body_no_buffering(self.raw(), 1) };
        Ok(())
    }

    /// Whether nginx has not read all of the body yet.
    pub(super) fn is_reading_body(&self) -> bool {
        // SAFETY: the request is alive.
        unsafe { bits::request::reading_body(self.raw()) != 0 }
    }

    /// Whether the body was longer than the limit. Its pieces are gone then, whether or not nginx
    /// has read all of it.
    pub(super) fn exceeds_limit(&self) -> bool {
        self.context::<PartialBody>().is_some_and(|partial| partial.exceeds_limit.get())
    }

    fn read_pieces(&self) -> BodyState {
        let Some(partial) = self.context::<PartialBody>() else {
            return BodyState::Failed(Outcome::status(500));
        };
        let mut has_read = false;
        loop {
            let took_any = match self.take_pieces(partial) {
                Ok(took_any) => took_any,
                Err(failed) => return BodyState::Failed(failed),
            };
            if partial.exceeds_limit.get() {
                // Reading the rest would take longer than connecting again.
                self.close_afterwards();
                return BodyState::Over;
            }
            if !self.is_reading_body() {
                let restored = self.restore_body(partial.bytes.take());
                return match restored {
                    Ok(()) => BodyState::Over,
                    Err(NoMemory) => BodyState::Failed(Outcome::status(500)),
                };
            }
            if has_read && !took_any {
                return BodyState::Waiting;
            }
            // SAFETY: the request is alive, and nginx reads its body without buffering.
            let status = unsafe { ngx_http_read_unbuffered_request_body(self.raw()) };
            if status != NGX_OK as ngx_int_t && status != NGX_AGAIN as ngx_int_t {
                return BodyState::Failed(Outcome(status));
            }
            has_read = true;
        }
    }

    /// Takes what nginx has read since the last call, so that nginx can use its buffers again.
    /// Returns whether there was anything.
    fn take_pieces(&self, partial: &PartialBody) -> Result<bool, Outcome> {
        // SAFETY: nginx has set up the body, and its chain of what it has read.
        let (body, mut link) =
            unsafe { ((*self.raw()).request_body, (*(*self.raw()).request_body).bufs) };
        let took_any = !link.is_null();
        while !link.is_null() {
            // SAFETY: a link of that chain, and its buffer, which nginx uses again once it is
            // empty.
            let buffer = unsafe { &mut *(*link).buf };
            partial.add(buffer).map_err(|_| Outcome::status(500))?;
            buffer.pos = buffer.last;
            buffer.file_pos = buffer.file_last;
            // SAFETY: as above; the last link's `next` is null.
            link = unsafe { (*link).next };
        }
        // SAFETY: as above; the links stay in the request's pool.
        unsafe { (*body).bufs = ptr::null_mut() };
        Ok(took_any)
    }

    /// Leaves the request as if nginx had read the body into one buffer, for `Request::body` and
    /// for other modules, to which the request may be handed on.
    fn restore_body(&self, bytes: Vec<u8>) -> Result<(), NoMemory> {
        let length = bytes.len();
        let bytes = self.keep(bytes)?.as_ptr();
        // SAFETY: nginx makes buffers from zeroed memory.
        let buffer: *mut ngx_buf_t =
            self.keep(unsafe { std::mem::zeroed::<ngx_buf_t>() })?.as_ptr();
        let link = self.keep(ngx_chain_t { buf: buffer, next: ptr::null_mut() })?;
        // SAFETY: all of these, the request and its body live until the request's pool is
        // destroyed.
        unsafe {
            bits::buf::set_last_buf(buffer, 1);
            if length > 0 {
                let start = (*bytes).as_mut_ptr();
                bits::buf::set_memory(buffer, 1);
                (*buffer).start = start;
                (*buffer).pos = start;
                (*buffer).last = start.add(length);
                (*buffer).end = (*buffer).last;
            }
            let r = self.raw();
            (*(*r).request_body).bufs = link.as_ptr();
            // nginx sets it as it reads chunks, and over HTTP/2 only if it buffers the body.
            (*r).headers_in.content_length_n = length as i64;
            bits::request::set_request_body_no_buffering(r, 0);
        }
        Ok(())
    }
}

impl PartialBody {
    fn add(&self, buffer: &ngx_buf_t) -> std::io::Result<()> {
        let mut bytes = self.bytes.borrow_mut();
        let room = self.limit - bytes.len();
        if self.exceeds_limit.get() || super::size(buffer) > room as u64 {
            self.exceeds_limit.set(true);
            return Ok(());
        }
        let mut whole = Cow::Owned(std::mem::take(&mut *bytes));
        append(&mut whole, buffer)?;
        *bytes = whole.into_owned();
        Ok(())
    }
}

/// The handler that nginx calls when it has read the first pieces of a body, or all of it.
pub(super) unsafe extern "C" fn arrived_in_part<H: WithBody>(r: *mut ngx_http_request_t) {
    // SAFETY: nginx calls this with the request whose body it reads.
    unsafe {
        if bits::request::reading_body(r) == 0 {
            arrived::<H>(r);
            return;
        }
        (*r).read_event_handler = Some(read_more::<H>);
        read_more::<H>(r);
    }
}

/// The request's read event handler until the body is complete.
unsafe extern "C" fn read_more<H: WithBody>(r: *mut ngx_http_request_t) {
    let failed = || BodyState::Failed(Outcome::status(500));
    let progress = guarded(failed(), || {
        // SAFETY: nginx calls this with the request whose body it reads.
        unsafe { Request::from_raw(r) }.map_or_else(failed, |request| request.read_pieces())
    });
    if let BodyState::Waiting = progress {
        return;
    }
    // SAFETY: as above. Both end the request as nginx's own reading of a body does.
    unsafe {
        (*r).read_event_handler = Some(ngx_http_block_reading);
        match progress {
            BodyState::Failed(Outcome(status)) => ngx_http_finalize_request(r, status),
            _ => arrived::<H>(r),
        }
    }
}
