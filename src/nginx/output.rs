//! The way of frames to a client's socket, and the life of a request that is a stream.
//!
//! An `Output` is shared by the worker, which sends through its `Client`, and by the request, which
//! keeps it until its memory is freed: nginx may still point to frames after the stream has ended,
//! from a connection that several requests share (HTTP/2). There are two ways to the socket:
//! nginx's filters (`filters`), and past them where they would leave the bytes as they are
//! (`direct`), through `wire`. A stream whose request was given back (`lean`) has the second only.

mod cleanup_handlers;
mod direct;
mod disconnection;
pub(super) mod end_filter;
mod filters;
mod incoming;
mod lean;
mod posted;
mod progress;
mod send;
mod unsent;

use super::bits;
use super::guard::guarded;
use super::macros::{ngx_add_timer, ngx_del_timer, ngx_post_event};
use super::request::{Outcome, Request};
use super::response::Body;
use super::top_level::TopLevel;
use crate::worker::{Batch, Finish, Sent, Socket};
use cleanup_handlers::CleanupHandlers;
pub use disconnection::Disconnection;
use filters::Chains;
pub use lean::{Lean, LeanCallbacks};
use nginx_sys::{
    ngx_connection_t, ngx_event_t, ngx_handle_write_event, ngx_http_finalize_request,
    ngx_http_log_ctx_t, ngx_http_request_t, ngx_http_send_special, ngx_int_t, ngx_posted_events,
    NGX_HTTP_LAST, NGX_HTTP_REQUEST_TIME_OUT, NGX_HTTP_WRITE_BUFFERED, NGX_OK, NGX_SSL_BUFFERED,
};
pub use posted::run_posted;
use progress::SendProgress;
use send::Transport;
use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;
use unsent::{has_unsent, Unsent};

/// What a connection's `buffered` says of bytes that no filter has any more.
const BEHIND_FILTERS: u32 = NGX_HTTP_WRITE_BUFFERED | NGX_SSL_BUFFERED | unsent::UNSENT_BUFFERED;

/// An answer that goes on for as long as the client stays.
pub struct Output {
    request: Cell<Option<NonNull<ngx_http_request_t>>>,
    /// The request's; it stays the same for as long as there is one.
    connection: *mut ngx_connection_t,
    /// Nothing while nothing goes through the filters.
    chains: Cell<Option<Box<Chains>>>,
    unsent: Unsent,
    /// How much the client had taken when the waiting for it began, or began anew.
    progress: Cell<SendProgress>,
    path: Cell<SendPath>,
    transport: Transport,
    /// The connection's log takes debug lines.
    debugged: bool,
    /// A filter has ended the response.
    ended_by_filter: Cell<bool>,
    /// Nobody was told of the request's end when the stream began.
    no_foreign_cleanup: bool,
    /// Who is told of it since the stream has begun: the stream.
    own_cleanup: Cell<CleanupHandlers>,
}

/// The worker's end of a client's connection.
pub enum Client {
    /// A stream that is a request of nginx.
    Request(Rc<Output>),
    /// One whose request was given back.
    Lean(Rc<Lean>),
}

/// How bytes go to the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendPath {
    /// Nothing is sent yet; the first bytes tell.
    Unknown,
    /// Through nginx's filters.
    Filters,
    /// Past them, framed as HTTP/1.1 chunks.
    Chunks,
    /// Past them, as they are.
    Bodies,
}

/// What became of bytes that were kept for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// All are sent.
    Empty,
    /// Some are left; nginx calls again when there is room.
    Waiting,
    /// The client took nothing for `send_timeout`.
    TimedOut,
    /// The connection is dead.
    Failed,
}

/// Whether waiting for room begins anew with what was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Timer {
    Keep,
    Renew,
}

/// What hears of a client that takes bytes again.
pub trait OnWritable {
    /// The request's connection has room, or has had none for too long: `Output::flush` tells. What it
    /// returns ends the request.
    fn writable(request: &Request) -> Option<Outcome>;
}

