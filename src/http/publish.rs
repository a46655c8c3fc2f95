//! `sse_publish`: POST and PUT put an event, or a batch of them, on a channel.

mod via_redis;

use super::{cors, json};
use crate::conf::{self, Location};
use crate::hub::{Counter, NewEvent, PublishError};
use crate::nginx::body::{BodyError, WithBody};
use crate::nginx::clock;
use crate::nginx::log::Level;
use crate::nginx::request::{Method, Outcome, Request};
use crate::process::{self, redis};
use crate::sse::escaped::Escaped;
use crate::sse::{batch, channel, event_type};
use serde_json::Value;
use via_redis::RedisPublish;

/// Most bytes of an `Idempotency-Key`.
const MAX_KEY: usize = 128;

/// Answers a request of a location with `sse_publish`.
pub fn handle(request: &Request, conf: &conf::PublishHandler) -> Outcome {
    match check_head(request, conf) {
        Ok(()) => request.with_body::<Answer>(),
        Err(refused) => refused.answer(request),
    }
}

/// Checks what is known before the body is read.
fn check_head(request: &Request, conf: &conf::PublishHandler) -> Result<(), PublishRefusal> {
    match request.method() {
        Method::Post | Method::Put => {}
        _ => return Err(PublishRefusal::new(405, None, "only POST and PUT publish")),
    }
    if cors::is_foreign(request) {
        return Err(PublishRefusal::foreign());
    }
    let Some(length) = request.announced_length() else { return Ok(()) };
    let kind = kind(request);
    let most = most_bytes(conf, kind)?;
    if length <= most as u64 {
        return Ok(());
    }
    // Reading all of it would take longer than connecting again.
    request.close_afterwards();
    Err(too_large(kind, most))
}

/// The longest body, in bytes, that can hold what may be published.
fn most_bytes(conf: &conf::PublishHandler, kind: BodyKind) -> Result<usize, PublishRefusal> {
    let max_event =
        process::with(conf.target.hub, |worker| worker.hub().max_event()).ok_or_else(unserved)?;
    Ok(match kind {
        BodyKind::One => max_event,
        BodyKind::Batch => batch::max_bytes(max_event),
    })
}

fn too_large(kind: BodyKind, most: usize) -> PublishRefusal {
    match kind {
        BodyKind::One => refusal(PublishError::TooLarge),
        BodyKind::Batch => PublishRefusal::new(
            413,
            Some(Counter::RefusedTooLarge),
            format_args!("the batch is larger than {most} bytes"),
        ),
    }
}

fn unserved() -> PublishRefusal {
    PublishRefusal::new(503, None, "this process does not serve the hub")
}

/// Answers once the body is there.
struct Answer;

impl WithBody for Answer {
    fn answer(request: &Request) -> Option<Outcome> {
        let Some(conf) = Location::for_request(request).publish() else {
            return Some(Outcome::status(500));
        };
        match publish(request, conf) {
            Ok(answer) => answer.map(|answer| json::answer(request, 201, &answer)),
            Err(refused) => Some(refused.answer(request)),
        }
    }

    fn refuse_partial(request: &Request) -> Outcome {
        PublishRefusal::bad("the body of the request did not arrive whole").answer(request)
    }
}

/// What a publish knows of itself once it is done: how many streams had the channel.
pub struct ReachedStreams(pub u64);

/// Why nothing was published.
pub struct PublishRefusal {
    status: u16,
    counted: Option<Counter>,
    why: String,
    /// What only the log says.
    detail: Option<String>,
}

impl PublishRefusal {
    pub fn new(status: u16, counted: Option<Counter>, why: impl ToString) -> PublishRefusal {
        PublishRefusal { status, counted, why: why.to_string(), detail: None }
    }

    /// The same, with what is nobody's business outside.
    pub fn in_detail(self, detail: String) -> PublishRefusal {
        PublishRefusal { detail: Some(detail), ..self }
    }

    fn bad(why: impl ToString) -> PublishRefusal {
        PublishRefusal::new(400, Some(Counter::RefusedBad), why)
    }

    fn foreign() -> PublishRefusal {
        PublishRefusal::new(403, Some(Counter::RefusedForbidden), "this comes from another site")
    }

    /// Something on this side failed.
    fn failed(why: impl ToString) -> PublishRefusal {
        PublishRefusal::new(500, None, why)
    }

    fn log(&self, request: &Request) {
        let Some(conf) = Location::for_request(request).publish() else { return };
        let hub = conf.target.hub_name();
        let why = match &self.detail {
            Some(detail) => format!("{}: {detail}", self.why),
            None => self.why.clone(),
        };
        if let Some(Counter::RefusedBusy | Counter::RefusedByRedis) = self.counted {
            process::warn(conf.target.hub, format_args!("nothing is published: {why}"));
        }
        let channel = Escaped(conf.channel.evaluate(request).unwrap_or_default());
        let line = format_args!("sse: not published to \"{channel}\" in hub \"{hub}\": {why}");
        request.log(Level::Info, line);
    }

    pub fn answer(&self, request: &Request) -> Outcome {
        if let (Some(counter), Some(conf)) =
            (self.counted, Location::for_request(request).publish())
        {
            process::with(conf.target.hub, |worker| worker.hub().count(counter, 1));
        }
        self.log(request);
        let header = match self.status {
            405 => request.set_header("Allow", &cors::methods(request, "POST, PUT")),
            503 => request.set_header("Retry-After", "1"),
            _ => Ok(()),
        };
        match header {
            Ok(()) => json::error(request, self.status, &self.why),
            Err(_) => Outcome::ERROR,
        }
    }
}

