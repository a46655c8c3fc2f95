//! Cross-origin requests: sets CORS headers, and detects requests that pages of other sites make
//! with their visitors' credentials.
//!
//! Only locations with `sse_cors` get CORS headers. Status and administration do not: only
//! pages of their own origin may use them.

use crate::conf::cors::{Cors, Credentials};
use crate::conf::Location;
use crate::nginx::pool::NoMemory;
use crate::nginx::request::{Method, Outcome, Request};
use crate::sse::{header_names, origin};

/// The headers that a preflight allows if it requests none, or an invalid list.
const HEADERS: &str = "Last-Event-ID, Authorization, Cache-Control, Content-Type, Idempotency-Key";
/// How long browsers may cache a preflight, in s: Chromium's maximum.
const MAX_AGE: &str = "7200";

/// Sets the CORS headers of a location with `sse_cors`, and answers preflights. Runs before nginx's
/// access checks, because a preflight carries no credentials, and because pages must be able to
/// read rejections.
pub fn before_access(request: &Request) -> Outcome {
    match &Location::for_request(request).cors {
        Some(cors) if !request.is_subrequest() => set_headers(request, cors),
        _ => Outcome::DECLINED,
    }
}

/// Sets the headers. Returns the outcome for nginx.
fn set_headers(request: &Request, cors: &Cors) -> Outcome {
    let location = Location::for_request(request);
    let methods = match location.publish() {
        Some(_) => "POST, PUT",
        None => "GET, HEAD",
    };
    let preflight = request.method() == Method::Options;
    let set = allow(request, cors).and_then(|()| {
        if preflight {
            answer_preflight(request, cors, methods)
        } else if location.publish().is_some() {
            // The only header of a publish response that pages could not read otherwise.
            request.set_header("Access-Control-Expose-Headers", "Retry-After")
        } else {
            Ok(())
        }
    });
    match (set, preflight) {
        (Ok(()), true) => Outcome::status(204),
        (Ok(()), false) => Outcome::DECLINED,
        (Err(NoMemory), _) => Outcome::status(500),
    }
}

/// Allows the request's origin to read the response, if `sse_cors` lists it.
fn allow(request: &Request, cors: &Cors) -> Result<(), NoMemory> {
    let (origins, credentials) = match cors {
        Cors::Any => return request.set_header("Access-Control-Allow-Origin", "*"),
        Cors::Listed { origins, credentials } => (origins, credentials),
    };
    request.set_header("Vary", "Origin")?;
    let requested = request.header("Origin");
    let Some(origin) = origins.iter().find(|origin| requested == Some(origin.as_bytes())) else {
        return Ok(());
    };
    request.set_header("Access-Control-Allow-Origin", origin)?;
    match credentials {
        Credentials::Sent => request.set_header("Access-Control-Allow-Credentials", "true"),
        Credentials::Withheld => Ok(()),
    }
}

/// Answers a preflight. An allowed origin may send the headers that it requests.
fn answer_preflight(request: &Request, cors: &Cors, methods: &str) -> Result<(), NoMemory> {
    let requested = request.header("Access-Control-Request-Headers");
    let is_allowed = cors.allows(request.header("Origin"));
    let allowed = requested.filter(|_| is_allowed).and_then(header_names::parse);
    let vary = match cors {
        Cors::Any => "Access-Control-Request-Headers",
        Cors::Listed { .. } => "Origin, Access-Control-Request-Headers",
    };
    request.set_header("Vary", vary)?;
    request.set_header("Access-Control-Allow-Methods", methods)?;
    request.set_header("Access-Control-Allow-Headers", allowed.as_deref().unwrap_or(HEADERS))?;
    request.set_header("Access-Control-Max-Age", MAX_AGE)?;
    request.set_header("Allow", &format!("{methods}, OPTIONS"))
}

/// Whether the browser marks the request as coming from another site that `sse_cors` does not
/// allow. Such a page must not use its visitor's credentials.
pub fn is_foreign(request: &Request) -> bool {
    let origin = request.header("Origin");
    if Location::for_request(request).cors.as_ref().is_some_and(|cors| cors.allows(origin)) {
        return false;
    }
    let is_cross_site = request
        .header("Sec-Fetch-Site")
        .is_some_and(|site| site.eq_ignore_ascii_case(b"cross-site"));
    let host = request.host().unwrap_or_default();
    is_cross_site || origin.is_some_and(|origin| !origin::is_of_host(origin, host))
}

/// Returns the location's methods for an `Allow` header.
pub fn methods(request: &Request, own: &'static str) -> String {
    match Location::for_request(request).cors {
        Some(_) => format!("{own}, OPTIONS"),
        None => own.to_owned(),
    }
}