impl Output {
    /// Takes over a request whose body may be sent: from now on nginx watches for the client's
    /// going, and calls `H` when the socket has room again. The caller keeps the output with the
    /// request's context, counts the request as in use (`hold`) and calls `detach` at its end.
    pub fn attach<H: OnWritable>(body: &Body<'_>) -> Rc<Output> {
        let request = body.request();
        let r = request.raw();
        // SAFETY: the request is alive.
        unsafe {
            (*r).read_event_handler = Some(incoming::watch_client);
            (*r).write_event_handler = Some(write_ready::<H>);
        }
        Rc::new(Output {
            request: Cell::new(NonNull::new(r)),
            connection: request.connection(),
            chains: Cell::default(),
            unsent: Unsent::default(),
            progress: Cell::default(),
            path: Cell::new(SendPath::Unknown),
            // SAFETY: the connection is alive.
            transport: unsafe { Transport::for_connection(request.connection()) },
            debugged: request.is_debugged(),
            ended_by_filter: Cell::new(false),
            // SAFETY: the request and its pool are alive.
            no_foreign_cleanup: unsafe { CleanupHandlers::for_request(r).is_empty() },
            own_cleanup: Cell::new(CleanupHandlers::NONE),
        })
    }

    /// Makes all bytes go through nginx's filters, whether or not these would change them. Called before
    /// anything is sent.
    pub fn use_filters(&self) {
        self.path.set(SendPath::Filters);
    }

    /// Takes all that is called at the request's end by now for the stream's own.
    pub fn note_own_cleanup(&self) {
        if let Some(r) = self.request.get() {
            // SAFETY: `detach` comes before the request's end.
            self.own_cleanup.set(unsafe { CleanupHandlers::for_request(r.as_ptr()) });
        }
    }

    /// Counts the request as in use until `finish`, and has nginx look whether the client went
    /// away before it was watched.
    pub fn hold(&self, request: &Request) -> Outcome {
        let c = request.connection();
        // SAFETY: the request and its connection are alive; the read event is the connection's.
        unsafe {
            let main = (*request.raw()).main;
            let count = bits::request::count(main);
            bits::request::set_count(main, count + 1);
            if bits::event::pending_eof((*c).read) != 0 || bits::event::ready((*c).read) != 0 {
                ngx_post_event((*c).read, &raw mut ngx_posted_events);
            }
        }
        Outcome::DONE
    }

    /// The request ends: from now on nothing is sent.
    pub fn detach(&self) {
        self.request.set(None);
    }

    /// Whether a filter has ended the response.
    pub fn is_ended_by_filter(&self) -> bool {
        self.ended_by_filter.get()
    }

    /// Whether all that is still to be sent goes past nginx's filters.
    pub fn is_direct(&self) -> bool {
        matches!(self.path.get(), SendPath::Chunks | SendPath::Bodies)
    }

    /// Lends the request, if it has not ended.
    pub fn with_request<R>(&self, call: impl FnOnce(&Request) -> R) -> Option<R> {
        let r = self.request.get()?;
        // SAFETY: `detach` comes before the request's end.
        unsafe { Request::from_raw(r.as_ptr()) }.map(|request| call(&request))
    }

    /// Sends what was kept, as nginx's own writer does.
    pub fn flush(&self) -> Flushed {
        let Some(r) = self.alive() else { return Flushed::Failed };
        let (c, write) = connection_and_write(r);
        // The client of a QUIC stream refuses the rest of it (STOP_SENDING): with nothing to send, nothing
        // else would tell.
        // SAFETY: the request, its connection and the connection's event are alive.
        if unsafe { bits::event::error(write) != 0 } {
            return Flushed::Failed;
        }
        // SAFETY: as above.
        let (timed_out, delayed) =
            unsafe { (bits::event::timedout(write) != 0, bits::event::delayed(write) != 0) };
        // SAFETY: as above.
        if timed_out && !unsafe { self.progress.get().has_grown(r) } {
            // SAFETY: as above; nginx resets such connections where it is told to.
            unsafe { bits::connection::set_timedout(c, 1) };
            return Flushed::TimedOut;
        }
        // SAFETY: as above.
        unsafe { bits::event::set_timedout(write, 0) };
        if delayed {
            return self.wait(r, Timer::Keep);
        }
        if self.send_unsent(r).is_err() || self.resume_filters(r).is_err() {
            return Flushed::Failed;
        }
        if blocked(r) {
            // SAFETY: `resume_filters` has seen that the request is still alive.
            let sent = unsafe { self.progress.get().has_sent(c) };
            return self.wait(r, if sent { Timer::Renew } else { Timer::Keep });
        }
        // SAFETY: as above.
        unsafe {
            // A delayed event keeps its timer: only that ends the delay.
            if bits::event::timer_set(write) != 0 && bits::event::delayed(write) == 0 {
                ngx_del_timer(write);
            }
            // Where the loop tells of room for as long as there is any, it is to stop that.
            ngx_handle_write_event(write, 0);
        }
        Flushed::Empty
    }

