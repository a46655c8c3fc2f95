//! A watch on one bell: nginx's event loop calls when it rings, and when the process is to quit.
//!
//! The bell stands in a connection of nginx that no client has. Being `idle`, it is what nginx
//! "closes" first when it is told to quit or has new workers, which is how the module learns of
//! that in time to end its streams in good order.

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

/// A watched bell. Dropping it closes the descriptor.
pub struct EventfdWatch {
    connection: NonNull<ngx_connection_t>,
    // nginx's connection points to it.
    _callbacks: Box<Callbacks>,
}

struct Callbacks {
    on_wake: Action,
    on_quit: Action,
    number: usize,
}

impl EventfdWatch {
    /// Watches `bell`; calls `on_wake(number)` when it has rung and `on_quit(number)` once, when
    /// nginx tells this process to quit. Takes one of nginx's `worker_connections`.
    pub fn new(
        eventfd: File,
        on_wake: Action,
        on_quit: Action,
        number: usize,
    ) -> io::Result<EventfdWatch> {
        let descriptor = eventfd.into_raw_fd();
        // SAFETY: in a process that serves requests ngx_cycle is the cycle in use.
        let log = unsafe { (*ngx_cycle).log };
        // SAFETY: the descriptor is ours to give.
        let connection = unsafe { ngx_get_connection(descriptor, log) };
        let Some(connection) = NonNull::new(connection) else {
            // SAFETY: the descriptor is still ours.
            unsafe { libc::close(descriptor) };
            return Err(io::Error::other("worker_connections are not enough"));
        };
        let mut callbacks = Box::new(Callbacks { on_wake, on_quit, number });
        // SAFETY: nginx gave the connection and its two events to us.
        let ready = unsafe {
            let c = connection.as_ptr();
            (*c).log = log;
            (*c).data = (&raw mut *callbacks).cast();
            (*(*c).read).log = log;
            (*(*c).write).log = log;
            (*(*c).read).handler = Some(handle_event);
            // nginx neither times out nor reports as left open what it takes for a channel.
            bits::event::set_channel((*c).read, 1);
            bits::event::set_channel((*c).write, 1);
            bits::connection::set_idle(c, 1);
            ngx_handle_read_event((*c).read, 0)
        };
        let watch = EventfdWatch { connection, _callbacks: callbacks };
        match ready {
            status if status == NGX_OK as isize => Ok(watch),
            _ => Err(io::Error::other("the event loop refused a descriptor")),
        }
    }
}

impl Drop for EventfdWatch {
    fn drop(&mut self) {
        // SAFETY: the connection is ours until now, and its descriptor open.
        unsafe { ngx_close_connection(self.connection.as_ptr()) };
    }
}

unsafe extern "C" fn handle_event(event: *mut ngx_event_t) {
    guarded((), || {
        // SAFETY: nginx calls with the read event of the connection that `new` set up.
        let connection: *mut ngx_connection_t = unsafe { (*event).data }.cast();
        // SAFETY: as above; the calls live as long as the watch.
        let callbacks: *const Callbacks = unsafe { (*connection).data }.cast();
        // SAFETY: as above; copied, because a call may drop the watch.
        let Callbacks { on_wake, on_quit, number } = *unsafe { &*callbacks };
        // SAFETY: this is the handler of a descriptor of our own, which only nginx's loop calls.
        let mut top = unsafe { TopLevel::enter() };
        // SAFETY: the connection is ours.
        if unsafe { bits::connection::close(connection) } != 0 {
            // SAFETY: as above. The connection stays: bells ring on while streams are ended.
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

/// Reads the bell until it is still, as an edge-triggered loop needs it.
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
