//! Measures the turns of nginx's event loop, and writes the figures of `blocking` to the error log.
//! Only with the cargo feature `trace-blocking`.
//!
//! nginx waits for events and handles them in one call of `process_events`. This module replaces
//! that function: it waits on the epoll descriptor first, and then calls the original, which does
//! not have to wait. So a turn begins when the wait ends, and ends when nginx waits again.

use super::guard::guarded;
use super::log::{self, Level};
use crate::blocking::{self, Span, Usage};
use nginx_sys::{ngx_cycle_t, ngx_event_actions, ngx_int_t, ngx_msec_t, ngx_uint_t};
use std::cell::{Cell, RefCell};
use std::time::Duration;

type ProcessEvents = unsafe extern "C" fn(*mut ngx_cycle_t, ngx_msec_t, ngx_uint_t) -> ngx_int_t;

thread_local! {
    /// The turn that is being measured.
    static TURN: RefCell<Option<Span>> = const { RefCell::new(None) };
    /// nginx's `process_events`, and its epoll descriptor.
    static ORIGINAL: Cell<Option<(ProcessEvents, i32)>> = const { Cell::new(None) };
}

/// Starts measuring. Must be called before another thread or library creates an epoll descriptor.
pub fn watch() {
    blocking::set_usage(usage);
    // SAFETY: nginx sets the table before it calls `init_process`, and uses it on this thread only.
    let original = unsafe { ngx_event_actions.process_events };
    let (Some(original), Some(epoll)) = (original, epoll()) else {
        let what =
            format_args!("sse: blocking: turns cannot be measured: nginx does not use epoll");
        return log::write(Level::Warn, what);
    };
    ORIGINAL.set(Some((original, epoll)));
    // SAFETY: as above.
    unsafe { ngx_event_actions.process_events = Some(process_events) };
}

/// Returns the processor time and the sleeps of the calling thread.
fn usage() -> Usage {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a structure of integers, for which zeros are valid.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both calls write to a local, and cannot fail for the calling thread.
    unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time);
        libc::getrusage(libc::RUSAGE_THREAD, &mut used);
    }
    let processor = Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
    Usage { processor, sleeps: used.ru_nvcsw as u64 }
}

/// Returns this process's epoll descriptor.
fn epoll() -> Option<i32> {
    let mut descriptors = std::fs::read_dir("/proc/self/fd").ok()?.filter_map(Result::ok);
    let epoll = descriptors.find(|entry| {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        target.as_os_str() == "anon_inode:[eventpoll]"
    })?;
    epoll.file_name().to_str()?.parse().ok()
}

unsafe extern "C" fn process_events(
    cycle: *mut ngx_cycle_t,
    timer: ngx_msec_t,
    flags: ngx_uint_t,
) -> ngx_int_t {
    guarded((), || TURN.with_borrow_mut(|turn| drop(turn.take())));
    let Some((original, epoll)) = ORIGINAL.get() else { return -1 };
    // NGX_TIMER_INFINITE is the largest number; for poll(2), it is -1.
    let longest = i32::try_from(timer).unwrap_or(-1);
    let mut ready = libc::pollfd { fd: epoll, events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure, a local. The result does not matter: a signal ends this wait like
    // nginx's own.
    unsafe { libc::poll(&mut ready, 1, longest) };
    guarded((), || TURN.set(Some(Span::turn())));
    // SAFETY: nginx's own arguments, except that the call does not wait.
    unsafe { original(cycle, 0, flags) }
}

/// Ends the current turn. Called when the process exits, before thread-local variables are
/// destroyed.
pub fn stop() {
    TURN.take();
}

/// Writes the figures to the error log, one line each, and resets them.
pub fn report() {
    for (what, figures) in blocking::take() {
        log::write(Level::Notice, format_args!("sse: blocking: {what}: {figures}"));
    }
}
