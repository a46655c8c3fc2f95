//! What the command line asks for, and what the machine allows.

use super::mode::{named, Case, Mode, Work, MODES};
use super::round::Round;
use super::variant::{Place, Variant, VARIANTS};
use crate::flags::Flags;
use rustix::process::{getrlimit, Resource};
use std::path::PathBuf;

/// Descriptors of a process that are no clients.
const OTHER_DESCRIPTORS: usize = 300;

/// See above.
pub struct Options {
    pub modes: Vec<&'static Mode>,
    pub million: bool,
    pub many: bool,
    pub redis: bool,
    pub blocking: bool,
    /// Only these situations of what blocks; all if there is none.
    situations: Vec<String>,
    pub variants: Vec<&'static Variant>,
    pub rounds: usize,
    pub quick: bool,
    /// In place of the modes' own number.
    pub clients: Option<usize>,
    /// In place of the modes' own time, in seconds.
    pub seconds: Option<f64>,
    /// Clients that one process can hold.
    pub most_clients: usize,
    pub place: Place,
    pub directory: PathBuf,
    pub json: PathBuf,
    pub round: Option<Round>,
}

impl Options {
    pub fn read(mut flags: Flags) -> Result<Self, String> {
        let quick = flags.switch("quick");
        let rounds: Option<usize> = flags.parsed("rounds")?;
        let directory = PathBuf::from(flags.value("dir")?.unwrap_or_else(|| "bench-run".into()));
        let variants = flags.value("variants")?;
        let json = flags.value("json")?.map(PathBuf::from);
        let place = Place {
            nginx: flags.value("nginx")?.unwrap_or_else(|| "nginx".into()).into(),
            ours: flags.value("module")?.unwrap_or_default().into(),
            traced: flags.value("traced-module")?.unwrap_or_default().into(),
            nchan: flags.value("nchan")?.unwrap_or_default().into(),
            redis: flags.value("redis")?.unwrap_or_else(|| "redis-server".into()).into(),
            user: flags.value("user")?.unwrap_or_default(),
        };
        let clients = flags.parsed("clients")?;
        let seconds = flags.parsed("seconds")?;
        let round = Round::read(&mut flags, clients, seconds)?;
        let situations = flags.value("situations")?.unwrap_or_default();
        let situations = situations.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
        let situations = situations.collect();
        let Modes { modes, million, many, redis, blocking } = modes(&mut flags, quick)?;
        flags.finish()?;
        Ok(Self {
            modes,
            million,
            many,
            redis,
            blocking,
            situations,
            variants: chosen(variants.as_deref())?,
            rounds: rounds.unwrap_or(if quick { 1 } else { 3 }).max(1),
            quick,
            clients,
            seconds,
            most_clients: descriptors().saturating_sub(OTHER_DESCRIPTORS),
            place,
            json: json.unwrap_or_else(|| directory.join("figures.json")),
            directory,
            round,
        })
    }

    /// A mode's load as it is asked for here.
    pub fn shape(&self, work: Work) -> Work {
        let mut work = if self.quick { work.quick() } else { work };
        if let Some(clients) = self.clients.filter(|_| work.clients > 0) {
            work.clients = clients;
        }
        work.clients = work.clients.min(self.most_clients);
        if let Some(seconds) = self.seconds.filter(|_| work.seconds > 0.0) {
            work.seconds = seconds;
        }
        work
    }
}

impl Options {
    /// Whether a situation of what blocks is wanted.
    pub fn has_situation(&self, name: &str) -> bool {
        self.situations.is_empty() || self.situations.iter().any(|wanted| wanted == name)
    }

    /// The most clients that a chosen mode wants, when that is more than one process can hold.
    pub fn too_many(&self) -> Option<usize> {
        let wanted = |case: &Case| match self.clients {
            Some(clients) if case.work.clients > 0 => clients,
            _ => case.work.clients,
        };
        let cases = self.modes.iter().flat_map(|mode| mode.cases);
        cases.map(wanted).max().filter(|clients| !self.quick && *clients > self.most_clients)
    }
}

/// Files that one process may have open.
pub fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// The modes that are tables of loads, and whether those are chosen that are not.
#[derive(Default)]
struct Modes {
    modes: Vec<&'static Mode>,
    million: bool,
    many: bool,
    redis: bool,
    blocking: bool,
}

fn modes(flags: &mut Flags, quick: bool) -> Result<Modes, String> {
    let mut chosen = Modes::default();
    while let Some(word) = flags.word() {
        match word.as_str() {
            "all" => chosen.modes.extend(MODES),
            "million" => chosen.million = true,
            "many" => chosen.many = true,
            "redis" => chosen.redis = true,
            "blocking" => chosen.blocking = true,
            name => {
                let mode = named(name).ok_or_else(|| format!("there is no mode {name}"))?;
                chosen.modes.push(mode);
            }
        }
    }
    let others = chosen.million || chosen.many || chosen.redis || chosen.blocking;
    if chosen.modes.is_empty() && !others {
        // Those whose figures mean something within a second, as many as fit into a minute.
        let long = |mode: &Mode| matches!(mode.name, "wide" | "slow" | "workers" | "h2-idle");
        let brief = |mode: &&Mode| !quick || !long(mode);
        chosen.modes.extend(MODES.iter().filter(brief));
    }
    Ok(chosen)
}

fn chosen(names: Option<&str>) -> Result<Vec<&'static Variant>, String> {
    let Some(names) = names else { return Ok(VARIANTS.iter().collect()) };
    let find = |name: &str| VARIANTS.iter().find(|variant| variant.name == name);
    names.split(',').map(|name| find(name).ok_or(format!("there is no variant {name}"))).collect()
}
