//! `sse_stream`, `sse_publish`, `sse_status`, `sse_admin`: the directives that handle a location's requests.

use super::hub::{once, Main};
use super::location::Location;
use super::settings::Settings;
use crate::hub;
use crate::nginx::conf_context::{ConfContext, Position};
use crate::nginx::directive::Refused;
use crate::nginx::value::ComplexValue;
use crate::sse::channel::NameError;
use crate::sse::{channel, event_type};
use crate::worker::{Naming, Replay, SlowClient, StreamSettings};
use std::rc::Rc;

/// The handler of a location: one of the module's four.
pub enum LocationHandler {
    Stream(Stream),
    Publish(Publish),
    Status(Status),
    Admin(Admin),
}

/// Which hub a location means, before and after all hubs are known.
pub struct Target {
    /// What `hub=` said; once all hubs are known, what it is called.
    name: Option<String>,
    position: Position,
    /// Its number in `Main::hubs`.
    pub hub: usize,
}

/// `sse_stream CHANNEL ... [hub=NAME] [split=CHAR] [pattern]`
pub struct Stream {
    pub target: Target,
    pub channels: Vec<Channel>,
    pub split: Option<u8>,
    pub meaning: Meaning,
    /// Where a client's last id may stand; empty for nginx's own names of header and argument.
    pub last_event_id: Rc<Vec<ComplexValue>>,
    pub settings: Rc<StreamSettings>,
    /// Whether requests are given back once their streams run.
    pub lean: bool,
}

/// What the names of a stream mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Channels.
    Names,
    /// Globs: all channels that match.
    Patterns,
}

/// One argument of `sse_stream`.
pub struct Channel {
    pub value: ComplexValue,
    /// Who chooses the name.
    pub chosen: Chosen,
}

/// Who chooses a channel's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// The configuration says outright that it is one of the module's own.
    Own,
    /// It may hold what a client sent, so it must not become one of those.
    Freely,
}

/// `sse_publish CHANNEL [event=VALUE] [hub=NAME]`
pub struct Publish {
    pub target: Target,
    pub channel: ComplexValue,
    pub event: Option<ComplexValue>,
}

/// `sse_status [hub=NAME]`
pub struct Status {
    pub shown: Shown,
    /// How the figures are streamed to those who watch them, and by which hub. Its channel follows
    /// from what is shown.
    pub feed: Stream,
}

/// Whose figures a location shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Those of the hub that it names.
    OneHub,
    AllHubs,
}

/// `sse_admin [hub=NAME]`
pub struct Admin {
    pub target: Target,
}

impl LocationHandler {
    /// All hubs and settings are known.
    pub fn complete(&mut self, main: &Main, settings: &Settings) -> Result<(), String> {
        match self {
            LocationHandler::Stream(stream) => {
                stream.target.complete(main, "sse_stream")?;
                stream.check_source(main)?;
                stream.last_event_id = settings.last_event_id();
                stream.settings = Rc::new(settings.resolve());
                stream.lean = settings.lean();
                main.drain.set(main.drain.get().max(settings.drain()));
                Ok(())
            }
            LocationHandler::Publish(publish) => publish.target.complete(main, "sse_publish"),
            LocationHandler::Status(status) => status.complete(main, settings),
            LocationHandler::Admin(admin) => admin.target.complete(main, "sse_admin"),
        }
    }

    /// Where it stands in the configuration.
    pub fn position(&self) -> &Position {
        match self {
            LocationHandler::Stream(stream) => &stream.target.position,
            LocationHandler::Publish(publish) => &publish.target.position,
            LocationHandler::Status(status) => &status.feed.target.position,
            LocationHandler::Admin(admin) => &admin.target.position,
        }
    }
}

impl Status {
    fn complete(&mut self, main: &Main, settings: &Settings) -> Result<(), String> {
        if self.shown == Shown::AllHubs {
            // The figures of all hubs are one event, and must fit.
            let largest = main.hubs.iter().max_by_key(|hub| hub.max_event);
            self.feed.target.name = largest.map(|hub| hub.name.clone());
        }
        self.feed.target.complete(main, "sse_status")?;
        self.feed.settings = Rc::new(StreamSettings {
            replay: Replay::Off,
            open_event: None,
            gap_event: None,
            slow_client: SlowClient::Skip,
            naming: Naming::ByType,
            max_subscribers: 0,
            ..settings.resolve()
        });
        Ok(())
    }
}

impl Stream {
    /// Streams in Redis cannot be asked for by a pattern.
    fn check_source(&self, main: &Main) -> Result<(), String> {
        let redis = main.hubs.get(self.target.hub).and_then(|hub| hub.redis.as_ref());
        let by_stream = redis.is_some_and(|redis| redis.source == hub::Source::Streams);
        if self.meaning == Meaning::Patterns && by_stream {
            let position = &self.target.position;
            return Err(format!(
                "\"pattern\" and \"redis_source stream\" exclude each other in {position}"
            ));
        }
        Ok(())
    }

    /// Its settings are filled in when all of the configuration is read.
    fn new(target: Target, channels: Vec<Channel>, split: Option<u8>, meaning: Meaning) -> Stream {
        let settings = Rc::new(Settings::default().resolve());
        let last_event_id = Rc::default();
        Stream { target, channels, split, meaning, last_event_id, settings, lean: false }
    }
}

impl Target {
    fn new(context: &ConfContext<'_>) -> Target {
        Target { name: None, position: context.position(), hub: 0 }
    }

