//! Releases the requests of lean streams, once the requests' handlers have returned.

use super::{lend, stream};
use crate::hub::Counter;
use crate::nginx::output::Client;
use crate::nginx::top_level::TopLevel;
use crate::worker::StreamKey;

/// Maximum number of requests that are released in one turn.
const RELEASED_PER_TURN: usize = 64;

/// Schedules the release of a stream's request, if that is possible, after its handler has
/// returned.
pub fn lean_soon(hub: usize, key: StreamKey) {
    lend(hub, |serving| {
        serving.lean_soon.push(key);
        serving.turn.post();
    });
}

/// Releases the requests that are scheduled, as far as the turn's budget allows.
pub(super) fn release_requests(hub: usize, top: &mut TopLevel) {
    let soon: Vec<_> = lend(hub, |serving| {
        let count = serving.lean_soon.len().min(RELEASED_PER_TURN);
        serving.lean_soon.drain(..count).collect()
    })
    .unwrap_or_default();
    let mut is_any_released = false;
    for key in soon {
        let waits = lend(hub, |serving| {
            let waits = serving.worker.is_waiting(key);
            if waits {
                // Nothing has been sent yet. Try again in a later turn.
                serving.lean_soon.push(key);
            }
            waits
        });
        if waits == Some(true) {
            continue;
        }
        let output = lend(hub, |serving| match serving.worker.socket(key) {
            Some(Client::Request(output)) => Some(output.clone()),
            _ => None,
        });
        let Some(output) = output.flatten() else { continue };
        // Not within `lend`: the end of the request evaluates variables for the access log.
        let lean = stream::make_lean(top, &output, hub, key);
        lend(hub, |serving| {
            let counter = if lean.is_some() { Counter::Lean } else { Counter::NotLean };
            serving.worker.hub().count(counter, 1);
            if let (Some(lean), Some(client)) = (lean, serving.worker.socket(key)) {
                *client = Client::Lean(lean);
            }
        });
        is_any_released = true;
    }
    lend(hub, |serving| {
        if is_any_released && !serving.lean_soon.is_empty() {
            serving.turn.post_next();
        }
    });
}