/// Publishes. `None`: Redis has been asked, and the answer is given when it has answered.
fn publish(
    request: &Request,
    conf: &conf::PublishHandler,
) -> Result<Option<String>, PublishRefusal> {
    let channel = conf.channel.evaluate(request).ok_or_else(no_memory)?;
    channel::check_publish(channel).map_err(PublishRefusal::bad)?;
    if redis::is_taken(conf.target.hub, channel) {
        return Err(PublishRefusal::bad(channel::NameError::Internal));
    }
    let key = request.header("Idempotency-Key").filter(|key| !key.is_empty());
    if key.is_some_and(|key| key.len() > MAX_KEY) {
        return Err(PublishRefusal::bad("Idempotency-Key is longer than 128 bytes"));
    }
    let given = given_type(request, conf)?;
    let kind = kind(request);
    let most = most_bytes(conf, kind)?;
    let body = request.body(most).map_err(|error| match error {
        BodyError::TooLarge => too_large(kind, most),
        BodyError::Unreadable(error) => {
            request.log(Level::Crit, format_args!("sse: body cannot be read: {error}"));
            PublishRefusal::failed("the body could not be read")
        }
    })?;
    if std::str::from_utf8(&body).is_err() {
        return Err(PublishRefusal::bad("the body is not UTF-8"));
    }
    let items = match kind {
        BodyKind::One => Vec::new(),
        BodyKind::Batch => batch::parse(&body).map_err(PublishRefusal::bad)?,
    };
    let events: Vec<NewEvent<'_>> = match kind {
        BodyKind::One => vec![NewEvent { event_type: given.text(), data: &body }],
        BodyKind::Batch => {
            let event = |item| NewEvent { event_type: given.of(item), data: &item.data };
            items.iter().map(event).collect()
        }
    };
    if let Some(terms) = redis::terms(conf.target.hub) {
        let asked = RedisPublish { hub: conf.target.hub, channel: channel.to_vec(), kind };
        return asked.ask(request, &events, key, terms).map(|()| None);
    }
    let published = process::with(conf.target.hub, |worker| {
        worker.publish(channel, &events, key, clock::now())
    });
    let published = published.ok_or_else(unserved)?.map_err(refusal)?;
    process::turn_soon(conf.target.hub);
    request.debug(format_args!(
        "http sse published to \"{}\", hub \"{}\": {} events, {} subscribers",
        Escaped(channel),
        conf.target.hub_name(),
        events.len(),
        published.subscribers
    ));
    request.set_context(ReachedStreams(published.subscribers)).map_err(|_| no_memory())?;
    Ok(Some(answer(channel, kind, &published.ids, published.subscribers)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    One,
    Batch,
}

fn kind(request: &Request) -> BodyKind {
    let content_type = request.header("Content-Type").unwrap_or_default();
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    match essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream") {
        true => BodyKind::Batch,
        false => BodyKind::One,
    }
}

/// The type that is given beside the body.
enum Given {
    /// By the directive: it stands, whatever the publisher says.
    Fixed(Vec<u8>),
    /// By the publisher: for events that bring none of their own.
    RedisPublish(Vec<u8>),
}

impl Given {
    fn text(&self) -> &[u8] {
        match self {
            Given::Fixed(text) | Given::RedisPublish(text) => text,
        }
    }

    fn of<'a>(&'a self, item: &'a batch::Item) -> &'a [u8] {
        match self {
            Given::RedisPublish(_) if !item.event_type.is_empty() => &item.event_type,
            Given::Fixed(text) | Given::RedisPublish(text) => text,
        }
    }
}

fn given_type(request: &Request, conf: &conf::PublishHandler) -> Result<Given, PublishRefusal> {
    let given = match &conf.event {
        Some(value) => Given::Fixed(value.evaluate(request).ok_or_else(no_memory)?.to_vec()),
        None => {
            let argument = request.argument("event").unwrap_or_default();
            Given::RedisPublish(percent_encoding::percent_decode(argument).collect())
        }
    };
    event_type::check(given.text()).map_err(PublishRefusal::bad)?;
    Ok(given)
}

pub fn no_memory() -> PublishRefusal {
    PublishRefusal::failed("no memory is left")
}

pub fn refusal(error: PublishError) -> PublishRefusal {
    match error {
        PublishError::Busy(locked) => PublishRefusal::new(503, Some(Counter::RefusedBusy), locked),
        PublishError::Crowded => PublishRefusal::new(503, Some(Counter::RefusedBusy), error),
        PublishError::TooLarge => PublishRefusal::new(
            413,
            Some(Counter::RefusedTooLarge),
            "an event is larger than max_event_size",
        ),
        PublishError::NoRoom => {
            PublishRefusal::new(507, Some(Counter::RefusedNoRoom), "the zone is too small for this")
        }
    }
}

/// What the publisher is told. Written out, for each publish pays for it; only a channel's name can hold
/// what JSON escapes.
pub fn answer(
    channel: &[u8],
    kind: BodyKind,
    ids: &[impl std::fmt::Display],
    subscribers: u64,
) -> String {
    let channel = Value::from(String::from_utf8_lossy(channel));
    match (kind, ids) {
        (BodyKind::One, [id, ..]) => {
            format!(r#"{{"channel":{channel},"id":"{id}","subscribers":{subscribers}}}"#)
        }
        (_, ids) => {
            let ids: Vec<String> = ids.iter().map(|id| format!("\"{id}\"")).collect();
            let ids = ids.join(",");
            format!(r#"{{"channel":{channel},"ids":[{ids}],"subscribers":{subscribers}}}"#)
        }
    }
}
