//! Streams without a request: once a stream runs, nginx's request has done its part, and the memory
//! that it takes, nearly all of a client's, is given back. What is left is the connection, which
//! from then on is ours: its two events call here, and whoever ends the stream closes it here.
//!
//! Only for a request that nobody else will miss (`Output::may_be_lean`), and never from within its
//! own handlers. The log phase runs when the request goes, so its line is written at the start.
//!
//! - `begin`: which requests, and how they are given back
//! - `client_log`: error lines of connections whose memory is given back, too
//! - `close`: what nginx does for a connection's request when it closes one
//! - `limits`: what the location sets for the connection's end
//! - `lingering`: connections whose clients go on sending when their stream has ended

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
use crate::nginx::log::{self, Level};
use crate::nginx::macros::{self, ngx_add_timer, ngx_del_timer};
use crate::nginx::top_level::TopLevel;
use crate::worker::{Batch, End, Sent, StreamKey};
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

/// The last chunk of an answer (RFC 9112, 7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What a lean stream calls.
pub struct LeanCallbacks {
    /// The socket has sent what was kept, and takes more.
    pub writable: fn(usize, StreamKey),
    /// The connection is about to be closed; what is to be told of it can name the client still.
    pub closing: fn(&Lean, usize, StreamKey, End),
    /// The connection is closed.
    pub closed: fn(usize, StreamKey, End),
}

/// What all lean streams of this process call.
static CALLBACKS: OnceLock<&'static LeanCallbacks> = OnceLock::new();

/// A client's connection without a request.
pub struct Lean {
    // There is one of these for each client: its size is to be weighed.
    connection: Cell<Option<NonNull<ngx_connection_t>>>,
    unsent: Unsent,
    peer: PeerAddress,
    key: StreamKey,
    /// What the client had acknowledged when the waiting for it began.
    acknowledged: Cell<u32>,
    hub: u16,
    settings: LeanSettingsKey,
    path: SendPath,
    transport: Transport,
    /// The client has sent something behind its request, or was about to.
    has_sent: Cell<bool>,
    /// The connection's log takes debug lines.
    debugged: bool,
}

