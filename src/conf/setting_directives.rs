//! The directives of `settings`. Each sets one value and may occur once in a block.

use super::argument::{number, once, time};
use super::cors::Cors;
use super::location::Location;
use super::settings::{Expires, ExpiryAbsence};
use crate::nginx::complex_value::ComplexValue;
use crate::nginx::conf_context::ConfContext;
use crate::nginx::conf_error::ConfError;
use crate::sse::event_type::{self, TypeError};
use crate::worker::{
    ExpiryEvent, Finished, Jittered, Naming, Reconnect, Replay, SlowClient, UnknownChannel,
};
use std::rc::Rc;

/// How long before the end of a client's permission the event is sent, in ms.
const DEFAULT_EXPIRY_NOTICE: u64 = 30_000;

/// `sse_replay off | all | run | COUNT;`
pub fn replay(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let replay = match first(context)? {
        b"off" => Replay::Off,
        b"all" => Replay::All,
        b"run" => Replay::Run,
        count => Replay::Count(number(count)?),
    };
    once(&mut context.location_conf::<Location>().settings.replay, replay)
}

/// `sse_last_event_id VALUE ...;`
pub fn last_event_id(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let values: Result<Vec<ComplexValue>, ConfError> =
        context.arguments().into_iter().map(|value| context.compile(value)).collect();
    once(&mut context.location_conf::<Location>().settings.last_event_id, Rc::new(values?))
}

/// `sse_since VALUE;`
pub fn since(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let value = context.compile(first(context)?)?;
    once(&mut context.location_conf::<Location>().settings.since, Rc::new(value))
}

/// `sse_heartbeat TIME | off;`
pub fn heartbeat(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let heartbeat = match first(context)? {
        b"off" => None,
        text => Some(time(text)?).filter(|time| *time > 0),
    };
    once(&mut context.location_conf::<Location>().settings.heartbeat, heartbeat)
}

/// `sse_retry TIME [jitter=TIME];`
pub fn retry(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let retry = jittered(context)?;
    once(&mut context.location_conf::<Location>().settings.retry, retry)
}

/// `sse_open_event NAME | off;`
pub fn open_event(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let name = event_name(first(context)?)?;
    once(&mut context.location_conf::<Location>().settings.open_event, name)
}

/// `sse_gap_event NAME | off;`
pub fn gap_event(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let name = event_name(first(context)?)?;
    once(&mut context.location_conf::<Location>().settings.gap_event, name)
}

/// `sse_slow_client skip | close;`
pub fn slow_client(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let slow_client = match first(context)? {
        b"skip" => SlowClient::Skip,
        b"close" => SlowClient::Close,
        other => return Err(ConfError::invalid(other)),
    };
    once(&mut context.location_conf::<Location>().settings.slow_client, slow_client)
}

/// `sse_finished 204 | replay | off;`
pub fn finished(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let finished = match first(context)? {
        b"204" => Finished::NoContent,
        b"replay" => Finished::Replay,
        b"off" => Finished::Ignored,
        other => return Err(ConfError::invalid(other)),
    };
    once(&mut context.location_conf::<Location>().settings.finished, finished)
}

/// `sse_unknown_channel wait | 204;`
pub fn unknown_channel(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let unknown = match first(context)? {
        b"wait" => UnknownChannel::Wait,
        b"204" => UnknownChannel::NoContent,
        other => return Err(ConfError::invalid(other)),
    };
    once(&mut context.location_conf::<Location>().settings.unknown_channel, unknown)
}

/// `sse_name_events by_type | by_channel;`
pub fn name_events(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let naming = match first(context)? {
        b"by_type" => Naming::ByType,
        b"by_channel" => Naming::ByChannel,
        other => return Err(ConfError::invalid(other)),
    };
    once(&mut context.location_conf::<Location>().settings.naming, naming)
}

/// `sse_max_age TIME [jitter=TIME];` or `sse_max_age off;`
pub fn max_age(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let max_age = match context.arguments().as_slice() {
        [b"off"] => None,
        _ => {
            let age = jittered(context)?;
            if age.base == 0 {
                // Clients of streams that end at once would reconnect in an endless loop.
                return Err(ConfError::invalid(first(context)?));
            }
            Some(age)
        }
    };
    once(&mut context.location_conf::<Location>().settings.max_age, max_age)
}

