//! Tokens of requests (`sse_jwt`): finds and masks them, verifies them, and answers requests that
//! are refused.
//!
//! A token is verified when it is first needed: by nginx's access phase, or earlier by a variable.
//! The result is stored with the main request, because internal redirects clear its contexts. It is
//! valid for the rules of one location; under others, the token is verified again.

mod channels;
mod permission;
mod request_token;
mod user;

pub use channels::{has_name, refuse_nameless, AllowedNames};
pub use permission::permission;

use self::request_token::{RequestToken, TokenOrigin};
use crate::access::claims::Claims;
use crate::access::verify::{RefusalReason, TokenRefusal};
use crate::conf::access::{AccessRules, TokenAbsence, UserKnown};
use crate::conf::cors::Cors;
use crate::conf::Location;
use crate::hub::Counter;
use crate::nginx::clock;
use crate::nginx::log::Level;
use crate::nginx::pool::NoMemory;
use crate::nginx::request::{Method, Outcome, Request};
use crate::process;
use crate::sse::origin;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// The challenges that the module sends in `WWW-Authenticate` (RFC 6750).
const NO_TOKEN: &str = "Bearer";
const INVALID_TOKEN: &str = "Bearer error=\"invalid_token\"";
const INSUFFICIENT_SCOPE: &str = "Bearer error=\"insufficient_scope\"";

/// The error for a request that a page of another site may have caused.
pub const FORGED: &str = "a request with a token in a cookie needs an Origin header of this site";

/// What is known about the tokens of a main request.
#[derive(Default)]
struct RequestAccess {
    masked: RefCell<Vec<MaskedArgument>>,
    verdict: RefCell<Option<TokenVerdict>>,
    /// A hub, and how many users had been disconnected from it before access was checked.
    noted_disconnections: Cell<Option<(usize, u64)>>,
    /// Whether the token is being verified, so that a variable in `value=` that depends on the
    /// result has none.
    is_busy: Cell<bool>,
}

/// The value of an argument, decoded, from before it was masked.
struct MaskedArgument {
    name: Box<str>,
    value: Rc<[u8]>,
}

/// The result of verifying a request's token under the rules of one location.
#[derive(Clone)]
struct TokenVerdict {
    /// The address of the rules.
    rules: usize,
    result: Result<Rc<Claims>, TokenFault>,
    /// How the request carries the token, if it has one.
    origin: Option<TokenOrigin>,
}

/// Why a request has no valid token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFault {
    Missing,
    Invalid,
    /// It is not known whether the token was revoked, because the hub is locked.
    Unknown,
}

/// Prepares a request whose access is about to be checked: masks its token in everything that nginx
/// may log, and notes which users have been disconnected.
pub fn mask(request: &mut Request) -> Result<(), NoMemory> {
    if request.is_subrequest() {
        return Ok(());
    }
    user::note_disconnections(request);
    let Some(rules) = rules(request) else { return Ok(()) };
    let Some(name) = rules.tokens.sources.argument.clone() else { return Ok(()) };
    request_token::keep_argument(request, &name)?;
    request.mask_argument(name.as_bytes())
}

/// Verifies the token of a request, as one of nginx's access checks.
pub fn check(request: &Request) -> Outcome {
    let Some(rules) = rules(request) else { return Outcome::DECLINED };
    match verify(request, &rules) {
        Ok(_) => Outcome::OK,
        Err(TokenFault::Missing) if rules.tokens.absence == TokenAbsence::Allowed => {
            Outcome::DECLINED
        }
        Err(fault) => refuse(request, fault),
    }
}

/// Refuses a request whose token was revoked, if only the other access checks have determined its
/// user.
pub fn check_user(request: &Request) -> Result<(), Outcome> {
    if request.is_subrequest() {
        return Ok(());
    }
    let Some(Ok(claims)) = claims(request) else { return Ok(()) };
    match refuse_if_revoked(request, claims, UserKnown::AfterAccess) {
        Ok(_) => Ok(()),
        Err(fault) => Err(refuse(request, fault)),
    }
}

/// Answers with nginx's 401 and a challenge.
pub fn refuse(request: &Request, fault: TokenFault) -> Outcome {
    if fault == TokenFault::Missing {
        count(request, Counter::TokenMissing);
    }
    let challenge = match fault {
        TokenFault::Unknown => return Outcome::status(503),
        TokenFault::Missing => NO_TOKEN,
        TokenFault::Invalid => INVALID_TOKEN,
    };
    challenge_with(request, challenge, 401)
}

/// Answers with nginx's 403 and a challenge, because the token does not allow a channel.
pub fn refuse_channel(request: &Request, why: std::fmt::Arguments<'_>) -> Outcome {
    request.log(Level::Info, format_args!("sse: token refused: {why}"));
    count(request, Counter::TokenChannel);
    challenge_with(request, INSUFFICIENT_SCOPE, 403)
}

fn challenge_with(request: &Request, challenge: &'static str, status: u16) -> Outcome {
    withdraw_challenges(request);
    match request.add_header("WWW-Authenticate", challenge) {
        Ok(()) => Outcome::status(status),
        Err(NoMemory) => Outcome::ERROR,
    }
}

/// Removes the challenges of the module from the response: another access check may have passed
/// afterwards (`satisfy any`).
pub fn withdraw_challenges(request: &Request) {
    let own = [NO_TOKEN, INVALID_TOKEN, INSUFFICIENT_SCOPE];
    request.remove_headers("WWW-Authenticate", |value| {
        own.iter().any(|challenge| challenge.as_bytes() == value)
    });
}

