//! The handlers of locations: the arguments of `sse_stream`, `sse_publish`, `sse_status`, and
//! `sse_admin`.

use super::argument::once;
use super::channel_argument::{ChannelArgument, NameSource};
use super::hub::Main;
use super::settings::{Expires, Settings};
use crate::access::verify::KeyUsage;
use crate::hub;
use crate::nginx::complex_value::ComplexValue;
use crate::nginx::conf_context::{ConfContext, Position};
use crate::nginx::conf_error::ConfError;
use crate::nginx::request::Request;
use crate::worker::{Finished, Naming, Replay, SlowClient, StreamSettings, UnknownChannel};
use percent_encoding::percent_decode;
use std::borrow::Cow;
use std::rc::Rc;

/// The handler of a location.
pub enum LocationHandler {
    Stream(StreamHandler),
    Publish(PublishHandler),
    Status(StatusHandler),
    Admin(AdminHandler),
}

/// A location's reference to a hub, before and after it is resolved.
#[derive(Clone)]
pub struct HubReference {
    /// The argument of `hub=`; after `complete`, the name of the hub.
    pub(super) name: Option<String>,
    position: Position,
    /// The hub's index in `Main::hubs`, valid after `complete`.
    pub hub: usize,
}

/// `sse_stream CHANNEL ... [hub=NAME] [split=CHAR] [pattern]`
pub struct StreamHandler {
    pub target: HubReference,
    pub channels: Vec<ChannelArgument>,
    pub split: Option<u8>,
    pub kind: NameKind,
    /// The values that may contain a client's last id (`sse_last_event_id`). If empty, the
    /// `Last-Event-ID` header and the `last_event_id` argument are used.
    pub last_event_id: Rc<Vec<ComplexValue>>,
    /// The value that may contain the time from which a client without an id resumes (`sse_since`).
    pub since: Option<Rc<ComplexValue>>,
    /// The end of the client's permission (`sse_expires`).
    pub expires: Option<Rc<Expires>>,
    pub settings: Rc<StreamSettings>,
    /// Whether the stream may bypass nginx's filters (`sse_direct`).
    pub direct: bool,
    /// Whether the request is released once its stream runs (`sse_lean`).
    pub lean: bool,
}

/// How a stream's names are interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// As channels.
    Names,
    /// As glob patterns: the stream receives the events of all matching channels.
    Patterns,
}

/// `sse_publish CHANNEL [event=VALUE] [hub=NAME] [finish]`
pub struct PublishHandler {
    pub target: HubReference,
    pub channel: PublishChannel,
    pub event: Option<ComplexValue>,
    pub finishing: Finishing,
}

/// The source of the channel of a publish.
pub enum PublishChannel {
    /// The value in the configuration (`sse_publish`).
    Value(ChannelArgument),
    /// The argument `channel` of the request (`sse_admin`).
    Argument,
}

/// Whether publishers of a location may finish the channel's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finishing {
    Allowed,
    Forbidden,
}

/// `sse_status [hub=NAME]`
pub struct StatusHandler {
    pub scope: StatusScope,
    /// The stream of the figures, and the hub that carries it. The channel depends on `scope`.
    pub feed: StreamHandler,
}

/// The hubs whose figures a location shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusScope {
    /// Those of the hub that the location names.
    OneHub,
    /// Those of all hubs.
    AllHubs,
}

/// `sse_admin [hub=NAME]`
pub struct AdminHandler {
    pub target: HubReference,
    /// Streams of single channels. The channel is an argument of the request.
    pub feed: StreamHandler,
    /// Publishing to the channel that the request names.
    pub publish: PublishHandler,
}

impl LocationHandler {
    /// Resolves the hub and fills in the settings. Called when all blocks have been read.
    pub fn complete(&mut self, main: &Main, settings: &Settings) -> Result<(), String> {
        match self {
            LocationHandler::Stream(stream) => {
                stream.target.complete(main, "sse_stream")?;
                stream.channels.iter_mut().for_each(|channel| channel.complete(main));
                stream.check_source(main)?;
                stream.last_event_id = settings.last_event_id();
                stream.since = settings.since();
                stream.expires = settings.expiry();
                stream.settings = Rc::new(settings.resolve());
                stream.check_runs(main)?;
                stream.direct = settings.direct();
                stream.lean = settings.lean();
                main.drain.set(main.drain.get().max(settings.drain()));
                Ok(())
            }
            LocationHandler::Publish(publish) => {
                if let PublishChannel::Value(channel) = &mut publish.channel {
                    channel.complete(main);
                }
                publish.target.complete(main, "sse_publish")
            }
            LocationHandler::Status(status) => status.complete(main, settings),
            LocationHandler::Admin(admin) => admin.complete(main, settings),
        }
    }

    /// Returns the position of the directive in the configuration.
    pub fn position(&self) -> &Position {
        &self.target().position
    }

    /// Returns the number of the hub, valid after `complete`.
    pub fn hub(&self) -> usize {
        self.target().hub
    }

    /// Returns what a token for this handler is used for.
    pub fn key_usage(&self) -> KeyUsage {
        match self {
            LocationHandler::Stream(_) => KeyUsage::Subscribe,
            LocationHandler::Publish(_) => KeyUsage::Publish,
            LocationHandler::Status(_) | LocationHandler::Admin(_) => KeyUsage::Admin,
        }
    }

    fn target(&self) -> &HubReference {
        match self {
            LocationHandler::Stream(stream) => &stream.target,
            LocationHandler::Publish(publish) => &publish.target,
            LocationHandler::Status(status) => &status.feed.target,
            LocationHandler::Admin(admin) => &admin.target,
        }
    }
}

