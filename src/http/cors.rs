//! Pages of other origins: what they are told they may do (CORS), and what is not taken from them.
//!
//! Only locations that have `sse_cors` are changed by it. Status and administration have no such
//! thing: they are for pages of their own host.

use crate::conf::cors::{Cors, Credentials};
use crate::conf::Location;
use crate::nginx::pool::NoMemory;
use crate::nginx::request::{Method, Outcome, Request};
use crate::sse::{header_names, origin};

/// The headers that a preflight allows which does not ask for any, or not properly.
const HEADERS: &str = "Last-Event-ID, Authorization, Cache-Control, Content-Type, Idempotency-Key";
/// How long a browser may rely on a preflight, in s: the longest that Chromium does.
const MAX_AGE: &str = "7200";

/// Sets the headers of a location with `sse_cors`, and answers a preflight. Runs before nginx asks for a
/// password: a browser's preflight comes without one, and refusals must be readable too.
pub fn before_access(request: &Request) -> Outcome {
    match &Location::for_request(request).cors {
        Some(cors) if !request.is_subrequest() => welcome(request, cors),
        _ => Outcome::DECLINED,
    }
}

fn welcome(request: &Request, cors: &Cors) -> Outcome {
    let location = Location::for_request(request);
    let methods = match location.publish() {
        Some(_) => "POST, PUT",
        None => "GET, HEAD",
    };
    let preflight = request.method() == Method::Options;
    let set = allow(request, cors).and_then(|()| match preflight {
        true => answer_preflight(request, cors, methods),
        // Of what a publisher is answered, the one header that a page could not read.
        false if location.publish().is_some() => {
            request.set_header("Access-Control-Expose-Headers", "Retry-After")
        }
        false => Ok(()),
    });
    match (set, preflight) {
        (Ok(()), true) => Outcome::status(204),
        (Ok(()), false) => Outcome::DECLINED,
        (Err(NoMemory), _) => Outcome::status(500),
    }
}

fn allow(request: &Request, cors: &Cors) -> Result<(), NoMemory> {
    let (origins, credentials) = match cors {
        Cors::Any => return request.set_header("Access-Control-Allow-Origin", "*"),
        Cors::Listed { origins, credentials } => (origins, credentials),
    };
    request.set_header("Vary", "Origin")?;
    let asked = request.header("Origin");
    let Some(origin) = origins.iter().find(|origin| asked == Some(origin.as_bytes())) else {
        return Ok(());
    };
    request.set_header("Access-Control-Allow-Origin", origin)?;
    match credentials {
        Credentials::Sent => request.set_header("Access-Control-Allow-Credentials", "true"),
        Credentials::Withheld => Ok(()),
    }
}

/// An origin that is let in may send the headers that it asks for.
fn answer_preflight(request: &Request, cors: &Cors, methods: &str) -> Result<(), NoMemory> {
    let asked = request.header("Access-Control-Request-Headers");
    let allowed = match cors.allows(request.header("Origin")) {
        true => asked.and_then(header_names::parse),
        false => None,
    };
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

/// Whether a browser marks the request as coming from a page of another site that `sse_cors` does
/// not let in: a page that its user happens to visit must not act in the user's name.
pub fn is_foreign(request: &Request) -> bool {
    let origin = request.header("Origin");
    if Location::for_request(request).cors.as_ref().is_some_and(|cors| cors.allows(origin)) {
        return false;
    }
    let crossing = request
        .header("Sec-Fetch-Site")
        .is_some_and(|site| site.eq_ignore_ascii_case(b"cross-site"));
    let host = request.host().unwrap_or_default();
    crossing || origin.is_some_and(|origin| !origin::is_of_host(origin, host))
}

/// The methods of a location, for `Allow`.
pub fn methods(request: &Request, own: &'static str) -> String {
    match Location::for_request(request).cors {
        Some(_) => format!("{own}, OPTIONS"),
        None => own.to_owned(),
    }
}
