//! The options of the command line, and the limits of the machine.

use super::mode::{named, Case, Mode, Work, MODES};
use super::round::Round;
use super::variant::{Place, Variant, VARIANTS};
use crate::flags::Flags;
use rustix::process::{getrlimit, Resource};
use std::path::PathBuf;

/// File descriptors of a process other than those of clients.
const OTHER_DESCRIPTORS: usize = 300;

/// The options of the command line.
pub struct Options {
    pub modes: Vec<&'static Mode>,
    pub million: bool,
    pub many: bool,
    pub redis: bool,
    pub blocking: bool,
    pub tokens: bool,
    /// The chosen situations of the mode `blocking`; empty for all.
    situations: Vec<String>,
    pub variants: Vec<&'static Variant>,
    pub rounds: usize,
    pub quick: bool,
    /// Overrides the modes' number of clients.
    pub clients: Option<usize>,
    /// Overrides the modes' time, in seconds.
    pub seconds: Option<f64>,
    /// Maximum number of clients of one process.
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
        let Modes { modes, million, many, redis, blocking, tokens } = modes(&mut flags, quick)?;
        flags.finish()?;
        Ok(Self {
            modes,
            million,
            many,
            redis,
            blocking,
            tokens,
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

    /// Applies the options to a mode's load.
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
    /// Whether a situation of the mode `blocking` is chosen.
    pub fn has_situation(&self, name: &str) -> bool {
        self.situations.is_empty() || self.situations.iter().any(|wanted| wanted == name)
    }

    /// Returns the maximum number of clients of the chosen modes, if one process cannot hold that
    /// many.
    pub fn too_many(&self) -> Option<usize> {
        let wanted = |case: &Case| match self.clients {
            Some(clients) if case.work.clients > 0 => clients,
            _ => case.work.clients,
        };
        let cases = self.modes.iter().flat_map(|mode| mode.cases);
        cases.map(wanted).max().filter(|clients| !self.quick && *clients > self.most_clients)
    }
}

/// Returns the maximum number of open files of a process.
pub fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// The chosen modes that are tables of loads, and whether the other modes are chosen.
#[derive(Default)]
struct Modes {
    modes: Vec<&'static Mode>,
    million: bool,
    many: bool,
    redis: bool,
    blocking: bool,
    tokens: bool,
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
            "tokens" => chosen.tokens = true,
            name => {
                let mode = named(name).ok_or_else(|| format!("there is no mode {name}"))?;
                chosen.modes.push(mode);
            }
        }
    }
    let others = chosen.million || chosen.many || chosen.redis || chosen.blocking || chosen.tokens;
    if chosen.modes.is_empty() && !others {
        // Modes whose figures are meaningful within a second, as many as fit into a minute.
        let long =
            |mode: &Mode| matches!(mode.name, "latency" | "wide" | "slow" | "workers" | "h2-idle");
        let brief = |mode: &&Mode| !quick || !long(mode);
        chosen.modes.extend(MODES.iter().filter(brief));
    }
    Ok(chosen)
}

fn chosen(names: Option<&str>) -> Result<Vec<&'static Variant>, String> {
    let Some(names) = names else { return Ok(VARIANTS.iter().collect()) };
    let find = |name: &str| VARIANTS.iter().find(|variant| variant.name == name);
    names.split(',').map(|name| find(name).ok_or(format!("unknown variant {name}"))).collect()
}
