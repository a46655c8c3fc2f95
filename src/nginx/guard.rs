//! Stops panics. Each function that nginx calls runs its body in `guarded`, because a panic that
//! reached C would abort the worker and disconnect all of its clients.

use super::log;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// Runs `body`. If it panics, logs the panic and returns `otherwise`.
///
/// Values that `body` borrows may be left in an intermediate state. Callers end the request that
/// was being served, and the state of the process is behind cells that unwinding releases.
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
