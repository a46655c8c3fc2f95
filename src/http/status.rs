//! `sse_status`: what hubs do, in figures, with the face that the client asks for; and the feed of
//! those who watch. It names no channel and shows no event.

use super::stream::not_allowed;
use super::{json, process, stream};
use crate::conf::{Shown, Status};
use crate::hub::PublishError;
use crate::metrics::{self, Face, HubFigures, HTML, JSON, PAGE, PAGE_POLICY, PROMETHEUS};
use crate::nginx::pool::NoMemory;
use crate::nginx::request::{Method, Outcome, Request};
use crate::nginx::{clock, setting};
use crate::worker::{ALL_STATUS_CHANNEL, STATUS_CHANNEL};

/// What nginx calls for locations with `sse_status`.
pub struct Handler;

impl setting::Handler for Handler {
    fn handle(request: &Request) -> Outcome {
        let Some(conf) = request.location().status() else { return Outcome::status(500) };
        match request.method() {
            Method::Get | Method::Head => {}
            _ => return not_allowed(request, "GET, HEAD"),
        }
        show(request, conf).unwrap_or(Outcome::ERROR)
    }
}

fn show(request: &Request, conf: &Status) -> Result<Outcome, NoMemory> {
    request.set_header("Vary", "Accept")?;
    request.set_header("Cache-Control", "no-store")?;
    let face = match Face::asked(request.argument("format"), request.header("Accept")) {
        Ok(Face::Stream) if request.is_subrequest() => Face::Json,
        Ok(face) => face,
        Err(error) => return Ok(json::error(request, 400, &error.to_string())),
    };
    Ok(match face {
        Face::Json => figures(request, conf, JSON, |hubs| metrics::json(hubs, clock::now().wall)),
        Face::Prometheus => figures(request, conf, PROMETHEUS, metrics::prometheus),
        Face::Page => {
            request.set_header("Content-Security-Policy", PAGE_POLICY)?;
            request.set_status(200);
            request.answer(HTML, PAGE.as_bytes())
        }
        // Older figures are of no use to anybody, so nobody resumes.
        Face::Stream => stream::begin(request, &conf.feed, vec![conf.shown.channel().into()], b""),
    })
}

fn figures(
    request: &Request,
    conf: &Status,
    content_type: &'static str,
    text: impl FnOnce(&[HubFigures]) -> String,
) -> Outcome {
    let hubs = conf.shown.figures(conf.feed.target.hub);
    if hubs.is_empty() {
        return json::error(request, 503, "this process does not serve the hub");
    }
    request.set_status(200);
    request.answer(content_type, text(&hubs).as_bytes())
}

impl Shown {
    /// The channel on which these figures are published.
    fn channel(self) -> &'static [u8] {
        match self {
            Shown::OneHub => STATUS_CHANNEL,
            Shown::AllHubs => ALL_STATUS_CHANNEL,
        }
    }

    fn figures(self, hub: usize) -> Vec<HubFigures> {
        match self {
            Shown::OneHub => process::figures(hub).into_iter().collect(),
            Shown::AllHubs => process::all_figures(),
        }
    }
}

/// Publishes the figures to those who watch them in this hub, if it is time and up to this process.
pub fn feed(hub: usize) {
    let now = clock::now();
    if process::with(hub, |worker| worker.feed_is_due(now)) != Some(true) {
        return;
    }
    for shown in [Shown::OneHub, Shown::AllHubs] {
        let channel = shown.channel();
        if process::with(hub, |worker| worker.is_heard(channel)) != Some(true) {
            continue;
        }
        let text = metrics::json(&shown.figures(hub), now.wall);
        let published =
            process::with(hub, |worker| worker.publish_figures(channel, text.as_bytes(), now));
        // Of a hub that is locked the next figures come in a second.
        if published == Some(Err(PublishError::TooLarge)) {
            process::warn(hub, format_args!("the status is larger than max_event_size"));
        }
    }
    process::turn_soon(hub);
}