impl StatusHandler {
    fn complete(&mut self, main: &Main, settings: &Settings) -> Result<(), String> {
        if self.scope == StatusScope::AllHubs {
            // The figures of all hubs are one event, which must fit into the hub that carries it.
            let largest = main.hubs.iter().max_by_key(|hub| hub.max_event);
            self.feed.target.name = largest.map(|hub| hub.name.clone());
        }
        self.feed.target.complete(main, "sse_status")?;
        self.feed.expires = settings.expiry();
        self.feed.settings = Rc::new(StreamSettings {
            replay: Replay::Off,
            open_event: None,
            gap_event: None,
            ..feed_settings(settings)
        });
        Ok(())
    }
}

impl AdminHandler {
    /// Creates a handler with default settings; `complete` fills in the location's.
    pub(super) fn new(target: HubReference) -> AdminHandler {
        let feed = StreamHandler::new(target.clone(), Vec::new(), None, NameKind::Names);
        let publish = PublishHandler {
            target: target.clone(),
            channel: PublishChannel::Argument,
            event: None,
            finishing: Finishing::Allowed,
        };
        AdminHandler { target, feed, publish }
    }

    fn complete(&mut self, main: &Main, settings: &Settings) -> Result<(), String> {
        self.target.complete(main, "sse_admin")?;
        self.feed.target = self.target.clone();
        self.publish.target = self.target.clone();
        self.feed.direct = settings.direct();
        self.feed.expires = settings.expiry();
        // An administrator sees all that is retained, as it was published, and every loss.
        let StreamSettings { open_event, gap_event, .. } = Settings::default().resolve();
        self.feed.settings = Rc::new(StreamSettings {
            replay: Replay::All,
            open_event,
            gap_event,
            ..feed_settings(settings)
        });
        Ok(())
    }
}

impl PublishChannel {
    /// Returns the name for a request, or `None` if nginx is out of memory.
    pub fn evaluate<'r>(&'r self, request: &'r Request) -> Option<Cow<'r, [u8]>> {
        match self {
            PublishChannel::Value(channel) => channel.value.evaluate(request).map(Cow::Borrowed),
            PublishChannel::Argument => {
                Some(percent_decode(request.argument("channel").unwrap_or_default()).into())
            }
        }
    }
}

impl StreamHandler {
    /// Rejects patterns in a hub whose source is Redis streams, which cannot be subscribed to by a
    /// pattern.
    fn check_source(&self, main: &Main) -> Result<(), String> {
        let redis = main.hubs.get(self.target.hub).and_then(|hub| hub.redis.as_ref());
        let by_stream = redis.is_some_and(|redis| redis.source == hub::Source::Streams);
        if self.kind == NameKind::Patterns && by_stream {
            let position = &self.target.position;
            return Err(format!(
                "\"pattern\" cannot be used with \"redis_source stream\" in {position}"
            ));
        }
        Ok(())
    }

    /// Rejects `sse_replay run` where no run is owed, or where there are no runs.
    fn check_runs(&self, main: &Main) -> Result<(), String> {
        if self.settings.replay != Replay::Run {
            return Ok(());
        }
        let (name, position) = (self.target.hub_name(), &self.target.position);
        let has_runs = main.hubs.get(self.target.hub).is_some_and(|hub| hub.runs.count > 0);
        let is_own = |channel: &ChannelArgument| channel.source == NameSource::Own;
        let why = if self.kind == NameKind::Patterns {
            "cannot be used with \"pattern\"".to_owned()
        } else if self.channels.iter().any(is_own) {
            "cannot be used with the module's own channels".to_owned()
        } else if !has_runs {
            format!("needs \"runs\" in hub \"{name}\"")
        } else {
            return Ok(());
        };
        Err(format!("\"sse_replay run\" {why} in {position}"))
    }

    /// Creates a handler with default settings; `complete` fills in the location's.
    pub(super) fn new(
        target: HubReference,
        channels: Vec<ChannelArgument>,
        split: Option<u8>,
        kind: NameKind,
    ) -> StreamHandler {
        let settings = Rc::new(Settings::default().resolve());
        let (last_event_id, since, expires) = (Rc::default(), None, None);
        let (direct, lean) = (true, false);
        StreamHandler {
            target,
            channels,
            split,
            kind,
            last_event_id,
            since,
            expires,
            settings,
            direct,
            lean,
        }
    }
}

impl HubReference {
    /// Creates a reference to the hub that the location uses by default.
    pub(super) fn new(context: &ConfContext<'_>) -> HubReference {
        HubReference { name: None, position: context.position(), hub: 0 }
    }

    /// Returns the hub's name, or an empty string before `complete`.
    pub fn hub_name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Sets the name from the argument `hub=`.
    pub(super) fn name(&mut self, name: &[u8]) -> Result<(), ConfError> {
        let text = std::str::from_utf8(name).ok().filter(|name| !name.is_empty());
        let text = text.ok_or_else(|| ConfError::no_valid("hub name", name))?;
        once(&mut self.name, text.to_owned())
    }

    /// Resolves the reference. Called when all blocks have been read.
    fn complete(&mut self, main: &Main, directive: &str) -> Result<(), String> {
        self.hub = main
            .resolve(self.name.as_deref(), directive)
            .map_err(|what| format!("{what} in {}", self.position))?;
        self.name = main.hubs.get(self.hub).map(|hub| hub.name.clone());
        main.used.set(true);
        Ok(())
    }
}

/// Returns the settings of a feed: the location's, except those that concern events of publishers.
fn feed_settings(settings: &Settings) -> StreamSettings {
    StreamSettings {
        slow_client: SlowClient::Skip,
        naming: Naming::ByType,
        max_subscribers: 0,
        finished: Finished::Ignored,
        unknown_channel: UnknownChannel::Wait,
        ..settings.resolve()
    }
}
