//! The error log: of the process, of a request, and of a configuration that is being read.
//!
//! Bytes that come from outside are written through `sse::escaped`, so that nobody can forge a line.

use nginx_sys::{
    ngx_cycle, ngx_log_t, ngx_uint_t, NGX_LOG_ALERT, NGX_LOG_CRIT, NGX_LOG_DEBUG_HTTP,
    NGX_LOG_EMERG, NGX_LOG_ERR, NGX_LOG_INFO, NGX_LOG_NOTICE, NGX_LOG_WARN,
};
use std::fmt;

/// nginx's levels, as `error_log` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The configuration cannot be used.
    Emerg,
    /// A fault in the module itself.
    Alert,
    /// What the module needs is not to be had.
    Crit,
    /// A request failed for a reason that lies on this side.
    Error,
    /// Something works less well than it should.
    Warn,
    /// A change of state.
    Notice,
    /// What a client did.
    Info,
}

impl Level {
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

/// Writes a line to the log of this process.
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    // SAFETY: nginx sets ngx_cycle before it calls any module, and each cycle has a log.
    let log = unsafe { (*ngx_cycle).log };
    // SAFETY: the pointer was just taken from the cycle in use.
    unsafe { write_to(log, level, message) };
}

/// Writes a line to a log of nginx.
///
/// # Safety
/// `log` points to a log that nginx has set up and still keeps.
pub(super) unsafe fn write_to(log: *mut ngx_log_t, level: Level, message: fmt::Arguments<'_>) {
    // SAFETY: the caller vouches for the pointer.
    if level.number() > unsafe { (*log).log_level } {
        return;
    }
    let text = message.to_string();
    // SAFETY: as above; log_error copies the bytes, bounded by nginx's own line length.
    unsafe { ngx::log::log_error(level.number(), log, 0, text.as_bytes()) };
}

/// Whether a log takes debug lines of requests.
///
/// # Safety
/// `log` points to a log that nginx has set up and still keeps.
pub(super) unsafe fn is_debugged(log: *mut ngx_log_t) -> bool {
    // SAFETY: the caller vouches for the pointer.
    ngx::log::DEBUG && unsafe { (*log).log_level } & NGX_LOG_DEBUG_HTTP as ngx_uint_t != 0
}

/// Writes a line for nginx's debug log of http, which only builds `--with-debug` have.
///
/// # Safety
/// As for `write_to`.
pub(super) unsafe fn debug_to(log: *mut ngx_log_t, message: fmt::Arguments<'_>) {
    // SAFETY: the caller vouches for the pointer.
    if !unsafe { is_debugged(log) } {
        return;
    }
    // SAFETY: as above; log_debug copies the bytes, bounded by nginx's own line length.
    unsafe { ngx::log::log_debug(log, 0, message.to_string().as_bytes()) };
}
