//! Publishing through Redis: the request waits for Redis' reply.

use super::answer::{answer, finish_answer};
use super::refusal::{no_memory, refusal, PublishRefusal};
use super::{BodyKind, ReachedStreams};
use crate::http::json;
use crate::hub::{Counter, NewEvent, PublishError};
use crate::nginx::random;
use crate::nginx::request::{Outcome, Request};
use crate::process::{self, redis};
use crate::redis::keys::Keys;
use crate::redis::refusal::Refusal;
use crate::redis::script::{PublishCommand, PublishTarget};
use crate::sse::finish::RunAfterwards;

/// A publish that waits for Redis.
pub struct RedisPublish {
    pub hub: usize,
    pub channel: Vec<u8>,
    pub kind: BodyKind,
    pub run: RunAfterwards,
}

/// How long Redis remembers the result of a publish, in ms: two minutes for a publisher's key. A
/// key generated here needs to last only as long as the command may be retried.
const KEY_LIFETIME: u64 = 120_000;
const GENERATED_KEY_LIFETIME: u64 = 5_000;

/// Returns a new idempotency key for a command that concerns a channel, and its lifetime in ms.
/// With it, the command can be retried if the connection fails before the reply.
pub(in crate::http) fn generated_key(names: &Keys, channel: &[u8]) -> (Vec<u8>, u64) {
    let own = format!("\x01{:016x}{:016x}", random::bits(), random::bits());
    (names.key(channel, own.as_bytes()), GENERATED_KEY_LIFETIME)
}

impl RedisPublish {
    /// Sends the events to Redis. Every publish has a key, so that the command can be retried if
    /// the connection fails before the reply.
    pub fn send(
        self,
        request: &Request,
        events: &[NewEvent<'_>],
        key: Option<&[u8]>,
        route: redis::PublishRoute,
    ) -> Result<(), PublishRefusal> {
        let fits =
            process::with(self.hub, |worker| events.iter().all(|new| worker.hub().fits(*new)));
        if fits == Some(false) {
            return Err(refusal(PublishError::TooLarge));
        }
        let names = &route.names;
        let idempotency = match key {
            Some(key) => (names.key(&self.channel, key), KEY_LIFETIME),
            None => generated_key(names, &self.channel),
        };
        let key = match route.source {
            PublishTarget::Pubsub => names.stream(&self.channel),
            PublishTarget::Stream { .. } => names.subject(&self.channel),
        };
        let events =
            events.iter().map(|new| (new.event_type.to_vec(), new.data.to_vec())).collect();
        let publish = PublishCommand {
            key,
            events,
            run: self.run,
            idempotency: Some(idempotency),
            source: route.source,
        };
        let deferred = request.later().map_err(|_| no_memory())?;
        let sent = redis::publish(self.hub, publish, move |top, result| {
            deferred.answer(top, |request| self.answer(request, result));
        });
        sent.map_err(refused)
    }

    /// Answers the request with Redis' reply.
    fn answer(&self, request: &Request, result: redis::Result) -> Outcome {
        let ids = match result {
            Ok(ids) => ids,
            Err(error) => return refused(error).answer(request),
        };
        let subscribers =
            process::with(self.hub, |worker| worker.hub().subscribers_with_patterns(&self.channel));
        let subscribers = subscribers.and_then(Result::ok).unwrap_or_default();
        if request.set_context(ReachedStreams(subscribers)).is_err() {
            return Outcome::ERROR;
        }
        let body = match self.run {
            RunAfterwards::Open => answer(&self.channel, self.kind, &ids, subscribers),
            RunAfterwards::Finished => finish_answer(&self.channel, &ids, true, subscribers),
        };
        json::answer(request, 201, &body)
    }
}

/// Converts a refusal of Redis. Redis' address and messages go to the error log only, not to
/// clients.
fn refused(error: Refusal) -> PublishRefusal {
    match error {
        Refusal::Unreachable(why) => {
            let counter = Some(Counter::RefusedUnreachable);
            PublishRefusal::new(503, counter, "Redis is not reachable").with_detail(why)
        }
        Refusal::Busy => {
            let why = "too many publishes, or too large ones, are waiting for Redis";
            PublishRefusal::new(503, Some(Counter::RefusedUnreachable), why)
        }
        Refusal::TooLarge { most } => {
            let counter = Some(Counter::RefusedTooLarge);
            PublishRefusal::new(413, counter, "the event is larger than Redis accepts")
                .with_detail(format!("Redis accepts at most {most} bytes"))
        }
        Refusal::Unanswered => PublishRefusal::new(
            504,
            Some(Counter::RefusedUnanswered),
            "Redis did not answer in time; the event may have been published; repeat it with the \
             same Idempotency-Key",
        ),
        Refusal::Refused(why) => {
            PublishRefusal::new(503, Some(Counter::RefusedByRedis), "Redis rejected the command")
                .with_detail(why)
        }
    }
}
