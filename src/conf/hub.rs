//! Hubs: the `sse_hub` block, how locations refer to a hub, and the shared memory zone of each hub.

use super::argument::{number, once, one, size};
use super::redis::{self, RedisConf};
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
const MIN_ZONE: usize = 1 << 20;
const DEFAULT_MAX_EVENT: usize = 256 << 10;
const DEFAULT_HISTORY: History = History { count: 100, age: 600_000 };
const DEFAULT_RUNS_AGE: u64 = 3_600_000;
/// Minimum and maximum number of process slots in a hub. A reload needs slots for two generations
/// of workers, reloads in quick succession for more.
const SLOTS: std::ops::RangeInclusive<usize> = 32..=512;

/// The module's main configuration.
#[derive(Default)]
pub struct Main {
    /// In the order of the configuration; never empty after `complete`.
    pub hubs: Vec<Rc<HubConf>>,
    /// Whether any location uses a hub. If none does, no memory is allocated.
    pub used: Cell<bool>,
    /// The variables of `sse_jwt_set`: their names in lower case, and the paths of their claims.
    pub claim_variables: Vec<(String, Vec<String>)>,
    /// The longest `sse_drain` of all streams, in ms.
    pub drain: Cell<u64>,
}

/// The configuration of a hub.
pub struct HubConf {
    pub name: String,
    pub max_event: usize,
    pub history: History,
    /// How much of its unfinished run each channel is owed.
    pub runs: History,
    /// Whether the hub publishes presence events.
    pub presence: PresenceSetting,
    /// How the hub is connected to Redis; `None` if it is not.
    pub redis: Option<RedisConf>,
    zone: usize,
    position: Option<Position>,
    /// Whether the hub that nginx runs has a damaged header, so that a new one replaces it.
    replaces_damaged: Cell<bool>,
    /// Set in the master process when the zone exists, before any worker starts.
    resources: OnceCell<HubResources>,
}

/// The value of `presence`: whether streams that open and close are reported on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresenceSetting {
    Off,
    On,
}

/// A hub's memory and its eventfds.
pub struct HubResources {
    pub region: Region,
    pub wakers: &'static EventfdWakers,
}

impl Main {
    /// Adds the default hub if the configuration has none. Called when all blocks have been read.
    pub fn complete(&mut self) {
        if self.hubs.is_empty() {
            let conf = HubBlock::default().finish(DEFAULT_NAME.to_owned(), None, None);
            self.hubs.push(Rc::new(conf));
        }
    }

    /// Returns the number of the hub that a location refers to: the hub it names, or else the hub
    /// called `default`, or else the only hub.
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
    /// Returns the hub's memory and eventfds, if nginx has created its zone.
    pub fn resources(&self) -> Option<&HubResources> {
        self.resources.get()
    }

    /// Whether the configuration has a block for the hub.
    pub fn is_in_configuration(&self) -> bool {
        self.position.is_some()
    }

    /// Returns the name of the hub's zone: `KIND:NAME`, or `KIND+GENERATION:NAME` if a damaged hub
    /// was replaced. Settings that are not part of the name can be changed without losing the hub's
    /// contents.
    fn zone_name(&self) -> String {
        let joined = self.redis.as_ref().map(|redis| format!("-{:016x}", redis.identity));
        let joined = joined.unwrap_or_default();
        let kind = format!("sse{}-{}{joined}", hub::LAYOUT, self.max_event);
        let generation = self.running(&kind).map_or(0, |(generation, region)| {
            if Hub::attach(region).is_ok() {
                return generation;
            }
            self.replaces_damaged.set(true);
            generation.wrapping_add(1)
        });
        match generation {
            0 => format!("{kind}:{}", self.name),
            _ => format!("{kind}+{generation}:{}", self.name),
        }
    }

