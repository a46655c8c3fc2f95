//! Many channels: what a client that connects, a publish, and a client that disconnects cost the
//! processes of a server with one channel for each client, compared with the same number of clients
//! on ten channels.
//!
//! The comparison is about publishing, not about fan-out: every measured publish reaches one
//! client, and its figure includes that delivery. In both cases the events go to ten further
//! channels with one client each, which connect and disconnect independently of the fleet. With one
//! channel for each client, another measurement publishes on the fleet's own channels in turn,
//! where most publishes are the first of their channel. Clients connect one at a time, at a rate
//! that leaves the server idle in between.
//!
//! Heartbeats are off, so that a hundred thousand idle clients cost nothing meanwhile. Clients
//! disconnect by a reset of the connection, when their generators end. The floor does not take
//! part, because it is a single process and cannot hold enough clients.

use super::figures::{errors, Figures, Series};
use super::fleet::{step_all, Fleet, Gathered};
use super::generator::Generator;
use super::mode::Unit;
use super::options::Options;
use super::process::{cpu_us, open_files};
use super::progress::passing;
use super::run::{number, Outcome, SETTLE};
use super::server::Server;
use super::table::{markdown, written};
use super::variant::{Sort, Variant};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The rows of the table: title, and the figure in either case.
const ROWS: &[(&str, &str, &str)] = &[
    ("CPU per client that connects", "ten_come_us", "each_come_us"),
    ("CPU per HTTP publish, to ten further channels", "ten_publish_us", "each_publish_us"),
    ("CPU per HTTP publish, to all channels in turn", "ten_publish_us", "each_turn_us"),
    ("CPU per client that disconnects", "ten_go_us", "each_go_us"),
];

/// Publishes per second.
const RATE: f64 = 2_000.0;
/// Number of further channels, and how often their clients reconnect. Which workers accept them is
/// random, and a publish in a different worker costs more.
const FURTHER: usize = 10;
const TIMES: usize = 5;
/// The run whose events the fleet counts.
const RUN: &str = "--run=1";

/// Maximum time for all clients to disconnect, and the polling interval.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(250);

/// The number of channels over which the fleet is spread.
#[derive(Clone, Copy, PartialEq)]
enum Spread {
    Ten,
    Each,
}

impl Spread {
    fn name(self) -> &'static str {
        match self {
            Self::Ten => "ten",
            Self::Each => "each",
        }
    }

    fn channels(self, clients: usize) -> usize {
        match self {
            Self::Ten => 10,
            Self::Each => clients,
        }
    }
}

