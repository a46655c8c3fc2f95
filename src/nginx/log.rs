//! The error log: of the process, of a request, and of a configuration that is being read.
//!
//! Bytes from outside must be written through `sse::escaped::Escaped`, which also shortens them.
//! Whatever a message contains, it is one line.

use crate::sse::escaped::single_line;
use nginx_sys::{
    ngx_cycle, ngx_log_t, ngx_uint_t, NGX_LOG_ALERT, NGX_LOG_CRIT, NGX_LOG_DEBUG_HTTP,
    NGX_LOG_EMERG, NGX_LOG_ERR, NGX_LOG_INFO, NGX_LOG_NOTICE, NGX_LOG_WARN,
};
use std::fmt;

/// nginx's log levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The configuration cannot be used.
    Emerg,
    /// A bug in the module.
    Alert,
    /// A resource that the module needs is not available.
    Crit,
    /// A request failed because of the server.
    Error,
    /// Something does not work as it should.
    Warn,
    /// A change of state.
    Notice,
    /// An action of a client.
    Info,
}

impl Level {
    /// Returns nginx's number of the level.
    pub(super) fn number(self) -> ngx_uint_t {
        let level = match self {
            Level::Emerg => NGX_LOG_EMERG,
            Level::Alert => NGX_LOG_ALERT,
            Level::Crit => NGX_LOG_CRIT,
            Level::Error => NGX_LOG_ERR,
            Level::Warn => NGX_LOG_WARN,
            Level::Notice => NGX_LOG_NOTICE,
            Level::Info => NGX_LOG_INFO,
        };
        level as ngx_uint_t
    }
}

/// Displays a number with a regular English noun: "1 stream", "2 streams".
pub struct Counted<N>(pub N, pub &'static str);

impl<N: fmt::Display + PartialEq + From<u8>> fmt::Display for Counted<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counted(number, noun) = self;
        let plural = if *number == N::from(1) { "" } else { "s" };
        write!(f, "{number} {noun}{plural}")
    }
}

/// Writes a line to this process's log.
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    // SAFETY: nginx sets `ngx_cycle` before it calls any module, and each cycle has a log.
    let log = unsafe { (*ngx_cycle).log };
    // SAFETY: the log of the current cycle.
    unsafe { write_to(log, level, message) };
}

/// Writes a line to a log of nginx.
///
/// # Safety
/// `log` points to a valid log of nginx.
pub(super) unsafe fn write_to(log: *mut ngx_log_t, level: Level, message: fmt::Arguments<'_>) {
    // SAFETY: the caller vouches for the pointer.
    if level.number() > unsafe { (*log).log_level } {
        return;
    }
    let text = single_line(message.to_string());
    // SAFETY: as above; `log_error` copies the bytes, up to nginx's maximum line length.
    unsafe { ngx::log::log_error(level.number(), log, 0, text.as_bytes()) };
}

/// Whether a log accepts debug lines of requests.
///
/// # Safety
/// `log` points to a valid log of nginx.
pub(super) unsafe fn is_debugged(log: *mut ngx_log_t) -> bool {
    // SAFETY: the caller vouches for the pointer.
    ngx::log::DEBUG && unsafe { (*log).log_level } & NGX_LOG_DEBUG_HTTP as ngx_uint_t != 0
}

/// Writes a line at level `debug_http`, which requires an nginx that was built `--with-debug`.
///
/// # Safety
/// `log` points to a valid log of nginx.
pub(super) unsafe fn debug_to(log: *mut ngx_log_t, message: fmt::Arguments<'_>) {
    // SAFETY: the caller vouches for the pointer.
    if !unsafe { is_debugged(log) } {
        return;
    }
    // SAFETY: as above; `log_debug` copies the bytes, up to nginx's maximum line length.
    unsafe { ngx::log::log_debug(log, 0, single_line(message.to_string()).as_bytes()) };
}