    /// Returns the generation and the memory of the hub in the configuration that nginx runs, if it
    /// has the same kind.
    fn running(&self, kind: &str) -> Option<(u32, Region)> {
        zone::running().find_map(|(zone, region)| {
            let (its_kind, name) = std::str::from_utf8(zone).ok()?.split_once(':')?;
            let rest = its_kind.strip_prefix(kind).filter(|_| name == self.name)?;
            let generation = match rest.strip_prefix('+') {
                Some(number) => number.parse().ok()?,
                None if rest.is_empty() => 0,
                None => return None,
            };
            Some((generation, region))
        })
    }

    /// Returns the size in bytes of the smallest usable zone. The number of workers may not be
    /// known yet, so it has slots for as many processes as possible.
    fn min_zone_size(&self) -> usize {
        let region = Plan::minimum_bytes(*SLOTS.end(), self.max_event);
        zone::size_for(region).max(MIN_ZONE)
    }
}

impl ZoneOwner for HubConf {
    fn use_zone(&self, zone: ReadyZone) -> Result<(), String> {
        let slots = (4 * zone.workers + 8).clamp(*SLOTS.start(), *SLOTS.end());
        let wakers = EventfdWakers::for_workers(zone.workers)
            .map_err(|error| format!("no eventfds to wake worker processes: {error}"))?;
        if zone.contents != ZoneContents::Kept {
            let plan = Plan {
                bytes: usize::MAX,
                slots,
                max_event: self.max_event,
                history: self.history,
                runs: self.runs,
                source: self.redis.as_ref().map_or(hub::Source::Alone, |redis| redis.source),
            };
            let tag = (random::bits() >> 32) as u32;
            hub::format(&zone.region, &plan, tag, clock::now())
                .map_err(|error| format!("hub \"{}\": {error}", self.name))?;
        }
        let hub = Hub::attach(zone.region.clone()).map_err(|error| error.to_string())?;
        if 2 * zone.workers > hub.slots() {
            log::write(
                Level::Warn,
                format_args!(
                    "sse: hub \"{}\" has slots for {} processes; for more workers, restart nginx",
                    self.name,
                    hub.slots()
                ),
            );
        }
        if self.replaces_damaged.get() {
            log::write(
                Level::Crit,
                format_args!(
                    "sse: hub \"{}\" starts empty because its memory was damaged",
                    self.name
                ),
            );
        } else if zone.contents == ZoneContents::Replaced {
            log::write(
                Level::Notice,
                format_args!(
                    "sse: hub \"{}\" starts empty because its zone size, max_event_size, or Redis \
                     has changed",
                    self.name
                ),
            );
        }
        let resources = HubResources { region: zone.region, wakers };
        self.resources.set(resources).map_err(|_| format!("hub \"{}\" has two zones", self.name))
    }

    fn owned(&self, zone: &[u8]) -> bool {
        let mut parts = zone.splitn(2, |byte| *byte == b':');
        let ours = parts.next().is_some_and(|kind| kind.starts_with(b"sse"));
        ours && parts.next() == Some(self.name.as_bytes())
    }
}

/// Applies this configuration's history settings to all running hubs.
pub fn set_history(main: &Main) {
    for conf in &main.hubs {
        let Some(resources) = conf.resources() else { continue };
        let hub = match Hub::attach(resources.region.clone()) {
            Ok(hub) => hub,
            Err(error) => {
                log::write(Level::Crit, format_args!("sse: hub \"{}\": {error}", conf.name));
                continue;
            }
        };
        if let Err(error) = hub.set_history(conf.history, conf.runs) {
            log::write(
                Level::Warn,
                format_args!(
                    "sse: hub \"{}\" keeps its previous settings of \"history\" and \"runs\": {error}",
                    conf.name
                ),
            );
        }
    }
}

