//! `sse_stream`: opens a stream, keeps it with its request, and ends it.

use super::{cors, process, redis};
use crate::conf::{self, location::Chosen, location::Meaning};
use crate::hub::{name_of_pattern, shown};
use crate::nginx::log::Level;
use crate::nginx::output::{Calls, Client, Departure, Flushed, Lean, OnWritable, Output};
use crate::nginx::pool::NoMemory;
use crate::nginx::request::{Method, Outcome, Request};
use crate::nginx::response::{AfterHeader, Body};
use crate::nginx::setting;
use crate::nginx::top_level::TopLevel;
use crate::nginx::{clock, random};
use crate::sse::channel::{self, NameError};
use crate::sse::escaped::Escaped;
use crate::sse::frame;
use crate::sse::id::Id;
use crate::worker::{End, Finish, OpenError, StreamInfo, StreamKey, Worker};
use std::cell::Cell;
use std::rc::Rc;

/// How long a client that cannot be served now is told to stay away, in ms.
const STAY_AWAY: (u64, u64) = (10_000, 30_000);

/// A stream as its request knows it.
pub struct Stream {
    hub: usize,
    /// None before the worker has taken it, and after it has ended.
    key: Cell<Option<StreamKey>>,
    output: Rc<Output>,
    /// What there is to tell of it when the worker cannot be asked: before it has taken the stream and
    /// once it does not know it any more, and while it sends.
    summary: Cell<Option<Rc<Summary>>>,
    end: Cell<Option<End>>,
}

/// What there is to tell of a stream.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Names of channels, or of patterns as the hub knows them.
    channels: Vec<Box<[u8]>>,
    pub last_id: Option<Id>,
    pub events_sent: u64,
}

impl Summary {
    /// The channels' names, or the patterns, separated by commas.
    pub fn channels(&self) -> Vec<u8> {
        self.channels.iter().map(|name| shown(name)).collect::<Vec<_>>().join(&b","[..])
    }

    fn of(worker: &Worker<Client>, key: StreamKey) -> Option<Summary> {
        let StreamInfo { last_id, events_sent } = worker.info(key)?;
        Some(Summary { channels: worker.names(key), last_id, events_sent })
    }
}

impl Stream {
    /// How many streams its channels, or patterns, have on this nginx, all of them together.
    pub fn subscribers(&self) -> Option<u64> {
        let summary = self.summary();
        let of_all = process::with(self.hub, |worker| {
            let hub = worker.hub();
            summary.channels.iter().map(|name| hub.subscribers_of(name)).sum::<Result<u64, _>>()
        });
        of_all?.ok()
    }

    /// Why it ended, once it has.
    pub fn end(&self) -> Option<End> {
        self.end.get()
    }

    /// What has been sent by now.
    pub fn summary(&self) -> Rc<Summary> {
        self.known().unwrap_or_else(|| {
            let kept = self.summary.take().unwrap_or_default();
            self.summary.set(Some(kept.clone()));
            kept
        })
    }

    /// Why the stream ends, if its client went.
    fn departure(&self) -> Option<End> {
        self.output.departure().map(|departure| match departure {
            Departure::Left => End::Client,
            Departure::TimedOut => End::Timeout,
        })
    }

    fn known(&self) -> Option<Rc<Summary>> {
        let key = self.key.get()?;
        process::with(self.hub, |worker| Summary::of(worker, key)).flatten().map(Rc::new)
    }

    /// The request ends, for whatever reason.
    fn close(&self) {
        let Some(key) = self.key.get() else { return self.output.detach() };
        let end = self.end.get().unwrap_or_else(|| self.departure().unwrap_or(End::Client));
        self.end.set(Some(end));
        let summary = self.summary();
        self.output.with_request(|request| {
            let last_id = summary.last_id.map(|id| id.to_string()).unwrap_or_default();
            request.debug(format_args!(
                "http sse stream ends: {end}, {} events, last id \"{last_id}\"",
                summary.events_sent
            ));
        });
        self.summary.set(Some(summary));
        self.key.set(None);
        self.output.detach();
        process::close(self.hub, key, end);
    }
}

/// What nginx calls for locations with `sse_stream`.
pub struct Handler;

impl setting::Handler for Handler {
    fn handle(request: &Request) -> Outcome {
        let Some(conf) = request.location().stream() else { return Outcome::status(500) };
        if request.is_subrequest() {
            return refuse_subrequest(request);
        }
        match request.method() {
            Method::Get | Method::Head => {}
            _ => return not_allowed(request, &cors::methods(request, "GET, HEAD")),
        }
        let channels = match channels(request, conf) {
            Some(Ok(channels)) => channels,
            Some(Err(error)) => return bad_request(request, &error),
            None => return Outcome::status(500),
        };
        begin(request, conf, channels, last_event_id(request, conf))
    }
}

