//! One run: starts, loads, measures, and stops a server. The measured window begins and ends when
//! nothing is in flight, so that processor time and deliveries belong together.

use super::figures::{errors, Figures};
use super::generator::Generator;
use super::idle_clients::IdleClients;
use super::mode::{LoadPace, Work};
use super::page::Page;
use super::probe::Probe;
use super::process::{cpu_us, memory, Machine};
use super::server::{other_processors, Server, Wanted};
use super::transport::Transport;
use serde_json::Value;
use std::time::Duration;

/// Time in which memory that was used only briefly is freed.
pub const SETTLE: Duration = Duration::from_millis(500);

/// The measurements of one run, and what went wrong in it, as a sentence.
pub struct Outcome {
    pub figures: Figures,
    pub errors: String,
}

/// Measures one load on one server.
pub fn run(wanted: &Wanted<'_>, work: &Work) -> Result<Outcome, String> {
    let mut server = Server::start(wanted)?;
    std::thread::sleep(Duration::from_millis(100));
    if work.transport != Transport::Plain {
        return hold(&server, work);
    }
    let mut run =
        Run { figures: Figures::new(), errors: Vec::new(), processes: server.processes() };
    let mut generator = run.connect(&server, work)?;
    run.record_errors(&generator.step()?);
    run.measure(&mut server, &mut generator, work)?;
    Ok(Outcome { figures: run.figures, errors: run.errors.join("; ") })
}

struct Run {
    figures: Figures,
    errors: Vec<String>,
    processes: Vec<u32>,
}

impl Run {
    fn note(&mut self, name: &str, value: f64) {
        self.figures.insert(name.to_owned(), value);
    }

    fn record_errors(&mut self, line: &Value) {
        let reported = errors(line);
        if !reported.is_empty() {
            self.errors = vec![reported]; // counts go on from step to step
        }
    }

    /// Connects all clients, and measures the time and memory that this takes.
    fn connect(&mut self, server: &Server, work: &Work) -> Result<Generator, String> {
        let (cpu, bytes) = (cpu_us(&self.processes), memory(&self.processes));
        let to = format!("127.0.0.1:{}", server.port);
        let mut options = options(work, &to, &server.ways());
        if spins(server, work) {
            options.push("--spin".into());
        }
        let mut generator = Generator::start(&options, work.workers)?;
        let line = generator.next_line()?;
        let connected = number(&line, "clients");
        if connected < work.clients as f64 {
            return Err(format!("only {connected} of {} clients were accepted", work.clients));
        }
        if work.clients > 0 {
            self.note("connect_us", (cpu_us(&self.processes) - cpu) / connected);
            self.note("connects_per_s", connected / number(&line, "seconds"));
            std::thread::sleep(SETTLE);
            self.note("client_bytes", (memory(&self.processes) - bytes) / connected);
        }
        Ok(generator)
    }

    fn measure(
        &mut self,
        server: &mut Server,
        generator: &mut Generator,
        work: &Work,
    ) -> Result<(), String> {
        let redis: Vec<u32> = server.redis().map(|redis| redis.process()).into_iter().collect();
        let probe = work.probe.then(|| Page::open(server.port).map(Probe::start)).transpose()?;
        let (machine, bytes) = (Machine::now(), memory(&self.processes));
        let before = (cpu_us(&self.processes), cpu_us(&[generator.process()]), cpu_us(&redis));
        let line = generator.step()?;
        let cpu = cpu_us(&self.processes) - before.0;
        let (generator_cpu, redis_cpu) =
            (cpu_us(&[generator.process()]) - before.1, cpu_us(&redis) - before.2);
        self.note("stolen", Machine::now().stolen_since(machine));
        self.note("growth_bytes", memory(&self.processes) - bytes);
        if let Some(probe) = probe {
            self.note_file(&probe.finish()?);
        }
        self.record_errors(&line);

        let (deliveries, publishes) = (number(&line, "deliveries"), number(&line, "publishes"));
        if deliveries > 0.0 {
            self.note("cpu_us", cpu / deliveries);
            self.note("generator_us", generator_cpu / deliveries);
            self.note("deliveries_per_s", number(&line, "deliveries_per_s"));
            for name in ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"] {
                self.note(name, line.get("latency").map_or(0.0, |latency| number(latency, name)));
            }
        } else if publishes > 0.0 {
            self.note("publish_us", cpu / publishes);
            self.note("generator_us", generator_cpu / publishes);
        }
        if publishes > 0.0 {
            self.note("publishes_per_s", number(&line, "publishes_per_s"));
            if !redis.is_empty() {
                self.note("redis_us", redis_cpu / publishes);
            }
        }
        Ok(())
    }

    fn note_file(&mut self, latency: &crate::histogram::Histogram) {
        self.note("file_p50_us", latency.quantile(0.5) as f64 / 1e3);
        self.note("file_p99_us", latency.quantile(0.99) as f64 / 1e3);
        self.note("file_max_us", latency.max() as f64 / 1e3);
    }
}

/// Whether the generator polls instead of sleeping. Waking a sleeping generator on another
/// processor is expensive for the server, the more often the slower the server is, and is not a
/// cost of real clients. Polling needs a processor of its own.
fn spins(server: &Server, work: &Work) -> bool {
    !other_processors(work.workers).is_empty() && !work.probe && !server.has_redis()
}

/// Measures idle clients.
fn hold(server: &Server, work: &Work) -> Result<Outcome, String> {
    let processes = server.processes();
    // The first connection allocates what all others share.
    drop(IdleClients::connect(work.transport, server.port, 1)?);
    let before = memory(&processes);
    let mut clients = IdleClients::connect(work.transport, server.port, work.clients)?;
    std::thread::sleep(SETTLE);
    let bytes = (memory(&processes) - before) / work.clients as f64;
    clients.attend()?;
    Ok(Outcome {
        figures: Figures::from([("client_bytes".to_owned(), bytes)]),
        errors: String::new(),
    })
}

/// Returns the generator's options for a load; `ways` are those for publishing.
pub fn options(work: &Work, to: &str, ways: &[String]) -> Vec<String> {
    let mut options = vec![
        format!("--to={to}"),
        format!("--clients={}", work.clients),
        format!("--channels={}", work.channels),
        format!("--size={}", work.size),
        format!("--warm={}", work.warm),
        format!("--seconds={}", work.seconds),
        format!("--silent-in={}", work.silent_in),
    ];
    match work.pace {
        LoadPace::Rate(rate) => options.push(format!("--rate={rate}")),
        LoadPace::Flat(events) => options.push(format!("--in-flight={events}")),
        LoadPace::Silence => {}
    }
    if !matches!(work.pace, LoadPace::Silence) {
        options.extend_from_slice(ways);
    }
    options
}

/// Returns a number in a generator's line; 0 if it is missing.
pub fn number(line: &Value, name: &str) -> f64 {
    line.get(name).and_then(Value::as_f64).unwrap_or(0.0)
}
