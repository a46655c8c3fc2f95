//! Publishing through Redis: a request that waits for the answer.

use super::{answer, no_memory, refusal, BodyKind, PublishRefusal, ReachedStreams};
use crate::http::json;
use crate::hub::{Counter, NewEvent, PublishError};
use crate::nginx::random;
use crate::nginx::request::{Outcome, Request};
use crate::process::{self, redis};
use crate::redis::refusal::Refusal;
use crate::redis::script::{PublishCommand, PublishTarget};

/// A publish that waits for Redis.
pub struct RedisPublish {
    pub hub: usize,
    pub channel: Vec<u8>,
    pub kind: BodyKind,
}

/// How long the answer is kept in Redis: two minutes for a publisher's key, and for one that is made up
/// here as long as the question may have to be repeated. In ms.
const KEPT: u64 = 120_000;
const KEPT_OWN: u64 = 5_000;

impl RedisPublish {
    /// Asks Redis to publish. Every publish has a key, so that it can be asked again when the connection
    /// breaks before the answer.
    pub fn ask(
        self,
        request: &Request,
        events: &[NewEvent<'_>],
        key: Option<&[u8]>,
        terms: redis::PublishRoute,
    ) -> Result<(), PublishRefusal> {
        let fits =
            process::with(self.hub, |worker| events.iter().all(|new| worker.hub().fits(*new)));
        if fits == Some(false) {
            return Err(refusal(PublishError::TooLarge));
        }
        let names = &terms.names;
        let idempotency = match key {
            Some(key) => (names.key(&self.channel, key), KEPT),
            None => {
                let own = format!("\x01{:016x}{:016x}", random::bits(), random::bits());
                (names.key(&self.channel, own.as_bytes()), KEPT_OWN)
            }
        };
        let key = match terms.source {
            PublishTarget::Pubsub => names.stream(&self.channel),
            PublishTarget::Stream { .. } => names.subject(&self.channel),
        };
        let events =
            events.iter().map(|new| (new.event_type.to_vec(), new.data.to_vec())).collect();
        let publish =
            PublishCommand { key, events, idempotency: Some(idempotency), source: terms.source };
        let later = request.later().map_err(|_| no_memory())?;
        let asked = redis::publish(self.hub, publish, move |top, result| {
            later.answer(top, |request| self.answer(request, result));
        });
        asked.map_err(refused)
    }

    fn answer(&self, request: &Request, result: redis::Result) -> Outcome {
        let ids = match result {
            Ok(ids) => ids,
            Err(error) => return refused(error).answer(request),
        };
        let subscribers = process::with(self.hub, |worker| worker.hub().reach_of(&self.channel));
        let subscribers = subscribers.and_then(Result::ok).unwrap_or_default();
        if request.set_context(ReachedStreams(subscribers)).is_err() {
            return Outcome::ERROR;
        }
        json::answer(request, 201, &answer(&self.channel, self.kind, &ids, subscribers))
    }
}

/// Why not is in the log: where Redis is, and what it says, is nobody's business outside.
fn refused(error: Refusal) -> PublishRefusal {
    match error {
        Refusal::Unreachable(why) => {
            let counted = Some(Counter::RefusedUnreachable);
            PublishRefusal::new(503, counted, "Redis could not be asked").in_detail(why)
        }
        Refusal::Busy => {
            let why = "too many publishes, or too large ones, wait for Redis";
            PublishRefusal::new(503, Some(Counter::RefusedUnreachable), why)
        }
        Refusal::TooLarge { most } => {
            let counted = Some(Counter::RefusedTooLarge);
            PublishRefusal::new(413, counted, "an event is larger than Redis takes")
                .in_detail(format!("Redis takes {most} bytes at most"))
        }
        Refusal::Unanswered => PublishRefusal::new(
            504,
            Some(Counter::RefusedUnanswered),
            "Redis did not answer in time, and may have published this; repeat it with the same \
             Idempotency-Key",
        ),
        Refusal::Refused(why) => {
            PublishRefusal::new(503, Some(Counter::RefusedByRedis), "Redis refuses this")
                .in_detail(why)
        }
    }
}