/// `sse_expires [VALUE] [event=NAME] [before=TIME] [jitter=TIME] [required];`
pub fn expires(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let (mut value, mut absence, mut event) = (None, None, None);
    let (mut before, mut jitter) = (None, None);
    for argument in context.arguments() {
        if let Some(name) = argument.strip_prefix(b"event=") {
            once(&mut event, own_event_name(name)?)?;
        } else if let Some(text) = argument.strip_prefix(b"before=") {
            once(&mut before, time(text)?)?;
        } else if let Some(text) = argument.strip_prefix(b"jitter=") {
            once(&mut jitter, time(text)?)?;
        } else if argument == b"required" {
            once(&mut absence, ExpiryAbsence::Refused)?;
        } else {
            once(&mut value, context.compile(argument)?)?;
        }
    }
    if event.is_none() && (before.is_some() || jitter.is_some()) {
        return Err(ConfError::message("\"before\" and \"jitter\" need \"event=\""));
    }
    if value.is_none() && absence.is_some() {
        return Err(ConfError::message("\"required\" needs a value in \"sse_expires\" directive"));
    }
    let before =
        Jittered { base: before.unwrap_or(DEFAULT_EXPIRY_NOTICE), jitter: jitter.unwrap_or(0) };
    let event = event.map(|name| ExpiryEvent { name, before });
    let absence = absence.unwrap_or(ExpiryAbsence::Allowed);
    let expires = Rc::new(Expires { value, absence, event });
    once(&mut context.location_conf::<Location>().settings.expires, expires)
}

/// `sse_reconnect cut | clean;`
pub fn reconnect(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let reconnect = match first(context)? {
        b"cut" => Reconnect::Cut,
        b"clean" => Reconnect::Clean,
        other => return Err(ConfError::invalid(other)),
    };
    once(&mut context.location_conf::<Location>().settings.reconnect, reconnect)
}

/// `sse_max_subscribers COUNT;`
pub fn max_subscribers(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let most = match first(context)? {
        b"0" => 0,
        count => u32::try_from(number(count)?).map_err(|_| ConfError::invalid(count))?,
    };
    once(&mut context.location_conf::<Location>().settings.max_subscribers, most)
}

/// `sse_drain TIME;`
pub fn drain(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let drain = time(first(context)?)?;
    once(&mut context.location_conf::<Location>().settings.drain, drain)
}

/// `sse_direct on | off;`
pub fn direct(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let direct = on_or_off(context)?;
    once(&mut context.location_conf::<Location>().settings.direct, direct)
}

/// `sse_lean on | off;`
pub fn lean(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let lean = on_or_off(context)?;
    once(&mut context.location_conf::<Location>().settings.lean, lean)
}

/// `sse_proxy_unbuffered on | off;`
pub fn proxy_unbuffered(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let unbuffered = on_or_off(context)?;
    once(&mut context.location_conf::<Location>().settings.proxy_unbuffered, unbuffered)
}

/// `sse_proxy_read_timeout TIME | off;`
pub fn proxy_read_timeout(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let timeout = match first(context)? {
        b"off" => None,
        text => Some(time(text)?),
    };
    if timeout == Some(0) {
        // Every response would time out at once.
        return Err(ConfError::invalid(first(context)?));
    }
    once(&mut context.location_conf::<Location>().settings.proxy_read_timeout, timeout)
}

/// Parses `on` or `off`.
fn on_or_off(context: &ConfContext<'_>) -> Result<bool, ConfError> {
    match first(context)? {
        b"on" => Ok(true),
        b"off" => Ok(false),
        other => Err(ConfError::invalid(other)),
    }
}

/// Returns the first argument.
fn first<'cf>(context: &ConfContext<'cf>) -> Result<&'cf [u8], ConfError> {
    context.arguments().first().copied().ok_or(ConfError::AlreadyLogged)
}

/// `TIME [jitter=TIME]`
fn jittered(context: &ConfContext<'_>) -> Result<Jittered, ConfError> {
    match context.arguments().as_slice() {
        [base] => Ok(Jittered { base: time(base)?, jitter: 0 }),
        [base, more] => {
            let jitter = more.strip_prefix(b"jitter=").ok_or_else(|| {
                let shown = String::from_utf8_lossy(more);
                ConfError::message(format_args!("unknown parameter \"{shown}\""))
            })?;
            Ok(Jittered { base: time(base)?, jitter: time(jitter)? })
        }
        _ => Err(ConfError::AlreadyLogged),
    }
}

/// Parses the name of an event that the module creates, or `off`.
fn event_name(text: &[u8]) -> Result<Option<Box<[u8]>>, ConfError> {
    if text == b"off" {
        return Ok(None);
    }
    own_event_name(text).map(Some)
}

/// Parses the name of an event that the module creates. It may begin with `sse.`, but must not be a
/// name that browsers reserve.
fn own_event_name(text: &[u8]) -> Result<Box<[u8]>, ConfError> {
    let is_valid = match event_type::check(text) {
        Ok(()) => !text.is_empty(),
        Err(TypeError::Reserved) => text.starts_with(b"sse.") && text != b"sse.",
        Err(_) => false,
    };
    if is_valid {
        Ok(text.into())
    } else {
        Err(ConfError::no_valid("event name", text))
    }
}

/// `sse_cors ORIGIN ... [credentials];` or `sse_cors off;`
pub fn cors(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let value = match context.arguments().as_slice() {
        [b"off"] => None,
        arguments => Some(Rc::new(Cors::read(arguments)?)),
    };
    once(&mut context.location_conf::<Location>().settings.cors, value)
}
