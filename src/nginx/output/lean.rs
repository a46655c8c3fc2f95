//! Lean streams, which have no request. Once a stream is running, its request is not needed any
//! more, and nearly all of the memory that nginx uses for a client belongs to the request. So the
//! request is freed, and the module takes over the connection: it handles the connection's two
//! events, and closes it when the stream ends.
//!
//! A request is released only if nothing else depends on it (`Output::may_be_lean`), and never
//! within one of its own handlers. nginx runs the log phase when the request is freed, so the
//! access log has its line at the start of the stream.
//!
//! # Layout
//!
//! - `release`: which requests can be released, and how
//! - `client_log`: error log lines of connections whose memory has been freed, too
//! - `reset`: closes a connection that has timed out with a reset
//! - `settings`: the timeouts and the lingering of a location
//! - `lingering`: reads what clients still send after their streams have ended

mod client_log;
mod lingering;
mod release;
mod reset;
mod settings;

use super::incoming::{discard_incoming, Incoming};
use super::progress::acknowledged;
use super::send::{self, Transport, Written};
use super::unsent::Unsent;
use super::SendPath;
use crate::nginx::bits;
use crate::nginx::guard::guarded;
use crate::nginx::log::{self, Counted, Level};
use crate::nginx::macros::{self, ngx_add_timer, ngx_del_timer};
use crate::nginx::top_level::TopLevel;
use crate::worker::{Batch, End, EndForm, Reconnect, Sent, StreamKey};
use client_log::{LoggedClient, PeerAddress};
use nginx_sys::{
    ngx_close_connection, ngx_connection_t, ngx_destroy_pool, ngx_event_t, ngx_handle_write_event,
};
use reset::set_reset_on_close;
use settings::{LeanSettingsKey, Lingering, OnTimeout};
use std::cell::Cell;
use std::fmt;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::OnceLock;

/// The last chunk of a response (RFC 9112, section 7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The callbacks of lean streams. All receive the hub's number and the stream's key.
pub struct LeanCallbacks {
    /// The socket has accepted all unsent bytes and is writable.
    pub writable: fn(usize, StreamKey),
    /// The connection is about to be closed. Its log can still be used.
    pub closing: fn(&Lean, usize, StreamKey, End),
    /// The connection is closed.
    pub closed: fn(usize, StreamKey, End),
}

/// The callbacks of all lean streams of this process.
static CALLBACKS: OnceLock<&'static LeanCallbacks> = OnceLock::new();

/// A client's connection that has no request.
pub struct Lean {
    // One of these exists for each client, so its size matters.
    /// `None` once the connection is closed or lingers.
    connection: Cell<Option<NonNull<ngx_connection_t>>>,
    unsent: Unsent,
    peer: PeerAddress,
    key: StreamKey,
    /// Number of bytes that the client had acknowledged when `send_timeout` was started.
    acknowledged: Cell<u32>,
    hub: u16,
    settings: LeanSettingsKey,
    path: SendPath,
    transport: Transport,
    /// Whether the client has sent something after its request, or nginx expected it to.
    has_sent: Cell<bool>,
    /// Whether the connection's log accepts debug lines.
    debugged: bool,
}

impl Lean {
    /// Sends a batch. See `send::send_batch`.
    pub fn send(&self, batch: &Batch) -> Sent {
        let Some(c) = self.alive() else { return Sent::Failed };
        let _logged = self.name_client();
        let sent = match send::send_batch(c, self.transport, self.path, batch) {
            Ok(Written::All) => Sent::All,
            Ok(Written::Part { taken, rest }) => {
                self.unsent.keep(c, rest);
                self.wait(c);
                Sent::Blocked { taken }
            }
            Err(()) => {
                // SAFETY: `alive` has checked that the connection is open.
                unsafe { bits::connection::set_error(c, 1) };
                Sent::Failed
            }
        };
        if self.debugged {
            let (path, frames) = (self.path, Counted(batch.frames().len(), "frame"));
            let line = format_args!("http sse send: {frames}, lean, {path:?}: {sent:?}");
            // SAFETY: the connection is still alive: sending does not close it.
            unsafe { log::debug_to((*c).log, line) };
        }
        sent
    }