    /// What the hub is called.
    pub fn hub_name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    fn name(&mut self, name: &[u8]) -> Result<(), Refused> {
        let text = std::str::from_utf8(name).ok().filter(|name| !name.is_empty());
        let text = text.ok_or_else(|| Refused::no_valid("hub name", name))?;
        once(&mut self.name, text.to_owned())
    }

    fn complete(&mut self, main: &Main, directive: &str) -> Result<(), String> {
        self.hub = main
            .resolve(self.name.as_deref(), directive)
            .map_err(|what| format!("{what} in {}", self.position))?;
        self.name = main.hubs.get(self.hub).map(|hub| hub.name.clone());
        main.used.set(true);
        Ok(())
    }
}

/// `sse_stream`
pub fn stream(context: &mut ConfContext<'_>) -> Result<(), Refused> {
    refuse_duplicate(context, |handler| matches!(handler, LocationHandler::Stream(_)))?;
    let mut target = Target::new(context);
    let (mut channels, mut names) = (Vec::new(), Vec::new());
    let (mut split, mut meaning) = (None, None);
    for argument in context.arguments() {
        if let Some(name) = argument.strip_prefix(b"hub=") {
            target.name(name)?;
        } else if let Some(value) = argument.strip_prefix(b"split=") {
            let [byte] = value else {
                return Err(Refused::no_valid("parameter", argument));
            };
            once(&mut split, *byte)?;
        } else if argument == b"pattern" {
            once(&mut meaning, Meaning::Patterns)?;
        } else {
            let chosen = match channel::is_own(argument) {
                true => Chosen::Own,
                false => Chosen::Freely,
            };
            channels.push(Channel { value: compile(context, argument)?, chosen });
            names.push(argument);
        }
    }
    if channels.is_empty() {
        return Err(Refused::because("no channel in \"sse_stream\" directive"));
    }
    let meaning = meaning.unwrap_or(Meaning::Names);
    for name in names {
        check_names(name, split, meaning)?;
    }
    keep(context, LocationHandler::Stream(Stream::new(target, channels, split, meaning)))
}

/// Checks of an argument of `sse_stream` what can be known before any request comes.
fn check_names(text: &[u8], split: Option<u8>, meaning: Meaning) -> Result<(), Refused> {
    let wrong = |error| match meaning {
        Meaning::Names => bad("channel", text, &error),
        Meaning::Patterns => bad("pattern", text, &error),
    };
    let mut parts = text.split(|byte| Some(*byte) == split);
    if meaning == Meaning::Patterns && parts.any(channel::is_own) {
        return Err(wrong(NameError::Reserved));
    }
    if is_literal(text) {
        channel::names(&[text], split).map_err(wrong)?;
    }
    Ok(())
}

/// `sse_publish`
pub fn publish(context: &mut ConfContext<'_>) -> Result<(), Refused> {
    refuse_duplicate(context, |handler| matches!(handler, LocationHandler::Publish(_)))?;
    let mut target = Target::new(context);
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
        name.ok_or_else(|| Refused::because("no channel in \"sse_publish\" directive"))?;
    keep(context, LocationHandler::Publish(Publish { target, channel, event }))
}

/// `sse_status`
pub fn status(context: &mut ConfContext<'_>) -> Result<(), Refused> {
    refuse_duplicate(context, |handler| matches!(handler, LocationHandler::Status(_)))?;
    let mut target = Target::new(context);
    for argument in context.arguments() {
        let name = argument.strip_prefix(b"hub=").ok_or_else(|| unknown(argument))?;
        target.name(name)?;
    }
    let shown = match target.name {
        Some(_) => Shown::OneHub,
        None => Shown::AllHubs,
    };
    let feed = Stream::new(target, Vec::new(), None, Meaning::Names);
    keep(context, LocationHandler::Status(Status { shown, feed }))
}

/// `sse_admin`
pub fn admin(context: &mut ConfContext<'_>) -> Result<(), Refused> {
    refuse_duplicate(context, |handler| matches!(handler, LocationHandler::Admin(_)))?;
    let mut target = Target::new(context);
    for argument in context.arguments() {
        let name = argument.strip_prefix(b"hub=").ok_or_else(|| unknown(argument))?;
        target.name(name)?;
    }
    keep(context, LocationHandler::Admin(Admin { target }))
}

/// Refuses a second directive of a kind in one location.
fn refuse_duplicate(
    context: &mut ConfContext<'_>,
    is_of_kind: fn(&LocationHandler) -> bool,
) -> Result<(), Refused> {
    if context.location_conf::<Location>().handler().is_some_and(is_of_kind) {
        return Err(Refused::Duplicate);
    }
    Ok(())
}

/// Makes the module answer the location's requests with this handler.
fn keep(context: &mut ConfContext<'_>, handler: LocationHandler) -> Result<(), Refused> {
    context.answer_requests()?;
    context.location_conf::<Location>().handler = Some(Rc::new(handler));
    Ok(())
}

/// A channel's name. What its variables make of it is checked when a request comes.
fn compile<'cf>(context: &mut ConfContext<'cf>, text: &'cf [u8]) -> Result<ComplexValue, Refused> {
    if text.is_empty() {
        return Err(Refused::no_valid("channel", text));
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

fn bad(what: &str, name: &[u8], error: &impl std::fmt::Display) -> Refused {
    Refused::because(format_args!("invalid {what} \"{}\": {error}", name.escape_ascii()))
}

fn unknown(argument: &[u8]) -> Refused {
    let shown = String::from_utf8_lossy(argument);
    Refused::because(format_args!("unknown parameter \"{shown}\""))
}
