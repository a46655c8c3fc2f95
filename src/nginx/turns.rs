//! Measures the turns of nginx's event loop, and writes what `blocking` has measured to the error
//! log. Only with the cargo feature `trace-blocking`.
//!
//! nginx waits for events and handles them in one call of `process_events`. Here the wait comes
//! first, on the descriptor of its epoll, and the call then waits no more: so a turn begins when the
//! wait is over, and ends when nginx comes to wait again.

use super::guard::guarded;
use super::log::{self, Level};
use crate::blocking::{self, Span, Usage};
use nginx_sys::{ngx_cycle_t, ngx_event_actions, ngx_int_t, ngx_msec_t, ngx_uint_t};
use std::cell::{Cell, RefCell};
use std::time::Duration;

type ProcessEvents = unsafe extern "C" fn(*mut ngx_cycle_t, ngx_msec_t, ngx_uint_t) -> ngx_int_t;

thread_local! {
    static TURN: RefCell<Option<Span>> = const { RefCell::new(None) };
    /// What nginx would call, and the descriptor of its epoll.
    static ORIGINAL: Cell<Option<(ProcessEvents, i32)>> = const { Cell::new(None) };
}

/// Begins to measure; to be called before any thread or library has an epoll of its own.
pub fn watch() {
    blocking::set_usage(usage);
    // SAFETY: nginx sets the table before modules see the process begin, and reads it on this thread.
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

/// What the calling thread has used.
fn usage() -> Usage {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a structure of integers, for which zeros are a value.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both write to the local that is given, and fail for no thread that runs.
    unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time);
        libc::getrusage(libc::RUSAGE_THREAD, &mut used);
    }
    let processor = Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
    Usage { processor, sleeps: used.ru_nvcsw as u64 }
}

/// The descriptor of this process's epoll.
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
    // NGX_TIMER_INFINITE is the largest number, and -1 for poll(2).
    let longest = i32::try_from(timer).unwrap_or(-1);
    let mut ready = libc::pollfd { fd: epoll, events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure, which lives until the call is over. What it returns does not matter: a
    // signal ends the wait as it would end nginx's own.
    unsafe { libc::poll(&mut ready, 1, longest) };
    guarded((), || TURN.set(Some(Span::turn())));
    // SAFETY: nginx's own arguments, but that nothing is waited for.
    unsafe { original(cycle, 0, flags) }
}

/// The process ends: so does the turn, while all that measures it is still there.
pub fn stop() {
    TURN.take();
}

/// Writes the figures to the error log, one line each, and forgets them.
pub fn report() {
    for (what, figures) in blocking::take() {
        log::write(Level::Notice, format_args!("sse: blocking: {what}: {figures}"));
    }
}
