//! `sse_stream`: determines the channels of a request and the position from which it resumes, and
//! opens the stream.

use super::access::{self, AllowedNames};
use super::{cors, json};
use crate::conf::channel_argument::{NameChooser, NameSource};
use crate::conf::{self, location::NameKind, Location};
use crate::hub::{name_of_pattern, Counter};
use crate::nginx::clock;
use crate::nginx::deferred::DeferredResponse;
use crate::nginx::log::Level;
use crate::nginx::pool::NoMemory;
use crate::nginx::random;
use crate::nginx::request::{Method, Outcome, Request};
use crate::nginx::response::{AfterHeader, Body};
use crate::process::stream::RequestStream;
use crate::process::{self, redis};
use crate::sse::channel::{self, NameError};
use crate::sse::escaped::Escaped;
use crate::sse::frame;
use crate::sse::timestamp;
use crate::worker::{Arrival, End, EndForm, OpenError, Outlook, Permission, ResumeRequest};
use percent_encoding::percent_decode;
use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

/// Range of the reconnection time, in ms, that clients receive when no stream can be opened.
const RETRY_LATER: (u64, u64) = (10_000, 30_000);

/// The range if this process is shutting down: another connection leads to another process.
const RETRY_ELSEWHERE: (u64, u64) = (0, 1_000);

/// The error for a client that would receive a part of a run (`sse_replay run`).
const INCOMPLETE_RUN: &str = "a part of this run is no longer available";

/// Answers a request of a location with `sse_stream`.
pub fn handle(request: &Request, conf: &conf::StreamHandler) -> Outcome {
    if request.is_subrequest() {
        return refuse_subrequest(request);
    }
    match request.method() {
        Method::Get | Method::Head => {}
        _ => return not_allowed(request, &cors::methods(request, "GET, HEAD")),
    }
    let channels = match channels(request, conf) {
        Ok(channels) => channels,
        Err(outcome) => return outcome,
    };
    begin(request, conf, channels, resume_request(request, conf))
}

/// Answers with a stream of these channels, with 204 if nothing is to come of them, or with 410 if
/// the client would receive a part of a run; for patterns, `channels` has the names that
/// `name_of_pattern` returned.
pub fn begin(
    request: &Request,
    conf: &conf::StreamHandler,
    channels: Vec<Box<[u8]>>,
    resume: ResumeRequest<'_>,
) -> Outcome {
    let permission = match access::permission(request, conf) {
        Ok(permission) => permission,
        Err(outcome) => return outcome,
    };
    if request.method() != Method::Get {
        return start(request, conf, channels, resume, permission);
    }
    let outlook = process::with(conf.target.hub, |worker| {
        worker.outlook(&channels, &conf.settings, resume, Arrival::Unknown, clock::now())
    });
    match outlook {
        Some(Outlook::Nothing) => no_content(request, conf, &channels),
        Some(Outlook::Incomplete) => gone(request, conf, &channels),
        Some(Outlook::Open) => decide_later(request, conf, channels, resume, permission),
        Some(Outlook::Stream) | None => start(request, conf, channels, resume, permission),
    }
}

/// Answers when it is known whether anything is to come of the channels.
fn decide_later(
    request: &Request,
    conf: &conf::StreamHandler,
    channels: Vec<Box<[u8]>>,
    resume: ResumeRequest<'_>,
    permission: Permission,
) -> Outcome {
    // Filled in before the event loop can answer.
    let waiting = Rc::new(RefCell::new(None::<Rc<DeferredResponse>>));
    let (id, since) = (resume.last_event_id.to_vec(), resume.since);
    let (names, hub) = (channels.clone(), conf.target.hub);
    let reply_to = waiting.clone();
    let inquired = process::inquire(hub, &names, move |top, arrival| {
        let Some(deferred) = reply_to.take() else { return };
        let resume = ResumeRequest { last_event_id: &id, since };
        deferred.answer(top, |request| decide(request, channels, resume, permission, arrival));
    });
    match inquired {
        Some(Ok(())) => {}
        // The client is turned away.
        Some(Err(_)) | None => return start(request, conf, names, resume, permission),
    }
    let Ok((deferred, outcome)) = request.answer_later() else { return Outcome::ERROR };
    waiting.replace(Some(deferred));
    outcome
}

/// Answers a request that has waited.
fn decide(
    request: &Request,
    channels: Vec<Box<[u8]>>,
    resume: ResumeRequest<'_>,
    permission: Permission,
    arrival: Arrival,
) -> Outcome {
    let Some(conf) = Location::for_request(request).stream() else {
        return Outcome::status(500);
    };
    let outlook = process::with(conf.target.hub, |worker| {
        worker.outlook(&channels, &conf.settings, resume, arrival, clock::now())
    });
    match outlook {
        Some(Outlook::Nothing) => no_content(request, conf, &channels),
        Some(Outlook::Incomplete) => gone(request, conf, &channels),
        Some(Outlook::Stream | Outlook::Open) | None => {
            start(request, conf, channels, resume, permission)
        }
    }
}

