//! Finds the token of a request.

use super::{access, MaskedArgument, RequestAccess};
use crate::access::source::{bearer, cookie};
use crate::conf::access::TokenSources;
use crate::nginx::pool::NoMemory;
use crate::nginx::request::Request;
use percent_encoding::percent_decode;
use std::rc::Rc;

/// The token of a request.
pub struct RequestToken {
    pub text: Rc<[u8]>,
    pub origin: TokenOrigin,
}

/// How a request carries its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOrigin {
    /// The client has added it to this request.
    Explicit,
    /// A browser may have added it to a request that a page of another site makes.
    Ambient,
}

impl RequestToken {
    /// Finds the token of a main request, in the first place that has one.
    pub fn find(request: &Request, sources: &TokenSources) -> Option<RequestToken> {
        let explicit =
            |text: &[u8]| RequestToken { text: text.into(), origin: TokenOrigin::Explicit };
        let ambient =
            |text: &[u8]| RequestToken { text: text.into(), origin: TokenOrigin::Ambient };
        if let Some(token) =
            request.header("Authorization").filter(|_| sources.bearer).and_then(bearer)
        {
            return Some(explicit(token));
        }
        if let Some(name) = &sources.cookie {
            if let Some(token) = cookie(request.headers("Cookie"), name) {
                return Some(ambient(token));
            }
        }
        if let Some(name) = &sources.argument {
            if let Some(token) = argument(request, name) {
                return Some(explicit(&token));
            }
        }
        let value = sources.value.as_ref()?.evaluate(request)?;
        (!value.is_empty()).then(|| ambient(value))
    }
}

/// Returns the value of an argument, from before it was masked.
fn argument(request: &Request, name: &str) -> Option<Rc<[u8]>> {
    let current = request.argument(name).filter(|value| !is_masked(value)).map(decoded);
    let found = current.or_else(|| {
        let masked = request.data::<RequestAccess>()?.masked.borrow();
        masked
            .iter()
            .find(|argument| *argument.name == *name)
            .map(|argument| argument.value.clone())
    });
    found.filter(|value| !value.is_empty())
}

/// Keeps the value of an argument that is about to be masked.
pub fn keep_argument(request: &Request, name: &str) -> Result<(), NoMemory> {
    let Some(value) = request.argument(name).filter(|value| !is_masked(value)) else {
        return Ok(());
    };
    let mut masked = access(request).ok_or(NoMemory)?.masked.borrow_mut();
    masked.retain(|argument| *argument.name != *name);
    masked.push(MaskedArgument { name: name.into(), value: decoded(value) });
    Ok(())
}

/// Whether a value has been overwritten, or is empty.
fn is_masked(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte == b'*')
}

fn decoded(value: &[u8]) -> Rc<[u8]> {
    percent_decode(value).collect()
}
