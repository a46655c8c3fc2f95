//! `sse_stream`, `sse_publish`, `sse_status`: what answers the requests of a location.

use super::hub::{once, Main};
use super::settings::Settings;
use crate::http;
use crate::nginx::directive::Refused;
use crate::nginx::setting::{Answering, Position, Setting};
use crate::nginx::value::ComplexValue;
use crate::worker::StreamSettings;
use std::rc::Rc;

/// What one location answers; it can be one thing only.
pub enum Answer {
    Stream(Stream),
    Publish(Publish),
    Status(Status),
}

/// Which hub a location means, before and after all hubs are known.
pub struct Target {
    name: Option<String>,
    position: Position,
    /// Its number in `Main::hubs`.
    pub hub: usize,
}

/// `sse_stream CHANNEL ... [hub=NAME] [split=CHAR]`
pub struct Stream {
    pub target: Target,
    pub channels: Vec<ComplexValue>,
    pub split: Option<u8>,
    /// Where a client's last id may stand; empty for nginx's own names of header and argument.
    pub last_event_id: Rc<Vec<ComplexValue>>,
    pub settings: Rc<StreamSettings>,
}

/// `sse_publish CHANNEL [event=VALUE] [hub=NAME]`
pub struct Publish {
    pub target: Target,
    pub channel: ComplexValue,
    pub event: Option<ComplexValue>,
}

/// `sse_status [hub=NAME]`
pub struct Status {
    pub target: Target,
}

impl Answer {
    /// All hubs and settings are known.
    pub fn complete(&mut self, main: &Main, settings: &Settings) -> Result<(), String> {
        match self {
            Answer::Stream(stream) => {
                stream.target.complete(main, "sse_stream")?;
                stream.last_event_id = settings.last_event_id();
                stream.settings = Rc::new(settings.resolve());
                main.drain.set(main.drain.get().max(settings.drain()));
                Ok(())
            }
            Answer::Publish(publish) => publish.target.complete(main, "sse_publish"),
            Answer::Status(status) => status.target.complete(main, "sse_status"),
        }
    }

    /// Where it stands in the configuration.
    pub fn position(&self) -> &Position {
        match self {
            Answer::Stream(stream) => &stream.target.position,
            Answer::Publish(publish) => &publish.target.position,
            Answer::Status(status) => &status.target.position,
        }
    }
}

impl Target {
    fn new(setting: &Setting<'_>) -> Target {
        Target { name: None, position: setting.position(), hub: 0 }
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
        main.used.set(true);
        Ok(())
    }
}

/// `sse_stream`
pub fn stream(setting: &mut Setting<'_>) -> Result<(), Refused> {
    if setting.location().stream().is_some() {
        return Err(Refused::Duplicate);
    }
    let mut target = Target::new(setting);
    let mut channels = Vec::new();
    let mut split = None;
    for argument in setting.arguments() {
        if let Some(name) = argument.strip_prefix(b"hub=") {
            target.name(name)?;
        } else if let Some(value) = argument.strip_prefix(b"split=") {
            let [byte] = value else {
                return Err(Refused::no_valid("parameter", argument));
            };
            once(&mut split, *byte)?;
        } else {
            channels.push(channel(setting, argument)?);
        }
    }
    if channels.is_empty() {
        return Err(Refused::because("no channel in \"sse_stream\" directive"));
    }
    let answering = setting.answer_with::<http::stream::Handler>()?;
    let settings = Rc::new(Settings::default().resolve());
    let stream = Stream { target, channels, split, last_event_id: Rc::default(), settings };
    keep(setting, Answer::Stream(stream), answering)
}

/// `sse_publish`
pub fn publish(setting: &mut Setting<'_>) -> Result<(), Refused> {
    if setting.location().publish().is_some() {
        return Err(Refused::Duplicate);
    }
    let mut target = Target::new(setting);
    let (mut name, mut event) = (None, None);
    for argument in setting.arguments() {
        if let Some(hub) = argument.strip_prefix(b"hub=") {
            target.name(hub)?;
        } else if let Some(value) = argument.strip_prefix(b"event=") {
            once(&mut event, setting.compile(value)?)?;
        } else if name.is_none() {
            name = Some(channel(setting, argument)?);
        } else {
            return Err(unknown(argument));
        }
    }
    let channel =
        name.ok_or_else(|| Refused::because("no channel in \"sse_publish\" directive"))?;
    let answering = setting.answer_with::<http::publish::Handler>()?;
    keep(setting, Answer::Publish(Publish { target, channel, event }), answering)
}

/// `sse_status`
pub fn status(setting: &mut Setting<'_>) -> Result<(), Refused> {
    if setting.location().status().is_some() {
        return Err(Refused::Duplicate);
    }
    let mut target = Target::new(setting);
    for argument in setting.arguments() {
        let name = argument.strip_prefix(b"hub=").ok_or_else(|| unknown(argument))?;
        target.name(name)?;
    }
    let answering = setting.answer_with::<http::status::Handler>()?;
    keep(setting, Answer::Status(Status { target }), answering)
}

fn keep(setting: &mut Setting<'_>, answer: Answer, answering: Answering) -> Result<(), Refused> {
    setting.location().answer = Some((Rc::new(answer), answering));
    Ok(())
}

/// A channel's name. What its variables make of it is checked when a request comes.
fn channel<'cf>(setting: &mut Setting<'cf>, text: &'cf [u8]) -> Result<ComplexValue, Refused> {
    if text.is_empty() {
        return Err(Refused::no_valid("channel", text));
    }
    setting.compile(text)
}

fn unknown(argument: &[u8]) -> Refused {
    let shown = String::from_utf8_lossy(argument);
    Refused::because(format_args!("unknown parameter \"{shown}\""))
}
