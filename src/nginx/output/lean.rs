//! Streams without a request: once a stream runs, nginx's request has done its part, and the memory
//! that it takes, nearly all of a client's, is given back. What is left is the connection, which
//! from then on is ours: its two events call here, and whoever ends the stream closes it here.
//!
//! Only for a request that nobody else will miss (`Output::may_be_lean`), and never from within its
//! own handlers. The log phase runs when the request goes, so its line is written at the start.

use super::direct::{self, Share};
use super::filters::fitting;
use super::{ends, Output, Way};
use crate::nginx::guard::guarded;
use crate::nginx::log::{self, Level};
use crate::nginx::request::Request;
use crate::worker::{Batch, End, Sent, StreamKey};
use bytes::Bytes;
use nginx_sys::{
    ngx_add_timer, ngx_atomic_t, ngx_chain_t, ngx_close_connection, ngx_connection_t,
    ngx_del_timer, ngx_destroy_pool, ngx_event_t, ngx_handle_read_event, ngx_handle_write_event,
    ngx_http_connection_t, ngx_http_free_request, ngx_http_request_t, ngx_int_t, ngx_pfree,
    ngx_pool_t, NGX_AGAIN, NGX_OK,
};
use std::cell::Cell;
use std::ffi::CStr;
use std::fmt;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::OnceLock;

/// The last chunk of an answer (RFC 9112, 7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Entries in a request's list of cleanups that are a stream's own.
const OWN_CLEANUPS: usize = 2;

/// What a lean stream calls.
pub struct Calls {
    /// The socket has sent what was kept, and takes more.
    pub writable: fn(usize, StreamKey),
    /// The connection is about to be closed; what is to be told of it can name the client still.
    pub closing: fn(&Lean, usize, StreamKey, End),
    /// The connection is closed.
    pub closed: fn(usize, StreamKey, End),
}

/// A client's connection without a request.
pub struct Lean {
    connection: Cell<Option<NonNull<ngx_connection_t>>>,
    calls: &'static Calls,
    key: StreamKey,
    hub: u32,
    /// In ms.
    send_timeout: u32,
    on_timeout: OnTimeout,
    way: Way,
    rest: Cell<Option<Box<Bytes>>>,
}

/// How a connection is closed whose client took nothing for too long.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnTimeout {
    /// As any other: the kernel goes on trying to send what it has.
    Close,
    /// With a reset, which leaves nothing in the kernel (`reset_timedout_connection`).
    Reset,
}

impl Output {
    /// Whether the request can be given back: it runs on the fast way, waits for nothing, and no
    /// other module has to hear of its end (`limit_conn` counts by that).
    pub fn may_be_lean(&self) -> bool {
        let Some(r) = self.alive() else { return false };
        let (c, write) = ends(r);
        let direct = matches!(self.way.get(), Way::Chunks | Way::Bodies);
        if !direct || !self.alone || self.blocked(r) {
            return false;
        }
        // SAFETY: `alive` has seen that the request is; its connection and events are, too.
        unsafe {
            let read = (*c).read;
            let header = (*r).header_in;
            (*r).count() == 1
                && (*r).blocked() == 0
                && (*r).aio() == 0
                && (*r).discard_body() == 0
                && (*r).upstream.is_null()
                && (*r).posted_requests.is_null()
                && (*r).out.is_null()
                && (*r).limit_rate == 0
                && (*c).error() == 0
                && (*write).delayed() == 0
                && (*write).timer_set() == 0
                && (*read).timer_set() == 0
                && (*read).pending_eof() == 0
                && (*header).pos == (*header).last
                && cleanups(r) == OWN_CLEANUPS
                && tls_is_quiet(c)
        }
    }

    /// Gives the request back. `prepare` is called first; from then on the request's end is not the
    /// stream's.
    pub fn make_lean(
        &self,
        hub: usize,
        key: StreamKey,
        calls: &'static Calls,
        prepare: impl FnOnce(),
    ) -> Option<Rc<Lean>> {
        let r = self.alive().filter(|_| self.may_be_lean())?;
        let (c, _) = ends(r);
        // SAFETY: the request is alive.
        let request = unsafe { Request::from_raw(r) }?;
        let location = request.core_location();
        let lean = Rc::new(Lean {
            connection: Cell::new(NonNull::new(c)),
            calls,
            key,
            hub: hub as u32,
            send_timeout: location.send_timeout.min(u32::MAX as usize) as u32,
            on_timeout: match location.reset_timedout_connection {
                0 => OnTimeout::Close,
                _ => OnTimeout::Reset,
            },
            way: self.way.get(),
            rest: Cell::new(None),
        });
        prepare();
        // SAFETY: the request is alive, and nobody is using it.
        unsafe { take_over(r, c, &lean) };
        Some(lean)
    }
}

