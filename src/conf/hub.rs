//! Hubs: the `sse_hub` block, which hub a location means, and the zone that each hub gets.

use super::argument::{number, once, one, size};
use super::redis::{self, Redis};
use crate::hub::{self, History, Hub, Plan, Region};
use crate::nginx::conf_context::{ConfContext, Position};
use crate::nginx::conf_error::ConfError;
use crate::nginx::core_conf::parse_time;
use crate::nginx::log::{self, Level};
use crate::nginx::wakers::EventfdWakers;
use crate::nginx::zone::{self, ReadyZone, ZoneContents, ZoneOwner};
use crate::nginx::{clock, random};
use std::cell::{Cell, OnceCell};
use std::rc::Rc;

const DEFAULT_NAME: &str = "default";
const DEFAULT_ZONE: usize = 32 << 20;
const LEAST_ZONE: usize = 1 << 20;
const DEFAULT_MAX_EVENT: usize = 256 << 10;
const DEFAULT_HISTORY: History = History { count: 100, age: 600_000 };
/// Fewest and most processes that can have a seat in a hub at a time. A reload needs seats for two
/// generations of workers, quick reloads for more.
const SEATS: std::ops::RangeInclusive<usize> = 32..=512;

/// What the module knows of a whole configuration.
#[derive(Default)]
pub struct Main {
    /// In the order of the configuration; never empty once it is complete.
    pub hubs: Vec<Rc<HubConf>>,
    /// Whether any location uses a hub. Without one, no memory is taken.
    pub used: Cell<bool>,
    /// The longest `sse_drain` of all streams, in ms.
    pub drain: Cell<u64>,
}

/// One hub as it is configured.
pub struct HubConf {
    pub name: String,
    pub max_event: usize,
    pub history: History,
    /// Whether it tells on a channel of its own who comes and goes.
    pub presence: PresenceSetting,
    /// How it is joined to Redis, if it is.
    pub redis: Option<Redis>,
    zone: usize,
    position: Option<Position>,
    /// Set when the zone is there, in the master, before any worker.
    place: OnceCell<HubPlace>,
}

/// Whether a hub tells who comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresenceSetting {
    Off,
    On,
}

/// Where a hub lives.
pub struct HubPlace {
    pub region: Region,
    pub wakers: &'static EventfdWakers,
}

impl Main {
    /// The configuration has been read.
    pub fn complete(&mut self) {
        if self.hubs.is_empty() {
            let conf = Block::default().finish(DEFAULT_NAME.to_owned(), None, None);
            self.hubs.push(Rc::new(conf));
        }
    }

    /// The number of the hub that a location means: the one it names, or else the one called
    /// `default`, or else the only one.
    pub fn resolve(&self, name: Option<&str>, directive: &str) -> Result<usize, String> {
        let find = |wanted: &str| self.hubs.iter().position(|hub| hub.name == wanted);
        match name {
            Some(name) => {
                find(name).ok_or_else(|| format!("unknown hub \"{name}\" in \"{directive}\""))
            }
            None => find(DEFAULT_NAME)
                .or((self.hubs.len() == 1).then_some(0))
                .ok_or_else(|| format!("\"{directive}\" must name one of the hubs with \"hub=\"")),
        }
    }
}

impl HubConf {
    /// Where it lives, once nginx has made its zone.
    pub fn place(&self) -> Option<&HubPlace> {
        self.place.get()
    }

    /// The zone's name. What is not in it can be changed without losing what the hub holds.
    fn zone_name(&self) -> String {
        let joined = self.redis.as_ref().map(|redis| format!("-{:016x}", redis.identity));
        let joined = joined.unwrap_or_default();
        format!("sse{}-{}{joined}:{}", hub::LAYOUT, self.max_event, self.name)
    }

    /// The smallest zone that serves. The number of workers may not be known yet, so there is
    /// room for as many as can be.
    fn least_zone(&self) -> usize {
        let region = Plan::minimum_bytes(*SEATS.end(), self.max_event);
        zone::size_for(region).max(LEAST_ZONE)
    }
}

impl ZoneOwner for HubConf {
    fn move_in(&self, arrival: ReadyZone) -> Result<(), String> {
        let seats = (4 * arrival.workers + 8).clamp(*SEATS.start(), *SEATS.end());
        let wakers = EventfdWakers::for_workers(arrival.workers)
            .map_err(|error| format!("no eventfds to wake worker processes: {error}"))?;
        if arrival.found != ZoneContents::Kept {
            let plan = Plan {
                bytes: usize::MAX,
                slots: seats,
                max_event: self.max_event,
                history: self.history,
                source: self.redis.as_ref().map_or(hub::Source::Alone, |redis| redis.source),
            };
            let tag = (random::bits() >> 32) as u32;
            hub::format(&arrival.region, &plan, tag, clock::now())
                .map_err(|error| format!("hub \"{}\": {error}", self.name))?;
        }
        let kept = Hub::attach(arrival.region.clone()).map_err(|error| error.to_string())?;
        if 2 * arrival.workers > kept.slots() {
            log::write(
                Level::Warn,
                format_args!(
                    "sse: hub \"{}\" has seats for {} processes, more workers need a restart",
                    self.name,
                    kept.slots()
                ),
            );
        }
        if arrival.found == ZoneContents::Replaced {
            log::write(
                Level::Notice,
                format_args!(
                    "sse: hub \"{}\" starts anew, empty: a size, its Redis or the module has changed",
                    self.name
                ),
            );
        }
        let place = HubPlace { region: arrival.region, wakers };
        self.place.set(place).map_err(|_| format!("hub \"{}\" has two zones", self.name))
    }