/// Answers with a stream of these channels, or of what `name_of_pattern` gave for patterns, to a client that comes with this id.
pub fn begin(
    request: &Request,
    conf: &conf::Stream,
    channels: Vec<Box<[u8]>>,
    last_event_id: &[u8],
) -> Outcome {
    if conf.lean {
        // Without its request a connection cannot be used for another one.
        request.close_afterwards();
    }
    match send_header(request) {
        AfterHeader::Body(body) => {
            open(body, conf, channels, last_event_id).unwrap_or(Outcome::ERROR)
        }
        AfterHeader::Nothing(outcome) => outcome,
    }
}

fn refuse_subrequest(request: &Request) -> Outcome {
    request.log(Level::Error, format_args!("sse: a stream cannot be part of another response"));
    request.set_status(500);
    match request.send_header() {
        AfterHeader::Body(body) => body.end(),
        AfterHeader::Nothing(outcome) => outcome,
    }
}

/// nginx's own 405, with the methods that there are.
pub fn not_allowed(request: &Request, allowed: &str) -> Outcome {
    match request.set_header("Allow", allowed) {
        Ok(()) => Outcome::status(405),
        Err(NoMemory) => Outcome::ERROR,
    }
}

fn channels(request: &Request, conf: &conf::Stream) -> Option<Result<Vec<Box<[u8]>>, NameError>> {
    let mut values = Vec::with_capacity(conf.channels.len());
    for channel in &conf.channels {
        let value = channel.value.evaluate(request)?;
        let mut names = value.split(|byte| Some(*byte) == conf.split);
        if channel.chosen == Chosen::Freely && names.any(channel::is_own) {
            return Some(Err(NameError::Reserved));
        }
        values.push(value);
    }
    let names = channel::names(&values, conf.split);
    let mut all = names.iter().flatten();
    if conf.meaning == Meaning::Names && all.any(|name| redis::is_taken(conf.target.hub, name)) {
        return Some(Err(NameError::Internal));
    }
    Some(names.map(|names| match conf.meaning {
        Meaning::Names => names,
        Meaning::Patterns => names.iter().map(|pattern| name_of_pattern(pattern)).collect(),
    }))
}

fn bad_request(request: &Request, error: &NameError) -> Outcome {
    request.log(Level::Info, format_args!("sse: no stream: {error}"));
    request.set_status(400);
    request.answer("text/plain", format!("{error}\n").as_bytes())
}

fn send_header(request: &Request) -> AfterHeader<'_> {
    request.set_status(200);
    request.set_event_stream();
    let set = request
        .set_header("Cache-Control", "no-cache, no-transform")
        .and_then(|()| request.set_header("X-Accel-Buffering", "no"))
        .and_then(|()| request.send_without_delay());
    match set {
        Ok(()) => request.send_stream_header(),
        Err(NoMemory) => AfterHeader::Nothing(Outcome::ERROR),
    }
}

/// The id that the client resumes from: the first value that is not empty.
fn last_event_id<'r>(request: &'r Request, conf: &conf::Stream) -> &'r [u8] {
    let given = |id: &&[u8]| !id.is_empty();
    let found = match conf.last_event_id.as_slice() {
        [] => (request.header("Last-Event-ID").filter(given))
            .or_else(|| request.argument("last_event_id").filter(given))
            // For nginx the names of arguments have no case: event-source-polyfill's `lastEventId`.
            .or_else(|| request.argument("lasteventid")),
        values => values.iter().filter_map(|value| value.evaluate(request)).find(given),
    };
    found.unwrap_or_default()
}

fn open(
    body: Body<'_>,
    conf: &conf::Stream,
    channels: Vec<Box<[u8]>>,
    last_event_id: &[u8],
) -> Result<Outcome, NoMemory> {
    let hub = conf.target.hub;
    let request = body.request();
    let output = Output::attach::<Writable>(&body);
    let of_names = Rc::new(Summary { channels, ..Summary::default() });
    let stream = Rc::new(Stream {
        hub,
        key: Cell::new(None),
        output: output.clone(),
        summary: Cell::new(Some(of_names.clone())),
        end: Cell::new(None),
    });
    request.set_context(stream.clone())?;
    let ending = stream.clone();
    request.on_end(move || ending.close())?;
    output.note_own_end();

    let opened = process::with(hub, |worker| {
        let client = Client::Request(output.clone());
        worker.open(client, &conf.settings, &of_names.channels, last_event_id, clock::now())
    });
    match opened {
        Some(Ok(key)) => {
            stream.key.set(Some(key));
            if output.is_direct() {
                // Nothing of nginx is asked while the worker sends, so nobody asks for variables.
                stream.summary.set(None);
            }
            process::opened(hub);
            if request.is_debugged() {
                request.debug(format_args!(
                    "http sse stream of \"{}\", hub \"{}\", after \"{}\"",
                    Escaped(&stream.summary().channels()),
                    conf.target.hub_name(),
                    Escaped(last_event_id),
                ));
            }
            if conf.lean {
                process::lean_soon(hub, key);
            }
            Ok(output.hold(request))
        }
        Some(Err(error)) => Ok(turn_away(body, conf, &stream, Some(error))),
        None => Ok(turn_away(body, conf, &stream, None)),
    }
}

