//! The user that a request belongs to (`sse_user`), whether it was disconnected meanwhile, and
//! whether its tokens were revoked.

use super::access;
use crate::access::claims::Claims;
use crate::conf::access::{UserKnown, UserName};
use crate::conf::Location;
use crate::hub::Locked;
use crate::nginx::clock;
use crate::nginx::request::Request;
use crate::process;
use crate::worker::PermittedUser;
use std::borrow::Cow;

/// Notes how many users have been disconnected, before a request's access is checked. A stream of a
/// user that is disconnected after that is not opened.
pub fn note_disconnections(request: &Request) {
    let location = Location::for_request(request);
    let Some(handler) = location.handler().filter(|_| location.user.is_some()) else { return };
    let hub = handler.hub();
    let noted = access(request).map(|access| &access.noted_disconnections);
    let seen = process::with(hub, |worker| worker.hub().disconnections());
    if let (Some(noted), Some(seen)) = (noted, seen) {
        // The target of an internal redirect may have another hub.
        let is_known = noted.get().is_some_and(|(known, _)| known == hub);
        if !is_known {
            noted.set(Some((hub, seen)));
        }
    }
}

/// Returns the user that a stream belongs to, if it is known.
pub fn permitted_user(request: &Request, hub: usize) -> Option<PermittedUser> {
    let name = user_name(request)?;
    let noted = access(request)?.noted_disconnections.get().filter(|(known, _)| *known == hub);
    process::with(hub, |worker| {
        let (hash, current) = (worker.hub().user(&name), worker.hub().disconnections());
        PermittedUser { hash, seen: noted.map_or(current, |(_, seen)| seen) }
    })
}

/// Returns whether the request's token, which has these claims, was revoked, if its user is `known`
/// at this time. Fails if that cannot be determined now.
pub fn is_revoked(request: &Request, claims: &Claims, known: UserKnown) -> Result<bool, Locked> {
    let location = Location::for_request(request);
    let Some(hub) = location.handler().map(|handler| handler.hub()) else { return Ok(false) };
    if location.user.as_ref().is_none_or(|user| user.known != known) {
        return Ok(false);
    }
    if process::with(hub, |worker| worker.hub().revocation_changes()).unwrap_or(0) == 0 {
        return Ok(false);
    }
    // Before the worker is borrowed, because variables may use it.
    let Some(name) = user_name(request) else { return Ok(false) };
    let revoked = process::with(hub, |worker| {
        let user = worker.hub().user(&name);
        worker.is_revoked(user, claims.issued, clock::now())
    });
    revoked.unwrap_or(Ok(false))
}

/// Returns the name of the user, if it is known.
fn user_name(request: &Request) -> Option<Cow<'_, [u8]>> {
    let claims = || super::claims(request)?.ok();
    let name = match &Location::for_request(request).user.as_ref()?.name {
        UserName::Value(directive) => Cow::Borrowed(directive.value.evaluate(request)?),
        UserName::Subject => Cow::Owned(claims()?.text("sub")?.into_bytes()),
        UserName::IssuerAndSubject => {
            let claims = claims()?;
            let (issuer, subject) = (claims.text("iss")?, claims.text("sub")?);
            Cow::Owned(format!("{issuer} {subject}").into_bytes())
        }
    };
    Some(name).filter(|name| !name.is_empty())
}
