//! `sse_status`: the figures of hubs, in the format that the client requests, and a stream of them.
//! They contain no channel names and no events.

use super::stream::not_allowed;
use super::{json, stream};
use crate::conf::StatusHandler;
use crate::metrics::{self, Format, HubFigures, HTML, JSON, PAGE, PAGE_POLICY, PROMETHEUS, TEXT};
use crate::nginx::clock;
use crate::nginx::pool::NoMemory;
use crate::nginx::request::{Method, Outcome, Request};
use crate::worker::ResumeRequest;

/// Answers a request of a location with `sse_status`.
pub fn handle(request: &Request, conf: &StatusHandler) -> Outcome {
    match request.method() {
        Method::Get | Method::Head => {}
        _ => return not_allowed(request, "GET, HEAD"),
    }
    show(request, conf).unwrap_or(Outcome::ERROR)
}

/// Answers in the requested format.
fn show(request: &Request, conf: &StatusHandler) -> Result<Outcome, NoMemory> {
    request.set_header("Vary", "Accept")?;
    request.set_header("Cache-Control", "no-store")?;
    let format = match Format::for_request(request.argument("format"), request.header("Accept")) {
        Ok(Format::Stream) if request.is_subrequest() => Format::Json,
        Ok(format) => format,
        Err(error) => return Ok(json::error(request, 400, &error.to_string())),
    };
    Ok(match format {
        Format::Json => figures(request, conf, JSON, |hubs| metrics::json(hubs, clock::now().wall)),
        Format::Prometheus => figures(request, conf, PROMETHEUS, metrics::prometheus),
        Format::Page => {
            request.set_header("Content-Security-Policy", PAGE_POLICY)?;
            request.set_status(200);
            request.answer(HTML, PAGE.as_bytes())
        }
        Format::Health => health(request, conf),
        // Old figures are useless, so these streams do not resume.
        Format::Stream => stream::begin(
            request,
            &conf.feed,
            vec![conf.scope.channel().into()],
            ResumeRequest::default(),
        ),
    })
}

/// Answers with the health as one word.
fn health(request: &Request, conf: &StatusHandler) -> Outcome {
    let Some(health) = conf.scope.health(conf.feed.target.hub) else {
        return json::error(request, 503, "this process does not serve the hub");
    };
    request.set_status(health.status());
    request.answer(TEXT, health.line().as_bytes())
}

/// Answers with the figures as text.
fn figures(
    request: &Request,
    conf: &StatusHandler,
    content_type: &'static str,
    text: impl FnOnce(&[HubFigures]) -> String,
) -> Outcome {
    let hubs = conf.scope.figures(conf.feed.target.hub);
    if hubs.is_empty() {
        return json::error(request, 503, "this process does not serve the hub");
    }
    request.set_status(200);
    request.answer(content_type, text(&hubs).as_bytes())
}
