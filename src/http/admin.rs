//! `sse_admin`: lists channels, ends their streams, deletes their events.

mod delete;

use super::json;
use crate::conf::AdminHandler;
use crate::hub::{ChannelInfo, Listing, Locked};
use crate::nginx::pool::NoMemory;
use crate::nginx::request::{Method, Outcome, Request};
use crate::process::{self, JobStatus};
use crate::sse::channel;
use serde_json::{json, Value};

/// Default and maximum number of channels on a page of the list.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// Answers a request of a location with `sse_admin`.
pub fn handle(request: &Request, conf: &AdminHandler) -> Outcome {
    match request.method() {
        Method::Get | Method::Head => match listing(request) {
            Ok(Some(listing)) => list(request, conf.target.hub, listing),
            Ok(None) => answer(request, show(request, conf)),
            Err(refused) => answer(request, Err(refused)),
        },
        Method::Delete => delete::handle(request, conf),
        _ => {
            let refused = AdminError::new(405, "only GET, HEAD and DELETE are allowed");
            answer(request, Err(refused))
        }
    }
}

/// Answers with a value, or with an error.
pub fn answer(request: &Request, answer: Result<Value, AdminError>) -> Outcome {
    let answered = request.set_header("Cache-Control", "no-store").and_then(|()| match answer {
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

    fn answer(&self, request: &Request) -> Result<Outcome, NoMemory> {
        match self.status {
            405 => request.set_header("Allow", "GET, HEAD, DELETE")?,
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
fn show(request: &Request, conf: &AdminHandler) -> Result<Value, AdminError> {
    let hub = conf.target.hub;
    let name = channel_named(request)?.ok_or_else(AdminError::no_channel)?;
    let found = process::with(hub, |worker| worker.hub().channel(&name)).ok_or_else(not_served)?;
    found?.as_ref().map(describe).ok_or_else(AdminError::no_channel)
}

/// Parses a request for the list of channels. Returns `None` if it asks for a single channel.
fn listing(request: &Request) -> Result<Option<Listing>, AdminError> {
    if channel_named(request)?.is_some() {
        return Ok(None);
    }
    let prefix = argument(request, "prefix").unwrap_or_default();
    let limit = match number(request, "limit")? {
        None => DEFAULT_LIMIT,
        Some(limit @ 1..=MAX_LIMIT) => limit,
        Some(_) => return Err(AdminError::new(400, "limit must be a number from 1 to 1000")),
    };
    let from = number(request, "from")?.unwrap_or(0) as u64;
    Ok(Some(Listing::new(prefix, from, limit)))
}

/// Answers with a page of the list of channels. Scanning a large hub takes more than one turn of
/// the event loop.
fn list(request: &Request, hub: usize, mut listing: Listing) -> Outcome {
    if let Some(page) = next_page(hub, &mut listing) {
        return answer(request, page);
    }
    let Ok((later, outcome)) = request.answer_later() else { return Outcome::ERROR };
    process::run_in_turns(hub, move |top| {
        if !later.is_awaited() {
            return JobStatus::Done;
        }
        match next_page(hub, &mut listing) {
            None => JobStatus::More,
            Some(page) => {
                later.answer(top, |request| answer(request, page));
                JobStatus::Done
            }
        }
    });
    outcome
}

/// Continues a listing. Returns `None` if there is more to scan.
fn next_page(hub: usize, listing: &mut Listing) -> Option<Result<Value, AdminError>> {
    match process::with(hub, |worker| worker.hub().list(listing)) {
        Some(Ok(None)) => None,
        Some(Ok(Some(page))) => {
            let channels: Vec<Value> = page.channels.iter().map(describe).collect();
            Some(Ok(json!({ "channels": channels, "next": page.next })))
        }
        Some(Err(locked)) => Some(Err(locked.into())),
        None => Some(Err(not_served())),
    }
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

/// Returns an argument of the query, decoded.
pub fn argument(request: &Request, name: &str) -> Option<Vec<u8>> {
    request.argument(name).map(|value| percent_encoding::percent_decode(value).collect())
}

/// Parses an argument as a number.
fn number(request: &Request, name: &str) -> Result<Option<usize>, AdminError> {
    let Some(text) = argument(request, name) else { return Ok(None) };
    let digits = text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(&text).ok().filter(|_| digits).and_then(|n| n.parse().ok());
    number.map(Some).ok_or_else(|| AdminError::new(400, format_args!("{name} must be a number")))
}