/// Ends a stream that cannot be had now so that a browser comes back by itself.
fn turn_away(
    body: Body<'_>,
    conf: &conf::Stream,
    stream: &Stream,
    error: Option<OpenError>,
) -> Outcome {
    let (why, end) = match error {
        Some(error @ OpenError::Draining) => (error.to_string(), End::Drain),
        Some(error) => (error.to_string(), End::Error),
        None => ("this process does not serve the hub".to_owned(), End::Error),
    };
    if let Some(OpenError::Busy(_) | OpenError::Full | OpenError::NoSeat) = error {
        process::warn(stream.hub, format_args!("streams are turned away: {why}"));
    }
    stream.end.set(Some(end));
    stream.output.detach();
    body.request().log(
        Level::Info,
        format_args!(
            "sse: no stream of \"{}\" in hub \"{}\": {why}",
            Escaped(&stream.summary().channels()),
            conf.target.hub_name(),
        ),
    );
    let opening = frame::opening(random::between(STAY_AWAY.0, STAY_AWAY.1));
    body.send(opening.body())
}

/// nginx calls this when a client takes bytes again, or has not for too long.
struct Writable;

impl OnWritable for Writable {
    fn writable(request: &Request) -> Option<Outcome> {
        let stream = request.context::<Rc<Stream>>()?.clone();
        let flushed = stream.output.flush();
        request.debug(format_args!("http sse stream writable: {flushed:?}"));
        let end = match flushed {
            Flushed::Waiting => return None,
            Flushed::Empty => {
                if let Some(key) = stream.key.get() {
                    process::with(stream.hub, |worker| worker.writable(key, clock::now()));
                    process::turn_soon(stream.hub);
                }
                return None;
            }
            Flushed::TimedOut => End::Timeout,
            Flushed::Failed => End::Error,
        };
        stream.output.conclude(ends_as(&stream, end))
    }
}

/// What a stream without a request calls.
static LEAN: Calls = Calls {
    writable: |hub, key| {
        process::with(hub, |worker| worker.writable(key, clock::now()));
        process::turn_soon(hub);
    },
    closing: |lean, hub, key, end| {
        let known = process::with(hub, |worker| Summary::of(worker, key)).flatten();
        let Some(summary) = known else { return };
        let last_id = summary.last_id.map(|id| id.to_string()).unwrap_or_default();
        lean.log(
            Level::Info,
            format_args!(
                "sse: lean stream of \"{}\" ended: {end}, {} events, last id \"{last_id}\"",
                Escaped(&summary.channels()),
                summary.events_sent,
            ),
        );
    },
    closed: process::close,
};

/// Gives the request of a stream back, if it can be. The stream goes on without it.
pub fn make_lean(
    top: &mut TopLevel,
    output: &Rc<Output>,
    hub: usize,
    key: StreamKey,
) -> Option<Rc<Lean>> {
    let stream = output.with_request(|request| request.context::<Rc<Stream>>().cloned());
    let stream = stream.flatten()?;
    output.make_lean(top, hub, key, &LEAN, || {
        stream.summary.set(Some(stream.summary()));
        // The request's end is not the stream's any more.
        stream.key.set(None);
    })
}

/// The worker has ended a stream and sent what was to be sent.
pub fn finish(top: &mut TopLevel, output: &Rc<Output>, end: End) {
    let stream = output.with_request(|request| request.context::<Rc<Stream>>().cloned());
    let how = match stream.flatten() {
        Some(stream) => ends_as(&stream, end),
        None => Finish::Cut,
    };
    output.finish(top, how);
}

/// Records why a stream ends. Returns how its response is brought to its end.
fn ends_as(stream: &Stream, end: End) -> Finish {
    let end = match end {
        End::Error => stream.departure().unwrap_or(end),
        end => end,
    };
    stream.end.set(Some(end));
    let why = match end {
        End::Timeout => Some("client takes nothing"),
        End::Slow => Some("history has overtaken the client"),
        End::Error if stream.output.is_over() => Some("a filter has ended the response"),
        _ => None,
    };
    stream.output.with_request(|request| {
        request.debug(format_args!("http sse stream ended by us: {end}"));
        if let Some(why) = why {
            let channels = stream.summary().channels();
            request.log(
                Level::Info,
                format_args!("sse: stream of \"{}\" is closed: {why}", Escaped(&channels)),
            );
        }
    });
    end.finish()
}
