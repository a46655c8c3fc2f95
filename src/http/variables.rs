//! Variables that describe a stream or a publish in the access log, and the position of a hub for a
//! page that opens its stream later.

use super::publish::ReachedStreams;
use crate::conf::Location;
use crate::nginx::request::Request;
use crate::nginx::variable::{Variable, VariableGetter};
use crate::process::position::position;
use crate::process::stream::RequestStream;
use std::rc::Rc;

/// All variables of the module. They have values for streams only, except that `$sse_channel` and
/// `$sse_subscribers` also have values for publishes, and `$sse_position` has one for every
/// request.
pub static VARIABLES: [Variable; 7] = [
    Variable { name: "sse_channel", get: VariableGetter::EachTime(channel) },
    Variable { name: "sse_last_event_id", get: VariableGetter::EachTime(last_event_id) },
    Variable { name: "sse_events_sent", get: VariableGetter::EachTime(events_sent) },
    Variable { name: "sse_subscribers", get: VariableGetter::EachTime(subscribers) },
    Variable { name: "sse_end", get: VariableGetter::EachTime(end) },
    Variable { name: "sse_position", get: VariableGetter::Once(|_| position(None)) },
    Variable { name: "sse_position_", get: VariableGetter::OnceForEach(|hub| position(Some(hub))) },
];

fn stream(request: &Request) -> Option<&Rc<RequestStream>> {
    request.context()
}

fn channel(request: &Request) -> Option<Vec<u8>> {
    match stream(request) {
        Some(stream) => Some(stream.summary().channels()),
        None => Some(Location::for_request(request).publish()?.channel.evaluate(request)?.to_vec()),
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
