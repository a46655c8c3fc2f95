//! The settings of streams, which stand in `http`, `server` and `location` and are inherited.

use super::cors::Cors;
use super::hub::{number, once};
use super::location::Location;
use crate::nginx::conf_context::ConfContext;
use crate::nginx::core::parse_time;
use crate::nginx::directive::Refused;
use crate::nginx::value::ComplexValue;
use crate::sse::event_type;
use crate::worker::{Jittered, Naming, Replay, SlowClient, StreamSettings};
use std::rc::Rc;

const DEFAULT_HEARTBEAT: u64 = 15_000;
const DEFAULT_RETRY: Jittered = Jittered { base: 3_000, jitter: 0 };
const DEFAULT_DRAIN: u64 = 5_000;

/// What is set at one level; what is not is inherited.
#[derive(Default)]
pub struct Settings {
    replay: Option<Replay>,
    last_event_id: Option<Rc<Vec<ComplexValue>>>,
    heartbeat: Option<Option<u64>>,
    retry: Option<Jittered>,
    open_event: Option<Option<Box<[u8]>>>,
    gap_event: Option<Option<Box<[u8]>>>,
    slow_client: Option<SlowClient>,
    naming: Option<Naming>,
    max_age: Option<Option<Jittered>>,
    max_subscribers: Option<u32>,
    drain: Option<u64>,
    pub(super) cors: Option<Option<Rc<Cors>>>,
    lean: Option<bool>,
}

impl Settings {
    /// Takes over what is not set here.
    pub fn inherit(&mut self, outer: &Settings) {
        fn take<T: Clone>(inner: &mut Option<T>, outer: &Option<T>) {
            if inner.is_none() {
                inner.clone_from(outer);
            }
        }
        take(&mut self.replay, &outer.replay);
        take(&mut self.last_event_id, &outer.last_event_id);
        take(&mut self.heartbeat, &outer.heartbeat);
        take(&mut self.retry, &outer.retry);
        take(&mut self.open_event, &outer.open_event);
        take(&mut self.gap_event, &outer.gap_event);
        take(&mut self.slow_client, &outer.slow_client);
        take(&mut self.naming, &outer.naming);
        take(&mut self.max_age, &outer.max_age);
        take(&mut self.max_subscribers, &outer.max_subscribers);
        take(&mut self.drain, &outer.drain);
        take(&mut self.cors, &outer.cors);
        take(&mut self.lean, &outer.lean);
    }

    /// What streams go by, with the defaults filled in.
    pub fn resolve(&self) -> StreamSettings {
        let event = |set: &Option<Option<Box<[u8]>>>, default: &[u8]| match set {
            Some(set) => set.clone(),
            None => Some(Box::from(default)),
        };
        StreamSettings {
            replay: self.replay.unwrap_or(Replay::Off),
            heartbeat: self.heartbeat.unwrap_or(Some(DEFAULT_HEARTBEAT)),
            retry: self.retry.unwrap_or(DEFAULT_RETRY),
            open_event: event(&self.open_event, b"sse.open"),
            gap_event: event(&self.gap_event, b"sse.gap"),
            slow_client: self.slow_client.unwrap_or(SlowClient::Skip),
            naming: self.naming.unwrap_or(Naming::ByType),
            max_age: self.max_age.flatten(),
            max_subscribers: self.max_subscribers.unwrap_or(0),
        }
    }

    /// Where a client's last id may stand, if that is set.
    pub fn last_event_id(&self) -> Rc<Vec<ComplexValue>> {
        self.last_event_id.clone().unwrap_or_default()
    }

    /// Which pages of other origins are let in.
    pub fn cors(&self) -> Option<Rc<Cors>> {
        self.cors.clone().flatten()
    }

    /// Whether requests are given back once their streams run.
    pub fn lean(&self) -> bool {
        self.lean.unwrap_or(false)
    }

    /// Over how long streams are ended on reload and quit, in ms.
    pub fn drain(&self) -> u64 {
        self.drain.unwrap_or(DEFAULT_DRAIN)
    }
}

/// `sse_replay off | all | COUNT;`
pub fn replay(context: &mut ConfContext<'_>) -> Result<(), Refused> {
    let replay = match first(context)? {
        b"off" => Replay::Off,
        b"all" => Replay::All,
        count => Replay::Count(number(count)?),
    };
    once(&mut context.location_conf::<Location>().settings.replay, replay)
}

/// `sse_last_event_id VALUE ...;`
pub fn last_event_id(context: &mut ConfContext<'_>) -> Result<(), Refused> {
    let values: Result<Vec<ComplexValue>, Refused> =
        context.arguments().into_iter().map(|value| context.compile(value)).collect();
    once(&mut context.location_conf::<Location>().settings.last_event_id, Rc::new(values?))
}

