//! The request's side of a stream. It is attached to the request from the header to the end, and
//! closes the stream in the worker when the response is complete or the request ends. A lean stream
//! continues without its request.

use crate::conf::StreamHandler;
use crate::hub::shown;
use crate::nginx::clock;
use crate::nginx::log::{Counted, Level};
use crate::nginx::output::{
    Client, Disconnection, Flushed, Lean, LeanCallbacks, OnWritable, Output,
};
use crate::nginx::pool::NoMemory;
use crate::nginx::request::{Outcome, Request};
use crate::nginx::response::Body;
use crate::nginx::top_level::TopLevel;
use crate::process;
use crate::sse::escaped::Escaped;
use crate::sse::id::Id;
use crate::worker::{
    End, OpenError, Permission, Reconnect, ResumeRequest, StreamInfo, StreamKey, Worker,
};
use std::cell::Cell;
use std::rc::Rc;

/// A stream as its request's context.
pub struct RequestStream {
    hub: usize,
    /// `None` before the worker has opened the stream, and after it has ended.
    key: Cell<Option<StreamKey>>,
    output: Rc<Output>,
    /// The summary for times when it cannot be read from the worker: before the worker has opened
    /// the stream, after it has closed it, and while it is sending.
    summary: Cell<Option<Rc<Summary>>>,
    end: Cell<Option<End>>,
}

/// A stream's values for variables and log lines.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Names of channels, or of patterns in the hub's form.
    channels: Vec<Box<[u8]>>,
    pub last_id: Option<Id>,
    pub events_sent: u64,
}

impl Summary {
    /// Returns the names of the channels, or the patterns, separated by commas.
    pub fn channels(&self) -> Vec<u8> {
        self.channels.iter().map(|name| shown(name)).collect::<Vec<_>>().join(&b","[..])
    }

    /// Returns a stream's summary, if the worker has the stream.
    fn from_worker(worker: &Worker<Client>, key: StreamKey) -> Option<Summary> {
        let StreamInfo { last_id, events_sent } = worker.info(key)?;
        Some(Summary { channels: worker.names(key), last_id, events_sent })
    }
}

/// The result of opening a stream: its key, or the reason why it could not be opened. `None` if
/// this process does not serve the hub.
pub type Opened = Option<Result<StreamKey, OpenError>>;

impl RequestStream {
    /// Attaches a new stream to its request, whose header has been sent, and opens it in the worker
    /// of its hub.
    pub fn open(
        body: &Body<'_>,
        conf: &StreamHandler,
        channels: Vec<Box<[u8]>>,
        resume: ResumeRequest<'_>,
        permission: Permission,
    ) -> Result<(Rc<RequestStream>, Opened), NoMemory> {
        let request = body.request();
        let hub = conf.target.hub;
        let output = Output::attach::<Writable>(body);
        if !conf.direct {
            output.use_filters();
        }
        let initial = Rc::new(Summary { channels, ..Summary::default() });
        let stream = Rc::new(RequestStream {
            hub,
            key: Cell::new(None),
            output: output.clone(),
            summary: Cell::new(Some(initial.clone())),
            end: Cell::new(None),
        });
        request.set_context(stream.clone())?;
        let ending = stream.clone();
        request.on_end(move || ending.close())?;
        output.note_own_cleanup();

        let opened = process::with(hub, |worker| {
            let client = Client::Request(output.clone());
            let now = clock::now();
            if let Some(user) = permission.user {
                worker.check_user(user)?;
            }
            let key = worker.open(client, &conf.settings, &initial.channels, resume, now)?;
            worker.set_permission(key, permission, now);
            Ok(key)
        });
        if let Some(Ok(key)) = opened {
            stream.key.set(Some(key));
            if output.is_direct() {
                // While the worker sends directly, nothing of nginx runs that could evaluate
                // variables.
                stream.summary.set(None);
            }
            process::opened(hub);
        }
        Ok((stream, opened))
    }

    /// Returns the outcome of a handler whose stream continues.
    pub fn hold(&self, request: &Request) -> Outcome {
        self.output.hold(request)
    }

    /// Records the end of a stream that the worker did not open. Its response can then be sent like
    /// any other.
    pub fn abandon(&self, end: End) {
        self.end.set(Some(end));
        self.output.detach();
    }

    /// Returns the total number of streams of this stream's channels, or patterns, on this nginx.
    pub fn subscribers(&self) -> Option<u64> {
        let summary = self.summary();
        let sum = process::with(self.hub, |worker| {
            let hub = worker.hub();
            summary.channels.iter().map(|name| hub.subscribers_of(name)).sum::<Result<u64, _>>()
        });
        sum?.ok()
    }

