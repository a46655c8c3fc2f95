//! `sse_publish`: POST and PUT publish an event, or a batch of events, on a channel. POST of
//! `sse_admin` does the same.

pub(in crate::http) mod via_redis;

use super::access::{self, AllowedNames};
use super::{cors, json};
use crate::conf::channel_argument::NameChooser;
use crate::conf::location::{Finishing, NameKind, PublishChannel};
use crate::conf::{self, Location};
use crate::hub::{Counter, NewEvent, PublishError, Published};
use crate::nginx::body::{BodyError, WithBody};
use crate::nginx::clock;
use crate::nginx::log::{Counted, Level};
use crate::nginx::request::{Method, Outcome, Request};
use crate::process::{self, redis};
use crate::sse::batch::BatchError;
use crate::sse::content_type::is_event_stream;
use crate::sse::escaped::Escaped;
use crate::sse::finish::{self, FinishArgument, RunAfterwards};
use crate::sse::{batch, channel, event_type};
use serde_json::Value;
use via_redis::RedisPublish;

/// Maximum length of an `Idempotency-Key` in bytes.
const MAX_KEY: usize = 128;

/// Answers a request of a location with `sse_publish`.
pub fn handle(request: &Request, conf: &conf::PublishHandler) -> Outcome {
    match check_head(request, conf) {
        Ok(most) => match check_channel(request, conf) {
            Ok(()) => request.with_body::<PublishBody>(most),
            Err(outcome) => outcome,
        },
        Err(refused) => refused.answer(request),
    }
}

/// Checks that the client's token allows the channel. If not, returns the response.
fn check_channel(request: &Request, conf: &conf::PublishHandler) -> Result<(), Outcome> {
    // An administrator may publish to every channel.
    let PublishChannel::Value(channel) = &conf.channel else { return Ok(()) };
    if !access::has_name(request, channel, NameKind::Names) {
        let refused = access::refuse_nameless(request);
        return refused.map_or_else(
            || Err(PublishRefusal::bad(channel::NameError::Empty).answer(request)),
            Err,
        );
    }
    if channel.chooser != NameChooser::Request {
        return Ok(());
    }
    let name = channel.value.evaluate(request).ok_or(Outcome::status(500))?;
    AllowedNames::for_request(request).check(request, name, NameKind::Names)
}

/// Checks what is known before the body is read. Returns the longest body that may follow, in
/// bytes.
fn check_head(request: &Request, conf: &conf::PublishHandler) -> Result<usize, PublishRefusal> {
    match request.method() {
        Method::Post | Method::Put => {}
        _ => return Err(PublishRefusal::new(405, None, "only POST and PUT are allowed")),
    }
    if cors::is_foreign(request) {
        return Err(PublishRefusal::foreign());
    }
    if access::may_be_forged(request) {
        return Err(PublishRefusal::new(403, Some(Counter::RefusedForbidden), access::FORGED));
    }
    run_end(request, conf)?;
    let kind = kind(request);
    let most = max_body_len(conf, kind)?;
    if request.announced_length().is_none_or(|length| length <= most as u64) {
        return Ok(most);
    }
    // Reading all of the body would take longer than reconnecting.
    request.close_afterwards();
    Err(too_large(kind, most))
}

/// Determines whether a request finishes the channel's run. Where that is not allowed, a request
/// that mentions it is refused, so that no publisher believes that it has finished something.
fn run_end(
    request: &Request,
    conf: &conf::PublishHandler,
) -> Result<RunAfterwards, PublishRefusal> {
    match (finish::in_query(request.query()), conf.finishing) {
        (FinishArgument::Absent, _) => Ok(RunAfterwards::Open),
        (_, Finishing::Forbidden) => Err(PublishRefusal::new(
            403,
            Some(Counter::RefusedForbidden),
            "finish is not allowed in this location",
        )),
        (FinishArgument::Invalid, Finishing::Allowed) => {
            Err(PublishRefusal::bad("finish must be 1 or have no value"))
        }
        (FinishArgument::Finish, Finishing::Allowed) => Ok(RunAfterwards::Finished),
    }
}

/// Returns the maximum length of a body in bytes.
fn max_body_len(conf: &conf::PublishHandler, kind: BodyKind) -> Result<usize, PublishRefusal> {
    let max_event =
        process::with(conf.target.hub, |worker| worker.hub().max_event()).ok_or_else(not_served)?;
    Ok(match kind {
        BodyKind::One => max_event,
        BodyKind::Batch => batch::max_bytes(max_event),
    })
}

/// Returns the refusal of a body that is longer than `most` bytes.
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

/// Returns the refusal if this process failed to attach to the hub.
fn not_served() -> PublishRefusal {
    PublishRefusal::new(503, None, "this process does not serve the hub")
}

