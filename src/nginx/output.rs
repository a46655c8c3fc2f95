//! The way of frames to a client's socket: through nginx's filters, as any other answer goes.
//!
//! An `Output` is shared by the worker, which sends through its `Client`, and by the request, which
//! keeps it until its memory is freed: nginx may still point to frames after the stream has ended,
//! from a connection that several requests share (HTTP/2).

use super::log::{self, Level};
use super::request::{Outcome, Request};
use crate::sse::frame::Frame;
use crate::worker::{Batch, Sent, Socket};
use bytes::Bytes;
use nginx_sys::{
    ngx_add_timer, ngx_buf_t, ngx_chain_get_free_buf, ngx_chain_t, ngx_chain_update_chains,
    ngx_connection_t, ngx_del_timer, ngx_event_t, ngx_handle_write_event,
    ngx_http_finalize_request, ngx_http_log_ctx_t, ngx_http_output_filter, ngx_http_request_t,
    ngx_http_run_posted_requests, ngx_http_test_reading, ngx_int_t, ngx_post_event,
    ngx_posted_events, NGX_ERROR, NGX_OK,
};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ptr::{self, NonNull};
use std::rc::Rc;

/// How much is handed to nginx in one call, unless one frame alone is larger. What a client does
/// not take stays with nginx, so this also bounds what a slow client holds.
const PIECE: usize = 16 * 1024;

/// An answer that goes on for as long as the client stays.
pub struct Output {
    request: Cell<Option<NonNull<ngx_http_request_t>>>,
    free: Cell<*mut ngx_chain_t>,
    busy: Cell<*mut ngx_chain_t>,
    held: RefCell<VecDeque<(*mut ngx_buf_t, Bytes)>>,
}

/// The worker's end of an output.
pub struct Client(pub Rc<Output>);

/// What became of bytes that nginx had kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// All are gone.
    Empty,
    /// Some are left; nginx calls again when there is room.
    Waiting,
    /// The client took nothing for `send_timeout`.
    TimedOut,
    /// The connection is dead.
    Failed,
}

/// How an answer is brought to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// With the mark of a whole answer, however long the client takes.
    Whole,
    /// The same, but cut where the client has not taken all by now.
    Prompt,
    /// Cut at once.
    Cut,
    /// Cut because the client took nothing for too long.
    TimedOut,
}

/// What hears of a client that takes bytes again.
pub trait OnWritable {
    fn writable(request: &Request);
}

impl Output {
    /// Takes over a request whose header is sent: from now on nginx watches for the client's
    /// going, and calls `H` when the socket has room again. The caller keeps the output with the
    /// request's context, counts the request as in use (`hold`) and calls `detach` at its end.
    pub fn attach<H: OnWritable>(request: &Request) -> Rc<Output> {
        let r = request.raw();
        // SAFETY: the request is alive.
        unsafe {
            (*r).read_event_handler = Some(ngx_http_test_reading);
            (*r).write_event_handler = Some(write_ready::<H>);
        }
        Rc::new(Output {
            request: Cell::new(NonNull::new(r)),
            free: Cell::new(ptr::null_mut()),
            busy: Cell::new(ptr::null_mut()),
            held: RefCell::default(),
        })
    }

    /// Counts the request as in use until `finish`, and has nginx look whether the client went
    /// away before it was watched.
    pub fn hold(&self, request: &Request) -> Outcome {
        let c = request.connection();
        // SAFETY: the request and its connection are alive; the read event is the connection's.
        unsafe {
            let main = (*request.raw()).main;
            let count = (*main).count();
            (*main).set_count(count + 1);
            if (*(*c).read).pending_eof() != 0 {
                ngx_post_event((*c).read, &raw mut ngx_posted_events);
            }
        }
        Outcome::DONE
    }

    /// The request ends: from now on nothing is sent.
    pub fn detach(&self) {
        self.request.set(None);
    }