/// Answers with 204, on which an EventSource does not reconnect.
fn no_content(request: &Request, conf: &conf::StreamHandler, channels: &[Box<[u8]>]) -> Outcome {
    request.debug(format_args!(
        "http sse nothing is to come of \"{}\", hub \"{}\"",
        Escaped(&channels.join(&b","[..])),
        conf.target.hub_name(),
    ));
    process::with(conf.target.hub, |worker| worker.hub().count(Counter::NothingToCome, 1));
    request.set_status(204);
    match request.set_header("Cache-Control", "no-store") {
        Ok(()) => request.answer_without_body(),
        Err(NoMemory) => Outcome::ERROR,
    }
}

/// Answers with 410, on which an EventSource does not reconnect.
fn gone(request: &Request, conf: &conf::StreamHandler, channels: &[Box<[u8]>]) -> Outcome {
    process::with(conf.target.hub, |worker| worker.hub().count(Counter::IncompleteRuns, 1));
    request.log(
        Level::Info,
        format_args!(
            "sse: stream of \"{}\" in hub \"{}\" not opened: a part of the run has left",
            Escaped(&channels.join(&b","[..])),
            conf.target.hub_name(),
        ),
    );
    match request.set_header("Cache-Control", "no-store") {
        Ok(()) => json::error(request, 410, INCOMPLETE_RUN),
        Err(NoMemory) => Outcome::ERROR,
    }
}

/// Starts the stream.
fn start(
    request: &Request,
    conf: &conf::StreamHandler,
    channels: Vec<Box<[u8]>>,
    resume: ResumeRequest<'_>,
    permission: Permission,
) -> Outcome {
    if conf.lean {
        // A connection whose request has been released cannot serve another one.
        request.close_afterwards();
    }
    match send_header(request) {
        AfterHeader::Body(body) => {
            open(body, conf, channels, resume, permission).unwrap_or(Outcome::ERROR)
        }
        AfterHeader::Nothing(outcome) => outcome,
    }
}

/// Rejects a subrequest, whose response could not end.
fn refuse_subrequest(request: &Request) -> Outcome {
    request.log(Level::Error, format_args!("sse: a stream cannot be a subrequest"));
    request.set_status(500);
    match request.send_header() {
        AfterHeader::Body(body) => body.end(),
        AfterHeader::Nothing(outcome) => outcome,
    }
}

/// Answers with nginx's own 405 page and an `Allow` header.
pub fn not_allowed(request: &Request, allowed: &str) -> Outcome {
    match request.set_header("Allow", allowed) {
        Ok(()) => Outcome::status(405),
        Err(NoMemory) => Outcome::ERROR,
    }
}

/// Why a request names no channels.
enum NamesError {
    /// A name is invalid, or there is none.
    Invalid(NameError),
    /// The client may not name a channel, or nginx is out of memory; this is the response.
    Refused(Outcome),
}

/// Evaluates the location's channels for a request, and checks that the client may name them. If
/// not, returns the response.
fn channels(request: &Request, conf: &conf::StreamHandler) -> Result<Vec<Box<[u8]>>, Outcome> {
    let names = names(request, conf).map_err(|error| match error {
        NamesError::Refused(outcome) => outcome,
        NamesError::Invalid(error @ NameError::None) => {
            access::refuse_nameless(request).unwrap_or_else(|| bad_request(request, &error))
        }
        NamesError::Invalid(error) => bad_request(request, &error),
    })?;
    let mut all = names.iter();
    if conf.kind == NameKind::Names && all.any(|name| redis::is_reserved(conf.target.hub, name)) {
        return Err(bad_request(request, &NameError::Internal));
    }
    Ok(match conf.kind {
        NameKind::Names => names,
        NameKind::Patterns => names.iter().map(|pattern| name_of_pattern(pattern)).collect(),
    })
}

/// Evaluates the location's names, which are patterns in a location with `pattern`.
fn names(request: &Request, conf: &conf::StreamHandler) -> Result<Vec<Box<[u8]>>, NamesError> {
    // Of the parts, those that the client cannot choose come without a check.
    let (mut parts, mut chosen) = (Vec::new(), Vec::new());
    for channel in &conf.channels {
        if !access::has_name(request, channel, conf.kind) {
            continue;
        }
        let no_memory = NamesError::Refused(Outcome::status(500));
        let value = channel.value.evaluate(request).ok_or(no_memory)?;
        let split = conf.split.filter(|_| !matches!(channel.chooser, NameChooser::Token(_)));
        let names = value.split(|byte| Some(*byte) == split);
        if channel.source == NameSource::Any && names.clone().any(channel::is_own) {
            return Err(NamesError::Invalid(NameError::Reserved));
        }
        if channel.chooser != NameChooser::Request {
            chosen.extend(names.clone());
        }
        parts.extend(names);
    }
    let names = channel::names(&parts, None).map_err(NamesError::Invalid)?;
    let allowed = AllowedNames::for_request(request);
    for name in names.iter().filter(|name| !chosen.contains(&&***name)) {
        allowed.check(request, name, conf.kind).map_err(NamesError::Refused)?;
    }
    Ok(names)
}