/// `sse_heartbeat TIME | off;`
pub fn heartbeat(context: &mut ConfContext<'_>) -> Result<(), Refused> {
    let heartbeat = match first(context)? {
        b"off" => None,
        text => Some(time(text)?).filter(|time| *time > 0),
    };
    once(&mut context.location_conf::<Location>().settings.heartbeat, heartbeat)
}

/// `sse_retry TIME [jitter=TIME];`
pub fn retry(context: &mut ConfContext<'_>) -> Result<(), Refused> {
    let retry = jittered(context)?;
    once(&mut context.location_conf::<Location>().settings.retry, retry)
}

/// `sse_open_event NAME | off;`
pub fn open_event(context: &mut ConfContext<'_>) -> Result<(), Refused> {
    let name = event_name(first(context)?)?;
    once(&mut context.location_conf::<Location>().settings.open_event, name)
}

/// `sse_gap_event NAME | off;`
pub fn gap_event(context: &mut ConfContext<'_>) -> Result<(), Refused> {
    let name = event_name(first(context)?)?;
    once(&mut context.location_conf::<Location>().settings.gap_event, name)
}

/// `sse_slow_client skip | close;`
pub fn slow_client(context: &mut ConfContext<'_>) -> Result<(), Refused> {
    let slow_client = match first(context)? {
        b"skip" => SlowClient::Skip,
        b"close" => SlowClient::Close,
        other => return Err(Refused::invalid(other)),
    };
    once(&mut context.location_conf::<Location>().settings.slow_client, slow_client)
}

/// `sse_name_events by_type | by_channel;`
pub fn name_events(context: &mut ConfContext<'_>) -> Result<(), Refused> {
    let naming = match first(context)? {
        b"by_type" => Naming::ByType,
        b"by_channel" => Naming::ByChannel,
        other => return Err(Refused::invalid(other)),
    };
    once(&mut context.location_conf::<Location>().settings.naming, naming)
}

/// `sse_max_age TIME [jitter=TIME];` or `sse_max_age off;`
pub fn max_age(context: &mut ConfContext<'_>) -> Result<(), Refused> {
    let max_age = match context.arguments().as_slice() {
        [b"off"] => None,
        _ => {
            let age = jittered(context)?;
            if age.base == 0 {
                // Streams of no length would come back for ever.
                return Err(Refused::invalid(first(context)?));
            }
            Some(age)
        }
    };
    once(&mut context.location_conf::<Location>().settings.max_age, max_age)
}

/// `sse_max_subscribers COUNT;`
pub fn max_subscribers(context: &mut ConfContext<'_>) -> Result<(), Refused> {
    let most = match first(context)? {
        b"0" => 0,
        count => u32::try_from(number(count)?).map_err(|_| Refused::invalid(count))?,
    };
    once(&mut context.location_conf::<Location>().settings.max_subscribers, most)
}

/// `sse_drain TIME;`
pub fn drain(context: &mut ConfContext<'_>) -> Result<(), Refused> {
    let drain = time(first(context)?)?;
    once(&mut context.location_conf::<Location>().settings.drain, drain)
}

/// `sse_lean on | off;`
pub fn lean(context: &mut ConfContext<'_>) -> Result<(), Refused> {
    let lean = match first(context)? {
        b"on" => true,
        b"off" => false,
        other => return Err(Refused::invalid(other)),
    };
    once(&mut context.location_conf::<Location>().settings.lean, lean)
}

fn first<'cf>(context: &ConfContext<'cf>) -> Result<&'cf [u8], Refused> {
    context.arguments().first().copied().ok_or(Refused::Told)
}

/// `TIME [jitter=TIME]`
fn jittered(context: &ConfContext<'_>) -> Result<Jittered, Refused> {
    match context.arguments().as_slice() {
        [base] => Ok(Jittered { base: time(base)?, jitter: 0 }),
        [base, more] => {
            let jitter = more.strip_prefix(b"jitter=").ok_or_else(|| {
                let shown = String::from_utf8_lossy(more);
                Refused::because(format_args!("unknown parameter \"{shown}\""))
            })?;
            Ok(Jittered { base: time(base)?, jitter: time(jitter)? })
        }
        _ => Err(Refused::Told),
    }
}

fn time(text: &[u8]) -> Result<u64, Refused> {
    parse_time(text).ok_or_else(|| Refused::invalid(text))
}

/// The name of an event that the module makes; it may be one of those that are its own, but not
/// one that browsers give a meaning to.
fn event_name(text: &[u8]) -> Result<Option<Box<[u8]>>, Refused> {
    if text == b"off" {
        return Ok(None);
    }
    let own = text.strip_prefix(b"sse.").filter(|rest| !rest.is_empty());
    match own.unwrap_or(text) {
        name if !name.is_empty()
            && event_type::check(name).is_ok()
            && text.len() <= event_type::MAX_LEN =>
        {
            Ok(Some(text.into()))
        }
        _ => Err(Refused::no_valid("event name", text)),
    }
}
