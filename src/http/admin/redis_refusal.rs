//! Requests to Redis that were refused.

use super::AdminError;
use crate::nginx::log::Level;
use crate::nginx::request::Request;
use crate::redis::refusal::Refusal;

/// Converts a refusal of Redis. Redis' address and messages go to the error log only, not to
/// clients.
pub fn refused(request: &Request, refusal: Refusal) -> AdminError {
    let (status, what, why) = match refusal {
        Refusal::Unreachable(why) => (503, "Redis is not reachable; nothing was changed", why),
        Refusal::Busy => {
            (503, "too many requests are waiting for Redis; nothing was changed", String::new())
        }
        // A channel's name is never too long for Redis.
        Refusal::TooLarge { .. } => {
            (503, "Redis does not accept the command; nothing was changed", String::new())
        }
        Refusal::Refused(why) => (503, "Redis rejected the command; nothing was changed", why),
        Refusal::Unanswered => {
            (504, "Redis did not answer in time; the command may have been executed", String::new())
        }
    };
    request.log(Level::Info, format_args!("sse: not changed: {what}: {why}"));
    AdminError::new(status, what)
}
