//! Where panics stop. Each function that nginx calls runs its body in here, because a panic that
//! reached C would abort the worker and with it all of its clients.

use super::log;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// Runs `body`; if it panics, logs that and gives `otherwise`.
///
/// What `body` holds by reference may be left half done: callers end the request that was being
/// served, and the state of the process is only reached through cells that unwinding releases.
pub fn guarded<R>(otherwise: R, body: impl FnOnce() -> R) -> R {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(panic) => {
            let what = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("of an unknown kind");
            log::write(log::Level::Alert, format_args!("sse: panic: {what}"));
            otherwise
        }
    }
}