/// Returns the claims of the main request's token. Fails if it has no valid one; `None` without
/// `sse_jwt`.
pub fn claims(request: &Request) -> Option<Result<Rc<Claims>, TokenFault>> {
    request.with_main(|main| {
        let rules = rules(main)?;
        Some(verify(main, &rules))
    })
}

/// Whether a page of another site may have caused a request that changes something: its token comes
/// from a cookie or a variable, which a browser sends whichever page makes the request, and no
/// header of the browser confirms that the page may make it.
pub fn may_be_forged(request: &Request) -> bool {
    if matches!(request.method(), Method::Get | Method::Head) {
        return false;
    }
    if claims(request).is_none() {
        return false;
    }
    let verdict =
        request.data::<RequestAccess>().and_then(|access| access.verdict.borrow().clone());
    if verdict.and_then(|verdict| verdict.origin) != Some(TokenOrigin::Ambient) {
        return false;
    }
    let is_same = |site: &[u8]| site.eq_ignore_ascii_case(b"same-origin");
    match request.header("Origin") {
        None => !request.header("Sec-Fetch-Site").is_some_and(is_same),
        Some(origin) => {
            let host = request.host().unwrap_or_default();
            let is_listed = match Location::for_request(request).cors.as_deref() {
                Some(cors @ Cors::Listed { .. }) => cors.allows(Some(origin)),
                Some(Cors::Any) | None => false,
            };
            !is_listed && !origin::is_of_host(origin, host)
        }
    }
}

/// Returns the rules of a request's location, if it has `sse_jwt`.
fn rules(request: &Request) -> Option<Rc<AccessRules>> {
    Location::for_request(request).access.clone()
}

/// Verifies the token of a main request, unless this was done before.
fn verify(request: &Request, rules: &Rc<AccessRules>) -> Result<Rc<Claims>, TokenFault> {
    let Some(access) = access(request) else { return Err(TokenFault::Invalid) };
    let address = Rc::as_ptr(rules) as usize;
    if let Some(verdict) = access.verdict.borrow().as_ref().filter(|known| known.rules == address) {
        return verdict.result.clone();
    }
    if access.is_busy.replace(true) {
        return Err(TokenFault::Missing);
    }
    // A variable may need the token before nginx's access checks begin.
    user::note_disconnections(request);
    let token = RequestToken::find(request, &rules.tokens.sources);
    access.is_busy.set(false);
    let (result, origin) = match token {
        None => (Err(TokenFault::Missing), None),
        Some(token) => (verify_token(request, rules, &token.text), Some(token.origin)),
    };
    let keep = |result: &Result<Rc<Claims>, TokenFault>| {
        let result = result.clone();
        access.verdict.replace(Some(TokenVerdict { rules: address, result, origin }));
    };
    // From now on, variables have the values of claims, which may determine the user.
    keep(&result);
    let result = refuse_if_revoked(request, result?, UserKnown::WithToken);
    match result {
        Err(TokenFault::Unknown) => drop(access.verdict.take()),
        _ => keep(&result),
    }
    result
}

/// Refuses a valid token that was revoked, if its user is `known` at this time.
fn refuse_if_revoked(
    request: &Request,
    claims: Rc<Claims>,
    known: UserKnown,
) -> Result<Rc<Claims>, TokenFault> {
    match user::is_revoked(request, &claims, known) {
        Ok(false) => Ok(claims),
        Ok(true) => Err(report(request, &TokenRefusal::revoked(&claims))),
        Err(_) => Err(TokenFault::Unknown),
    }
}

/// Verifies a token.
fn verify_token(
    request: &Request,
    rules: &AccessRules,
    token: &[u8],
) -> Result<Rc<Claims>, TokenFault> {
    let verified = rules.token_rules().verify(token, clock::now().wall);
    verified.map(Rc::new).map_err(|refusal| report(request, &refusal))
}

/// Counts and logs the refusal of a token.
fn report(request: &Request, refusal: &TokenRefusal) -> TokenFault {
    let counter = match refusal.reason {
        RefusalReason::Malformed => Counter::TokenMalformed,
        RefusalReason::Algorithm => Counter::TokenAlgorithm,
        RefusalReason::Key => Counter::TokenKey,
        RefusalReason::Signature => Counter::TokenSignature,
        RefusalReason::Claim => Counter::TokenClaim,
        RefusalReason::Expired => Counter::TokenExpired,
        RefusalReason::NotYet => Counter::TokenNotYet,
        RefusalReason::Revoked => Counter::TokenRevoked,
    };
    count(request, counter);
    request.log(Level::Info, format_args!("sse: token refused: {}", refusal.why));
    TokenFault::Invalid
}

/// Counts something in the hub of a request's location, if it has one.
fn count(request: &Request, counter: Counter) {
    if let Some(hub) = Location::for_request(request).handler().map(|handler| handler.hub()) {
        process::with(hub, |worker| worker.hub().count(counter, 1));
    }
}

/// Returns what is known about the tokens of a main request; `None` if nginx is out of memory.
fn access(request: &Request) -> Option<&RequestAccess> {
    if let Some(known) = request.data() {
        return Some(known);
    }
    request.keep_data(RequestAccess::default()).ok()?;
    request.data()
}
