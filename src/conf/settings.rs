//! The settings of streams, which are inherited from `http` to `server` to `location`.

use super::cors::Cors;
use crate::nginx::complex_value::ComplexValue;
use crate::worker::{
    ExpiryEvent, Finished, Jittered, Naming, Reconnect, Replay, SlowClient, StreamSettings,
    UnknownChannel,
};
use std::rc::Rc;

const DEFAULT_HEARTBEAT: u64 = 15_000;
const DEFAULT_RETRY: Jittered = Jittered { base: 3_000, jitter: 0 };
const DEFAULT_DRAIN: u64 = 5_000;
const DEFAULT_PROXY_READ_TIMEOUT: u64 = 3_600_000;

/// The values set at one level; `None` is inherited.
#[derive(Default)]
pub struct Settings {
    pub(super) replay: Option<Replay>,
    pub(super) last_event_id: Option<Rc<Vec<ComplexValue>>>,
    pub(super) since: Option<Rc<ComplexValue>>,
    pub(super) heartbeat: Option<Option<u64>>,
    pub(super) retry: Option<Jittered>,
    pub(super) open_event: Option<Option<Box<[u8]>>>,
    pub(super) gap_event: Option<Option<Box<[u8]>>>,
    pub(super) slow_client: Option<SlowClient>,
    pub(super) finished: Option<Finished>,
    pub(super) unknown_channel: Option<UnknownChannel>,
    pub(super) naming: Option<Naming>,
    pub(super) max_age: Option<Option<Jittered>>,
    pub(super) expires: Option<Rc<Expires>>,
    pub(super) reconnect: Option<Reconnect>,
    pub(super) max_subscribers: Option<u32>,
    pub(super) drain: Option<u64>,
    pub(super) cors: Option<Option<Rc<Cors>>>,
    pub(super) direct: Option<bool>,
    pub(super) lean: Option<bool>,
    pub(super) proxy_unbuffered: Option<bool>,
    pub(super) proxy_read_timeout: Option<Option<u64>>,
}

/// `sse_expires`
pub struct Expires {
    /// The time at which a client's permission ends; `None` if only the token has one.
    pub value: Option<ComplexValue>,
    /// What happens if the value is empty.
    pub absence: ExpiryAbsence,
    /// The event before the end.
    pub(super) event: Option<ExpiryEvent>,
}

/// What happens to a request for which `sse_expires` is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryAbsence {
    /// Its stream has no end.
    Allowed,
    /// It is refused.
    Refused,
}

/// How event streams of an upstream are passed on.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProxiedStreams {
    /// Whether each piece is passed on when it arrives.
    pub unbuffered: bool,
    /// The time after which a silent upstream is given up, in ms; `None` for nginx's own setting.
    pub read_timeout: Option<u64>,
}

impl Settings {
    /// Copies the values that are not set here from the enclosing level.
    pub fn inherit(&mut self, outer: &Settings) {
        fn take<T: Clone>(inner: &mut Option<T>, outer: &Option<T>) {
            if inner.is_none() {
                inner.clone_from(outer);
            }
        }
        take(&mut self.replay, &outer.replay);
        take(&mut self.last_event_id, &outer.last_event_id);
        take(&mut self.since, &outer.since);
        take(&mut self.heartbeat, &outer.heartbeat);
        take(&mut self.retry, &outer.retry);
        take(&mut self.open_event, &outer.open_event);
        take(&mut self.gap_event, &outer.gap_event);
        take(&mut self.slow_client, &outer.slow_client);
        take(&mut self.finished, &outer.finished);
        take(&mut self.unknown_channel, &outer.unknown_channel);
        take(&mut self.naming, &outer.naming);
        take(&mut self.max_age, &outer.max_age);
        take(&mut self.expires, &outer.expires);
        take(&mut self.reconnect, &outer.reconnect);
        take(&mut self.max_subscribers, &outer.max_subscribers);
        take(&mut self.drain, &outer.drain);
        take(&mut self.cors, &outer.cors);
        take(&mut self.direct, &outer.direct);
        take(&mut self.lean, &outer.lean);
        take(&mut self.proxy_unbuffered, &outer.proxy_unbuffered);
        take(&mut self.proxy_read_timeout, &outer.proxy_read_timeout);
    }

    /// Returns the settings of streams, with the defaults filled in.
    pub fn resolve(&self) -> StreamSettings {
        let event = |set: &Option<Option<Box<[u8]>>>, default: &[u8]| match set {
            Some(set) => set.clone(),
            None => Some(Box::from(default)),
        };
        let replay = self.replay.unwrap_or(Replay::Off);
        // A client that must not miss a part of a run cannot skip one.
        let slow_client = if replay == Replay::Run { SlowClient::Close } else { SlowClient::Skip };
        StreamSettings {
            replay,
            heartbeat: self.heartbeat.unwrap_or(Some(DEFAULT_HEARTBEAT)),
            retry: self.retry.unwrap_or(DEFAULT_RETRY),
            open_event: event(&self.open_event, b"sse.open"),
            gap_event: event(&self.gap_event, b"sse.gap"),
            slow_client: self.slow_client.unwrap_or(slow_client),
            finished: self.finished.unwrap_or(Finished::NoContent),
            unknown_channel: self.unknown_channel.unwrap_or(UnknownChannel::Wait),
            naming: self.naming.unwrap_or(Naming::ByType),
            max_age: self.max_age.flatten(),
            expiry_event: self.expires.as_ref().and_then(|expires| expires.event.clone()),
            reconnect: self.reconnect.unwrap_or(Reconnect::Cut),
            max_subscribers: self.max_subscribers.unwrap_or(0),
        }
    }

    /// Returns the values that may contain a client's last id; empty if not set.
    pub fn last_event_id(&self) -> Rc<Vec<ComplexValue>> {
        self.last_event_id.clone().unwrap_or_default()
    }

    /// Returns the value that may contain a time from which a client without an id resumes.
    pub fn since(&self) -> Option<Rc<ComplexValue>> {
        self.since.clone()
    }

    /// Returns how `sse_expires` determines the end of a client's permission, if it does.
    pub fn expiry(&self) -> Option<Rc<Expires>> {
        self.expires.clone()
    }

    /// Returns the other origins whose pages are allowed.
    pub fn cors(&self) -> Option<Rc<Cors>> {
        self.cors.clone().flatten()
    }

    /// Returns how event streams of an upstream are passed on.
    pub fn proxied(&self) -> ProxiedStreams {
        ProxiedStreams {
            unbuffered: self.proxy_unbuffered.unwrap_or(true),
            read_timeout: self.proxy_read_timeout.unwrap_or(Some(DEFAULT_PROXY_READ_TIMEOUT)),
        }
    }

    /// Returns whether streams may bypass nginx's filters.
    pub fn direct(&self) -> bool {
        self.direct.unwrap_or(true)
    }

    /// Returns whether requests are released once their streams run. Streams that go through the
    /// filters need their requests.
    pub fn lean(&self) -> bool {
        self.lean.unwrap_or(false) && self.direct()
    }

    /// Whether `sse_lean on` and `sse_direct off`, which exclude each other, are set at this level.
    pub fn has_conflict(&self) -> bool {
        self.lean == Some(true) && self.direct == Some(false)
    }

    /// Returns the time over which streams are ended on reload and quit, in ms.
    pub fn drain(&self) -> u64 {
        self.drain.unwrap_or(DEFAULT_DRAIN)
    }
}
