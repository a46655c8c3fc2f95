//! `sse_stream`, `sse_publish`, `sse_status`, `sse_admin`: read their arguments and make the module
//! answer the location's requests.

use super::argument::once;
use super::handlers::{
    AdminHandler, ChannelArgument, HubReference, LocationHandler, NameKind, NameSource,
    PublishHandler, StatusHandler, StatusScope, StreamHandler,
};
use super::location::Location;
use crate::nginx::complex_value::ComplexValue;
use crate::nginx::conf_context::ConfContext;
use crate::nginx::conf_error::ConfError;
use crate::sse::channel::NameError;
use crate::sse::{channel, event_type};
use std::rc::Rc;

/// `sse_stream`
pub fn stream(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    refuse_duplicate(context, |handler| matches!(handler, LocationHandler::Stream(_)))?;
    let mut target = HubReference::new(context);
    let (mut channels, mut names) = (Vec::new(), Vec::new());
    let (mut split, mut meaning) = (None, None);
    for argument in context.arguments() {
        if let Some(name) = argument.strip_prefix(b"hub=") {
            target.name(name)?;
        } else if let Some(value) = argument.strip_prefix(b"split=") {
            let [byte] = value else {
                return Err(ConfError::no_valid("parameter", argument));
            };
            once(&mut split, *byte)?;
        } else if argument == b"pattern" {
            once(&mut meaning, NameKind::Patterns)?;
        } else {
            let chosen = match channel::is_own(argument) {
                true => NameSource::Own,
                false => NameSource::Freely,
            };
            channels.push(ChannelArgument { value: compile(context, argument)?, chosen });
            names.push(argument);
        }
    }
    if channels.is_empty() {
        return Err(ConfError::because("no channel in \"sse_stream\" directive"));
    }
    let meaning = meaning.unwrap_or(NameKind::Names);
    for name in names {
        check_names(name, split, meaning)?;
    }
    keep(context, LocationHandler::Stream(StreamHandler::new(target, channels, split, meaning)))
}

/// Checks of an argument of `sse_stream` what can be known before any request comes.
fn check_names(text: &[u8], split: Option<u8>, meaning: NameKind) -> Result<(), ConfError> {
    let wrong = |error| match meaning {
        NameKind::Names => bad("channel", text, &error),
        NameKind::Patterns => bad("pattern", text, &error),
    };
    let mut parts = text.split(|byte| Some(*byte) == split);
    if meaning == NameKind::Patterns && parts.any(channel::is_own) {
        return Err(wrong(NameError::Reserved));
    }
    if is_literal(text) {
        channel::names(&[text], split).map_err(wrong)?;
    }
    Ok(())
}

/// `sse_publish`
pub fn publish(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    refuse_duplicate(context, |handler| matches!(handler, LocationHandler::Publish(_)))?;
    let mut target = HubReference::new(context);
    let (mut name, mut event) = (None, None);
    for argument in context.arguments() {
        if let Some(hub) = argument.strip_prefix(b"hub=") {
            target.name(hub)?;
        } else if let Some(value) = argument.strip_prefix(b"event=") {
            if is_literal(value) {
                event_type::check(value).map_err(|error| bad("type", value, &error))?;
            }
            once(&mut event, context.compile(value)?)?;
        } else if name.is_none() {
            if is_literal(argument) {
                channel::check_publish(argument)
                    .map_err(|error| bad("channel", argument, &error))?;
            }
            name = Some(compile(context, argument)?);
        } else {
            return Err(unknown(argument));
        }
    }
    let channel =
        name.ok_or_else(|| ConfError::because("no channel in \"sse_publish\" directive"))?;
    keep(context, LocationHandler::Publish(PublishHandler { target, channel, event }))
}

/// `sse_status`
pub fn status(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    refuse_duplicate(context, |handler| matches!(handler, LocationHandler::Status(_)))?;
    let mut target = HubReference::new(context);
    for argument in context.arguments() {
        let name = argument.strip_prefix(b"hub=").ok_or_else(|| unknown(argument))?;
        target.name(name)?;
    }
    let shown = match target.name {
        Some(_) => StatusScope::OneHub,
        None => StatusScope::AllHubs,
    };
    let feed = StreamHandler::new(target, Vec::new(), None, NameKind::Names);
    keep(context, LocationHandler::Status(StatusHandler { shown, feed }))
}

/// `sse_admin`
pub fn admin(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    refuse_duplicate(context, |handler| matches!(handler, LocationHandler::Admin(_)))?;
    let mut target = HubReference::new(context);
    for argument in context.arguments() {
        let name = argument.strip_prefix(b"hub=").ok_or_else(|| unknown(argument))?;
        target.name(name)?;
    }
    keep(context, LocationHandler::Admin(AdminHandler { target }))
}

/// Refuses a second directive of a kind in one location.
fn refuse_duplicate(
    context: &mut ConfContext<'_>,
    is_of_kind: fn(&LocationHandler) -> bool,
) -> Result<(), ConfError> {
    if context.location_conf::<Location>().handler().is_some_and(is_of_kind) {
        return Err(ConfError::Duplicate);
    }
    Ok(())
}

/// Makes the module answer the location's requests with this handler.
fn keep(context: &mut ConfContext<'_>, handler: LocationHandler) -> Result<(), ConfError> {
    context.answer_requests()?;
    context.location_conf::<Location>().handler = Some(Rc::new(handler));
    Ok(())
}

/// A channel's name. What its variables make of it is checked when a request comes.
fn compile<'cf>(
    context: &mut ConfContext<'cf>,
    text: &'cf [u8],
) -> Result<ComplexValue, ConfError> {
    if text.is_empty() {
        return Err(ConfError::no_valid("channel", text));
    }
    let word = text.iter().take_while(|byte| byte.is_ascii_lowercase() || **byte == b'_').count();
    if word > 0 && text.get(word) == Some(&b'=') {
        let shown = String::from_utf8_lossy(text);
        context.warn(&format!("\"{shown}\" is no parameter, and is taken for a channel's name"));
    }
    context.compile(text)
}

/// Whether a value holds no variable. It can then be checked before any request comes.
fn is_literal(text: &[u8]) -> bool {
    !text.contains(&b'$')
}

fn bad(what: &str, name: &[u8], error: &impl std::fmt::Display) -> ConfError {
    ConfError::because(format_args!("invalid {what} \"{}\": {error}", name.escape_ascii()))
}

fn unknown(argument: &[u8]) -> ConfError {
    let shown = String::from_utf8_lossy(argument);
    ConfError::because(format_args!("unknown parameter \"{shown}\""))
}