/// Publishes the events when the body has been read.
struct PublishBody;

impl WithBody for PublishBody {
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
        PublishRefusal::bad("the request body is incomplete").answer(request)
    }
}

/// The number of streams of the channel when the event was published; the context of a request that
/// published.
pub struct ReachedStreams(pub u64);

/// The rejection of a publish: its status, the counter, and one sentence.
pub struct PublishRefusal {
    status: u16,
    counter: Option<Counter>,
    why: String,
    /// Details for the error log only.
    detail: Option<String>,
}

impl PublishRefusal {
    /// Creates a refusal. Its sentence is sent to the client.
    pub fn new(status: u16, counter: Option<Counter>, why: impl ToString) -> PublishRefusal {
        PublishRefusal { status, counter, why: why.to_string(), detail: None }
    }

    /// Adds details that go to the error log but not to the client.
    pub fn with_detail(self, detail: String) -> PublishRefusal {
        PublishRefusal { detail: Some(detail), ..self }
    }

    /// Creates the refusal of an invalid request.
    fn bad(why: impl ToString) -> PublishRefusal {
        PublishRefusal::new(400, Some(Counter::RefusedBad), why)
    }

    /// Creates the refusal of a request that a page of another site has made.
    fn foreign() -> PublishRefusal {
        PublishRefusal::new(
            403,
            Some(Counter::RefusedForbidden),
            "the request comes from another site",
        )
    }

    /// Creates the refusal of a request that failed because of an error on this server.
    fn failed(why: impl ToString) -> PublishRefusal {
        PublishRefusal::new(500, None, why)
    }

    /// Logs the refusal, and warns if the server cannot publish.
    fn log(&self, request: &Request) {
        let Some(conf) = Location::for_request(request).publish() else { return };
        let hub = conf.target.hub_name();
        let why = match &self.detail {
            Some(detail) => format!("{}: {detail}", self.why),
            None => self.why.clone(),
        };
        if let Some(Counter::RefusedBusy | Counter::RefusedByRedis) = self.counter {
            process::warn(conf.target.hub, format_args!("nothing is published: {why}"));
        }
        let channel = conf.channel.evaluate(request).unwrap_or_default();
        let channel = Escaped(&channel);
        let line = format_args!("sse: not published to \"{channel}\" in hub \"{hub}\": {why}");
        request.log(Level::Info, line);
    }

    /// Counts and logs the refusal, and sends the response.
    pub fn answer(&self, request: &Request) -> Outcome {
        if let (Some(counter), Some(conf)) =
            (self.counter, Location::for_request(request).publish())
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

/// Publishes the events and returns the body of the response. Returns `None` if the events were
/// sent to Redis; the request is then answered when Redis replies.
fn publish(
    request: &Request,
    conf: &conf::PublishHandler,
) -> Result<Option<String>, PublishRefusal> {
    let channel = conf.channel.evaluate(request).ok_or_else(no_memory)?;
    let channel: &[u8] = &channel;
    channel::check_publish(channel).map_err(PublishRefusal::bad)?;
    if redis::is_reserved(conf.target.hub, channel) {
        return Err(PublishRefusal::bad(channel::NameError::Internal));
    }
    let key = request.header("Idempotency-Key").filter(|key| !key.is_empty());
    if key.is_some_and(|key| key.len() > MAX_KEY) {
        return Err(PublishRefusal::bad("Idempotency-Key is longer than 128 bytes"));
    }
    let given = event_type(request, conf)?;
    let run = run_end(request, conf)?;
    let kind = kind(request);
    let most = max_body_len(conf, kind)?;
    let body = request.body(most).map_err(|error| match error {
        BodyError::TooLarge => too_large(kind, most),
        BodyError::Unreadable(error) => {
            request.log(Level::Crit, format_args!("sse: cannot read the request body: {error}"));
            PublishRefusal::failed("the request body could not be read")
        }
    })?;
    if std::str::from_utf8(&body).is_err() {
        return Err(PublishRefusal::bad("the body is not UTF-8"));
    }
    let items = match kind {
        BodyKind::One => Vec::new(),
        BodyKind::Batch => match batch::parse(&body) {
            Err(BatchError::Empty) if run == RunAfterwards::Finished => Vec::new(),
            parsed => parsed.map_err(PublishRefusal::bad)?,
        },
    };
    let events: Vec<NewEvent<'_>> = match kind {
        BodyKind::One if body.is_empty() && run == RunAfterwards::Finished => Vec::new(),
        BodyKind::One => vec![NewEvent { event_type: given.text(), data: &body }],
        BodyKind::Batch => {
            let event = |item| NewEvent { event_type: given.for_item(item), data: &item.data };
            items.iter().map(event).collect()
        }
    };
    if let Some(route) = redis::publish_route(conf.target.hub) {
        let (hub, channel) = (conf.target.hub, channel.to_vec());
        let publish = RedisPublish { hub, channel, kind, run };
        return publish.send(request, &events, key, route).map(|()| None);
    }
    let published = process::with(conf.target.hub, |worker| {
        let now = clock::now();
        match run {
            RunAfterwards::Open => worker.publish(channel, &events, key, now),
            RunAfterwards::Finished => worker.publish_and_finish(channel, &events, key, now),
        }
    });
    let published = published.ok_or_else(not_served)?.map_err(refusal)?;
    process::turn_soon(conf.target.hub);
    request.debug(format_args!(
        "http sse published to \"{}\", hub \"{}\": {}, {}",
        Escaped(channel),
        conf.target.hub_name(),
        Counted(events.len(), "event"),
        Counted(published.subscribers, "subscriber")
    ));
    request.set_context(ReachedStreams(published.subscribers)).map_err(|_| no_memory())?;
    let Published { ids, subscribers, finished, .. } = published;
    Ok(Some(match run {
        RunAfterwards::Open => answer(channel, kind, &ids, subscribers),
        RunAfterwards::Finished => finish_answer(channel, &ids, finished, subscribers),
    }))
}

/// The contents of a body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// The data of one event.
    One,
    /// Events in the format of an event stream.
    Batch,
}

