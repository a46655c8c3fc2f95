//! Requests for streams that wait until it is known whether there is anything to send.

use super::lend;
use crate::nginx::clock;
use crate::nginx::top_level::TopLevel;
use crate::worker::{Arrival, InquiryKey, OpenError};
use std::collections::HashMap;

/// Maximum number of requests that are answered in one turn.
const ANSWERED_PER_TURN: usize = 64;

/// Answers a request that need not wait any more.
type Answer = Box<dyn FnOnce(&mut TopLevel, Arrival)>;

/// The requests that wait, with what answers them.
#[derive(Default)]
pub(super) struct InquiryAnswers(HashMap<InquiryKey, Answer>);

impl InquiryAnswers {
    /// Returns whether none is waiting.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Makes a request wait for the channels with these names. Returns `None` if this process does not
/// serve the hub.
pub fn inquire(
    hub: usize,
    names: &[Box<[u8]>],
    answer: impl FnOnce(&mut TopLevel, Arrival) + 'static,
) -> Option<Result<(), OpenError>> {
    lend(hub, |serving| {
        let key = serving.worker.inquire(names, clock::now())?;
        serving.inquiries.0.insert(key, Box::new(answer));
        serving.arm();
        serving.turn.post();
        Ok(())
    })
}

/// Answers the requests that need not wait any more, as far as the turn's budget allows.
pub(super) fn answer_inquiries(hub: usize, top: &mut TopLevel) {
    for answered in 0.. {
        let ready = lend(hub, |serving| {
            if answered == ANSWERED_PER_TURN {
                // Leave the rest to the next turn.
                serving.turn.post_next();
                return None;
            }
            let ready = serving.worker.take_inquiry(clock::now())?;
            let answer = serving.inquiries.0.remove(&ready.key);
            Some((ready, answer))
        });
        let Some((ready, answer)) = ready.flatten() else { return };
        // Not within `lend`: this opens the stream, or ends the request.
        if let Some(answer) = answer {
            answer(top, ready.arrival);
        }
        lend(hub, |serving| {
            serving.worker.release_inquiry(ready);
            serving.update_hold();
        });
    }
}