impl Lean {
    /// Sends a batch in one call to the kernel; over TLS in pieces.
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
                // SAFETY: `alive` has seen that the connection is.
                unsafe { bits::connection::set_error(c, 1) };
                Sent::Failed
            }
        };
        if self.debugged {
            let (path, frames) = (self.path, batch.frames().len());
            let line = format_args!("http sse send: {frames} frames, lean, {path:?}: {sent:?}");
            // SAFETY: the connection is still alive: sending does not close it.
            unsafe { log::debug_to((*c).log, line) };
        }
        sent
    }

    /// Ends the stream from this side: with the mark of a whole answer if nothing is in the way.
    pub fn finish(&self, top: &mut TopLevel, end: End) {
        let Some(c) = self.alive() else { return };
        let _logged = self.name_client();
        // SAFETY: `alive` has seen that the connection is.
        let broken = unsafe { bits::connection::error(c) != 0 };
        // What failed to be sent failed because the client is gone.
        let end = if broken && end == End::Error { End::Client } else { end };
        // SAFETY: as above.
        let whole = unsafe { bits::connection::buffered(c) == 0 };
        if !end.is_planned() || !whole {
            return self.cut(top, c, end);
        }
        match self.path {
            // Who does not take the mark of the end now is cut, as who is in the middle of a frame.
            SendPath::Chunks
                if send::write(c, self.transport, LAST_CHUNK) != Ok(LAST_CHUNK.len()) =>
            {
                self.cut(top, c, end);
            }
            _ if self.is_to_linger(c) => self.linger(top, end),
            _ => self.close(top, end),
        }
    }

    /// Whether closing the connection now might take the end of the response from the client.
    fn is_to_linger(&self, c: *mut ngx_connection_t) -> bool {
        match self.settings.get().lingering {
            Lingering::Off => false,
            // SAFETY: callers have seen that the connection is alive.
            Lingering::On => self.has_sent.get() || unsafe { lingering::has_unread(c) },
            Lingering::Always => true,
        }
    }

    /// Writes a line to the error log that names the client.
    pub fn log(&self, level: Level, message: fmt::Arguments<'_>) {
        let Some(c) = self.alive() else { return };
        let _logged = self.name_client();
        // SAFETY: `alive` has seen that the connection is; its log lives as long as it does.
        unsafe { log::write_to((*c).log, level, message) };
    }

    /// Has nginx's own lines name this client for as long as the result is kept.
    fn name_client(&self) -> LoggedClient<'_> {
        LoggedClient::enter(&self.peer)
    }

    pub(super) fn alive(&self) -> Option<*mut ngx_connection_t> {
        self.connection.get().map(NonNull::as_ptr)
    }

    /// Waits for room in the socket, for `send_timeout` from now.
    fn wait(&self, c: *mut ngx_connection_t) {
        // SAFETY: callers have seen that the connection is alive.
        unsafe {
            let write = (*c).write;
            self.acknowledged.set(acknowledged(c));
            ngx_add_timer(write, self.settings.get().send_timeout as usize);
            ngx_handle_write_event(write, 0);
        }
    }

    /// There is room, or has been none for too long.
    fn write(&self, top: &mut TopLevel) {
        let Some(c) = self.alive() else { return };
        // SAFETY: `alive` has seen that the connection and its events are.
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
                return match sent > 0 || timed_out {
                    true => self.wait(c),
                    false => self.wait_on(c),
                };
            }
        }
        // SAFETY: as above.
        unsafe {
            if bits::event::timer_set(write) != 0 {
                ngx_del_timer(write);
            }
            // Where the loop tells of room for as long as there is any, it is to stop that.
            ngx_handle_write_event(write, 0);
        }
        let Some(callbacks) = CALLBACKS.get() else { return };
        (callbacks.writable)(self.hub as usize, self.key);
    }

    /// Waits on: the time begins anew only with progress.
    fn wait_on(&self, c: *mut ngx_connection_t) {
        // SAFETY: callers have seen that the connection is alive.
        unsafe { ngx_handle_write_event((*c).write, 0) };
    }

    /// Whether the client has taken anything since `wait`.
    fn has_progressed(&self, c: *mut ngx_connection_t) -> bool {
        // SAFETY: callers have seen that the connection is alive.
        unsafe { acknowledged(c) != self.acknowledged.get() }
    }

    /// The client has sent something, or gone, or nginx wants the connection closed.
    fn read(&self, top: &mut TopLevel) {
        let Some(c) = self.alive() else { return };
        // SAFETY: `alive` has seen that the connection and its events are.
        unsafe {
            if bits::connection::close(c) != 0 {
                bits::connection::set_close(c, 0);
                bits::connection::set_idle(c, 0);
                // With an error it is the end of worker_shutdown_timeout; without, nginx is told to
                // quit, and the worker ends its streams one by one.
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
            Incoming::Gone => self.cut(top, c, End::Client),
            Incoming::Failed => self.cut(top, c, End::Error),
        }
    }

    /// Closes the connection of a client that is gone or is not to have a proper end.
    fn cut(&self, top: &mut TopLevel, c: *mut ngx_connection_t, end: End) {
        // SAFETY: callers have seen that the connection is alive. TLS then says no goodbye either.
        unsafe { bits::connection::set_error(c, 1) };
        self.close(top, end);
    }

    /// Closes the connection, as ngx_http_close_connection does, and tells who it was.
    fn close(&self, top: &mut TopLevel, end: End) {
        let Some(c) = self.detach(top, end) else { return };
        // SAFETY: the connection was the stream's until here, and nobody else has it.
        unsafe { close_connection(c) };
    }

    /// Closes the direction to the client, and the connection when the client has closed its own.
    fn linger(&self, top: &mut TopLevel, end: End) {
        let Some(c) = self.detach(top, end) else { return };
        // SAFETY: as in `close`.
        unsafe { lingering::begin(c, self.peer, &self.settings.get()) };
    }

    /// Ends the stream, tells who it was, and lets go of the connection.
    fn detach(&self, _top: &mut TopLevel, end: End) -> Option<*mut ngx_connection_t> {
        let callbacks = CALLBACKS.get()?;
        if self.alive().is_some() {
            (callbacks.closing)(self, self.hub as usize, self.key, end);
        }
        let c = self.connection.take()?.as_ptr();
        (callbacks.closed)(self.hub as usize, self.key, end);
        // SAFETY: the connection's data are this stream, which the caller has too.
        unsafe { drop(Rc::from_raw((*c).data.cast::<Lean>().cast_const())) };
        Some(c)
    }
}

/// Closes a connection without a request, as ngx_http_close_connection does.
///
/// # Safety
/// The connection is alive, and nobody uses it any more.
unsafe fn close_connection(c: *mut ngx_connection_t) {
    // SAFETY: the caller vouches for the connection; its memory is given back last.
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

/// # Safety
/// The event is one of a lean connection.
unsafe fn stream_of_event(event: *mut ngx_event_t) -> Option<Rc<Lean>> {
    // SAFETY: `take_over` put it there, and `close` takes it away together with the event.
    unsafe {
        let c: *mut ngx_connection_t = (*event).data.cast();
        let lean: *const Lean = (*c).data.cast();
        Rc::increment_strong_count(lean);
        Some(Rc::from_raw(lean))
    }
}

unsafe extern "C" fn on_read(event: *mut ngx_event_t) {
    guarded((), || {
        // SAFETY: nginx calls with the event of a connection that is open.
        if let Some(lean) = unsafe { stream_of_event(event) } {
            let _logged = lean.name_client();
            // SAFETY: this is the handler of a connection that has no request, which only nginx's loop calls.
            lean.read(&mut unsafe { TopLevel::enter() });
        }
    });
}

unsafe extern "C" fn on_write(event: *mut ngx_event_t) {
    guarded((), || {
        // SAFETY: as above.
        if let Some(lean) = unsafe { stream_of_event(event) } {
            let _logged = lean.name_client();
            // SAFETY: this is the handler of a connection that has no request, which only nginx's loop calls.
            lean.write(&mut unsafe { TopLevel::enter() });
        }
    });
}
