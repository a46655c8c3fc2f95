//! What a stream waits for before it sends more, and what it does when it can: the counterpart of
//! nginx's `ngx_http_writer`, with `send_timeout`, `send_lowat`, and `limit_rate`.

use super::progress::SendProgress;
use super::unsent::UNSENT_BUFFERED;
use super::{connection_and_write, Output};
use crate::nginx::bits;
use crate::nginx::guard::guarded;
use crate::nginx::macros::{ngx_add_timer, ngx_del_timer};
use crate::nginx::request::{Outcome, Request};
use crate::worker::Sent;
use nginx_sys::{
    ngx_handle_write_event, ngx_http_finalize_request, ngx_http_request_t, ngx_int_t,
    NGX_HTTP_WRITE_BUFFERED, NGX_OK, NGX_SSL_BUFFERED,
};

/// Bits of a connection's `buffered` for bytes that have left all filters.
const BEHIND_FILTERS: u32 = NGX_HTTP_WRITE_BUFFERED | NGX_SSL_BUFFERED | UNSENT_BUFFERED;

/// The result of sending bytes that were kept for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing is left.
    Empty,
    /// Some bytes are left. nginx calls [`OnWritable::writable`] again.
    Waiting,
    /// The client accepted nothing for `send_timeout`.
    TimedOut,
    /// The connection is broken.
    Failed,
}

/// Whether a new wait restarts `send_timeout`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Timer {
    /// A timer that is set continues.
    Keep,
    /// The timer starts again, because bytes were sent.
    Restart,
}

/// Handles a client that accepts bytes again.
pub trait OnWritable {
    /// Called when the socket is writable, or when the client accepted nothing for `send_timeout`.
    /// The implementation calls [`Output::flush`] to find out which. An outcome ends the request.
    fn writable(request: &Request) -> Option<Outcome>;
}

impl Output {
    /// Sends the bytes that were kept, as nginx's `ngx_http_writer` does.
    pub fn flush(&self) -> Flushed {
        let Some(r) = self.alive() else { return Flushed::Failed };
        let (c, write) = connection_and_write(r);
        // The client of an HTTP/3 stream can refuse the rest of it (STOP_SENDING). If there is
        // nothing to send, only this flag shows that.
        // SAFETY: the request, its connection, and the connection's event are alive.
        if unsafe { bits::event::error(write) != 0 } {
            return Flushed::Failed;
        }
        // SAFETY: as above.
        let (timed_out, delayed) =
            unsafe { (bits::event::timedout(write) != 0, bits::event::delayed(write) != 0) };
        // SAFETY: as above.
        if timed_out && !unsafe { self.progress.get().has_grown(r) } {
            // SAFETY: as above. With `reset_timedout_connection`, nginx resets such a connection.
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
            // SAFETY: `resume_filters` has checked that the request is still alive.
            let sent = unsafe { self.progress.get().has_sent(c) };
            return self.wait(r, if sent { Timer::Restart } else { Timer::Keep });
        }
        // SAFETY: as above.
        unsafe {
            // The timer of a delayed event ends the delay and must stay.
            if bits::event::timer_set(write) != 0 && bits::event::delayed(write) == 0 {
                ngx_del_timer(write);
            }
            // A level-triggered event loop would otherwise report the writable socket in every
            // turn.
            ngx_handle_write_event(write, 0);
        }
        Flushed::Empty
    }

    /// Waits for whatever blocks the stream. A wait for the socket lasts `send_timeout` without
    /// progress at most.
    fn wait(&self, r: *mut ngx_http_request_t, timer: Timer) -> Flushed {
        let (_, write) = connection_and_write(r);
        // SAFETY: callers have checked that the request is alive.
        let Some(request) = (unsafe { Request::from_raw(r) }) else { return Flushed::Failed };
        let location = request.core_location();
        // SAFETY: the event is the connection's.
        let watched = unsafe {
            let is_set = bits::event::timer_set(write) != 0;
            if bits::event::delayed(write) != 0 {
                // nginx has set a timer for `limit_rate`.
            } else if !waits_for_client(r) {
                // A subrequest has its own timers.
                if is_set {
                    ngx_del_timer(write);
                }
            } else if !is_set || timer == Timer::Restart {
                self.progress.set(SendProgress::for_request(r));
                ngx_add_timer(write, location.send_timeout);
            }
            ngx_handle_write_event(write, location.send_lowat)
        };
        if watched == NGX_OK as ngx_int_t {
            Flushed::Waiting
        } else {
            Flushed::Failed
        }
    }

    /// Waits after `taken` frames were accepted. Returns the result for the worker.
    pub(super) fn blocked_at(&self, r: *mut ngx_http_request_t, taken: usize) -> Sent {
        match self.wait(r, Timer::Keep) {
            Flushed::Waiting => Sent::Blocked { taken },
            _ => Sent::Failed,
        }
    }
}

/// Whether a stream has to wait before it sends more. Bytes that a filter keeps for its own reasons
/// do not count, because no event follows when it releases them: it does so only with later output.
pub(super) fn blocked(r: *mut ngx_http_request_t) -> bool {
    waits_for_client(r) || has_subrequest(r)
}

/// Whether bytes are kept because the client does not accept them yet, or because of `limit_rate`.
fn waits_for_client(r: *mut ngx_http_request_t) -> bool {
    let (c, write) = connection_and_write(r);
    // SAFETY: callers have checked that the request is alive.
    unsafe {
        let buffered = bits::connection::buffered(c);
        let full = bits::event::ready(write) == 0 || bits::event::delayed(write) != 0;
        buffered & BEHIND_FILTERS != 0 || (buffered != 0 && full)
    }
}

/// Whether the response of a subrequest, which a filter has made, precedes further output.
pub(super) fn has_subrequest(r: *mut ngx_http_request_t) -> bool {
    let (c, _) = connection_and_write(r);
    // SAFETY: callers have checked that the request is alive.
    unsafe { (*c).data != r.cast() || !(*r).postponed.is_null() }
}

/// The `write_event_handler` of a stream's request.
pub(super) unsafe extern "C" fn write_ready<H: OnWritable>(r: *mut ngx_http_request_t) {
    let ended = guarded(None, || {
        // SAFETY: nginx calls this for a request that `attach` has taken over.
        unsafe { Request::from_raw(r) }.and_then(|request| H::writable(&request))
    });
    if let Some(Outcome(status)) = ended {
        // SAFETY: nothing that `writable` calls frees the request. It is not used after this call,
        // and nginx runs posted requests when this handler has returned.
        unsafe { ngx_http_finalize_request(r, status) };
    }
}
