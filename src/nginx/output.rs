//! Sends frames to a client, and ties a stream to its request.
//!
//! An `Output` is shared by the worker, which sends through its `Client`, and by the request, which
//! keeps it until the request's memory is freed: in HTTP/2, the connection may still refer to
//! frames after their stream has ended. There are two paths to the socket: through nginx's filters
//! (`filters`), and past them if they would not change the bytes (`direct`, `send`). A stream whose
//! request has been released (`lean`) uses the second path only.
//!
//! # Layout
//!
//! - `client`: the worker's handle of a connection
//! - `filters`, `end_filter`, `posted`: sends through nginx's filters, detects when one of them
//!   ends the response, and runs requests that they post
//! - `direct`, `send`, `unsent`: sends past the filters, and keeps the rest of a frame that was
//!   sent in part
//! - `writable`, `progress`: waits until the client accepts more, for `send_timeout` at most
//! - `incoming`, `disconnection`: discards what the client sends, and determines how it
//!   disconnected
//! - `cleanup_handlers`: which modules have handlers that run when the request ends
//! - `lean`: streams without a request

mod cleanup_handlers;
mod client;
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
mod writable;

use super::bits;
use super::log::Counted;
use super::macros::ngx_post_event;
use super::request::{Outcome, Request};
use super::response::Body;
use super::top_level::TopLevel;
use crate::worker::{Batch, Closing, EndForm, Finish, Sent};
use cleanup_handlers::CleanupHandlers;
pub use client::Client;
pub use disconnection::Disconnection;
use filters::Chains;
pub use lean::{Lean, LeanCallbacks};
use nginx_sys::{
    ngx_connection_t, ngx_event_t, ngx_http_log_ctx_t, ngx_http_request_t, ngx_http_send_special,
    ngx_posted_events, NGX_HTTP_LAST, NGX_HTTP_REQUEST_TIME_OUT,
};
pub use posted::run_posted;
use progress::SendProgress;
use send::Transport;
use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;
use unsent::{has_unsent, Unsent};
use writable::blocked;
pub use writable::{Flushed, OnWritable};

/// The response of a stream.
pub struct Output {
    /// `None` once the request has ended or been released.
    request: Cell<Option<NonNull<ngx_http_request_t>>>,
    /// The request's connection. Valid while `request` is set.
    connection: *mut ngx_connection_t,
    /// The buffers that were passed to nginx's filters; `None` if there are none.
    chains: Cell<Option<Box<Chains>>>,
    unsent: Unsent,
    /// How much the client had accepted when `send_timeout` was started.
    progress: Cell<SendProgress>,
    path: Cell<SendPath>,
    transport: Transport,
    /// Whether the connection's log accepts debug lines.
    debugged: bool,
    /// Whether a filter has ended the response.
    ended_by_filter: Cell<bool>,
    /// Whether no other module had a cleanup handler when the stream began.
    no_foreign_cleanup: bool,
    /// The cleanup handlers after the stream has added its own.
    own_cleanup: Cell<CleanupHandlers>,
}

/// How bytes reach the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendPath {
    /// Nothing has been sent yet. The first send decides.
    Unknown,
    /// Through nginx's filters.
    Filters,
    /// Past the filters, framed as HTTP/1.1 chunks.
    Chunks,
    /// Past the filters, without framing.
    Bodies,
}