    /// Returns why the stream ended, if it has.
    pub fn end(&self) -> Option<End> {
        self.end.get()
    }

    /// Returns a summary of what has been sent so far.
    pub fn summary(&self) -> Rc<Summary> {
        self.current_summary().unwrap_or_else(|| {
            let saved = self.summary.take().unwrap_or_default();
            self.summary.set(Some(saved.clone()));
            saved
        })
    }

    /// Returns the reason for the end if the client has disconnected.
    fn disconnection(&self) -> Option<End> {
        self.output.disconnection().map(|disconnection| match disconnection {
            Disconnection::Closed => End::Client,
            Disconnection::TimedOut => End::Timeout,
        })
    }

    /// Returns the summary from the worker, if the worker has the stream and is not in use.
    fn current_summary(&self) -> Option<Rc<Summary>> {
        let key = self.key.get()?;
        process::with(self.hub, |worker| Summary::from_worker(worker, key)).flatten().map(Rc::new)
    }

    /// Closes the stream because its response is complete, or because its request has ended for any
    /// reason.
    fn close(&self) {
        let Some(key) = self.key.get() else { return self.output.detach() };
        let end = self.end.get().unwrap_or_else(|| self.disconnection().unwrap_or(End::Client));
        self.end.set(Some(end));
        let summary = self.summary();
        self.output.with_request(|request| {
            let last_id = summary.last_id.map(|id| id.to_string()).unwrap_or_default();
            request.debug(format_args!(
                "http sse stream ends: {end}, {}, last id \"{last_id}\"",
                Counted(summary.events_sent, "event")
            ));
        });
        self.summary.set(Some(summary));
        self.key.set(None);
        // The response may have waited for its client since its end, and is reset only now.
        self.output.with_request(Request::flush_reset_soon);
        self.output.detach();
        process::close(self.hub, key, end);
    }
}

/// Called by nginx when a client accepts bytes again, or when it has accepted nothing for
/// `send_timeout`.
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
        let end = record_end(&stream, end);
        // Neither end is planned, so the location's setting does not matter.
        stream.output.end_response(end.closing(Reconnect::Cut))
    }
}

/// The callbacks of a stream without a request.
static LEAN: LeanCallbacks = LeanCallbacks {
    writable: |hub, key| {
        process::with(hub, |worker| worker.writable(key, clock::now()));
        process::turn_soon(hub);
    },
    closing: |lean, hub, key, end| {
        let summary = process::with(hub, |worker| Summary::from_worker(worker, key)).flatten();
        let Some(summary) = summary else { return };
        let last_id = summary.last_id.map(|id| id.to_string()).unwrap_or_default();
        lean.log(
            Level::Info,
            format_args!(
                "sse: lean stream of \"{}\" ended: {end}, {}, last id \"{last_id}\"",
                Escaped(&summary.channels()),
                Counted(summary.events_sent, "event"),
            ),
        );
    },
    closed: process::close,
};

/// Releases the request of a stream, if possible. The stream then continues without it.
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
        // The end of the request no longer ends the stream.
        stream.key.set(None);
    })
}

/// Finalizes the request of a stream that the worker has ended.
pub fn finish(top: &mut TopLevel, output: &Rc<Output>, end: End, reconnect: Reconnect) {
    let stream = output.with_request(|request| request.context::<Rc<RequestStream>>().cloned());
    let Some(stream) = stream.flatten() else {
        return output.finish(top, End::Error.closing(reconnect));
    };
    output.finish(top, record_end(&stream, end).closing(reconnect));
    if output.is_lingering() {
        // The response is complete, so the stream has ended, although its request has not.
        stream.close();
    }
}

/// Records why a stream ends, and returns it: sending fails because the client has disconnected.
fn record_end(stream: &RequestStream, end: End) -> End {
    let end = match end {
        End::Error => stream.disconnection().unwrap_or(end),
        end => end,
    };
    stream.end.set(Some(end));
    let why = match end {
        End::Timeout => Some("client accepts no data"),
        End::Slow => Some("client fell behind the retained history"),
        End::Error if stream.output.is_ended_by_filter() => Some("a filter ended the response"),
        _ => None,
    };
    stream.output.with_request(|request| {
        request.debug(format_args!("http sse stream ended by the module: {end}"));
        if let Some(why) = why {
            let channels = stream.summary().channels();
            request.log(
                Level::Info,
                format_args!("sse: stream of \"{}\" is closed: {why}", Escaped(&channels)),
            );
        }
    });
    end
}
