//! DELETE of `sse_admin`: ends a channel's streams and deletes its events. In a hub that is joined
//! to Redis, the events are deleted in Redis and therefore on every nginx, and the response waits
//! for Redis' reply.

use super::redis_refusal::refused;
use super::{answer, argument, disconnect, not_served, required_channel, AdminError};
use crate::conf::AdminHandler;
use crate::http::publish::via_redis::generated_key;
use crate::http::{access, cors};
use crate::hub::{ChannelInfo, PublishError};
use crate::nginx::clock;
use crate::nginx::deferred::DeferredResponse;
use crate::nginx::log::{Counted, Level};
use crate::nginx::request::{Outcome, Request};
use crate::process::{self, redis};
use crate::redis::refusal::Refusal;
use crate::redis::script::{ForgetCommand, PublishCommand, PublishTarget};
use crate::sse::escaped::Escaped;
use crate::sse::finish::RunAfterwards;
use serde_json::{json, Value};
use std::cell::RefCell;
use std::rc::Rc;

/// The part of a channel to delete.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The events, then the streams.
    All,
    /// The streams. They end, and clients that reconnect miss nothing.
    Streams,
    /// The events. Clients that reconnect receive a gap event.
    History,
    /// Nothing: the channel's run is finished, which ends its streams once they have received
    /// everything.
    Run,
}

/// A validated DELETE request.
struct Deletion {
    hub: usize,
    hub_name: String,
    name: Vec<u8>,
    part: Part,
}

/// Answers a DELETE request.
pub fn handle(request: &Request, conf: &AdminHandler) -> Outcome {
    if let Err(refused) = check_site(request) {
        return answer(request, Err(refused));
    }
    if let Some(user) = argument(request, "user") {
        return disconnect::handle(request, conf, user);
    }
    let deletion = match Deletion::read(request, conf) {
        Ok(deletion) => deletion,
        Err(refused) => return answer(request, Err(refused)),
    };
    match redis::publish_route(deletion.hub) {
        Some(route) if deletion.part == Part::Run => deletion.finish_via_redis(request, route),
        Some(route) if deletion.part != Part::Streams => deletion.delete_via_redis(request, route),
        _ => {
            let deleted = deletion.delete_locally(request);
            answer(request, deleted)
        }
    }
}

/// Refuses a request that a page of another site may have caused.
fn check_site(request: &Request) -> Result<(), AdminError> {
    if cors::is_foreign(request) {
        return Err(AdminError::new(403, "the request comes from another site"));
    }
    if access::may_be_forged(request) {
        return Err(AdminError::new(403, access::FORGED));
    }
    Ok(())
}

impl Deletion {
    /// Validates a request.
    fn read(request: &Request, conf: &AdminHandler) -> Result<Deletion, AdminError> {
        let name = required_channel(request, conf)?;
        let part = match argument(request, "only").as_deref() {
            None => Part::All,
            Some(b"streams") => Part::Streams,
            Some(b"history") => Part::History,
            Some(b"run") => Part::Run,
            Some(_) => return Err(AdminError::new(400, "only must be streams, history or run")),
        };
        let hub_name = conf.target.hub_name().to_owned();
        Ok(Deletion { hub: conf.target.hub, hub_name, name, part })
    }

    /// Deletes the channel's events, and ends its streams, in a hub that is not connected to Redis.
    fn delete_locally(&self, request: &Request) -> Result<Value, AdminError> {
        if self.part == Part::Run {
            return self.finish_run(request);
        }
        let mut events = 0;
        if self.part != Part::Streams {
            let forgotten =
                process::with(self.hub, |worker| worker.forget_channel(&self.name, clock::now()));
            process::turn_soon(self.hub);
            events = forgotten.ok_or_else(not_served)??.ok_or_else(AdminError::no_channel)?.events;
        }
        let streams = match self.part {
            Part::History | Part::Run => 0,
            Part::All | Part::Streams => self.end_streams()?.ok_or_else(AdminError::no_channel)?,
        };
        Ok(self.report(request, streams, events))
    }

    /// Finishes the channel's run, in a hub that is not joined to Redis.
    fn finish_run(&self, request: &Request) -> Result<Value, AdminError> {
        let finished = process::with(self.hub, |worker| {
            if worker.hub().channel(&self.name)?.is_none() {
                return Ok(None);
            }
            worker.publish_and_finish(&self.name, &[], None, clock::now()).map(Some)
        });
        process::turn_soon(self.hub);
        let finished = finished.ok_or_else(not_served)?.map_err(|error| match error {
            PublishError::Busy(locked) => locked.into(),
            other => AdminError::new(503, other),
        });
        let streams = finished?.ok_or_else(AdminError::no_channel)?.subscribers;
        Ok(self.report_finish(request, streams))
    }

