//! `sse_stream`, `sse_publish`, `sse_status`, `sse_admin`: parses their arguments and installs the
//! location's handler.

use super::argument::once;
use super::channel_argument::{ChannelArgument, NameSource};
use super::handlers::{
    AdminHandler, Finishing, HubReference, LocationHandler, NameKind, PublishChannel,
    PublishHandler, StatusHandler, StatusScope, StreamHandler,
};
use super::location::Location;
use crate::nginx::complex_value::ComplexValue;
use crate::nginx::conf_context::ConfContext;
use crate::nginx::conf_error::ConfError;
use crate::sse::channel::NameError;
use crate::sse::{channel, event_type};
use std::rc::Rc;

/// `sse_stream CHANNEL ... [hub=NAME] [split=CHAR] [pattern];`
pub fn stream(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    refuse_duplicate(context, |handler| matches!(handler, LocationHandler::Stream(_)))?;
    let mut target = HubReference::new(context);
    let (mut channels, mut names) = (Vec::new(), Vec::new());
    let (mut split, mut kind) = (None, None);
    for argument in context.arguments() {
        if let Some(name) = argument.strip_prefix(b"hub=") {
            target.name(name)?;
        } else if let Some(value) = argument.strip_prefix(b"split=") {
            let [byte] = value else {
                return Err(ConfError::no_valid("parameter", argument));
            };
            once(&mut split, *byte)?;
        } else if argument == b"pattern" {
            once(&mut kind, NameKind::Patterns)?;
        } else {
            let source = if channel::is_own(argument) { NameSource::Own } else { NameSource::Any };
            let value = compile(context, argument)?;
            channels.push(ChannelArgument::new(value, source, argument));
            names.push(argument);
        }
    }
    if channels.is_empty() {
        return Err(ConfError::message("no channel in \"sse_stream\" directive"));
    }
    let kind = kind.unwrap_or(NameKind::Names);
    for name in names {
        check_names(name, split, kind)?;
    }
    install(context, LocationHandler::Stream(StreamHandler::new(target, channels, split, kind)))
}

/// Checks an argument of `sse_stream`, as far as that is possible without evaluating variables.
fn check_names(text: &[u8], split: Option<u8>, kind: NameKind) -> Result<(), ConfError> {
    let invalid = |error| match kind {
        NameKind::Names => bad("channel", text, &error),
        NameKind::Patterns => bad("pattern", text, &error),
    };
    let mut parts = text.split(|byte| Some(*byte) == split);
    if kind == NameKind::Patterns && parts.any(channel::is_own) {
        return Err(invalid(NameError::Reserved));
    }
    if is_literal(text) {
        channel::names(&[text], split).map_err(invalid)?;
    }
    Ok(())
}

/// `sse_publish CHANNEL [event=VALUE] [hub=NAME] [finish];`
pub fn publish(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    refuse_duplicate(context, |handler| matches!(handler, LocationHandler::Publish(_)))?;
    let mut target = HubReference::new(context);
    let (mut name, mut event, mut finishing) = (None, None, None);
    for argument in context.arguments() {
        if let Some(hub) = argument.strip_prefix(b"hub=") {
            target.name(hub)?;
        } else if let Some(value) = argument.strip_prefix(b"event=") {
            if is_literal(value) {
                event_type::check(value).map_err(|error| bad("type", value, &error))?;
            }
            once(&mut event, context.compile(value)?)?;
        } else if argument == b"finish" && name.is_some() {
            once(&mut finishing, Finishing::Allowed)?;
        } else if name.is_none() {
            if is_literal(argument) {
                channel::check_publish(argument)
                    .map_err(|error| bad("channel", argument, &error))?;
            }
            let value = compile(context, argument)?;
            name = Some(ChannelArgument::new(value, NameSource::Any, argument));
        } else {
            return Err(unknown(argument));
        }
    }
    let channel =
        name.ok_or_else(|| ConfError::message("no channel in \"sse_publish\" directive"))?;
    let finishing = finishing.unwrap_or(Finishing::Forbidden);
    let channel = PublishChannel::Value(channel);
    let publish = PublishHandler { target, channel, event, finishing };
    install(context, LocationHandler::Publish(publish))
}

/// `sse_status [hub=NAME];`
pub fn status(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    refuse_duplicate(context, |handler| matches!(handler, LocationHandler::Status(_)))?;
    let mut target = HubReference::new(context);
    for argument in context.arguments() {
        let name = argument.strip_prefix(b"hub=").ok_or_else(|| unknown(argument))?;
        target.name(name)?;
    }
    let scope = match target.name {
        Some(_) => StatusScope::OneHub,
        None => StatusScope::AllHubs,
    };
    let feed = StreamHandler::new(target, Vec::new(), None, NameKind::Names);
    install(context, LocationHandler::Status(StatusHandler { scope, feed }))
}

/// `sse_admin [hub=NAME];`
pub fn admin(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    refuse_duplicate(context, |handler| matches!(handler, LocationHandler::Admin(_)))?;
    let mut target = HubReference::new(context);
    for argument in context.arguments() {
        let name = argument.strip_prefix(b"hub=").ok_or_else(|| unknown(argument))?;
        target.name(name)?;
    }
    install(context, LocationHandler::Admin(AdminHandler::new(target)))
}

/// Rejects a second directive of the same kind in one location.
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
fn install(context: &mut ConfContext<'_>, handler: LocationHandler) -> Result<(), ConfError> {
    context.answer_requests()?;
    context.location_conf::<Location>().handler = Some(Rc::new(handler));
    Ok(())
}

/// Compiles a channel's name. A name with variables is checked when a request evaluates it.
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
        context.warn(&format!("\"{shown}\" is not a parameter and is used as a channel name"));
    }
    context.compile(text)
}

/// Whether a value contains no variable, so that it can be checked before any request.
fn is_literal(text: &[u8]) -> bool {
    !text.contains(&b'$')
}

/// Creates the error for an invalid name.
fn bad(what: &str, name: &[u8], error: &impl std::fmt::Display) -> ConfError {
    ConfError::message(format_args!("invalid {what} \"{}\": {error}", name.escape_ascii()))
}

/// Creates the error for an unknown parameter.
fn unknown(argument: &[u8]) -> ConfError {
    let shown = String::from_utf8_lossy(argument);
    ConfError::message(format_args!("unknown parameter \"{shown}\""))
}