/// Answers with 400 and the error as text.
fn bad_request(request: &Request, error: &NameError) -> Outcome {
    request.log(Level::Info, format_args!("sse: stream not opened: {error}"));
    request.set_status(400);
    request.answer("text/plain", format!("{error}\n").as_bytes())
}

/// Discards the body of the request, and sends the header of a stream.
fn send_header(request: &Request) -> AfterHeader<'_> {
    match request.discard_body_of_stream() {
        Outcome::OK => {}
        // nginx's own response for an invalid body.
        failed => return AfterHeader::Nothing(failed),
    }
    request.set_status(200);
    request.set_event_stream();
    let set = request
        .set_header("Cache-Control", "no-cache, no-transform")
        .and_then(|()| request.set_header("X-Accel-Buffering", "no"))
        .and_then(|()| request.send_without_delay());
    match set {
        Ok(()) => request.send_header(),
        Err(NoMemory) => AfterHeader::Nothing(Outcome::ERROR),
    }
}

/// Returns what the request says about where the stream starts.
pub fn resume_request<'r>(request: &'r Request, conf: &conf::StreamHandler) -> ResumeRequest<'r> {
    let last_event_id = last_event_id(request, conf);
    let since = if last_event_id.is_empty() { since(request, conf) } else { None };
    ResumeRequest { last_event_id, since }
}

/// Returns the time from which the client wants to receive events, in ms since 1970. In an argument
/// of a request, it may be percent-encoded.
fn since(request: &Request, conf: &conf::StreamHandler) -> Option<u64> {
    let text = conf.since.as_ref()?.evaluate(request).filter(|text| !text.is_empty())?;
    let since = timestamp::parse(&Cow::from(percent_decode(text)));
    if since.is_none() {
        request.log(
            Level::Info,
            format_args!("sse: \"{}\" in sse_since is not a valid time", Escaped(text)),
        );
    }
    since
}

/// Returns the id from which the client resumes: the first value that is not empty.
fn last_event_id<'r>(request: &'r Request, conf: &conf::StreamHandler) -> &'r [u8] {
    let given = |id: &&[u8]| !id.is_empty();
    let found = match conf.last_event_id.as_slice() {
        [] => (request.header("Last-Event-ID").filter(given))
            .or_else(|| request.argument("last_event_id").filter(given))
            // event-source-polyfill sends `lastEventId`; nginx ignores the case of arguments'
            // names.
            .or_else(|| request.argument("lasteventid")),
        values => values.iter().filter_map(|value| value.evaluate(request)).find(given),
    };
    found.unwrap_or_default()
}

/// Opens the stream after its header has been sent.
fn open(
    body: Body<'_>,
    conf: &conf::StreamHandler,
    channels: Vec<Box<[u8]>>,
    resume: ResumeRequest<'_>,
    permission: Permission,
) -> Result<Outcome, NoMemory> {
    let hub = conf.target.hub;
    let request = body.request();
    let (stream, opened) = RequestStream::open(&body, conf, channels, resume, permission)?;
    let key = match opened {
        Some(Ok(key)) => key,
        Some(Err(error)) => return Ok(turn_away(body, conf, &stream, Some(error))),
        None => return Ok(turn_away(body, conf, &stream, None)),
    };
    if request.is_debugged() {
        request.debug(format_args!(
            "http sse stream of \"{}\", hub \"{}\", after \"{}\"",
            Escaped(&stream.summary().channels()),
            conf.target.hub_name(),
            Escaped(resume.last_event_id),
        ));
    }
    if conf.lean {
        process::lean_soon(hub, key);
    }
    Ok(stream.hold(request))
}

/// Ends a stream that cannot be opened now, in a way that makes browsers reconnect.
fn turn_away(
    body: Body<'_>,
    conf: &conf::StreamHandler,
    stream: &RequestStream,
    error: Option<OpenError>,
) -> Outcome {
    let (why, end, retry) = match error {
        Some(error @ OpenError::Draining) => (error.to_string(), End::Drain, RETRY_ELSEWHERE),
        // Its access is checked again.
        Some(error @ OpenError::Disconnected) => (error.to_string(), End::Admin, RETRY_ELSEWHERE),
        Some(error) => (error.to_string(), End::Error, RETRY_LATER),
        None => ("this process does not serve the hub".to_owned(), End::Error, RETRY_LATER),
    };
    if let Some(OpenError::Busy(_) | OpenError::Crowded | OpenError::Full | OpenError::NoSlot) =
        error
    {
        process::warn(conf.target.hub, format_args!("no stream can be opened: {why}"));
    }
    stream.abandon(end);
    body.request().log(
        Level::Info,
        format_args!(
            "sse: stream of \"{}\" in hub \"{}\" not opened: {why}",
            Escaped(&stream.summary().channels()),
            conf.target.hub_name(),
        ),
    );
    let opening = frame::opening(random::between(retry.0, retry.1));
    match conf.settings.reconnect.form() {
        EndForm::Complete => body.send(opening.body()),
        EndForm::Interrupted => body.send_and_interrupt(opening.body()),
    }
}