    /// Finishes the channel's run in Redis. The process that holds the subscription finishes it in
    /// memory.
    fn finish_via_redis(self, request: &Request, route: redis::PublishRoute) -> Outcome {
        let key = match route.source {
            PublishTarget::Pubsub => route.names.stream(&self.name),
            PublishTarget::Stream { .. } => route.names.subject(&self.name),
        };
        let (events, run) = (Vec::new(), RunAfterwards::Finished);
        let idempotency = Some(generated_key(&route.names, &self.name));
        let finish = PublishCommand { key, events, run, idempotency, source: route.source };
        // Filled in before the event loop can process the reply.
        let waiting = Rc::new(RefCell::new(None::<Rc<DeferredResponse>>));
        let (reply_to, hub) = (waiting.clone(), self.hub);
        let sent = redis::publish(hub, finish, move |top, finished| {
            let Some(deferred) = reply_to.take() else { return };
            deferred.answer(top, |request| {
                let finished = finished.map_err(|refusal| refused(request, refusal));
                answer(request, finished.map(|_| self.report_finish(request, self.subscribers())))
            });
        });
        if let Err(refusal) = sent {
            return answer(request, Err(refused(request, refusal)));
        }
        let Ok((deferred, outcome)) = request.answer_later() else { return Outcome::ERROR };
        waiting.replace(Some(deferred));
        outcome
    }

    /// Returns the number of the channel's streams on this nginx.
    fn subscribers(&self) -> u64 {
        let found = process::with(self.hub, |worker| worker.hub().subscribers_of(&self.name));
        found.and_then(Result::ok).unwrap_or_default()
    }

    /// Logs that the channel's run was finished, and returns the response.
    fn report_finish(&self, request: &Request, streams: u64) -> Value {
        request.log(
            Level::Notice,
            format_args!(
                "sse: run of channel \"{}\" of hub \"{}\" finished for {}",
                Escaped(&self.name),
                self.hub_name,
                Counted(streams, "stream"),
            ),
        );
        let channel = String::from_utf8_lossy(&self.name);
        json!({ "channel": channel, "finished": true, "streams": streams })
    }

    /// Sends Redis a command that deletes the channel's events.
    fn delete_via_redis(self, request: &Request, route: redis::PublishRoute) -> Outcome {
        let found = process::with(self.hub, |worker| {
            let hub = worker.hub();
            hub.channel(&self.name).map(|channel| (channel, hub.head()))
        });
        let (known, head) = match found {
            Some(Ok(found)) => found,
            Some(Err(locked)) => return answer(request, Err(locked.into())),
            None => return answer(request, Err(not_served())),
        };
        let forget =
            ForgetCommand { channel: self.name.clone(), names: route.names, source: route.source };
        // Filled in before the event loop can process the reply.
        let waiting = Rc::new(RefCell::new(None::<Rc<DeferredResponse>>));
        let (reply_to, hub) = (waiting.clone(), self.hub);
        let sent = redis::forget(hub, forget, move |top, forgotten| {
            let Some(deferred) = reply_to.take() else { return };
            deferred.answer(top, |request| {
                let deleted = self.deleted(request, known.as_ref(), head, forgotten);
                answer(request, deleted)
            });
        });
        if let Err(refusal) = sent {
            return answer(request, Err(refused(request, refusal)));
        }
        let Ok((deferred, outcome)) = request.answer_later() else { return Outcome::ERROR };
        waiting.replace(Some(deferred));
        outcome
    }

    /// Completes the request after Redis has replied. The process that holds the subscription
    /// deletes the events in memory in the order of Redis' messages; events up to `head` that are
    /// still there are deleted before the response.
    fn deleted(
        &self,
        request: &Request,
        known: Option<&ChannelInfo>,
        head: u64,
        deleted_in_redis: Result<u64, Refusal>,
    ) -> Result<Value, AdminError> {
        let in_redis = deleted_in_redis.map_err(|refusal| refused(request, refusal))?;
        let forgotten =
            process::with(self.hub, |worker| worker.forget_up_to(&self.name, head, clock::now()));
        process::turn_soon(self.hub);
        forgotten.ok_or_else(not_served)??;
        let streams = match self.part {
            Part::History | Part::Streams | Part::Run => None,
            Part::All => self.end_streams()?,
        };
        if known.is_none() && in_redis == 0 {
            return Err(AdminError::no_channel());
        }
        let events = known.map_or(0, |channel| channel.events).max(in_redis);
        Ok(self.report(request, streams.unwrap_or(0), events))
    }

    /// Ends the channel's streams on this nginx. Returns their number, or `None` if there is no
    /// such channel.
    fn end_streams(&self) -> Result<Option<u64>, AdminError> {
        let ended = process::with(self.hub, |worker| worker.end_streams(&self.name, clock::now()));
        process::turn_soon(self.hub);
        Ok(ended.ok_or_else(not_served)??)
    }

    /// Logs what was deleted, and returns the response.
    fn report(&self, request: &Request, streams: u64, events: u64) -> Value {
        request.log(
            Level::Notice,
            format_args!(
                "sse: channel \"{}\" of hub \"{}\": {} ended, {} deleted",
                Escaped(&self.name),
                self.hub_name,
                Counted(streams, "stream"),
                Counted(events, "event"),
            ),
        );
        let channel = String::from_utf8_lossy(&self.name);
        json!({ "channel": channel, "streams": streams, "events": events })
    }
}
