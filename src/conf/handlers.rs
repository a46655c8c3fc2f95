//! The handlers of locations: what `sse_stream`, `sse_publish`, `sse_status`, and `sse_admin` say.

use super::argument::once;
use super::hub::Main;
use super::settings::Settings;
use crate::hub;
use crate::nginx::complex_value::ComplexValue;
use crate::nginx::conf_context::{ConfContext, Position};
use crate::nginx::conf_error::ConfError;
use crate::worker::{Naming, Replay, SlowClient, StreamSettings};
use std::rc::Rc;

/// The handler of a location: one of the module's four.
pub enum LocationHandler {
    Stream(StreamHandler),
    Publish(PublishHandler),
    Status(StatusHandler),
    Admin(AdminHandler),
}

/// Which hub a location means, before and after all hubs are known.
pub struct HubReference {
    /// What `hub=` said; once all hubs are known, what it is called.
    pub(super) name: Option<String>,
    position: Position,
    /// Its number in `Main::hubs`.
    pub hub: usize,
}

/// `sse_stream CHANNEL ... [hub=NAME] [split=CHAR] [pattern]`
pub struct StreamHandler {
    pub target: HubReference,
    pub channels: Vec<ChannelArgument>,
    pub split: Option<u8>,
    pub meaning: NameKind,
    /// Where a client's last id may stand; empty for nginx's own names of header and argument.
    pub last_event_id: Rc<Vec<ComplexValue>>,
    pub settings: Rc<StreamSettings>,
    /// Whether requests are given back once their streams run.
    pub lean: bool,
}

/// What the names of a stream mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// Channels.
    Names,
    /// Globs: all channels that match.
    Patterns,
}

/// One argument of `sse_stream`.
pub struct ChannelArgument {
    pub value: ComplexValue,
    /// Who chooses the name.
    pub chosen: NameSource,
}

/// Who chooses a channel's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameSource {
    /// The configuration says outright that it is one of the module's own.
    Own,
    /// It may hold what a client sent, so it must not become one of those.
    Freely,
}

/// `sse_publish CHANNEL [event=VALUE] [hub=NAME]`
pub struct PublishHandler {
    pub target: HubReference,
    pub channel: ComplexValue,
    pub event: Option<ComplexValue>,
}

/// `sse_status [hub=NAME]`
pub struct StatusHandler {
    pub shown: StatusScope,
    /// How the figures are streamed to those who watch them, and by which hub. Its channel follows
    /// from what is shown.
    pub feed: StreamHandler,
}

/// Whose figures a location shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusScope {
    /// Those of the hub that it names.
    OneHub,
    AllHubs,
}

/// `sse_admin [hub=NAME]`
pub struct AdminHandler {
    pub target: HubReference,
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

impl StatusHandler {
    fn complete(&mut self, main: &Main, settings: &Settings) -> Result<(), String> {
        if self.shown == StatusScope::AllHubs {
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

impl StreamHandler {
    /// Streams in Redis cannot be asked for by a pattern.
    fn check_source(&self, main: &Main) -> Result<(), String> {
        let redis = main.hubs.get(self.target.hub).and_then(|hub| hub.redis.as_ref());
        let by_stream = redis.is_some_and(|redis| redis.source == hub::Source::Streams);
        if self.meaning == NameKind::Patterns && by_stream {
            let position = &self.target.position;
            return Err(format!(
                "\"pattern\" and \"redis_source stream\" exclude each other in {position}"
            ));
        }
        Ok(())
    }

    /// Its settings are filled in when all of the configuration is read.
    pub(super) fn new(
        target: HubReference,
        channels: Vec<ChannelArgument>,
        split: Option<u8>,
        meaning: NameKind,
    ) -> StreamHandler {
        let settings = Rc::new(Settings::default().resolve());
        let last_event_id = Rc::default();
        StreamHandler { target, channels, split, meaning, last_event_id, settings, lean: false }
    }
}

impl HubReference {
    pub(super) fn new(context: &ConfContext<'_>) -> HubReference {
        HubReference { name: None, position: context.position(), hub: 0 }
    }

    /// What the hub is called.
    pub fn hub_name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    pub(super) fn name(&mut self, name: &[u8]) -> Result<(), ConfError> {
        let text = std::str::from_utf8(name).ok().filter(|name| !name.is_empty());
        let text = text.ok_or_else(|| ConfError::no_valid("hub name", name))?;
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
