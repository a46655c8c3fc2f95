//! The driver: runs the chosen modes on the chosen servers, in rounds, so that disturbances of the
//! machine affect all servers alike, and shows medians and ratios.
//!
//! A slow machine does not make a run fail. Events that are lost, duplicated, or out of order do.

mod behind_redis;
mod blocking;
mod child;
mod figures;
mod fleet;
mod generator;
mod h2;
mod idle_clients;
mod many;
mod million;
mod mode;
mod options;
mod page;
mod probe;
mod process;
mod progress;
mod redis;
mod round;
mod run;
mod server;
mod table;
mod tls;
mod tokens;
mod transport;
mod variant;

use crate::flags::Flags;
use figures::Series;
use mode::{Case, Mode};
use options::Options;
use progress::Progress;
use serde_json::{json, Map, Value};
use server::Wanted;
use std::collections::BTreeMap;
use std::process::ExitCode;
use transport::Transport;
use variant::{Sort, Variant};

/// The measurements by case and variant.
type Results = BTreeMap<(&'static str, &'static str), Series>;

pub fn main(flags: Flags) -> Result<ExitCode, String> {
    let options = Options::read(flags)?;
    if let Some(round) = &options.round {
        return round::round(round);
    }
    let variants = available(&options);
    if options.quick && !options.modes.is_empty() {
        println!("quick: a tenth of the clients and channels that the titles name\n");
    }
    if let Some(clients) = options.too_many() {
        let most = options.most_clients;
        eprintln!("bench: {most} clients in place of {clients}: a process may open no more files");
    }
    let mut bench = Bench { all: Map::new(), results: Results::new(), errors: Vec::new(), options };
    bench.run_modes(&variants)?;
    if bench.options.million {
        bench.run_million(&variants);
    }
    if bench.options.many {
        bench.run_many(&variants);
    }
    if bench.options.redis {
        bench.run_behind_redis(&variants);
    }
    if bench.options.blocking {
        bench.run_blocking();
    }
    if bench.options.tokens {
        bench.run_tokens();
    }
    bench.write()?;
    for error in &bench.errors {
        eprintln!("bench: ERROR: {error}");
    }
    Ok(if bench.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the variants that this machine can run, and prints why it cannot run the others.
fn available(options: &Options) -> Vec<&'static Variant> {
    let mut available = Vec::new();
    for variant in &options.variants {
        let directory = options.directory.join("check").join(variant.name);
        let wanted = Wanted {
            variant,
            place: &options.place,
            directory: &directory,
            workers: 1,
            clients: 10,
            transport: Transport::Plain,
        };
        match server::check(&wanted) {
            Ok(()) => available.push(*variant),
            Err(why) => eprintln!("left out: {}: {why}", variant.name),
        }
    }
    available
}

struct Bench {
    options: Options,
    results: Results,
    /// Results of the modes that are not tables.
    all: Map<String, Value>,
    errors: Vec<String>,
}

impl Bench {
    fn run_modes(&mut self, variants: &[&'static Variant]) -> Result<(), String> {
        let plan = plan(&self.options.modes, variants);
        let runs = plan.iter().map(|(_, variants)| variants.len()).sum::<usize>();
        let mut progress = Progress::new(runs * self.options.rounds);
        for mode in self.options.modes.clone() {
            let own: Vec<_> = plan.iter().filter(|(case, _)| belongs(mode, case)).collect();
            for round in 1..=self.options.rounds {
                for (case, variants) in &own {
                    if self.has(case, round) {
                        continue; // another mode shows the same load
                    }
                    for variant in variants {
                        progress.begin(mode.name, case.name, variant.name, round);
                        self.run_once(case, variant, round);
                    }
                }
            }
            progress::passing("");
            table::print(mode, variants, &self.results);
        }
        Ok(())
    }

    /// Whether all runs of this load have been made in a round.
    fn has(&self, case: &Case, round: usize) -> bool {
        let mut series = self.results.iter().filter(|(key, _)| key.0 == case.name);
        series.any(|(_, series)| series.rounds.len() + series.errors.len() >= round)
            && self.options.modes.iter().filter(|mode| belongs(mode, case)).count() > 1
    }

    fn run_once(&mut self, case: &Case, variant: &'static Variant, round: usize) {
        let work = self.options.shape(case.work);
        let directory = self.options.directory.join(variant.name).join(case.name.replace(' ', "-"));
        let wanted = Wanted {
            variant,
            place: &self.options.place,
            directory: &directory,
            workers: work.workers,
            clients: work.clients,
            transport: work.transport,
        };
        let outcome = std::fs::create_dir_all(&directory)
            .map_err(|error| format!("{}: {error}", directory.display()))
            .and_then(|()| run::run(&wanted, &work));
        let series = self.results.entry((case.name, variant.name)).or_default();
        let error = match outcome {
            Ok(outcome) => {
                series.rounds.push(outcome.figures);
                outcome.errors
            }
            Err(sentence) => sentence,
        };
        if !error.is_empty() {
            let error = format!("{}, {}, round {round}: {error}", variant.name, case.name);
            progress::passing("");
            eprintln!("bench: {error}");
            series.errors.push(error.clone());
            self.errors.push(error);
        }
    }

    fn run_million(&mut self, variants: &[&'static Variant]) {
        for variant in variants.iter().filter(|variant| variant.sort() == Sort::Nginx) {
            match million::run(variant, &self.options) {
                Ok(outcome) => {
                    let entry = self.all.entry("million").or_insert_with(|| json!({}));
                    if let Some(entry) = entry.as_object_mut() {
                        entry.insert(variant.name.to_owned(), json!(outcome.figures));
                    }
                    if !outcome.errors.is_empty() {
                        self.errors.push(format!("{}, million: {}", variant.name, outcome.errors));
                    }
                }
                Err(why) => self.errors.push(format!("{}, million: {why}", variant.name)),
            }
        }
    }

    fn run_many(&mut self, variants: &[&'static Variant]) {
        let (results, errors) = many::run(variants, &self.options);
        self.all.insert("many".into(), results);
        self.errors.extend(errors);
    }

    fn run_blocking(&mut self) {
        let (results, errors) = blocking::run(&self.options);
        self.all.insert("blocking".into(), results);
        self.errors.extend(errors);
    }

    fn run_tokens(&mut self) {
        let (results, errors) = tokens::run(&self.options);
        self.all.insert("tokens".into(), results);
        self.errors.extend(errors);
    }

    fn run_behind_redis(&mut self, variants: &[&'static Variant]) {
        let (series, errors) = behind_redis::run(variants, &self.options);
        self.all.insert("redis".into(), series.as_json());
        self.errors.extend(errors);
    }

    /// Writes all results as JSON.
    fn write(&self) -> Result<(), String> {
        let mut cases = Map::new();
        for ((case, variant), series) in &self.results {
            let entry = cases.entry(*case).or_insert_with(|| json!({}));
            if let Some(entry) = entry.as_object_mut() {
                entry.insert((*variant).to_owned(), series.as_json());
            }
        }
        let mut all = self.all.clone();
        all.insert("machine".into(), process::machine());
        all.insert("rounds".into(), self.options.rounds.into());
        all.insert("quick".into(), self.options.quick.into());
        all.insert("loads".into(), cases.into());
        let text = serde_json::to_string_pretty(&all).map_err(|error| error.to_string())?;
        let file = &self.options.json;
        std::fs::write(file, text + "\n").map_err(|e| format!("{}: {e}", file.display()))?;
        eprintln!("all figures of all rounds: {}", file.display());
        Ok(())
    }
}

fn belongs(mode: &Mode, case: &Case) -> bool {
    mode.cases.iter().any(|own| own.name == case.name)
}

/// Lists each load once, with the variants that support it.
fn plan(
    modes: &[&'static Mode],
    variants: &[&'static Variant],
) -> Vec<(&'static Case, Vec<&'static Variant>)> {
    let mut plan: Vec<(&'static Case, Vec<&'static Variant>)> = Vec::new();
    for mode in modes {
        for case in mode.cases {
            if !plan.iter().any(|(other, _)| other.name == case.name) {
                plan.push((
                    case,
                    variants.iter().filter(|variant| mode.takes(variant)).copied().collect(),
                ));
            }
        }
    }
    plan
}