impl Output {
    /// Takes over a request whose header has been sent. From now on, nginx detects when the client
    /// disconnects, and calls `H` when the socket is writable again. The caller stores the output
    /// in the request's context, calls `hold`, and calls `detach` when the request ends.
    pub fn attach<H: OnWritable>(body: &Body<'_>) -> Rc<Output> {
        let request = body.request();
        let r = request.raw();
        // SAFETY: the request is alive.
        unsafe {
            (*r).read_event_handler = Some(incoming::watch_client);
            (*r).write_event_handler = Some(writable::write_ready::<H>);
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
            no_foreign_cleanup: unsafe { CleanupHandlers::for_request(r).are_own() },
            own_cleanup: Cell::new(CleanupHandlers::NONE),
        })
    }

    /// Sends everything through nginx's filters, whether or not they would change it. Must be
    /// called before anything is sent.
    pub fn use_filters(&self) {
        self.path.set(SendPath::Filters);
    }

    /// Records that the request's current cleanup handlers are the stream's own.
    pub fn note_own_cleanup(&self) {
        if let Some(r) = self.request.get() {
            // SAFETY: `detach` is called before the request ends.
            self.own_cleanup.set(unsafe { CleanupHandlers::for_request(r.as_ptr()) });
        }
    }

    /// Increments the request's reference count, which finalizing it decrements, and makes nginx
    /// check whether the client disconnected before its connection was watched.
    pub fn hold(&self, request: &Request) -> Outcome {
        let c = request.connection();
        // SAFETY: the request and its connection are alive, and so is the connection's read event.
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

    /// Releases the request, which is about to end. Nothing is sent after this.
    pub fn detach(&self) {
        self.request.set(None);
    }

    /// Whether a filter has ended the response.
    pub fn is_ended_by_filter(&self) -> bool {
        self.ended_by_filter.get()
    }

    /// Whether everything is sent past nginx's filters from now on.
    pub fn is_direct(&self) -> bool {
        matches!(self.path.get(), SendPath::Chunks | SendPath::Bodies)
    }

    /// Calls `call` with the request, unless it has ended.
    pub fn with_request<R>(&self, call: impl FnOnce(&Request) -> R) -> Option<R> {
        let r = self.request.get()?;
        // SAFETY: `detach` is called before the request ends.
        unsafe { Request::from_raw(r.as_ptr()) }.map(|request| call(&request))
    }

    /// Ends the response and finalizes the request.
    pub fn finish(&self, top: &mut TopLevel, how: Closing) {
        let Some(r) = self.alive() else { return };
        // SAFETY: the request and its connection are alive.
        unsafe { set_log_request((*r).connection, r) };
        let Some(Outcome(status)) = self.end_response(how) else { return };
        // SAFETY: as above.
        unsafe { top.finalize(r, status) };
    }

    /// Ends the response: with the end-of-response marker if it is to be complete. Returns the
    /// outcome that ends the request, for one of its handlers to return.
    pub fn end_response(&self, how: Closing) -> Option<Outcome> {
        let r = self.alive()?;
        if self.ended_by_filter.get() {
            // nginx still sends what it has buffered.
            return Some(Outcome::OK);
        }
        let is_delivered = match how.finish {
            Finish::Whole => !has_unsent(self.connection),
            Finish::Prompt => !blocked(r),
            Finish::Cut | Finish::TimedOut => false,
        };
        if is_delivered && how.form == EndForm::Interrupted {
            return self.with_request(Request::interrupt);
        }
        if !is_delivered {
            self.with_request(Request::flush_reset_soon);
        }
        Some(if is_delivered {
            // SAFETY: the request is alive.
            Outcome(unsafe { ngx_http_send_special(r, NGX_HTTP_LAST as usize) })
        } else if how.finish == Finish::TimedOut {
            Outcome::status(NGX_HTTP_REQUEST_TIME_OUT as u16)
        } else {
            Outcome::ERROR
        })
    }

    /// Whether the response has been sent and nginx only lingers on the connection: it reads and
    /// discards what the client still sends, and keeps the request meanwhile.
    pub fn is_lingering(&self) -> bool {
        // SAFETY: `detach` is called before the request ends.
        self.request.get().is_some_and(|r| unsafe { (*r.as_ptr()).lingering_time } != 0)
    }

    /// Returns the request, unless it has ended or is being ended.
    fn alive(&self) -> Option<*mut ngx_http_request_t> {
        let r = self.request.get()?.as_ptr();
        // SAFETY: `detach` is called before the request ends.
        let is_ending =
            unsafe { bits::request::done(r) != 0 || bits::request::post_action(r) != 0 };
        (!is_ending).then_some(r)
    }

    /// Sends a batch. The caller guarantees that nothing of an earlier batch is unsent.
    fn send(self: &Rc<Output>, batch: &Batch) -> Sent {
        let sent = match self.path.get() {
            // Nearly every event takes this path. It does not access the request, whose memory is
            // rarely in the processor's cache.
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
                let (path, frames) = (self.path.get(), Counted(batch.frames().len(), "frame"));
                request.debug(format_args!("http sse send: {frames}, {path:?}: {sent:?}"));
            });
        }
        sent
    }
}

/// Returns a request's connection and the connection's write event.
fn connection_and_write(r: *mut ngx_http_request_t) -> (*mut ngx_connection_t, *mut ngx_event_t) {
    // SAFETY: callers have checked that the request is alive.
    unsafe { ((*r).connection, (*(*r).connection).write) }
}

/// Makes lines in the connection's log name this request.
///
/// # Safety
/// Both are alive, and the connection is one of the http module.
pub(super) unsafe fn set_log_request(c: *mut ngx_connection_t, r: *mut ngx_http_request_t) {
    // SAFETY: the caller vouches for both; the log's data of an http connection are this structure.
    unsafe {
        let context: *mut ngx_http_log_ctx_t = (*(*c).log).data.cast();
        if !context.is_null() {
            (*context).current_request = r;
        }
    }
}
