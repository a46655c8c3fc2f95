//! `sse_admin`: lists channels, shows their events, publishes, ends streams, and deletes events; as
//! JSON, or as a page for people.

mod delete;
mod disconnect;
mod format;
mod list;
mod page;
mod redis_refusal;

use super::{json, publish, stream};
use crate::conf::AdminHandler;
use crate::hub::{ChannelInfo, Locked};
use crate::nginx::pool::NoMemory;
use crate::nginx::request::{Method, Outcome, Request};
use crate::process::{self, redis};
use crate::sse::channel::{self, NameError};
use format::AdminFormat;
use serde_json::{json, Value};

/// Answers a request of a location with `sse_admin`.
pub fn handle(request: &Request, conf: &AdminHandler) -> Outcome {
    match request.method() {
        Method::Get | Method::Head => match AdminFormat::for_request(request) {
            Ok(AdminFormat::Json) => as_json(request, conf),
            Ok(AdminFormat::Page) => page::answer(request).unwrap_or(Outcome::ERROR),
            Ok(AdminFormat::Stream) => events(request, conf),
            Err(refused) => answer(request, Err(refused)),
        },
        Method::Post if request.argument("channel").is_none() => {
            answer(request, Err(AdminError::channel_missing()))
        }
        Method::Post => publish::handle(request, &conf.publish),
        Method::Delete => delete::handle(request, conf),
        _ => {
            let refused = AdminError::new(405, "only GET, HEAD, POST and DELETE are allowed");
            answer(request, Err(refused))
        }
    }
}

/// Answers with a channel or a list of channels.
fn as_json(request: &Request, conf: &AdminHandler) -> Outcome {
    match channel_named(request) {
        Ok(None) => list::handle(request, conf.target.hub),
        Ok(Some(name)) => answer(request, show(conf, &name)),
        Err(refused) => answer(request, Err(refused)),
    }
}

/// Answers with a stream of the channel that the request names.
fn events(request: &Request, conf: &AdminHandler) -> Outcome {
    let name = match required_channel(request, conf) {
        Ok(name) => name,
        Err(refused) => return answer(request, Err(refused)),
    };
    if request.set_header("Vary", "Accept").is_err() {
        return Outcome::ERROR;
    }
    stream::begin(
        request,
        &conf.feed,
        vec![name.into()],
        stream::resume_request(request, &conf.feed),
    )
}

/// Answers with a value, or with an error.
pub fn answer(request: &Request, answer: Result<Value, AdminError>) -> Outcome {
    let set = request
        .set_header("Vary", "Accept")
        .and_then(|()| request.set_header("Cache-Control", "no-store"));
    let answered = set.and_then(|()| match answer {
        Ok(answer) => Ok(json::answer(request, 200, &answer.to_string())),
        Err(refused) => refused.answer(request),
    });
    answered.unwrap_or(Outcome::ERROR)
}

/// The rejection of a request: its status, and one sentence.
pub struct AdminError {
    status: u16,
    why: String,
}

impl AdminError {
    /// Creates a rejection.
    pub fn new(status: u16, why: impl ToString) -> AdminError {
        AdminError { status, why: why.to_string() }
    }

    /// Creates the rejection for an unknown channel.
    pub fn no_channel() -> AdminError {
        AdminError::new(404, "there is no such channel")
    }

    /// Creates the rejection of a request that has to name a channel.
    fn channel_missing() -> AdminError {
        AdminError::new(400, "the argument channel is missing")
    }

    fn answer(&self, request: &Request) -> Result<Outcome, NoMemory> {
        match self.status {
            405 => request.set_header("Allow", "GET, HEAD, POST, DELETE")?,
            503 => request.set_header("Retry-After", "1")?,
            _ => {}
        }
        Ok(json::error(request, self.status, &self.why))
    }
}

impl From<Locked> for AdminError {
    fn from(locked: Locked) -> AdminError {
        AdminError::new(503, locked)
    }
}

/// Returns the description of one channel.
fn show(conf: &AdminHandler, name: &[u8]) -> Result<Value, AdminError> {
    let found = process::with(conf.target.hub, |worker| worker.hub().channel(name));
    let found = found.ok_or_else(not_served)?;
    found?.as_ref().map(describe).ok_or_else(AdminError::no_channel)
}

/// Returns the description of a channel as JSON.
fn describe(channel: &ChannelInfo) -> Value {
    json!({
        "channel": String::from_utf8_lossy(&channel.name),
        "subscribers": channel.subscribers,
        "last_id": channel.last_id.map(|id| id.to_string()),
        "events": channel.events,
    })
}

/// Returns the rejection if this process failed to attach to the hub.
pub fn not_served() -> AdminError {
    AdminError::new(503, "this process does not serve the hub")
}

/// Returns the channel that the query names, if any. Fails if the name is invalid or
/// one of the module's own channels, which cannot be administered.
pub fn channel_named(request: &Request) -> Result<Option<Vec<u8>>, AdminError> {
    let Some(name) = argument(request, "channel") else { return Ok(None) };
    channel::check_publish(&name).map_err(|error| AdminError::new(400, error))?;
    Ok(Some(name))
}

/// Returns the channel that the query names. Fails if there is none, or if the module uses it.
pub fn required_channel(request: &Request, conf: &AdminHandler) -> Result<Vec<u8>, AdminError> {
    let name = channel_named(request)?.ok_or_else(AdminError::channel_missing)?;
    if redis::is_reserved(conf.target.hub, &name) {
        return Err(AdminError::new(400, NameError::Internal));
    }
    Ok(name)
}

/// Returns an argument of the query, decoded.
pub fn argument(request: &Request, name: &str) -> Option<Vec<u8>> {
    request.argument(name).map(|value| percent_encoding::percent_decode(value).collect())
}
