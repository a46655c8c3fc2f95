//! DELETE of `sse_admin`: a channel's streams are ended, its events forgotten. In a hub that is joined to
//! Redis these are forgotten there, and so on every nginx; the request is answered when Redis has answered.

use super::{answer, argument, channel_named, unserved, AdminError};
use crate::conf::AdminHandler;
use crate::http::cors;
use crate::hub::ChannelInfo;
use crate::nginx::clock;
use crate::nginx::deferred::DeferredResponse;
use crate::nginx::log::Level;
use crate::nginx::request::{Outcome, Request};
use crate::process::{self, redis};
use crate::redis::refusal::Refusal;
use crate::redis::script::ForgetCommand;
use crate::sse::channel::NameError;
use crate::sse::escaped::Escaped;
use serde_json::{json, Value};
use std::cell::RefCell;
use std::rc::Rc;

/// What of a channel is to go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Its events, then its streams.
    All,
    /// Its streams are ended; who comes back misses nothing.
    Streams,
    /// Its events are forgotten; who comes back is told a gap.
    History,
}

/// What is to be deleted.
struct Deletion {
    hub: usize,
    hub_name: String,
    name: Vec<u8>,
    part: Part,
}

/// Answers a DELETE.
pub fn handle(request: &Request, conf: &AdminHandler) -> Outcome {
    let deletion = match Deletion::read(request, conf) {
        Ok(deletion) => deletion,
        Err(refused) => return answer(request, Err(refused)),
    };
    match redis::terms(deletion.hub) {
        Some(terms) if deletion.part != Part::Streams => deletion.ask_redis(request, terms),
        _ => {
            let deleted = deletion.delete_here(request);
            answer(request, deleted)
        }
    }
}

impl Deletion {
    fn read(request: &Request, conf: &AdminHandler) -> Result<Deletion, AdminError> {
        if cors::is_foreign(request) {
            return Err(AdminError::new(403, "this comes from another site"));
        }
        let name = channel_named(request)?
            .ok_or_else(|| AdminError::new(400, "the argument channel is missing"))?;
        if redis::is_taken(conf.target.hub, &name) {
            return Err(AdminError::new(400, NameError::Internal));
        }
        let part = match argument(request, "only").as_deref() {
            None => Part::All,
            Some(b"streams") => Part::Streams,
            Some(b"history") => Part::History,
            Some(_) => return Err(AdminError::new(400, "only is one of streams and history")),
        };
        let hub_name = conf.target.hub_name().to_owned();
        Ok(Deletion { hub: conf.target.hub, hub_name, name, part })
    }

    fn delete_here(&self, request: &Request) -> Result<Value, AdminError> {
        let mut events = 0;
        if self.part != Part::Streams {
            let gone =
                process::with(self.hub, |worker| worker.forget_channel(&self.name, clock::now()));
            process::turn_soon(self.hub);
            events = gone.ok_or_else(unserved)??.ok_or_else(AdminError::no_channel)?.events;
        }
        let streams = match self.part {
            Part::History => 0,
            Part::All | Part::Streams => self.end_streams()?.ok_or_else(AdminError::no_channel)?,
        };
        Ok(self.done(request, streams, events))
    }

    /// Asks Redis to forget the channel.
    fn ask_redis(self, request: &Request, terms: redis::PublishRoute) -> Outcome {
        let found = process::with(self.hub, |worker| {
            let hub = worker.hub();
            hub.channel(&self.name).map(|channel| (channel, hub.head()))
        });
        let (known, head) = match found {
            Some(Ok(found)) => found,
            Some(Err(locked)) => return answer(request, Err(locked.into())),
            None => return answer(request, Err(unserved())),
        };
        let forget =
            ForgetCommand { channel: self.name.clone(), names: terms.names, source: terms.source };
        // It is there before the event loop takes the answer.
        let waiting = Rc::new(RefCell::new(None::<Rc<DeferredResponse>>));
        let (asking, hub) = (waiting.clone(), self.hub);
        let asked = redis::forget(hub, forget, move |top, forgotten| {
            let Some(later) = asking.take() else { return };
            later.answer(top, |request| {
                let deleted = self.deleted(request, known.as_ref(), head, forgotten);
                answer(request, deleted)
            });
        });
        if let Err(refusal) = asked {
            return answer(request, Err(refused(request, refusal)));
        }
        let Ok((later, outcome)) = request.answer_later() else { return Outcome::ERROR };
        waiting.replace(Some(later));
        outcome
    }

    /// Redis has answered. The process that holds the subscription forgets what is in memory, in the order
    /// of what Redis told; what has stayed as it was, as far as `head`, is forgotten before the answer.
    fn deleted(
        &self,
        request: &Request,
        known: Option<&ChannelInfo>,
        head: u64,
        forgotten: Result<u64, Refusal>,
    ) -> Result<Value, AdminError> {
        let in_redis = forgotten.map_err(|refusal| refused(request, refusal))?;
        let gone =
            process::with(self.hub, |worker| worker.forget_up_to(&self.name, head, clock::now()));
        process::turn_soon(self.hub);
        gone.ok_or_else(unserved)??;
        let streams = match self.part {
            Part::History | Part::Streams => None,
            Part::All => self.end_streams()?,
        };
        if known.is_none() && in_redis == 0 {
            return Err(AdminError::no_channel());
        }
        let events = known.map_or(0, |channel| channel.events).max(in_redis);
        Ok(self.done(request, streams.unwrap_or(0), events))
    }

    fn end_streams(&self) -> Result<Option<u64>, AdminError> {
        let ended = process::with(self.hub, |worker| worker.end_streams(&self.name, clock::now()));
        process::turn_soon(self.hub);
        Ok(ended.ok_or_else(unserved)??)
    }

    fn done(&self, request: &Request, streams: u64, events: u64) -> Value {
        request.log(
            Level::Notice,
            format_args!(
                "sse: channel \"{}\" of hub \"{}\": {streams} streams ended, {events} events forgotten",
                Escaped(&self.name),
                self.hub_name,
            ),
        );
        let channel = String::from_utf8_lossy(&self.name);
        json!({ "channel": channel, "streams": streams, "events": events })
    }
}

/// Why not is in the log: where Redis is, and what it says, is nobody's business outside.
fn refused(request: &Request, refusal: Refusal) -> AdminError {
    let (status, what, why) = match refusal {
        Refusal::Unreachable(why) => {
            (503, "Redis could not be asked, and nothing is forgotten", why)
        }
        Refusal::Busy => {
            (503, "too many requests wait for Redis, and nothing is forgotten", String::new())
        }
        // A channel's name is never too long for Redis.
        Refusal::TooLarge { .. } => {
            (503, "Redis takes no such command, and nothing is forgotten", String::new())
        }
        Refusal::Refused(why) => (503, "Redis refuses this, and nothing is forgotten", why),
        Refusal::Unanswered => {
            (504, "Redis did not answer in time, and may have forgotten the channel", String::new())
        }
    };
    request.log(Level::Info, format_args!("sse: a channel is not deleted: {what}: {why}"));
    AdminError::new(status, what)
}