    /// Ends the request.
    pub fn finish(&self, top: &mut TopLevel, how: Finish) {
        let Some(r) = self.alive() else { return };
        // SAFETY: the request and its connection are alive.
        unsafe { set_log_request((*r).connection, r) };
        let Some(Outcome(status)) = self.end_response(how) else { return };
        // SAFETY: as above.
        unsafe { top.finalize(r, status) };
    }

    /// Sends the mark of the end, where there is to be one. Returns the outcome that ends the request,
    /// for a handler of the request to return.
    pub fn end_response(&self, how: Finish) -> Option<Outcome> {
        let r = self.alive()?;
        if self.ended_by_filter.get() {
            // nginx still sends what it keeps.
            return Some(Outcome::OK);
        }
        let whole = match how {
            Finish::Whole => !has_unsent(self.connection),
            Finish::Prompt => !blocked(r),
            Finish::Cut | Finish::TimedOut => false,
        };
        Some(match (whole, how) {
            // SAFETY: the request is alive.
            (true, _) => Outcome(unsafe { ngx_http_send_special(r, NGX_HTTP_LAST as usize) }),
            (false, Finish::TimedOut) => Outcome::status(NGX_HTTP_REQUEST_TIME_OUT as u16),
            (false, _) => Outcome::ERROR,
        })
    }

    fn alive(&self) -> Option<*mut ngx_http_request_t> {
        let r = self.request.get()?.as_ptr();
        // SAFETY: `detach` comes before the request's end.
        let over = unsafe { bits::request::done(r) != 0 || bits::request::post_action(r) != 0 };
        (!over).then_some(r)
    }

    fn send(self: &Rc<Output>, batch: &Batch) -> Sent {
        let sent = match self.path.get() {
            // The way of nearly every event: it does not so much as look at the request, whose
            // memory is seldom in the processor's cache.
            path @ (SendPath::Chunks | SendPath::Bodies) => match self.request.get() {
                Some(r) => self.send_direct(r.as_ptr(), path, batch),
                None => Sent::Failed,
            },
            path => {
                let sent = match self.alive() {
                    Some(r) if path == SendPath::Unknown => self.send_first(r, batch.frames()),
                    Some(r) => self.send_filtered(r, batch.frames()),
                    None => Sent::Failed,
                };
                self.note_posted();
                sent
            }
        };
        if self.debugged {
            self.with_request(|request| {
                let (path, frames) = (self.path.get(), batch.frames().len());
                request.debug(format_args!("http sse send: {frames} frames, {path:?}: {sent:?}"));
            });
        }
        sent
    }

    /// Waits for what `blocked` has found; for room in the socket no longer than `send_timeout` without
    /// any progress.
    fn wait(&self, r: *mut ngx_http_request_t, timer: Timer) -> Flushed {
        let (_, write) = connection_and_write(r);
        // SAFETY: callers have seen that the request is alive.
        let Some(request) = (unsafe { Request::from_raw(r) }) else { return Flushed::Failed };
        let location = request.core_location();
        // SAFETY: the event is the connection's.
        let ready = unsafe {
            let set = bits::event::timer_set(write) != 0;
            if bits::event::delayed(write) != 0 {
                // It has a timer of its own, by which nginx keeps to `limit_rate`.
            } else if !waits_for_client(r) {
                // A subrequest has timers of its own.
                if set {
                    ngx_del_timer(write);
                }
            } else if !set || timer == Timer::Renew {
                self.progress.set(SendProgress::for_request(r));
                ngx_add_timer(write, location.send_timeout);
            }
            ngx_handle_write_event(write, location.send_lowat)
        };
        match ready == NGX_OK as ngx_int_t {
            true => Flushed::Waiting,
            false => Flushed::Failed,
        }
    }

