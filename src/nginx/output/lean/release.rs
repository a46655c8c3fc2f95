//! Releases the request of a stream: nginx frees it like any other request, and its connection
//! continues as one that waits only for its client. Called once for each stream, at the top of the
//! event loop.

use super::client_log::{self, PeerAddress, ACTION};
use super::settings::LeanSettings;
use super::{on_read, on_write, Lean, LeanCallbacks, CALLBACKS};
use crate::nginx::bits;
use crate::nginx::macros;
use crate::nginx::macros::ngx_post_event;
use crate::nginx::output::cleanup_handlers::CleanupHandlers;
use crate::nginx::output::send;
use crate::nginx::output::unsent::Unsent;
use crate::nginx::output::{blocked, connection_and_write, Output};
use crate::nginx::request::Request;
use crate::nginx::top_level::TopLevel;
use crate::worker::StreamKey;
use nginx_sys::{
    ngx_chain_t, ngx_connection_t, ngx_destroy_pool, ngx_handle_read_event, ngx_http_connection_t,
    ngx_http_free_request, ngx_http_request_t, ngx_int_t, ngx_pfree, ngx_pool_t, ngx_posted_events,
    ngx_str_t, NGX_OK,
};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::rc::Rc;

impl Output {
    /// Whether the request can be released: the stream bypasses nginx's filters, waits for nothing,
    /// and no other module has a handler for the request's end (`limit_conn` counts requests with
    /// one).
    pub fn may_be_lean(&self) -> bool {
        let Some(r) = self.alive() else { return false };
        let (c, write) = connection_and_write(r);
        if !self.is_direct() || !self.no_foreign_cleanup || blocked(r) {
            return false;
        }
        // SAFETY: `alive` has checked that the request is alive, and so are its connection and
        // events.
        unsafe {
            let read = (*c).read;
            let header = (*r).header_in;
            bits::request::count(r) == 1
                && bits::request::blocked(r) == 0
                && bits::request::aio(r) == 0
                && bits::request::discard_body(r) == 0
                && (*r).upstream.is_null()
                && (*r).posted_requests.is_null()
                && (*r).out.is_null()
                && (*r).limit_rate == 0
                && bits::connection::error(c) == 0
                && bits::event::delayed(write) == 0
                && bits::event::timer_set(write) == 0
                && bits::event::timer_set(read) == 0
                && bits::event::pending_eof(read) == 0
                && (*header).pos == (*header).last
                && CleanupHandlers::for_request(r) == self.own_cleanup.get()
                && macros::ngx_sse_tls_is_quiet(c) != 0
        }
    }

    /// Releases the request if that is possible, and returns the stream without it. `prepare` is
    /// called first; the end of the request must not end the stream from then on.
    pub fn make_lean(
        &self,
        _top: &mut TopLevel,
        hub: usize,
        key: StreamKey,
        callbacks: &'static LeanCallbacks,
        prepare: impl FnOnce(),
    ) -> Option<Rc<Lean>> {
        let r = self.alive().filter(|_| self.may_be_lean())?;
        let (c, _) = connection_and_write(r);
        // SAFETY: the request is alive.
        let request = unsafe { Request::from_raw(r) }?;
        let lean = Rc::new(Lean {
            connection: Cell::new(NonNull::new(c)),
            key,
            hub: u16::try_from(hub).ok()?,
            settings: LeanSettings::from_location(request.core_location()).keep()?,
            path: self.path.get(),
            unsent: Unsent::default(),
            acknowledged: Cell::default(),
            transport: self.transport,
            // SAFETY: the request is alive.
            has_sent: Cell::new(unsafe { bits::request::lingering_close(r) } != 0),
            debugged: self.debugged,
            // SAFETY: the connection is alive, with the address that nginx accepted it from.
            peer: unsafe { PeerAddress::of_connection(c) },
        });
        CALLBACKS.get_or_init(|| callbacks);
        prepare();
        // SAFETY: the request is alive, and this is the top of the event loop, so nothing else uses
        // it.
        unsafe { take_over(r, c, &lean) };
        Some(lean)
    }
}

