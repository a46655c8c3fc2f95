//! Timers and posted events of nginx. They are cancelled when dropped.

use super::bits;
use super::guard::guarded;
use super::macros::{ngx_add_timer, ngx_del_timer, ngx_delete_posted_event, ngx_post_event};
use super::top_level::TopLevel;
use nginx_sys::{
    ngx_connection_t, ngx_cycle, ngx_event_t, ngx_posted_events, ngx_posted_next_events,
};
use std::ptr;

/// The action of an event: a function, which receives the number with which the event was created.
/// It has no state, so that the event can be armed, posted, or dropped within its own call.
pub type Action = fn(usize, &mut TopLevel);

/// An event that runs its action after some time, or in a turn of the event loop.
pub struct Event(Box<Inner>);

struct Inner {
    event: ngx_event_t,
    // nginx's debug log reads a descriptor from the connection in the event's `data`.
    connection: ngx_connection_t,
    action: Action,
    number: usize,
}

impl Event {
    /// Creates an event that calls `action(number)`. It is not armed yet.
    pub fn new(action: Action, number: usize) -> Event {
        // SAFETY: both are plain C structures, for which zeros are valid.
        let (event, connection) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let mut inner = Box::new(Inner { event, connection, action, number });
        let at: *mut Inner = &mut *inner;
        inner.connection.fd = -1;
        inner.connection.data = at.cast();
        inner.event.data = (&raw mut inner.connection).cast();
        inner.event.handler = Some(handle_event);
        // SAFETY: events are created in processes with a cycle; its log lives as long as the
        // process.
        inner.event.log = unsafe { (*ngx_cycle).log };
        Event(inner)
    }

    /// Runs the action after `after` ms. Replaces an earlier timer.
    pub fn arm(&mut self, after: u64) {
        // SAFETY: the event is initialized, and its box does not move.
        unsafe { ngx_add_timer(self.raw(), after as usize) };
    }

    /// Sets whether a process that is shutting down waits for this timer.
    pub fn hold_process(&mut self, hold: ExitHold) {
        let cancelable = match hold {
            ExitHold::No => 1,
            ExitHold::Yes => 0,
        };
        // SAFETY: the event is initialized.
        unsafe { bits::event::set_cancelable(self.raw(), cancelable) };
    }

    /// Runs the action in this turn of the event loop.
    pub fn post(&mut self) {
        // SAFETY: the event is initialized; the queue is nginx's own.
        unsafe { ngx_post_event(self.raw(), &raw mut ngx_posted_events) };
    }

    /// Runs the action in the next turn of the event loop, after nginx has polled its sockets.
    pub fn post_next(&mut self) {
        // SAFETY: as in `post`.
        unsafe { ngx_post_event(self.raw(), &raw mut ngx_posted_next_events) };
    }

    fn raw(&mut self) -> *mut ngx_event_t {
        &raw mut self.0.event
    }
}

/// Whether a timer delays the exit of a process that is shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitHold {
    /// nginx does not wait for the timer.
    No,
    /// nginx waits for the timer.
    Yes,
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is initialized.
        if unsafe { bits::event::timer_set(self.raw()) } != 0 {
            // SAFETY: the event is in the timer tree, as its flag shows.
            unsafe { ngx_del_timer(self.raw()) };
        }
        // SAFETY: the event is initialized.
        if unsafe { bits::event::posted(self.raw()) } != 0 {
            // SAFETY: the event is in a queue, as its flag shows.
            unsafe { ngx_delete_posted_event(self.raw()) };
        }
    }
}

unsafe extern "C" fn handle_event(event: *mut ngx_event_t) {
    guarded((), || {
        // SAFETY: nginx passes the event that was armed, whose `data` are the connection in its
        // box.
        let connection: *mut ngx_connection_t = unsafe { (*event).data }.cast();
        // SAFETY: as above.
        let inner: *const Inner = unsafe { (*connection).data }.cast();
        // SAFETY: as above; both are copied, because the action may drop the event.
        let (action, number) = unsafe { (ptr::read(&raw const (*inner).action), (*inner).number) };
        // SAFETY: this handles a timer or a posted event; only nginx's event loop calls it.
        action(number, &mut unsafe { TopLevel::enter() });
    });
}