/// # Safety
/// The request and its pool are alive.
unsafe fn cleanups(r: *mut ngx_http_request_t) -> usize {
    let mut count = 0;
    // SAFETY: the caller vouches for the pool.
    let mut cleanup = unsafe { (*(*r).pool).cleanup };
    while !cleanup.is_null() && count <= OWN_CLEANUPS {
        count += 1;
        // SAFETY: an entry of the pool's list.
        cleanup = unsafe { (*cleanup).next };
    }
    count
}

/// # Safety
/// The request and its connection are alive, and `may_be_lean`.
unsafe fn take_over(r: *mut ngx_http_request_t, c: *mut ngx_connection_t, lean: &Rc<Lean>) {
    // SAFETY: the caller vouches for both. After the request is gone only the connection is used,
    // whose fields are set as nginx sets them for one that waits (ngx_http_set_keepalive).
    unsafe {
        let http = (*r).http_connection;
        ngx_http_free_request(r, 0);
        (*c).set_destroyed(0);
        count(c"ngx_stat_writing", 1);
        free_header_buffers(c, http);
        (*c).data = Rc::into_raw(lean.clone()).cast_mut().cast();
        (*(*c).read).handler = Some(on_read);
        (*(*c).write).handler = Some(on_write);
        (*(*c).log).action = c"streaming events".as_ptr().cast_mut().cast();
        // nginx calls a connection that is idle when it is told to quit.
        (*c).set_idle(1);
        direct::free_tls_buffer(c);
        let ready = ngx_handle_read_event((*c).read, 0) == NGX_OK as ngx_int_t;
        if !ready || (*(*c).read).ready() != 0 || (*(*c).read).pending_eof() != 0 {
            nginx_sys::ngx_post_event((*c).read, &raw mut nginx_sys::ngx_posted_events);
        }
    }
}

/// # Safety
/// The connection is alive, `http` is its own, and no request uses its buffers.
unsafe fn free_header_buffers(c: *mut ngx_connection_t, http: *mut ngx_http_connection_t) {
    // SAFETY: the caller vouches for all; what is freed is not pointed to any more.
    unsafe {
        free_links((*c).pool, (*http).free);
        free_links((*c).pool, (*http).busy);
        (*http).free = ptr::null_mut();
        (*http).busy = ptr::null_mut();
        (*http).nbusy = 0;
        let buffer = (*c).buffer;
        if !buffer.is_null() && !(*buffer).start.is_null() {
            ngx_pfree((*c).pool, (*buffer).start.cast());
            // As nginx leaves it: who needs the buffer again makes it anew.
            (*buffer).start = ptr::null_mut();
            (*buffer).pos = ptr::null_mut();
            (*buffer).last = ptr::null_mut();
            (*buffer).end = ptr::null_mut();
        }
    }
}

/// # Safety
/// The list's buffers lie in this pool and are not used any more.
unsafe fn free_links(pool: *mut ngx_pool_t, mut link: *mut ngx_chain_t) {
    while !link.is_null() {
        // SAFETY: the caller vouches for the list.
        unsafe {
            let buffer = (*link).buf;
            ngx_pfree(pool, (*buffer).start.cast());
            (*buffer).start = ptr::null_mut();
            link = (*link).next;
        }
    }
}

impl Lean {
    /// Sends a batch in one call to the kernel; over TLS in pieces.
    pub fn send(&self, batch: &Batch) -> Sent {
        let Some(c) = self.alive() else { return Sent::Failed };
        if direct::fits_tls(c, self.way, batch) {
            return self.send_piece(c, batch);
        }
        let mut taken = 0;
        while let Some(rest) = batch.frames().get(taken..).filter(|rest| !rest.is_empty()) {
            let piece = rest.get(..fitting(rest)).unwrap_or(rest);
            match self.send_piece(c, &Batch::of(piece.to_vec())) {
                Sent::All => taken += piece.len(),
                Sent::Blocked { taken: more } => return Sent::Blocked { taken: taken + more },
                Sent::Failed => return Sent::Failed,
            }
        }
        Sent::All
    }

    fn send_piece(&self, c: *mut ngx_connection_t, batch: &Batch) -> Sent {
        match direct::send_batch(c, self.way, batch) {
            Ok(Share::All) => Sent::All,
            Ok(Share::Part { taken, rest }) => {
                self.keep(rest);
                self.wait(c);
                Sent::Blocked { taken }
            }
            Err(()) => {
                // SAFETY: callers have seen that the connection is alive.
                unsafe { (*c).set_error(1) };
                Sent::Failed
            }
        }
    }

