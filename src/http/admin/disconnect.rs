//! DELETE of `sse_admin` with the argument `user`: disconnects a user, and revokes its tokens.

use super::{answer, argument, not_served, AdminError};
use crate::conf::AdminHandler;
use crate::http::json;
use crate::hub::{Displaced, Revocation};
use crate::nginx::clock;
use crate::nginx::core_conf::parse_time;
use crate::nginx::log::Level;
use crate::nginx::request::{Outcome, Request};
use crate::process::{self, redis};
use crate::sse::escaped::Escaped;
use serde_json::{json, Value};

/// How long tokens can be revoked for, in ms: from one second to seven days.
const REVOCATION_TIMES: std::ops::RangeInclusive<u64> = 1_000..=7 * 86_400_000;

/// Answers a request that names a user.
pub fn handle(request: &Request, conf: &AdminHandler, user: &[u8]) -> Outcome {
    match disconnect(request, conf, user) {
        Ok(value) => match request.set_header("Cache-Control", "no-store") {
            Ok(()) => json::answer(request, 202, &value.to_string()),
            Err(_) => Outcome::ERROR,
        },
        Err(refused) => answer(request, Err(refused)),
    }
}

/// Disconnects the user. Returns the response.
fn disconnect(request: &Request, conf: &AdminHandler, user: &[u8]) -> Result<Value, AdminError> {
    if user.is_empty() {
        return Err(AdminError::new(400, "user must not be empty"));
    }
    if argument(request, "channel").is_some() || argument(request, "only").is_some() {
        return Err(AdminError::new(400, "user cannot be used with channel or only"));
    }
    let revoked_for = match argument(request, "revoke") {
        None => None,
        Some(text) => {
            let time = parse_time(&text).filter(|time| REVOCATION_TIMES.contains(time));
            let invalid = || AdminError::new(400, "revoke must be a time from 1s to 7d");
            Some(time.ok_or_else(invalid)?)
        }
    };
    let hub = conf.target.hub;
    if redis::publish_route(hub).is_some() {
        let why = "users of a hub that is connected to Redis cannot be disconnected";
        return Err(AdminError::new(501, why));
    }
    let now = clock::now();
    let until = revoked_for.map(|time| now.wall.saturating_add(time));
    let done = process::with(hub, |worker| {
        let user = worker.hub().user(user);
        match until {
            None => worker.disconnect_user(user, now).map(|()| Displaced::Nothing),
            Some(until) => {
                worker.revoke_tokens(Revocation { user, issued_before: now.wall, until }, now)
            }
        }
    });
    process::turn_soon(hub);
    let displaced = done.ok_or_else(not_served)??;
    report(request, conf, user, revoked_for, displaced);
    let user = String::from_utf8_lossy(user);
    Ok(match until {
        None => json!({ "user": user }),
        Some(until) => json!({ "user": user, "revoked_until": until / 1000 }),
    })
}

/// Logs what was done.
fn report(
    request: &Request,
    conf: &AdminHandler,
    user: &[u8],
    revoked_for: Option<u64>,
    displaced: Displaced,
) {
    let (user, hub) = (Escaped(user), conf.target.hub_name());
    match revoked_for {
        None => request
            .log(Level::Notice, format_args!("sse: user \"{user}\" of hub \"{hub}\" disconnected")),
        Some(time) => request.log(
            Level::Notice,
            format_args!(
                "sse: user \"{user}\" of hub \"{hub}\" disconnected, tokens revoked for {} s",
                time / 1000
            ),
        ),
    }
    if displaced == Displaced::Revocation {
        let line = format_args!(
            "sse: too many revoked users in hub \"{hub}\"; the revocation that would have ended \
             first is no longer in force"
        );
        request.log(Level::Warn, line);
    }
}
