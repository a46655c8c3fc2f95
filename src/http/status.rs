//! `sse_status`: what a hub does, in figures. It names no channel and shows no event.

use super::process;
use super::stream::not_allowed;
use crate::hub::{Counter, Stats};
use crate::nginx::pool::NoMemory;
use crate::nginx::request::{Method, Outcome, Request};
use crate::nginx::setting;
use serde_json::{json, Value};

/// What nginx calls for locations with `sse_status`.
pub struct Handler;

impl setting::Handler for Handler {
    fn handle(request: &Request) -> Outcome {
        let Some(conf) = request.location().status() else { return Outcome::status(500) };
        let discarded = request.discard_body();
        if !discarded.is_ok() {
            return discarded;
        }
        match request.method() {
            Method::Get | Method::Head => {}
            _ => return not_allowed(request, "GET, HEAD"),
        }
        let figures = process::figures(conf.target.hub);
        let Some((name, stats)) = figures else { return Outcome::status(503) };
        let mut hubs = serde_json::Map::new();
        hubs.insert(name, figures_json(&stats));
        let body = json!({ "version": env!("CARGO_PKG_VERSION"), "hubs": hubs });
        match request.set_header("Cache-Control", "no-store") {
            Ok(()) => {
                request.set_status(200);
                request.answer("application/json", body.to_string().as_bytes())
            }
            Err(NoMemory) => Outcome::ERROR,
        }
    }
}

fn figures_json(stats: &Stats) -> Value {
    json!({
        "subscribers": stats.subscribers,
        "channels": stats.channels,
        "events_in": stats.of(Counter::EventsIn),
        "events_out": stats.of(Counter::EventsOut),
        "bytes_in": stats.of(Counter::BytesIn),
        "bytes_out": stats.of(Counter::BytesOut),
        "streams_opened": stats.of(Counter::Opened),
        "retained_events": stats.retained_events,
        "zone_bytes": stats.zone_bytes,
        "zone_used_bytes": stats.zone_used_bytes,
        "evicted": stats.of(Counter::Evicted),
        "expired": stats.of(Counter::Expired),
        "slow_clients": stats.of(Counter::SlowClients),
        "gaps": stats.of(Counter::Gaps),
        "drained": stats.of(Counter::Drained),
        "turned_away": stats.of(Counter::TurnedAway),
        "deduplicated": stats.of(Counter::Deduplicated),
        "refused": {
            "bad": stats.of(Counter::RefusedBad),
            "forbidden": stats.of(Counter::RefusedForbidden),
            "too_large": stats.of(Counter::RefusedTooLarge),
            "busy": stats.of(Counter::RefusedBusy),
            "no_room": stats.of(Counter::RefusedNoRoom),
        },
        "repairs": stats.of(Counter::Repairs),
    })
}
