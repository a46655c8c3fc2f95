//! Watches an eventfd in nginx's event loop.
//!
//! The eventfd takes a connection of nginx. The connection is marked as idle, and nginx closes idle
//! connections when a process begins to shut down, by calling their read handlers. This is how the
//! module detects a shutdown in time to end its streams.

use super::bits;
use super::event::Action;
use super::guard::guarded;
use super::top_level::TopLevel;
use nginx_sys::{
    ngx_close_connection, ngx_connection_t, ngx_cycle, ngx_event_t, ngx_get_connection,
    ngx_handle_read_event, NGX_OK,
};
use std::fs::File;
use std::io;
use std::os::fd::IntoRawFd;
use std::ptr::NonNull;

/// An eventfd in the event loop. Dropping it closes the descriptor.
pub struct EventfdWatch {
    connection: NonNull<ngx_connection_t>,
    // The connection's `data` point to it.
    _callbacks: Box<Callbacks>,
}

struct Callbacks {
    on_wake: Action,
    on_quit: Action,
    number: usize,
}

impl EventfdWatch {
    /// Watches `eventfd`. Calls `on_wake(number)` when it has been written to, and
    /// `on_quit(number)` once, when nginx begins to shut this process down. Takes one of nginx's
    /// `worker_connections`.
    pub fn new(
        eventfd: File,
        on_wake: Action,
        on_quit: Action,
        number: usize,
    ) -> io::Result<EventfdWatch> {
        let descriptor = eventfd.into_raw_fd();
        // SAFETY: in a process that serves requests, `ngx_cycle` is the current cycle.
        let log = unsafe { (*ngx_cycle).log };
        // SAFETY: the descriptor is open; the connection owns it from now on.
        let connection = unsafe { ngx_get_connection(descriptor, log) };
        let Some(connection) = NonNull::new(connection) else {
            // SAFETY: without a connection, this function still owns the descriptor.
            unsafe { libc::close(descriptor) };
            return Err(io::Error::other("worker_connections are not enough"));
        };
        let mut callbacks = Box::new(Callbacks { on_wake, on_quit, number });
        // SAFETY: the connection and its two events are new and used by nobody else.
        let watched = unsafe {
            let c = connection.as_ptr();
            (*c).log = log;
            (*c).data = (&raw mut *callbacks).cast();
            (*(*c).read).log = log;
            (*(*c).write).log = log;
            (*(*c).read).handler = Some(handle_event);
            // nginx reports no leak of a connection whose events are marked as a channel.
            bits::event::set_channel((*c).read, 1);
            bits::event::set_channel((*c).write, 1);
            bits::connection::set_idle(c, 1);
            ngx_handle_read_event((*c).read, 0)
        };
        let watch = EventfdWatch { connection, _callbacks: callbacks };
        if watched != NGX_OK as isize {
            return Err(io::Error::other("nginx cannot watch an eventfd"));
        }
        Ok(watch)
    }
}

impl Drop for EventfdWatch {
    fn drop(&mut self) {
        // SAFETY: this value owns the connection, whose descriptor is open.
        unsafe { ngx_close_connection(self.connection.as_ptr()) };
    }
}

unsafe extern "C" fn handle_event(event: *mut ngx_event_t) {
    guarded((), || {
        // SAFETY: nginx calls this with the read event of a connection that `new` has set up.
        let connection: *mut ngx_connection_t = unsafe { (*event).data }.cast();
        // SAFETY: as above; the callbacks live as long as the connection.
        let callbacks: *const Callbacks = unsafe { (*connection).data }.cast();
        // SAFETY: as above; they are copied, because a call may drop the watch.
        let Callbacks { on_wake, on_quit, number } = *unsafe { &*callbacks };
        // SAFETY: this handles the event of the module's own descriptor; only nginx's event loop
        // calls it.
        let mut top = unsafe { TopLevel::enter() };
        // SAFETY: the connection is open.
        if unsafe { bits::connection::close(connection) } != 0 {
            // SAFETY: as above. The connection stays open: the process is woken while it ends its
            // streams.
            unsafe {
                bits::connection::set_close(connection, 0);
                bits::connection::set_idle(connection, 0);
            }
            on_quit(number, &mut top);
            return;
        }
        // SAFETY: the descriptor is the connection's.
        drain_eventfd(unsafe { (*connection).fd });
        // SAFETY: as above.
        unsafe {
            bits::event::set_ready(event, 0);
            ngx_handle_read_event(event, 0);
        }
        on_wake(number, &mut top);
    });
}

/// Reads the eventfd until it is empty, as an edge-triggered event loop requires.
fn drain_eventfd(descriptor: i32) {
    let mut count = 0u64;
    loop {
        // SAFETY: the buffer is a local of the length that is given.
        let got = unsafe { libc::read(descriptor, (&raw mut count).cast(), size_of::<u64>()) };
        let interrupted =
            got < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
        if got <= 0 && !interrupted {
            return;
        }
    }
}
