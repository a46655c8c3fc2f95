//! A stream as its request knows it: kept with the request from the header to the end, and told to the
//! worker when the request ends. A lean stream goes on without its request.

use crate::hub::shown;
use crate::nginx::clock;
use crate::nginx::log::Level;
use crate::nginx::output::{Client, Departure, Flushed, Lean, LeanCallbacks, OnWritable, Output};
use crate::nginx::pool::NoMemory;
use crate::nginx::request::{Outcome, Request};
use crate::nginx::response::Body;
use crate::nginx::top_level::TopLevel;
use crate::process;
use crate::sse::escaped::Escaped;
use crate::sse::id::Id;
use crate::worker::{End, Finish, OpenError, StreamInfo, StreamKey, StreamSettings, Worker};
use std::cell::Cell;
use std::rc::Rc;

/// A stream as its request knows it.
pub struct RequestStream {
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

/// What the worker answered: the stream's key, or why there is none. `None`: this process does not serve
/// the hub.
pub type Opened = Option<Result<StreamKey, OpenError>>;

impl RequestStream {
    /// Keeps a new stream with its request, whose header has been sent, and asks the worker of a hub to
    /// open it. `last_event_id` is what the client sent, empty if it sent none.
    pub fn open(
        body: &Body<'_>,
        hub: usize,
        settings: &Rc<StreamSettings>,
        channels: Vec<Box<[u8]>>,
        last_event_id: &[u8],
    ) -> Result<(Rc<RequestStream>, Opened), NoMemory> {
        let request = body.request();
        let output = Output::attach::<Writable>(body);
        let of_names = Rc::new(Summary { channels, ..Summary::default() });
        let stream = Rc::new(RequestStream {
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
            worker.open(client, settings, &of_names.channels, last_event_id, clock::now())
        });
        if let Some(Ok(key)) = opened {
            stream.key.set(Some(key));
            if output.is_direct() {
                // Nothing of nginx is asked while the worker sends, so nobody asks for variables.
                stream.summary.set(None);
            }
            process::opened(hub);
        }
        Ok((stream, opened))
    }

    /// Returns the outcome of a handler whose stream goes on.
    pub fn hold(&self, request: &Request) -> Outcome {
        self.output.hold(request)
    }

    /// Records the end of a stream that the worker did not open. Its response can then be sent as any other.
    pub fn abandon(&self, end: End) {
        self.end.set(Some(end));
        self.output.detach();
    }

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

/// nginx calls this when a client takes bytes again, or has not for too long.
struct Writable;

impl OnWritable for Writable {
    fn writable(request: &Request) -> Option<Outcome> {
        let stream = request.context::<Rc<RequestStream>>()?.clone();
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
static LEAN: LeanCallbacks = LeanCallbacks {
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
    let stream = output.with_request(|request| request.context::<Rc<RequestStream>>().cloned());
    let stream = stream.flatten()?;
    output.make_lean(top, hub, key, &LEAN, || {
        stream.summary.set(Some(stream.summary()));
        // The request's end is not the stream's any more.
        stream.key.set(None);
    })
}

/// The worker has ended a stream and sent what was to be sent.
pub fn finish(top: &mut TopLevel, output: &Rc<Output>, end: End) {
    let stream = output.with_request(|request| request.context::<Rc<RequestStream>>().cloned());
    let how = match stream.flatten() {
        Some(stream) => ends_as(&stream, end),
        None => Finish::Cut,
    };
    output.finish(top, how);
}

/// Records why a stream ends. Returns how its response is brought to its end.
fn ends_as(stream: &RequestStream, end: End) -> Finish {
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