    /// Sends what nginx had kept, as nginx's own writer does.
    pub fn flush(&self) -> Flushed {
        let Some(r) = self.alive() else { return Flushed::Failed };
        let (c, write) = ends(r);
        // SAFETY: the request, its connection and the connection's event are alive.
        let (timed_out, delayed, sent) =
            unsafe { ((*write).timedout() != 0, (*write).delayed() != 0, (*c).sent) };
        if timed_out {
            // SAFETY: as above; nginx resets such connections where it is told to.
            unsafe { (*c).set_timedout(1) };
            return Flushed::TimedOut;
        }
        if delayed {
            return self.wait(r, Timer::Keep);
        }
        if self.pass(r, ptr::null_mut()).is_err() {
            return Flushed::Failed;
        }
        if self.blocked(r) {
            // SAFETY: `pass` has seen that the request is still alive.
            let progress = unsafe { (*c).sent } != sent;
            return self.wait(r, if progress { Timer::Renew } else { Timer::Keep });
        }
        // SAFETY: as above.
        unsafe {
            // A delayed event keeps its timer: only that ends the delay.
            if (*write).timer_set() != 0 && (*write).delayed() == 0 {
                ngx_del_timer(write);
            }
        }
        Flushed::Empty
    }

    /// Ends the request. Called from nginx's loop, never from within the request's own handlers.
    pub fn finish(&self, how: Finish) {
        let Some(r) = self.alive() else { return };
        let (c, _) = ends(r);
        let whole = match how {
            Finish::Whole => true,
            Finish::Prompt => !self.blocked(r),
            Finish::Cut | Finish::TimedOut => false,
        };
        // SAFETY: the request and its connection are alive; after the first of the two calls only
        // the connection is touched, as nginx's own code does it.
        unsafe {
            enter_log_context(c, r);
            let status = match (whole, how) {
                (true, _) => nginx_sys::ngx_http_send_special(r, nginx_sys::NGX_HTTP_LAST as usize),
                (false, Finish::TimedOut) => nginx_sys::NGX_HTTP_REQUEST_TIME_OUT as ngx_int_t,
                (false, _) => NGX_ERROR as ngx_int_t,
            };
            ngx_http_finalize_request(r, status);
            ngx_http_run_posted_requests(c);
        }
    }

    /// Lends the request, if it has not ended.
    pub fn with_request<R>(&self, call: impl FnOnce(&Request) -> R) -> Option<R> {
        let r = self.request.get()?;
        // SAFETY: `detach` comes before the request's end.
        unsafe { Request::from_raw(r.as_ptr()) }.map(|request| call(&request))
    }

    fn alive(&self) -> Option<*mut ngx_http_request_t> {
        let r = self.request.get()?.as_ptr();
        // SAFETY: `detach` comes before the request's end.
        let over = unsafe { (*r).done() != 0 || (*r).post_action() != 0 };
        (!over).then_some(r)
    }

    /// Whether nginx still keeps bytes for this client.
    fn blocked(&self, r: *mut ngx_http_request_t) -> bool {
        // SAFETY: callers have seen that the request is alive.
        unsafe {
            !self.busy.get().is_null()
                || (*r).buffered() != 0
                || (*(*r).connection).buffered() != 0
                || !(*r).postponed.is_null()
        }
    }

    fn send(&self, frames: &[Frame]) -> Sent {
        let Some(r) = self.alive() else { return Sent::Failed };
        let mut taken = 0;
        while let Some(rest) = frames.get(taken..).filter(|rest| !rest.is_empty()) {
            let count = fitting(rest);
            let Some(chain) = self.chain(r, rest.get(..count).unwrap_or(rest)) else {
                return Sent::Failed;
            };
            let passed = self.pass(r, chain);
            self.with_request(|request| {
                request.debug(format_args!("http sse send: {count} frames, {passed:?}"));
            });
            if passed.is_err() {
                return Sent::Failed;
            }
            taken += count;
            if self.blocked(r) {
                return match self.wait(r, Timer::Keep) {
                    Flushed::Waiting => Sent::Blocked { taken },
                    _ => Sent::Failed,
                };
            }
        }
        Sent::All
    }

    /// Links buffers that point to the frames, the last of which says that nothing is to be kept
    /// back for more.
    fn chain(&self, r: *mut ngx_http_request_t, frames: &[Frame]) -> Option<*mut ngx_chain_t> {
        let mut first = ptr::null_mut();
        let mut last: *mut ngx_chain_t = ptr::null_mut();
        let mut free = self.free.get();
        for frame in frames.iter().filter(|frame| !frame.body().is_empty()) {
            // SAFETY: the pool is the request's, the list our own.
            let link = unsafe { ngx_chain_get_free_buf((*r).pool, &mut free) };
            self.free.set(free);
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
            unsafe { (*(*last).buf).set_flush(1) };
        }
        Some(first)
    }