/// Frees the request and makes the stream the user of its connection.
///
/// # Safety
/// The request and its connection are alive, and `may_be_lean` returned true.
unsafe fn take_over(r: *mut ngx_http_request_t, c: *mut ngx_connection_t, lean: &Rc<Lean>) {
    // SAFETY: the caller vouches for both. Once the request is freed, only the connection is used.
    // Its fields are set as in ngx_http_set_keepalive.
    unsafe {
        let http = (*r).http_connection;
        // This sets `destroyed`, so nginx does not look for a request of this connection.
        ngx_http_free_request(r, 0);
        macros::ngx_sse_stat_writing(1);
        free_header_buffers(c, http);
        (*c).data = Rc::into_raw(lean.clone()).cast_mut().cast();
        (*(*c).read).handler = Some(on_read);
        (*(*c).write).handler = Some(on_write);
        (*(*c).log).action = ACTION.as_ptr().cast_mut().cast();
        // nginx calls the read handlers of idle connections when it shuts down.
        bits::connection::set_idle(c, 1);
        send::free_tls_buffer(c);
        destroy_connection_pool(c);
        let ready = ngx_handle_read_event((*c).read, 0) == NGX_OK as ngx_int_t;
        if !ready || bits::event::ready((*c).read) != 0 || bits::event::pending_eof((*c).read) != 0
        {
            ngx_post_event((*c).read, &raw mut ngx_posted_events);
        }
    }
}

/// Frees the pool of a connection without TLS, which is most of the remaining memory. The pool
/// holds the client's address, of which the stream has a copy, and the connection's log, which is
/// replaced by one that connections share.
///
/// # Safety
/// The connection is alive and has no request, and its `data` are a stream.
unsafe fn destroy_connection_pool(c: *mut ngx_connection_t) {
    // SAFETY: the caller vouches for the connection. nginx does not use these fields of a
    // connection without a request, and sets them again when it reuses the connection.
    unsafe {
        let pool = (*c).pool;
        if macros::ngx_sse_is_tls(c) != 0 || !(*pool).cleanup.is_null() {
            return;
        }
        let Some(log) = client_log::shared_log((*c).log) else { return };
        (*c).log = log.as_ptr();
        (*(*c).read).log = log.as_ptr();
        (*(*c).write).log = log.as_ptr();
        (*c).pool = ptr::null_mut();
        (*c).buffer = ptr::null_mut();
        (*c).sockaddr = ptr::null_mut();
        (*c).socklen = 0;
        (*c).local_sockaddr = ptr::null_mut();
        (*c).local_socklen = 0;
        (*c).addr_text = ngx_str_t::empty();
        (*c).proxy_protocol = ptr::null_mut();
        ngx_destroy_pool(pool);
    }
}

/// Frees the buffers for request headers.
///
/// # Safety
/// The connection is alive, `http` belongs to it, and no request uses its buffers.
unsafe fn free_header_buffers(c: *mut ngx_connection_t, http: *mut ngx_http_connection_t) {
    // SAFETY: the caller vouches for the arguments. All pointers to freed buffers are cleared.
    unsafe {
        free_links((*c).pool, (*http).free);
        free_links((*c).pool, (*http).busy);
        (*http).free = ptr::null_mut();
        (*http).busy = ptr::null_mut();
        (*http).nbusy = 0;
        let buffer = (*c).buffer;
        if !buffer.is_null() && !(*buffer).start.is_null() {
            ngx_pfree((*c).pool, (*buffer).start.cast());
            // As in ngx_http_set_keepalive; nginx allocates the buffer again when it needs it.
            (*buffer).start = ptr::null_mut();
            (*buffer).pos = ptr::null_mut();
            (*buffer).last = ptr::null_mut();
            (*buffer).end = ptr::null_mut();
        }
    }
}

/// Frees the buffers of a chain.
///
/// # Safety
/// The buffers are in this pool and are not used any more.
unsafe fn free_links(pool: *mut ngx_pool_t, mut link: *mut ngx_chain_t) {
    while !link.is_null() {
        // SAFETY: the caller vouches for the chain.
        unsafe {
            let buffer = (*link).buf;
            ngx_pfree(pool, (*buffer).start.cast());
            (*buffer).start = ptr::null_mut();
            link = (*link).next;
        }
    }
}