    fn lived_in(&self, zone: &[u8]) -> bool {
        let mut parts = zone.splitn(2, |byte| *byte == b':');
        let ours = parts.next().is_some_and(|kind| kind.starts_with(b"sse"));
        ours && parts.next() == Some(self.name.as_bytes())
    }
}

/// Has each running hub keep what this configuration owes its channels.
pub fn set_history(main: &Main) {
    for conf in &main.hubs {
        let Some(place) = conf.place() else { continue };
        let hub = match Hub::attach(place.region.clone()) {
            Ok(hub) => hub,
            Err(error) => {
                log::write(Level::Crit, format_args!("sse: hub \"{}\": {error}", conf.name));
                continue;
            }
        };
        if let Err(error) = hub.set_history(conf.history) {
            log::write(
                Level::Warn,
                format_args!("sse: hub \"{}\" keeps its old history: {error}", conf.name),
            );
        }
    }
}

/// Asks nginx for the hubs' zones, when all that uses them is known.
pub fn add_zones(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    if !context.main_conf::<Main>().used.get() {
        return Ok(());
    }
    for conf in context.main_conf::<Main>().hubs.clone() {
        context.add_zone(&conf.zone_name(), conf.zone, conf.clone())?;
    }
    Ok(())
}

/// What stands in an `sse_hub` block, while it is read.
#[derive(Default)]
struct Block {
    zone: Option<usize>,
    history: Option<History>,
    max_event: Option<usize>,
    presence: Option<PresenceSetting>,
    redis: redis::Block,
}

impl Block {
    fn finish(self, name: String, position: Option<Position>, redis: Option<Redis>) -> HubConf {
        HubConf {
            name,
            max_event: self.max_event.unwrap_or(DEFAULT_MAX_EVENT),
            history: self.history.unwrap_or(DEFAULT_HISTORY),
            presence: self.presence.unwrap_or(PresenceSetting::Off),
            redis,
            zone: self.zone.unwrap_or(DEFAULT_ZONE),
            position,
            place: OnceCell::new(),
        }
    }

    fn set(&mut self, context: &mut ConfContext<'_>) -> Result<(), ConfError> {
        let words = context.words();
        let (name, arguments) = words.split_first().ok_or(ConfError::Told)?;
        match *name {
            b"zone" => once(&mut self.zone, size(one(name, arguments)?)?),
            b"max_event_size" => once(&mut self.max_event, size(one(name, arguments)?)?),
            b"presence" => once(&mut self.presence, presence(one(name, arguments)?)?),
            b"redis" => self.redis.set_address(one(name, arguments)?),
            b"redis_source" => self.redis.set_source(one(name, arguments)?),
            b"redis_prefix" => self.redis.set_prefix(one(name, arguments)?),
            b"history" => once(&mut self.history, history(arguments)?),
            _ => Err(ConfError::because(format_args!(
                "unknown directive \"{}\"",
                String::from_utf8_lossy(name)
            ))),
        }
    }
}

/// `sse_hub NAME { ... }`
pub fn block(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let position = context.position();
    let arguments = context.arguments();
    let name = one(b"sse_hub", &arguments)?;
    let valid = !name.is_empty() && name.len() <= 64 && name.iter().all(u8::is_ascii_graphic);
    let name = std::str::from_utf8(name)
        .ok()
        .filter(|_| valid)
        .ok_or_else(|| ConfError::no_valid("hub name", name))?
        .to_owned();
    if let Some(first) = context.main_conf::<Main>().hubs.iter().find(|hub| hub.name == name) {
        let first = first.position.as_ref().map(Position::to_string).unwrap_or_default();
        return Err(ConfError::because(format_args!("duplicate hub \"{name}\", first in {first}")));
    }
    let mut block = Block::default();
    context.block(|context| block.set(context))?;
    let redis = std::mem::take(&mut block.redis).finish()?;
    let conf = block.finish(name, Some(position), redis);
    let least = conf.least_zone();
    if conf.zone < least {
        return Err(ConfError::because(format_args!(
            "zone of hub \"{}\" is too small: events of {} need at least {}",
            conf.name,
            shown(conf.max_event),
            shown(least)
        )));
    }
    context.main_conf::<Main>().hubs.push(Rc::new(conf));
    Ok(())
}

/// `presence on | off;`
fn presence(argument: &[u8]) -> Result<PresenceSetting, ConfError> {
    match argument {
        b"on" => Ok(PresenceSetting::On),
        b"off" => Ok(PresenceSetting::Off),
        other => Err(ConfError::invalid(other)),
    }
}

/// `history COUNT [AGE];` or `history off;`
fn history(arguments: &[&[u8]]) -> Result<History, ConfError> {
    match arguments {
        [b"off"] => Ok(History { count: 0, age: 0 }),
        [count] => Ok(History { count: number(count)?, age: DEFAULT_HISTORY.age }),
        [count, age] => {
            let time = parse_time(age).ok_or_else(|| ConfError::invalid(age))?;
            Ok(History { count: number(count)?, age: time })
        }
        _ => Err(ConfError::because("invalid number of arguments in \"history\" directive")),
    }
}

/// A size as nginx's configuration would have it.
fn shown(bytes: usize) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 20) => format!("{}m", bytes >> 20),
        _ => format!("{}k", bytes.div_ceil(1 << 10)),
    }
}
