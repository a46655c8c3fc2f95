//! DELETE of `sse_admin` with the argument `user`: disconnects a user, and revokes its tokens.

use super::redis_refusal::refused;
use super::{answer, argument, not_served, AdminError};
use crate::conf::AdminHandler;
use crate::http::json;
use crate::hub::{Displaced, Revocation};
use crate::nginx::clock;
use crate::nginx::core_conf::parse_time;
use crate::nginx::deferred::DeferredResponse;
use crate::nginx::log::Level;
use crate::nginx::pool::NoMemory;
use crate::nginx::request::{Outcome, Request};
use crate::process::{self, redis};
use crate::redis::script::DisconnectCommand;
use crate::sse::escaped::Escaped;
use serde_json::json;
use std::cell::RefCell;
use std::rc::Rc;

/// Maximum length of a user's name in bytes.
const MAX_USER: usize = 4096;

/// How long tokens can be revoked for, in ms: from one second to seven days.
const REVOCATION_TIMES: std::ops::RangeInclusive<u64> = 1_000..=7 * 86_400_000;

/// A user to disconnect.
struct UserDisconnection {
    hub: usize,
    hub_name: String,
    user: Vec<u8>,
    /// When its tokens are revoked, and until when, in ms since 1970.
    revoked: Option<(u64, u64)>,
}

/// Answers a request that names a user.
pub fn handle(request: &Request, conf: &AdminHandler, user: Vec<u8>) -> Outcome {
    let disconnection = match UserDisconnection::read(request, conf, user) {
        Ok(disconnection) => disconnection,
        Err(refused) => return answer(request, Err(refused)),
    };
    match redis::publish_route(disconnection.hub) {
        Some(route) => disconnection.via_redis(request, route),
        None => {
            let done = disconnection.locally(request);
            disconnection.answer(request, done)
        }
    }
}

impl UserDisconnection {
    /// Validates a request.
    fn read(
        request: &Request,
        conf: &AdminHandler,
        user: Vec<u8>,
    ) -> Result<UserDisconnection, AdminError> {
        if user.is_empty() || user.len() > MAX_USER {
            return Err(AdminError::new(400, "user must have 1 to 4096 bytes"));
        }
        if argument(request, "channel").is_some() || argument(request, "only").is_some() {
            return Err(AdminError::new(400, "user cannot be used with channel or only"));
        }
        let now = clock::now().wall;
        let revoked = match argument(request, "revoke") {
            None => None,
            Some(text) => {
                let time = parse_time(&text).filter(|time| REVOCATION_TIMES.contains(time));
                let invalid = || AdminError::new(400, "revoke must be a time from 1s to 7d");
                Some((now, now.saturating_add(time.ok_or_else(invalid)?)))
            }
        };
        let hub_name = conf.target.hub_name().to_owned();
        Ok(UserDisconnection { hub: conf.target.hub, hub_name, user, revoked })
    }

    /// Disconnects the user in a hub that is not connected to Redis.
    fn locally(&self, request: &Request) -> Result<(), AdminError> {
        let now = clock::now();
        let done = process::with(self.hub, |worker| {
            let user = worker.hub().user(&self.user);
            match self.revoked {
                None => worker.disconnect_user(user, now).map(|()| Displaced::Nothing),
                Some((issued_before, until)) => {
                    worker.revoke_tokens(Revocation { user, issued_before, until }, now)
                }
            }
        });
        process::turn_soon(self.hub);
        if done.ok_or_else(not_served)?? == Displaced::Revocation {
            let line = format_args!(
                "sse: too many revoked users in hub \"{}\"; the revocation that would have ended \
                 first is no longer in force",
                self.hub_name
            );
            request.log(Level::Warn, line);
        }
        Ok(())
    }

    /// Disconnects the user through Redis, on every nginx.
    fn via_redis(self, request: &Request, route: redis::PublishRoute) -> Outcome {
        let (issued_before, until) = self.revoked.unwrap_or_default();
        let (user, names) = (self.user.clone(), route.names);
        let command = DisconnectCommand { user, issued_before, until, names };
        // Filled in before the event loop can process the reply.
        let waiting = Rc::new(RefCell::new(None::<Rc<DeferredResponse>>));
        let (reply_to, hub) = (waiting.clone(), self.hub);
        let sent = redis::disconnect(hub, command, move |top, done| {
            let Some(deferred) = reply_to.take() else { return };
            deferred.answer(top, |request| {
                let done = done.map_err(|refusal| refused(request, refusal));
                self.answer(request, done)
            });
        });
        if let Err(refusal) = sent {
            return answer(request, Err(refused(request, refusal)));
        }
        let Ok((deferred, outcome)) = request.answer_later() else { return Outcome::ERROR };
        waiting.replace(Some(deferred));
        outcome
    }

    /// Logs that the user was disconnected, and answers with 202, or with an error.
    fn answer(&self, request: &Request, done: Result<(), AdminError>) -> Outcome {
        if let Err(refused) = done {
            return answer(request, Err(refused));
        }
        let (user, hub) = (Escaped(&self.user), &self.hub_name);
        let name = String::from_utf8_lossy(&self.user);
        let response = match self.revoked {
            None => {
                let line = format_args!("sse: user \"{user}\" of hub \"{hub}\" disconnected");
                request.log(Level::Notice, line);
                json!({ "user": name })
            }
            Some((from, until)) => {
                let until = until.max(self.known_end());
                let line = format_args!(
                    "sse: user \"{user}\" of hub \"{hub}\" disconnected, tokens revoked for {} s",
                    until.saturating_sub(from) / 1000
                );
                request.log(Level::Notice, line);
                json!({ "user": name, "revoked_until": until / 1000 })
            }
        };
        match request.set_header("Cache-Control", "no-store") {
            Ok(()) => json::answer(request, 202, &response.to_string()),
            Err(NoMemory) => Outcome::ERROR,
        }
    }

    /// Returns the end of the user's revocation in the hub, which may be an earlier one that ends
    /// later; 0 if there is none, or if the hub is locked.
    fn known_end(&self) -> u64 {
        let end = process::with(self.hub, |worker| {
            let user = worker.hub().user(&self.user);
            worker.hub().revocation_end(user).ok()
        });
        end.flatten().unwrap_or_default()
    }
}