/// Runs all rounds, prints the measurements, and returns them and the errors.
pub fn run(variants: &[&'static Variant], settings: &Options) -> (Value, Vec<String>) {
    let mut results: BTreeMap<&str, Series> = BTreeMap::new();
    let able = || variants.iter().filter(|variant| variant.sort() == Sort::Nginx);
    for round in 1..=settings.rounds {
        for variant in able() {
            let series = results.entry(variant.name).or_default();
            let mut figures = Figures::new();
            for spread in [Spread::Ten, Spread::Each] {
                passing("");
                eprintln!("many ({}), round {round}: {}", spread.name(), variant.name);
                let reported = match measure(variant, settings, spread) {
                    Ok(outcome) => {
                        figures.extend(outcome.figures);
                        outcome.errors
                    }
                    Err(why) => why,
                };
                if !reported.is_empty() {
                    let place =
                        format!("{}, many ({}), round {round}", variant.name, spread.name());
                    series.errors.push(format!("{place}: {reported}"));
                }
            }
            series.rounds.push(figures);
        }
    }
    for variant in able() {
        results.get(variant.name).into_iter().for_each(|series| print(variant.name, series));
    }
    let errors = results.values().flat_map(|series| series.errors.clone()).collect();
    let series = results.iter().map(|(name, series)| ((*name).to_owned(), series.as_json()));
    (Value::Object(series.collect()), errors)
}

/// Measures one server with one fleet.
fn measure(variant: &Variant, settings: &Options, spread: Spread) -> Result<Outcome, String> {
    let asked = settings.clients.unwrap_or(if settings.quick { 10_000 } else { 100_000 });
    let fleet = Fleet::reckon(variant, asked);
    let server = fleet.serve(&variant.quiet(), settings, &format!("many-{}", spread.name()))?;
    let mut trial = ManyTrial {
        processes: server.processes(),
        server,
        channels: spread.channels(fleet.clients),
        fleet,
        spread,
        seconds: settings.seconds.unwrap_or(if settings.quick { 1.5 } else { 5.0 }),
        outcome: Outcome { figures: Figures::new(), errors: String::new() },
    };
    trial.measure()?;
    Ok(trial.outcome)
}

struct ManyTrial {
    server: Server,
    processes: Vec<u32>,
    fleet: Fleet,
    spread: Spread,
    /// Number of the fleet's channels.
    channels: usize,
    /// Duration of publishing in seconds.
    seconds: f64,
    outcome: Outcome,
}

impl ManyTrial {
    fn measure(&mut self) -> Result<(), String> {
        let empty = open_files(&self.processes);
        let mut generators = self.come()?;
        self.publish_beside()?;
        if self.spread == Spread::Each {
            self.publish_in_turn(&mut generators)?;
        }
        self.go(generators, empty)
    }

    fn note(&mut self, name: &str, value: f64) {
        self.outcome.figures.insert(format!("{}_{name}", self.spread.name()), value);
    }

    fn record_errors(&mut self, reported: &str) {
        if !reported.is_empty() && !self.outcome.errors.is_empty() {
            self.outcome.errors.push_str("; ");
        }
        self.outcome.errors.push_str(reported);
    }

    /// Returns the options of a generator for events on this many channels.
    fn options(&self, channels: usize, seconds: f64) -> Vec<String> {
        vec![
            format!("--to=127.0.0.1:{}", self.server.port),
            format!("--channels={channels}"),
            format!("--rate={RATE}"),
            "--warm=0.1".into(),
            format!("--seconds={seconds}"),
        ]
    }

    fn come(&mut self) -> Result<Vec<Generator>, String> {
        let mut options = self.options(self.channels, self.seconds);
        options.push(RUN.into());
        let before = cpu_us(&self.processes);
        let Gathered { generators, refused, .. } = self.fleet.gather(&options)?;
        let cpu = cpu_us(&self.processes) - before;
        let clients = self.fleet.clients as f64 - refused;
        if refused > 0.0 {
            self.record_errors(&format!("{refused} clients were rejected"));
        }
        self.note("clients", clients);
        self.note("come_us", cpu / clients.max(1.0));
        Ok(generators)
    }

    /// Publishes to further channels, whose clients reconnect.
    fn publish_beside(&mut self) -> Result<(), String> {
        let mut options = self.options(FURTHER, self.seconds / TIMES as f64);
        options.extend([
            format!("--clients={FURTHER}"),
            format!("--first={}", self.fleet.clients.next_multiple_of(FURTHER)),
            "--stream=/s?c=further%d".into(),
            "--publish=/p?c=further%d".into(),
        ]);
        let (mut cpu, mut publishes) = (0.0, 0.0);
        for _ in 0..TIMES {
            let mut generator = Generator::start(&options, self.fleet.workers)?;
            generator.next_line()?;
            generator.step()?;
            let before = cpu_us(&self.processes);
            let line = generator.step()?;
            cpu += cpu_us(&self.processes) - before;
            publishes += number(&line, "publishes");
            self.record_errors(&errors(&line));
        }
        self.note("publish_us", cpu / publishes.max(1.0));
        Ok(())
    }

    /// Publishes to the fleet's channels.
    fn publish_in_turn(&mut self, generators: &mut [Generator]) -> Result<(), String> {
        let mut options = self.options(self.channels, self.seconds);
        options.extend([RUN.into(), "--clients=0".into(), "--publish=/p?c=%d".into()]);
        let mut publisher = Generator::start(&options, self.fleet.workers)?;
        publisher.next_line()?;
        step_all(generators, &mut publisher)?;
        let before = cpu_us(&self.processes);
        let lines = step_all(generators, &mut publisher)?;
        let cpu = cpu_us(&self.processes) - before;
        let deliveries: f64 = lines.iter().map(|line| number(line, "deliveries")).sum();
        self.note("turn_us", cpu / deliveries.max(1.0));
        lines.iter().for_each(|line| self.record_errors(&errors(line)));
        Ok(())
    }

    /// Ends the generators, and waits until the server has closed their connections.
    fn go(&mut self, generators: Vec<Generator>, empty: usize) -> Result<(), String> {
        let before = cpu_us(&self.processes);
        drop(generators);
        let since = Instant::now();
        while open_files(&self.processes) > empty {
            if since.elapsed() > PATIENCE {
                return Err(
                    "the server still has connections of clients that have disconnected".into()
                );
            }
            std::thread::sleep(LOOK);
        }
        std::thread::sleep(SETTLE);
        self.note("go_us", (cpu_us(&self.processes) - before) / self.fleet.clients as f64);
        Ok(())
    }
}

fn print(variant: &str, series: &Series) {
    let clients = series.median("each_clients").unwrap_or(0.0);
    let title = format!("many: {variant}, {clients} clients");
    let mut lines = vec![vec![title, "10 channels".into(), "one channel per client".into()]];
    for (title, ten, each) in ROWS {
        let (Some(ten), Some(each)) = (series.median(ten), series.median(each)) else { continue };
        let ratio = each / ten;
        let each = format!("{} ({ratio:.2}×)", written(each, Unit::Micros));
        lines.push(vec![(*title).to_owned(), written(ten, Unit::Micros), each]);
    }
    println!("{}", markdown(&lines));
}
