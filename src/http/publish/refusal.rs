//! Why a publish is refused: the status, the counter, and the sentence that the publisher receives.

use super::BodyKind;
use crate::conf::Location;
use crate::http::{cors, json};
use crate::hub::{Counter, PublishError};
use crate::nginx::log::Level;
use crate::nginx::request::{Outcome, Request};
use crate::process;
use crate::sse::escaped::Escaped;

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
    pub fn bad(why: impl ToString) -> PublishRefusal {
        PublishRefusal::new(400, Some(Counter::RefusedBad), why)
    }

    /// Creates the refusal of a request that a page of another site has made.
    pub fn foreign() -> PublishRefusal {
        PublishRefusal::new(
            403,
            Some(Counter::RefusedForbidden),
            "the request comes from another site",
        )
    }

    /// Creates the refusal of a request that failed because of an error on this server.
    pub fn failed(why: impl ToString) -> PublishRefusal {
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

/// Returns the refusal if nginx is out of memory.
pub fn no_memory() -> PublishRefusal {
    PublishRefusal::failed("out of memory")
}

/// Returns the refusal if this process failed to attach to the hub.
pub fn not_served() -> PublishRefusal {
    PublishRefusal::new(503, None, "this process does not serve the hub")
}

/// Returns the refusal of a body that is longer than `most` bytes.
pub fn too_large(kind: BodyKind, most: usize) -> PublishRefusal {
    match kind {
        BodyKind::One => refusal(PublishError::TooLarge),
        BodyKind::Batch => PublishRefusal::new(
            413,
            Some(Counter::RefusedTooLarge),
            format_args!("the batch is larger than {most} bytes"),
        ),
    }
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