/// Asks nginx for the zones of all hubs. Does nothing if no location uses a hub.
pub fn add_zones(context: &mut ConfContext<'_>) -> Result<(), ConfError> {
    let main: &Main = context.main_conf();
    let hubs = if main.used.get() { main.hubs.clone() } else { Vec::new() };
    let zones: Vec<_> = hubs.iter().map(|conf| (conf.zone_name(), conf.zone)).collect();
    if zone::would_be_unmapped(&zones) {
        return Err(ConfError::message(
            "with \"master_process off\", a reload cannot replace or remove a hub: restart nginx",
        ));
    }
    for ((name, size), conf) in zones.iter().zip(hubs) {
        context.add_zone(name, *size, conf)?;
    }
    Ok(())
}

/// The contents of an `sse_hub` block while it is parsed.
#[derive(Default)]
struct HubBlock {
    zone: Option<usize>,
    history: Option<History>,
    runs: Option<History>,
    max_event: Option<usize>,
    presence: Option<PresenceSetting>,
    redis: redis::RedisBlock,
}

impl HubBlock {
    /// Creates the hub's configuration, with the defaults filled in.
    fn finish(self, name: String, position: Option<Position>, redis: Option<RedisConf>) -> HubConf {
        HubConf {
            name,
            max_event: self.max_event.unwrap_or(DEFAULT_MAX_EVENT),
            history: self.history.unwrap_or(DEFAULT_HISTORY),
            runs: self.runs.unwrap_or(History::NONE),
            presence: self.presence.unwrap_or(PresenceSetting::Off),
            redis,
            zone: self.zone.unwrap_or(DEFAULT_ZONE),
            position,
            replaces_damaged: Cell::new(false),
            resources: OnceCell::new(),
        }
    }

    /// Parses one directive of the block.
    fn set(&mut self, context: &mut ConfContext<'_>) -> Result<(), ConfError> {
        let words = context.words();
        let (name, arguments) = words.split_first().ok_or(ConfError::AlreadyLogged)?;
        match *name {
            b"zone" => once(&mut self.zone, size(one(name, arguments)?)?),
            b"max_event_size" => once(&mut self.max_event, size(one(name, arguments)?)?),
            b"presence" => once(&mut self.presence, presence(one(name, arguments)?)?),
            b"redis" => self.redis.set_address(one(name, arguments)?),
            b"redis_source" => self.redis.set_source(one(name, arguments)?),
            b"redis_prefix" => self.redis.set_prefix(one(name, arguments)?),
            b"history" => once(&mut self.history, history(name, arguments, DEFAULT_HISTORY.age)?),
            b"runs" => once(&mut self.runs, history(name, arguments, DEFAULT_RUNS_AGE)?),
            _ => Err(ConfError::message(format_args!(
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
        return Err(ConfError::message(format_args!("duplicate hub \"{name}\", first in {first}")));
    }
    let mut block = HubBlock::default();
    context.block(|context| block.set(context))?;
    let redis = std::mem::take(&mut block.redis).finish()?;
    let conf = block.finish(name, Some(position), redis);
    let minimum = conf.min_zone_size();
    if conf.zone < minimum {
        return Err(ConfError::message(format_args!(
            "zone of hub \"{}\" is too small: events of {} need at least {}",
            conf.name,
            shown(conf.max_event),
            shown(minimum)
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

/// `history COUNT [AGE];`, `history off;`, `runs COUNT [AGE];`, or `runs off;`
fn history(name: &[u8], arguments: &[&[u8]], default_age: u64) -> Result<History, ConfError> {
    match arguments {
        [b"off"] => Ok(History::NONE),
        [count] => Ok(History { count: number(count)?, age: default_age }),
        [count, age] => {
            let time = parse_time(age).ok_or_else(|| ConfError::invalid(age))?;
            Ok(History { count: number(count)?, age: time })
        }
        _ => Err(ConfError::message(format_args!(
            "invalid number of arguments in \"{}\" directive",
            String::from_utf8_lossy(name)
        ))),
    }
}

/// Formats a size in nginx's notation.
fn shown(bytes: usize) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 20) => format!("{}m", bytes >> 20),
        _ => format!("{}k", bytes.div_ceil(1 << 10)),
    }
}