    /// Ends the stream. If the end is planned and the client has accepted everything so far, the
    /// response is completed, or ends as `reconnect` says; otherwise, it is cut off.
    pub fn finish(&self, top: &mut TopLevel, end: End, reconnect: Reconnect) {
        let Some(c) = self.alive() else { return };
        let _logged = self.name_client();
        // SAFETY: `alive` has checked that the connection is open.
        let broken = unsafe { bits::connection::error(c) != 0 };
        // Sending failed because the client has disconnected.
        let end = if broken && end == End::Error { End::Client } else { end };
        // SAFETY: as above.
        let is_flushed = unsafe { bits::connection::buffered(c) == 0 };
        let closing = end.closing(reconnect);
        if !closing.is_planned() || !is_flushed {
            return self.cut(top, c, end);
        }
        match (self.path, closing.form) {
            // A client that does not accept the last chunk now is cut off like one that has unsent
            // bytes.
            (SendPath::Chunks, EndForm::Complete)
                if send::write(c, self.transport, LAST_CHUNK) != Ok(LAST_CHUNK.len()) =>
            {
                self.cut(top, c, end);
            }
            _ if self.should_linger(c) => self.linger(top, end),
            _ => self.close(top, end),
        }
    }

    /// Whether closing the connection now could destroy the end of the response before the client
    /// has read it.
    fn should_linger(&self, c: *mut ngx_connection_t) -> bool {
        match self.settings.get().lingering {
            Lingering::Off => false,
            // SAFETY: callers have checked that the connection is alive.
            Lingering::On => self.has_sent.get() || unsafe { lingering::has_unread(c) },
            Lingering::Always => true,
        }
    }

    /// Writes a line to the error log, with the client's address.
    pub fn log(&self, level: Level, message: fmt::Arguments<'_>) {
        let Some(c) = self.alive() else { return };
        let _logged = self.name_client();
        // SAFETY: `alive` has checked that the connection is open; its log lives as long.
        unsafe { log::write_to((*c).log, level, message) };
    }

    /// Makes all log lines of this connection name the client until the result is dropped.
    fn name_client(&self) -> LoggedClient<'_> {
        LoggedClient::enter(&self.peer)
    }

    /// Returns the connection, unless it is closed.
    pub(super) fn alive(&self) -> Option<*mut ngx_connection_t> {
        self.connection.get().map(NonNull::as_ptr)
    }

    /// Waits until the socket is writable, for `send_timeout` from now.
    fn wait(&self, c: *mut ngx_connection_t) {
        // SAFETY: callers have checked that the connection is alive.
        unsafe {
            let write = (*c).write;
            self.acknowledged.set(acknowledged(c));
            ngx_add_timer(write, self.settings.get().send_timeout as usize);
            ngx_handle_write_event(write, 0);
        }
    }

    /// Handles a writable socket, or the end of `send_timeout`.
    fn write(&self, top: &mut TopLevel) {
        let Some(c) = self.alive() else { return };
        // SAFETY: `alive` has checked that the connection is open, and so its events are valid.
        let (write, timed_out) = unsafe { ((*c).write, bits::event::timedout((*c).write) != 0) };
        if timed_out && !self.has_progressed(c) {
            // SAFETY: as above.
            unsafe { bits::connection::set_timedout(c, 1) };
            if self.settings.get().on_timeout == OnTimeout::Reset {
                set_reset_on_close(c);
            }
            return self.close(top, End::Timeout);
        }
        // SAFETY: as above.
        unsafe { bits::event::set_timedout(write, 0) };
        if let Some(rest) = self.unsent.take(c) {
            let sent = send::write(c, self.transport, &rest);
            let Ok(sent) = sent else { return self.cut(top, c, End::Client) };
            let remainder = send::remainder(&rest, sent);
            if !remainder.is_empty() {
                self.unsent.keep(c, remainder);
                if sent > 0 || timed_out {
                    self.wait(c);
                } else {
                    self.continue_waiting(c);
                }
                return;
            }
        }
        // SAFETY: as above.
        unsafe {
            if bits::event::timer_set(write) != 0 {
                ngx_del_timer(write);
            }
            // A level-triggered event loop would otherwise report the writable socket in every
            // turn.
            ngx_handle_write_event(write, 0);
        }
        let Some(callbacks) = CALLBACKS.get() else { return };
        (callbacks.writable)(self.hub as usize, self.key);
    }

    /// Continues to wait without restarting `send_timeout`.
    fn continue_waiting(&self, c: *mut ngx_connection_t) {
        // SAFETY: callers have checked that the connection is alive.
        unsafe { ngx_handle_write_event((*c).write, 0) };
    }

    /// Whether the client has accepted anything since `wait`.
    fn has_progressed(&self, c: *mut ngx_connection_t) -> bool {
        // SAFETY: callers have checked that the connection is alive.
        unsafe { acknowledged(c) != self.acknowledged.get() }
    }

    /// Handles input, a disconnection, or nginx's request to close the connection.
    fn read(&self, top: &mut TopLevel) {
        let Some(c) = self.alive() else { return };
        // SAFETY: `alive` has checked that the connection is open, and so its events are valid.
        unsafe {
            if bits::connection::close(c) != 0 {
                bits::connection::set_close(c, 0);
                bits::connection::set_idle(c, 0);
                // nginx sets `error` at the end of worker_shutdown_timeout. Without it, nginx is
                // about to quit, and the worker ends its streams over the drain time.
                if bits::connection::error(c) != 0 {
                    self.close(top, End::Drain);
                }
                return;
            }
        }
        // SAFETY: as above.
        let discarded = unsafe { discard_incoming(c) };
        if discarded.bytes > 0 {
            self.has_sent.set(true);
        }
        match discarded.then {
            Incoming::Nothing | Incoming::More => {}
            Incoming::Closed => self.cut(top, c, End::Client),
            Incoming::Failed => self.cut(top, c, End::Error),
        }
    }

    /// Closes the connection without completing the response.
    fn cut(&self, top: &mut TopLevel, c: *mut ngx_connection_t, end: End) {
        // SAFETY: callers have checked that the connection is alive. With `error`, TLS
        // sends no close_notify either.
        unsafe { bits::connection::set_error(c, 1) };
        self.close(top, end);
    }

    /// Closes the connection and reports the end of the stream.
    fn close(&self, top: &mut TopLevel, end: End) {
        let Some(c) = self.detach(top, end) else { return };
        // SAFETY: the stream was the connection's only user.
        unsafe { close_connection(c) };
    }

    /// Shuts down the direction to the client, and closes the connection when the client has closed
    /// its direction.
    fn linger(&self, top: &mut TopLevel, end: End) {
        let Some(c) = self.detach(top, end) else { return };
        // SAFETY: as in `close`.
        unsafe { lingering::begin(c, self.peer, &self.settings.get()) };
    }

    /// Reports the end of the stream, and separates it from its connection, which the caller
    /// closes.
    fn detach(&self, _top: &mut TopLevel, end: End) -> Option<*mut ngx_connection_t> {
        let callbacks = CALLBACKS.get()?;
        if self.alive().is_some() {
            (callbacks.closing)(self, self.hub as usize, self.key, end);
        }
        let c = self.connection.take()?.as_ptr();
        (callbacks.closed)(self.hub as usize, self.key, end);
        // SAFETY: the connection's `data` own a reference to this stream; the caller has another
        // one.
        unsafe { drop(Rc::from_raw((*c).data.cast::<Lean>().cast_const())) };
        Some(c)
    }
}