    /// Ends the stream from this side: with the mark of a whole answer if nothing is in the way.
    pub fn finish(&self, end: End) {
        let Some(c) = self.alive() else { return };
        // SAFETY: `alive` has seen that the connection is.
        let broken = unsafe { (*c).error() != 0 };
        // What failed to be sent failed because the client is gone.
        let end = if broken && end == End::Error { End::Client } else { end };
        let planned = matches!(end, End::Drain | End::Age | End::Admin);
        if !planned || self.rest.take().is_some() {
            return self.cut(c, end);
        }
        if self.way == Way::Chunks {
            // What it does not take now is lost with the connection, as any cut is.
            let _ = direct::write(c, LAST_CHUNK);
        }
        self.close(end);
    }

    /// Writes a line to the error log that names the client.
    pub fn log(&self, level: Level, message: fmt::Arguments<'_>) {
        let Some(c) = self.alive() else { return };
        // SAFETY: `alive` has seen that the connection is; its log lies in its own pool.
        unsafe { log::write_to((*c).log, level, message) };
    }

    fn alive(&self) -> Option<*mut ngx_connection_t> {
        self.connection.get().map(NonNull::as_ptr)
    }

    fn keep(&self, rest: Bytes) {
        self.rest.set((!rest.is_empty()).then(|| Box::new(rest)));
    }

    /// Waits for room in the socket, for `send_timeout` from now.
    fn wait(&self, c: *mut ngx_connection_t) {
        // SAFETY: callers have seen that the connection is alive.
        unsafe {
            let write = (*c).write;
            ngx_add_timer(write, self.send_timeout as usize);
            ngx_handle_write_event(write, 0);
        }
    }

    /// There is room, or has been none for too long.
    fn write(&self) {
        let Some(c) = self.alive() else { return };
        // SAFETY: `alive` has seen that the connection and its events are.
        let (write, timed_out) = unsafe { ((*c).write, (*(*c).write).timedout() != 0) };
        if timed_out {
            // SAFETY: as above.
            unsafe { (*c).set_timedout(1) };
            if self.on_timeout == OnTimeout::Reset {
                leave_nothing(c);
            }
            return self.close(End::Timeout);
        }
        if let Some(rest) = self.rest.take() {
            let Ok(sent) = direct::write(c, &rest) else { return self.cut(c, End::Client) };
            let left = direct::left(&rest, sent);
            if !left.is_empty() {
                self.keep(left);
                return self.wait_on(c, sent);
            }
        }
        // SAFETY: as above.
        unsafe {
            if (*write).timer_set() != 0 {
                ngx_del_timer(write);
            }
            // Where the loop tells of room for as long as there is any, it is to stop that.
            ngx_handle_write_event(write, 0);
        }
        (self.calls.writable)(self.hub as usize, self.key);
    }

    /// Waits on; the time begins anew only with progress.
    fn wait_on(&self, c: *mut ngx_connection_t, sent: usize) {
        if sent > 0 {
            return self.wait(c);
        }
        // SAFETY: callers have seen that the connection is alive.
        unsafe { ngx_handle_write_event((*c).write, 0) };
    }

    /// The client has sent something, or gone, or nginx wants the connection closed.
    fn read(&self) {
        let Some(c) = self.alive() else { return };
        // SAFETY: `alive` has seen that the connection and its events are.
        unsafe {
            if (*c).close() != 0 {
                (*c).set_close(0);
                (*c).set_idle(0);
                // With an error it is the end of worker_shutdown_timeout; without, nginx is told to
                // quit, and the worker ends its streams one by one.
                if (*c).error() != 0 {
                    self.close(End::Drain);
                }
                return;
            }
            if (*(*c).read).pending_eof() != 0 {
                return self.cut(c, End::Client);
            }
        }
        let mut ignored = [0u8; 512];
        loop {
            // SAFETY: as above; nginx writes no more than the buffer holds.
            let got = unsafe {
                let Some(recv) = (*c).recv else { return self.cut(c, End::Error) };
                recv(c, ignored.as_mut_ptr(), ignored.len())
            };
            match got {
                got if got > 0 => {}
                again if again == NGX_AGAIN as isize => break,
                _ => return self.cut(c, End::Client),
            }
        }
        // SAFETY: as above.
        if unsafe { ngx_handle_read_event((*c).read, 0) } != NGX_OK as ngx_int_t {
            self.cut(c, End::Error);
        }
    }