    fn fill(&self, link: *mut ngx_chain_t, body: Bytes) {
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
        buffer.set_memory(1);
        buffer.tag = super::module::this().cast_mut().cast();
        self.held.borrow_mut().push_back((buffer, body));
    }

    /// Gives nginx a chain (or nothing, to go on with what it has), and lets go of what is sent.
    fn pass(&self, r: *mut ngx_http_request_t, chain: *mut ngx_chain_t) -> Result<(), ()> {
        // SAFETY: the request is alive; the buffers stay until `held` lets them go.
        let status = unsafe { ngx_http_output_filter(r, chain) };
        if self.request.get().is_none() {
            return Err(());
        }
        let (mut free, mut busy, mut out) = (self.free.get(), self.busy.get(), chain);
        let tag = super::module::this().cast_mut().cast();
        // SAFETY: the request is still alive, and the lists are our own.
        unsafe { ngx_chain_update_chains((*r).pool, &mut free, &mut busy, &mut out, tag) };
        self.free.set(free);
        self.busy.set(busy);
        let mut held = self.held.borrow_mut();
        // SAFETY: the buffers lie in the request's pool.
        while held.front().is_some_and(|(buffer, _)| unsafe { (**buffer).pos == (**buffer).last }) {
            held.pop_front();
        }
        match status == NGX_ERROR as ngx_int_t {
            true => Err(()),
            false => Ok(()),
        }
    }

    /// Waits for room in the socket, no longer than `send_timeout` without any progress.
    fn wait(&self, r: *mut ngx_http_request_t, timer: Timer) -> Flushed {
        let (_, write) = ends(r);
        // SAFETY: callers have seen that the request is alive.
        let Some(request) = (unsafe { Request::from_raw(r) }) else { return Flushed::Failed };
        let location = request.core_location();
        // SAFETY: the event is the connection's.
        let ready = unsafe {
            let set = (*write).timer_set() != 0;
            // A delayed event has a timer of its own, by which nginx keeps to `limit_rate`.
            if (*write).delayed() == 0 && (!set || timer == Timer::Renew) {
                ngx_add_timer(write, location.send_timeout);
            }
            ngx_handle_write_event(write, location.send_lowat)
        };
        match ready == NGX_OK as ngx_int_t {
            true => Flushed::Waiting,
            false => Flushed::Failed,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Timer {
    Keep,
    Renew,
}

impl Socket for Client {
    fn send(&mut self, batch: &Batch) -> Sent {
        self.0.send(batch.frames())
    }
}

/// How many frames are handed over together.
fn fitting(frames: &[Frame]) -> usize {
    let mut bytes = 0usize;
    let fitting = frames.iter().take_while(|frame| {
        bytes = bytes.saturating_add(frame.body().len());
        bytes <= PIECE
    });
    fitting.count().max(1)
}

/// The connection of a living request, and its write event.
fn ends(r: *mut ngx_http_request_t) -> (*mut ngx_connection_t, *mut ngx_event_t) {
    // SAFETY: callers have seen that the request is alive.
    unsafe { ((*r).connection, (*(*r).connection).write) }
}

/// Has the connection's log lines name this request.
///
/// # Safety
/// Both are alive, and the connection serves http.
unsafe fn enter_log_context(c: *mut ngx_connection_t, r: *mut ngx_http_request_t) {
    // SAFETY: the caller vouches for both; http connections keep this structure with their log.
    unsafe {
        let context: *mut ngx_http_log_ctx_t = (*(*c).log).data.cast();
        if !context.is_null() {
            (*context).current_request = r;
        }
    }
}

unsafe extern "C" fn write_ready<H: OnWritable>(r: *mut ngx_http_request_t) {
    super::guard::guarded((), || {
        // SAFETY: nginx calls with a request that `attach` took over.
        if let Some(request) = unsafe { Request::from_raw(r) } {
            H::writable(&request);
        } else {
            log::write(Level::Alert, format_args!("sse: nginx called without a request"));
        }
    });
}
