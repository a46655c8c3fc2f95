//! The turns of workers: what they do when they are woken, at their deadlines, and when the process
//! shuts down. Every turn is bounded.

use super::inquiries::answer_inquiries;
use super::jobs::run_next_job;
use super::release::release_requests;
use super::{close_ended, figures, hubs, lend, redis, stream, Lifecycle, Serving};
use crate::nginx::log::{self, Counted, Level};
use crate::nginx::output::{self, Client};
use crate::nginx::top_level::TopLevel;
use crate::nginx::{clock, core_conf};
use crate::worker::Progress;
use std::cell::Cell;

/// Maximum number of requests that are finalized in one turn.
const FINALIZED_PER_TURN: usize = 64;

thread_local! {
    /// The time over which streams are ended when this process shuts down, in ms.
    static DRAIN_TIME: Cell<u64> = const { Cell::new(0) };
}

/// Sets the time over which streams are ended when this process shuts down, in ms.
pub(super) fn set_drain_time(ms: u64) {
    DRAIN_TIME.set(ms);
}

/// Handles a wake-up by another process that appended to the log.
pub(super) fn on_wake(_: usize, top: &mut TopLevel) {
    for hub in 0..hubs() {
        if lend(hub, |serving| serving.worker.is_woken()) == Some(true) {
            on_turn(hub, top);
        }
    }
}

/// Handles a scheduled turn: there may be new events, or work that the last turn left.
pub(super) fn on_turn(hub: usize, top: &mut TopLevel) {
    run(hub, top, |serving| serving.worker.turn(clock::now()));
}

/// Handles the timer of the worker's deadlines.
pub(super) fn on_tick(hub: usize, top: &mut TopLevel) {
    run(hub, top, |serving| {
        let now = clock::now();
        let turn = serving.worker.tick(now);
        serving.arm();
        turn
    });
    figures::publish_if_due(hub);
    #[cfg(feature = "trace-blocking")]
    crate::nginx::turns::report();
}

/// Handles the start of a shutdown: ends all streams over the drain time, and serves them until
/// then.
pub(super) fn on_quit(_: usize, top: &mut TopLevel) {
    for hub in 0..hubs() {
        drain(hub, top);
    }
}

/// Starts to end a hub's streams.
fn drain(hub: usize, top: &mut TopLevel) {
    run(hub, top, |serving| {
        let longest = core_conf::shutdown_timeout().map(|timeout| timeout / 5 * 4);
        let time = longest.map_or(DRAIN_TIME.get(), |longest| DRAIN_TIME.get().min(longest));
        serving.lifecycle = Lifecycle::Draining;
        let streams = serving.worker.streams();
        if streams > 0 {
            log::write(
                Level::Notice,
                format_args!(
                    "sse: hub \"{}\": ending {} over {time} ms",
                    serving.name,
                    Counted(streams, "stream")
                ),
            );
        }
        serving.worker.drain(time, clock::now());
        if !serving.inquiries.is_empty() {
            serving.turn.post();
        }
        redis::retire(longest);
        serving.arm();
        Progress::Idle
    });
}

/// Runs a part of the worker's work, and then everything that must not run while the worker is in
/// use.
fn run(hub: usize, top: &mut TopLevel, call: impl FnOnce(&mut Serving) -> Progress) {
    lend(hub, |serving| {
        if call(serving) == Progress::More {
            serving.turn.post_next();
        }
    });
    close_ended();
    run_next_job(hub, top);
    answer_inquiries(hub, top);
    output::run_posted(top);
    finalize_ended(hub, top);
    release_requests(hub, top);
}

/// Finalizes the requests of streams that the worker has ended.
fn finalize_ended(hub: usize, top: &mut TopLevel) {
    for finished in 0.. {
        let next = lend(hub, |serving| {
            if finished == FINALIZED_PER_TURN {
                // Leave the rest to the next turn.
                serving.turn.post_next();
                return None;
            }
            serving.worker.take_ended()
        });
        let Some((key, end)) = next.flatten() else { return };
        let client = lend(hub, |serving| {
            let reconnect = serving.worker.reconnect(key)?;
            let client = match serving.worker.socket(key)? {
                Client::Request(output) => Client::Request(output.clone()),
                Client::Lean(lean) => Client::Lean(lean.clone()),
            };
            Some((client, reconnect))
        });
        match client.flatten() {
            Some((Client::Request(output), reconnect)) => {
                stream::finish(top, &output, end, reconnect);
            }
            Some((Client::Lean(lean), reconnect)) => lean.finish(top, end, reconnect),
            None => {}
        }
    }
}