/// Closes a connection that has no request, as `ngx_http_close_connection` does.
///
/// # Safety
/// The connection is alive, and the caller is its only user.
unsafe fn close_connection(c: *mut ngx_connection_t) {
    // SAFETY: the caller vouches for the connection; its pool is destroyed last.
    unsafe {
        macros::ngx_sse_tls_shutdown(c);
        macros::ngx_sse_stat_active(-1);
        macros::ngx_sse_stat_writing(-1);
        let pool = (*c).pool;
        ngx_close_connection(c);
        if !pool.is_null() {
            ngx_destroy_pool(pool);
        }
    }
}

/// Returns the stream to which an event belongs.
///
/// # Safety
/// The event is one of a lean stream's connection.
unsafe fn stream_of_event(event: *mut ngx_event_t) -> Option<Rc<Lean>> {
    // SAFETY: `take_over` has set `data` to a stream, and the connection owns a reference to it
    // until `detach`, after which the handlers are not called.
    unsafe {
        let c: *mut ngx_connection_t = (*event).data.cast();
        let lean: *const Lean = (*c).data.cast();
        Rc::increment_strong_count(lean);
        Some(Rc::from_raw(lean))
    }
}

unsafe extern "C" fn on_read(event: *mut ngx_event_t) {
    guarded((), || {
        // SAFETY: nginx calls this with the event of an open connection.
        if let Some(lean) = unsafe { stream_of_event(event) } {
            let _logged = lean.name_client();
            // SAFETY: this handles the event of a connection that has no request; only nginx's
            // event loop calls it.
            lean.read(&mut unsafe { TopLevel::enter() });
        }
    });
}

unsafe extern "C" fn on_write(event: *mut ngx_event_t) {
    guarded((), || {
        // SAFETY: as above.
        if let Some(lean) = unsafe { stream_of_event(event) } {
            let _logged = lean.name_client();
            // SAFETY: this handles the event of a connection that has no request; only nginx's
            // event loop calls it.
            lean.write(&mut unsafe { TopLevel::enter() });
        }
    });
}
