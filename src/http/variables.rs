//! Variables that describe a stream or a publish in the access log, and the position of a hub for a
//! page that opens its stream later.

use super::access;
use super::publish::ReachedStreams;
use crate::conf::{Location, Main};
use crate::nginx::request::Request;
use crate::nginx::variable::{Variable, VariableGetter};
use crate::process::position::position;
use crate::process::stream::RequestStream;
use std::rc::Rc;

/// All variables of the module. They have values for streams only, except that `$sse_channel` and
/// `$sse_subscribers` also have values for publishes, and `$sse_position` has one for every
/// request. Those of claims have values if the request has a valid token.
pub static VARIABLES: [Variable; 9] = [
    Variable { name: "sse_channel", get: VariableGetter::EachTime(channel) },
    Variable { name: "sse_last_event_id", get: VariableGetter::EachTime(last_event_id) },
    Variable { name: "sse_events_sent", get: VariableGetter::EachTime(events_sent) },
    Variable { name: "sse_subscribers", get: VariableGetter::EachTime(subscribers) },
    Variable { name: "sse_end", get: VariableGetter::EachTime(end) },
    Variable { name: "sse_position", get: VariableGetter::Once(|_| position(None)) },
    Variable { name: "sse_position_", get: VariableGetter::OnceForEach(|hub| position(Some(hub))) },
    Variable { name: "sse_jwt_claim_", get: VariableGetter::EachTimeForEach(claim) },
    Variable { name: "", get: VariableGetter::Declared(set_variable) },
];

fn stream(request: &Request) -> Option<&Rc<RequestStream>> {
    request.context()
}

fn channel(request: &Request) -> Option<Vec<u8>> {
    match stream(request) {
        Some(stream) => Some(stream.summary().channels()),
        None => {
            let channel = Location::for_request(request).publish()?.channel.evaluate(request)?;
            // A request to `sse_admin` may name none.
            Some(channel.into_owned()).filter(|channel| !channel.is_empty())
        }
    }
}

fn last_event_id(request: &Request) -> Option<Vec<u8>> {
    stream(request)?.summary().last_id.map(|id| id.to_string().into_bytes())
}

fn events_sent(request: &Request) -> Option<Vec<u8>> {
    stream(request).map(|stream| stream.summary().events_sent.to_string().into_bytes())
}

fn subscribers(request: &Request) -> Option<Vec<u8>> {
    let subscribers = match stream(request) {
        Some(stream) => stream.subscribers()?,
        None => request.context::<ReachedStreams>()?.0,
    };
    Some(subscribers.to_string().into_bytes())
}

fn end(request: &Request) -> Option<Vec<u8>> {
    stream(request)?.end().map(|end| end.to_string().into_bytes())
}

/// Returns the claim with this name of the request's valid token.
fn claim(request: &Request, name: &[u8]) -> Option<Vec<u8>> {
    claim_at(request, &[std::str::from_utf8(name).ok()?])
}

/// Returns the value of a variable of `sse_jwt_set`.
fn set_variable(request: &Request, name: &[u8]) -> Option<Vec<u8>> {
    let all = &request.main_conf::<Main>().claim_variables;
    let (_, path) = all.iter().find(|(known, _)| known.as_bytes() == name)?;
    claim_at(request, path)
}

/// Returns the text of the claim at a path of the request's valid token.
fn claim_at(request: &Request, path: &[impl AsRef<str>]) -> Option<Vec<u8>> {
    access::claims(request)?.ok()?.text_at(path).map(String::into_bytes)
}
