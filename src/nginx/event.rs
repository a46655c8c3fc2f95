//! Timers and posted events of nginx, as values that take themselves out when dropped.

use super::bits;
use super::guard::guarded;
use super::macros::{ngx_add_timer, ngx_del_timer, ngx_delete_posted_event, ngx_post_event};
use super::top_level::TopLevel;
use nginx_sys::{
    ngx_connection_t, ngx_cycle, ngx_event_t, ngx_posted_events, ngx_posted_next_events,
};
use std::ptr;

/// What an event calls: a function, with the number that the event was made with. Plain enough that an event may
/// be armed, posted or dropped from within its own call.
pub type Action = fn(usize, &mut TopLevel);

/// One event that can wait for a time or for its turn in the loop.
pub struct Event(Box<Inner>);

struct Inner {
    event: ngx_event_t,
    // nginx's debug log looks for a descriptor behind the event's data.
    connection: ngx_connection_t,
    action: Action,
    number: usize,
}

impl Event {
    /// An event that calls `action(number)`, armed for nothing yet.
    pub fn new(action: Action, number: usize) -> Event {
        // SAFETY: nginx makes its own events and connections from zeroed memory.
        let (event, connection) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let mut inner = Box::new(Inner { event, connection, action, number });
        let at: *mut Inner = &mut *inner;
        inner.connection.fd = -1;
        inner.connection.data = at.cast();
        inner.event.data = (&raw mut inner.connection).cast();
        inner.event.handler = Some(handle_event);
        // SAFETY: modules run after nginx has set up its cycle; the log lives as long as a worker.
        inner.event.log = unsafe { (*ngx_cycle).log };
        Event(inner)
    }

    /// Calls in `after` ms, instead of what it was armed for.
    pub fn arm(&mut self, after: u64) {
        // SAFETY: the event is whole and stays where it is in its box.
        unsafe { ngx_add_timer(self.raw(), after as usize) };
    }

    /// Says whether a process that is told to quit waits for this timer.
    pub fn hold_process(&mut self, hold: ExitHold) {
        let cancelable = match hold {
            ExitHold::No => 1,
            ExitHold::Yes => 0,
        };
        // SAFETY: the event is whole.
        unsafe { bits::event::set_cancelable(self.raw(), cancelable) };
    }

    /// Calls once more in this turn of the loop.
    pub fn post(&mut self) {
        // SAFETY: the event is whole; the queue is nginx's own.
        unsafe { ngx_post_event(self.raw(), &raw mut ngx_posted_events) };
    }

    /// Calls in the next turn of the loop, after nginx has looked at its sockets.
    pub fn post_next(&mut self) {
        // SAFETY: as in `post`.
        unsafe { ngx_post_event(self.raw(), &raw mut ngx_posted_next_events) };
    }

    fn raw(&mut self) -> *mut ngx_event_t {
        &raw mut self.0.event
    }
}

/// Whether a timer keeps a process alive that is told to quit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitHold {
    /// nginx may end the process without waiting for it.
    No,
    /// nginx waits for it.
    Yes,
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is whole.
        if unsafe { bits::event::timer_set(self.raw()) } != 0 {
            // SAFETY: the event is in the tree, as its own flag says.
            unsafe { ngx_del_timer(self.raw()) };
        }
        // SAFETY: the event is whole.
        if unsafe { bits::event::posted(self.raw()) } != 0 {
            // SAFETY: the event is in a queue, as its own flag says.
            unsafe { ngx_delete_posted_event(self.raw()) };
        }
    }
}

unsafe extern "C" fn handle_event(event: *mut ngx_event_t) {
    guarded((), || {
        // SAFETY: nginx hands back the event that was armed, whose data are its box's.
        let connection: *mut ngx_connection_t = unsafe { (*event).data }.cast();
        // SAFETY: as above.
        let inner: *const Inner = unsafe { (*connection).data }.cast();
        // SAFETY: as above; both are copied out, because the call may drop the event.
        let (action, number) = unsafe { (ptr::read(&raw const (*inner).action), (*inner).number) };
        // SAFETY: this is the handler of a timer or of a posted event, which only nginx's loop calls.
        action(number, &mut unsafe { TopLevel::enter() });
    });
}