    /// Closes the connection of a client that is gone or is not to have a proper end.
    fn cut(&self, c: *mut ngx_connection_t, end: End) {
        // SAFETY: callers have seen that the connection is alive. TLS then says no goodbye either.
        unsafe { (*c).set_error(1) };
        self.close(end);
    }

    /// Closes the connection, as ngx_http_close_connection does, and tells who it was.
    fn close(&self, end: End) {
        if self.alive().is_some() {
            (self.calls.closing)(self, self.hub as usize, self.key, end);
        }
        let Some(c) = self.connection.take() else { return };
        let c = c.as_ptr();
        (self.calls.closed)(self.hub as usize, self.key, end);
        // SAFETY: the connection is ours until here; what its data point to is given back last.
        unsafe {
            let own: *const Lean = (*c).data.cast();
            say_goodbye(c);
            count(c"ngx_stat_active", -1);
            count(c"ngx_stat_writing", -1);
            (*c).set_destroyed(1);
            let pool = (*c).pool;
            ngx_close_connection(c);
            ngx_destroy_pool(pool);
            drop(Rc::from_raw(own));
        }
    }
}

/// Ends TLS, if there is any, without waiting for the other side.
///
/// # Safety
/// The connection is alive.
unsafe fn say_goodbye(c: *mut ngx_connection_t) {
    #[cfg(ngx_feature = "http_ssl")]
    // SAFETY: the caller vouches for the connection.
    unsafe {
        if !(*c).ssl.is_null() {
            (*(*c).ssl).set_no_wait_shutdown(1);
            if nginx_sys::ngx_ssl_shutdown(c) == NGX_AGAIN as ngx_int_t {
                // There is no room for the goodbye. Without one, its memory is given back at once.
                (*c).set_error(1);
                nginx_sys::ngx_ssl_shutdown(c);
            }
        }
    }
    #[cfg(not(ngx_feature = "http_ssl"))]
    let _ = c;
}

/// Whether TLS does not wait for one direction to go on with the other.
///
/// # Safety
/// The connection is alive.
unsafe fn tls_is_quiet(c: *mut ngx_connection_t) -> bool {
    #[cfg(ngx_feature = "http_ssl")]
    // SAFETY: the caller vouches for the connection.
    return unsafe {
        (*c).ssl.is_null()
            || ((*(*c).ssl).saved_read_handler.is_none()
                && (*(*c).ssl).saved_write_handler.is_none())
    };
    #[cfg(not(ngx_feature = "http_ssl"))]
    {
        let _ = c;
        true
    }
}

/// Has the kernel forget what it has not sent when the connection is closed.
fn leave_nothing(c: *mut ngx_connection_t) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let (at, len) = ((&raw const linger).cast(), size_of::<libc::linger>() as libc::socklen_t);
    // SAFETY: callers have seen that the connection is alive; the option is a local. Where it
    // cannot be set the connection is closed as any other.
    unsafe { libc::setsockopt((*c).fd, libc::SOL_SOCKET, libc::SO_LINGER, at, len) };
}

/// Keeps the figures of nginx's stub_status true, where nginx was built with it.
fn count(counter: &'static CStr, by: isize) {
    static ACTIVE: OnceLock<usize> = OnceLock::new();
    static WRITING: OnceLock<usize> = OnceLock::new();
    let cell = if counter == c"ngx_stat_active" { &ACTIVE } else { &WRITING };
    let found = *cell.get_or_init(|| {
        // SAFETY: the name is a C string; nginx's binary exports its variables.
        unsafe { libc::dlsym(libc::RTLD_DEFAULT, counter.as_ptr()) as usize }
    });
    let Some(place) = NonNull::new(found as *mut *mut ngx_atomic_t) else { return };
    // SAFETY: nginx's variable points to an atomic number in shared memory.
    unsafe {
        let number = *place.as_ptr();
        if !number.is_null() {
            AtomicIsize::from_ptr(number.cast()).fetch_add(by, Ordering::Relaxed);
        }
    }
}

/// # Safety
/// The event is one of a lean connection.
unsafe fn lean_of(event: *mut ngx_event_t) -> Option<Rc<Lean>> {
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
        if let Some(lean) = unsafe { lean_of(event) } {
            lean.read();
        }
    });
}

unsafe extern "C" fn on_write(event: *mut ngx_event_t) {
    guarded((), || {
        // SAFETY: as above.
        if let Some(lean) = unsafe { lean_of(event) } {
            lean.write();
        }
    });
}
