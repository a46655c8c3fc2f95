//! `sse_publish`: POST and PUT publish an event, or a batch of events, on a channel. POST of
//! `sse_admin` does the same.

mod answer;
mod event_type;
mod refusal;
pub(in crate::http) mod via_redis;

use super::access::{self, AllowedNames};
use super::{cors, json};
use crate::conf::channel_argument::NameChooser;
use crate::conf::location::{Finishing, NameKind, PublishChannel};
use crate::conf::{self, Location};
use crate::hub::{Counter, NewEvent, Published};
use crate::nginx::body::{BodyError, WithBody};
use crate::nginx::clock;
use crate::nginx::log::{Counted, Level};
use crate::nginx::request::{Method, Outcome, Request};
use crate::process::{self, redis};
use crate::sse::batch::BatchError;
use crate::sse::content_type::is_event_stream;
use crate::sse::escaped::Escaped;
use crate::sse::finish::{self, FinishArgument, RunAfterwards};
use crate::sse::{batch, channel};
use answer::{answer, finish_answer};
use event_type::event_type;
use refusal::{no_memory, not_served, refusal, too_large, PublishRefusal};
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