/// Returns the contents that the request's `Content-Type` announces.
fn kind(request: &Request) -> BodyKind {
    let content_type = request.header("Content-Type").unwrap_or_default();
    if is_event_stream(content_type) {
        BodyKind::Batch
    } else {
        BodyKind::One
    }
}

/// The event type that the directive or the request sets.
enum EventType {
    /// From the directive. Overrides the types of a batch.
    Fixed(Vec<u8>),
    /// From the publisher. Applies to events without a type of their own.
    Default(Vec<u8>),
}

impl EventType {
    /// Returns the type.
    fn text(&self) -> &[u8] {
        match self {
            EventType::Fixed(text) | EventType::Default(text) => text,
        }
    }

    /// Returns the type of an event of a batch.
    fn for_item<'a>(&'a self, item: &'a batch::Item) -> &'a [u8] {
        match self {
            EventType::Default(_) if !item.event_type.is_empty() => &item.event_type,
            EventType::Fixed(text) | EventType::Default(text) => text,
        }
    }
}

/// Determines and checks the event type of a request.
fn event_type(request: &Request, conf: &conf::PublishHandler) -> Result<EventType, PublishRefusal> {
    let given = match &conf.event {
        Some(value) => EventType::Fixed(value.evaluate(request).ok_or_else(no_memory)?.to_vec()),
        None => {
            let argument = request.argument("event").unwrap_or_default();
            EventType::Default(percent_encoding::percent_decode(argument).collect())
        }
    };
    event_type::check(given.text()).map_err(PublishRefusal::bad)?;
    Ok(given)
}

/// Returns the refusal if nginx is out of memory.
pub fn no_memory() -> PublishRefusal {
    PublishRefusal::failed("out of memory")
}

/// Converts an error of the hub.
pub fn refusal(error: PublishError) -> PublishRefusal {
    match error {
        PublishError::Busy(locked) => PublishRefusal::new(503, Some(Counter::RefusedBusy), locked),
        PublishError::Crowded => PublishRefusal::new(503, Some(Counter::RefusedBusy), error),
        PublishError::TooLarge => PublishRefusal::new(
            413,
            Some(Counter::RefusedTooLarge),
            "an event is larger than max_event_size",
        ),
        PublishError::NoRoom => PublishRefusal::new(
            507,
            Some(Counter::RefusedNoRoom),
            "the zone is too small for the event",
        ),
    }
}

/// Returns the JSON body of a successful publish. It is formatted by hand because it is built for
/// every publish; only the channel's name can contain characters that need escaping.
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
            let ids = list(ids);
            format!(r#"{{"channel":{channel},"ids":[{ids}],"subscribers":{subscribers}}}"#)
        }
    }
}

/// Returns the JSON body of the response to a publish that finishes a run. `finished` is false if
/// the publish repeats another one with the same key, which did not.
pub fn finish_answer(
    channel: &[u8],
    ids: &[impl std::fmt::Display],
    finished: bool,
    subscribers: u64,
) -> String {
    let (channel, ids) = (Value::from(String::from_utf8_lossy(channel)), list(ids));
    format!(
        r#"{{"channel":{channel},"ids":[{ids}],"finished":{finished},"subscribers":{subscribers}}}"#
    )
}

/// Returns ids as the elements of a JSON array.
fn list(ids: &[impl std::fmt::Display]) -> String {
    ids.iter().map(|id| format!("\"{id}\"")).collect::<Vec<_>>().join(",")
}