    /// The answer to the worker when the socket takes no more than these frames.
    fn blocked_at(&self, r: *mut ngx_http_request_t, taken: usize) -> Sent {
        match self.wait(r, Timer::Keep) {
            Flushed::Waiting => Sent::Blocked { taken },
            _ => Sent::Failed,
        }
    }
}

impl Socket for Client {
    fn send(&mut self, batch: &Batch) -> Sent {
        match self {
            Client::Request(output) => output.send(batch),
            Client::Lean(lean) => lean.send(batch),
        }
    }

    fn prefetch(&self) -> usize {
        let alive = match self {
            Client::Request(output) => output.request.get().map(|_| output.connection),
            Client::Lean(lean) => lean.alive(),
        };
        // nginx looks at the log of each connection as it sends, to see whether it is debugged.
        // SAFETY: a connection and its log outlive its stream's `request`, and a lean stream forgets one
        // that it closes.
        alive
            .map_or(0, |c| unsafe { (*c).fd as usize ^ (*c).sent as usize ^ (*(*c).log).log_level })
    }
}

/// Whether a stream has to wait before it gets more. What a filter keeps for reasons of its own is not
/// waited for, since nothing would tell when it is sent: it comes with what follows.
fn blocked(r: *mut ngx_http_request_t) -> bool {
    waits_for_client(r) || has_subrequest(r)
}

/// Whether bytes are kept until the client takes them, or until `limit_rate` lets it have more.
fn waits_for_client(r: *mut ngx_http_request_t) -> bool {
    let (c, write) = connection_and_write(r);
    // SAFETY: callers have seen that the request is alive.
    unsafe {
        let kept = bits::connection::buffered(c);
        let full = bits::event::ready(write) == 0 || bits::event::delayed(write) != 0;
        kept & BEHIND_FILTERS != 0 || (kept != 0 && full)
    }
}

/// Whether a subrequest's response, which a filter has asked for, comes before more of this one.
fn has_subrequest(r: *mut ngx_http_request_t) -> bool {
    let (c, _) = connection_and_write(r);
    // SAFETY: callers have seen that the request is alive.
    unsafe { (*c).data != r.cast() || !(*r).postponed.is_null() }
}

/// The connection of a living request, and its write event.
fn connection_and_write(r: *mut ngx_http_request_t) -> (*mut ngx_connection_t, *mut ngx_event_t) {
    // SAFETY: callers have seen that the request is alive.
    unsafe { ((*r).connection, (*(*r).connection).write) }
}

/// Has the connection's log lines name this request.
///
/// # Safety
/// Both are alive, and the connection serves http.
pub(super) unsafe fn set_log_request(c: *mut ngx_connection_t, r: *mut ngx_http_request_t) {
    // SAFETY: the caller vouches for both; http connections keep this structure with their log.
    unsafe {
        let context: *mut ngx_http_log_ctx_t = (*(*c).log).data.cast();
        if !context.is_null() {
            (*context).current_request = r;
        }
    }
}

unsafe extern "C" fn write_ready<H: OnWritable>(r: *mut ngx_http_request_t) {
    let ended = guarded(None, || {
        // SAFETY: nginx calls with a request that `attach` took over.
        unsafe { Request::from_raw(r) }.and_then(|request| H::writable(&request))
    });
    if let Some(Outcome(status)) = ended {
        // SAFETY: nothing that `writable` calls frees the request. This is its last use here, and nginx
        // runs what is posted once this handler has returned.
        unsafe { ngx_http_finalize_request(r, status) };
    }
}
