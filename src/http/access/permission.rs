//! When a client's permission ends: the expiry of its token, and `sse_expires`.

use super::user::permitted_user;
use super::{claims, rules};
use crate::access::expiry;
use crate::conf::settings::{Expires, ExpiryAbsence};
use crate::conf::StreamHandler;
use crate::nginx::clock;
use crate::nginx::log::Level;
use crate::nginx::request::{Outcome, Request};
use crate::sse::escaped::Escaped;
use crate::worker::Permission;

/// The status of a request whose permission has ended, or has no end although it must have one. An
/// EventSource does not reconnect.
const REFUSED: Outcome = Outcome::status(403);

/// Returns what the client of a stream may do. If its permission has ended already, or if its end
/// must be known and is not, returns the response.
pub fn permission(request: &Request, conf: &StreamHandler) -> Result<Permission, Outcome> {
    let configured = match &conf.expires {
        Some(expires) => configured(request, expires)?,
        None => None,
    };
    let expires = of_token(request).into_iter().chain(configured).min();
    let user = permitted_user(request, conf.target.hub);
    Ok(Permission { expires, user })
}

/// Returns the time up to which the request's token is accepted.
fn of_token(request: &Request) -> Option<u64> {
    let claims = claims(request)?.ok()?;
    let leeway = request.with_main(|main| rules(main).map(|rules| rules.tokens.leeway));
    Some(claims.expires?.saturating_add(leeway.unwrap_or_default()))
}

/// Evaluates `sse_expires`.
fn configured(request: &Request, expires: &Expires) -> Result<Option<u64>, Outcome> {
    let Some(value) = &expires.value else { return Ok(None) };
    let text = value.evaluate(request).ok_or(Outcome::status(500))?;
    let refuse = |level, why: &str| {
        request.log(level, format_args!("sse: stream not opened: sse_expires {why}"));
        Err(REFUSED)
    };
    if text.is_empty() {
        return match expires.absence {
            ExpiryAbsence::Allowed => Ok(None),
            ExpiryAbsence::Refused => refuse(Level::Info, "is empty"),
        };
    }
    match expiry::parse(text) {
        None => refuse(Level::Error, &format!("is not a time: \"{}\"", Escaped(text))),
        Some(time) if time <= clock::now().wall => refuse(Level::Info, "has passed"),
        Some(time) => Ok(Some(time)),
    }
}
