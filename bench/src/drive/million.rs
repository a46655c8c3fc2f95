//! As many clients as the machine holds: many workers and many generators, because a process may
//! open only so many files. What they cost in memory, how long one event takes to reach all of
//! them, and how long it takes until all are back after a reload.

use super::choice::{descriptors, Choice};
use super::figures::{faults, Figures};
use super::generator::Generator;
use super::process::{available, cpu_us, memory};
use super::progress::passing;
use super::run::{number, Outcome};
use super::server::{Server, Wanted};
use super::transport::Transport;
use super::variant::Variant;
use serde_json::Value;
use std::time::{Duration, Instant};

/// What a client takes of the machine at most: two sockets, a generator's record, nginx's request.
const BYTES: f64 = 22_000.0;
/// The same when nginx's request is given back.
const LEAN_BYTES: f64 = 12_000.0;
/// Files of a worker that clients may take: they spread unevenly, and a reload needs room.
const WORKER_SHARE: f64 = 0.85;
/// Events a second; one must have reached everybody before the next.
const RATE: f64 = 0.05;
const EVENTS: f64 = 3.0;

/// Until all generators have begun a step, so that each counts all that belongs to it.
const BEGIN: Duration = Duration::from_secs(1);

/// How the clients are spread.
struct Crowd {
    clients: usize,
    workers: usize,
    generators: usize,
}

fn crowd(variant: &Variant, choice: &Choice) -> Crowd {
    let each = if variant.name.contains("lean") { LEAN_BYTES } else { BYTES };
    let room = (available() * 0.85 / each) as usize;
    let asked = choice.clients.unwrap_or(if choice.quick { 50_000 } else { 1_000_000 });
    let clients = asked.min(room);
    let files = descriptors().min(100_000);
    let workers = (clients as f64 / (files as f64 * WORKER_SHARE)).ceil() as usize;
    let generators = clients.div_ceil(files.saturating_sub(300).max(1));
    Crowd { clients, workers: workers.max(2), generators: generators.max(1) }
}

/// Runs it on one variant.
pub fn run(variant: &'static Variant, choice: &Choice) -> Result<Outcome, String> {
    let crowd = crowd(variant, choice);
    println!(
        "million: {}: {} clients, {} workers, {} generators",
        variant.name, crowd.clients, crowd.workers, crowd.generators
    );
    let directory = choice.directory.join(variant.name).join("million");
    std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let wanted = Wanted {
        variant,
        place: &choice.place,
        directory: &directory,
        workers: crowd.workers,
        // Workers get unequal shares: each must have room for more than its own.
        clients: crowd.clients * 12 / 10,
        transport: Transport::Plain,
    };
    let server = Server::start(&wanted)?;
    std::thread::sleep(BEGIN);
    let mut trial = Trial { server, crowd, figures: Figures::new(), faults: Vec::new() };
    let mut generators = trial.connect()?;
    trial.deliver(&mut generators)?;
    trial.reload(&mut generators)?;
    Ok(Outcome { figures: trial.figures, faults: trial.faults.join("; ") })
}

struct Trial {
    server: Server,
    crowd: Crowd,
    figures: Figures,
    faults: Vec<String>,
}

impl Trial {
    fn note(&mut self, name: &str, value: f64, says: &str) {
        println!("  {says}");
        self.figures.insert(name.to_owned(), value);
    }

    fn options(&self, clients: usize, first: usize) -> Vec<String> {
        vec![
            format!("--to=127.0.0.1:{}", self.server.port),
            format!("--clients={clients}"),
            format!("--first={first}"),
            format!("--rate={RATE}"),
            format!("--warm={}", 1.0 / RATE),
            format!("--seconds={}", EVENTS / RATE),
            "--run=1".into(),
            "--patience=120".into(),
            "--returning".into(),
        ]
    }

    fn connect(&mut self) -> Result<Vec<Generator>, String> {
        let (bytes, free) = (memory(&self.server.processes()), settled());
        let since = Instant::now();
        let (mut generators, mut connected) = (Vec::new(), 0);
        let mut refused = 0.0;
        while connected < self.crowd.clients {
            let part = self.crowd.clients.div_ceil(self.crowd.generators);
            let part = part.min(self.crowd.clients - connected);
            // A whole number of source addresses each.
            let first = generators.len() * part.next_multiple_of(crate::socket::PER_SOURCE);
            let mut generator = Generator::start(&self.options(part, first), 2)?;
            refused += number(&generator.hear()?, "refused");
            generators.push(generator);
            connected += part;
            passing(&format!("{connected} clients"));
        }
        passing("");
        let (clients, seconds) = (self.crowd.clients as f64, since.elapsed().as_secs_f64());
        if refused > 0.0 {
            self.faults.push(format!("{refused} clients were not let in"));
        }
        let held = memory(&self.server.processes());
        let machine = free - available();
        self.note("clients", clients - refused, &format!("{} clients held", clients - refused));
        self.note("connect_s", seconds, &format!("connected in {seconds:.0} s"));
        let mib = held / f64::from(1 << 20);
        let each = (held - bytes) / clients;
        self.note("nginx_bytes", held, &format!("nginx: {mib:.0} MiB in all processes"));
        self.note("client_bytes", each, &format!("nginx: {each:.0} bytes a client"));
        let each = machine / clients;
        let says =
            format!("machine: {each:.0} bytes a client, both ends; less after an earlier run");
        // The kernel keeps some of what sockets of that run took, and uses it again.
        self.note("machine_bytes", each, &says);
        Ok(generators)
    }

    fn deliver(&mut self, generators: &mut [Generator]) -> Result<(), String> {
        let mut options = self.options(0, 0);
        options.push("--publish=/p?c=%d".into());
        let mut publisher = Generator::start(&options, 2)?;
        publisher.hear()?;
        let processes = self.server.processes();
        step_all(generators, Some(&mut publisher))?;
        let before = cpu_us(&processes);
        let lines = step_all(generators, Some(&mut publisher))?;
        let cpu = cpu_us(&processes) - before;
        let sum = |name: &str| lines.iter().map(|line| number(line, name)).sum::<f64>();
        let longest = lines
            .iter()
            .filter_map(|line| line.get("latency"))
            .map(|latency| number(latency, "max_us") / 1e6)
            .fold(0.0, f64::max);
        let deliveries = sum("deliveries");
        let each = cpu / deliveries.max(1.0);
        self.note("deliveries", deliveries, &format!("{deliveries} deliveries of {EVENTS} events"));
        self.note("to_all_s", longest, &format!("one event reached all within {longest:.2} s"));
        self.note("cpu_us", each, &format!("{each:.2} µs CPU of nginx per delivery"));
        self.faults.extend(lines.iter().map(faults).filter(|told| !told.is_empty()));
        Ok(())
    }

    fn reload(&mut self, generators: &mut [Generator]) -> Result<(), String> {
        for generator in generators.iter_mut() {
            generator.go()?;
        }
        std::thread::sleep(BEGIN);
        let since = Instant::now();
        self.server.reload()?;
        let mut away = 0.0;
        for generator in generators.iter_mut() {
            away += number(&generator.hear()?, "away");
        }
        let seconds = since.elapsed().as_secs_f64();
        self.note("return_s", seconds, &format!("all back {seconds:.1} s after a reload"));
        if away > 0.0 {
            self.faults.push(format!("{away} clients did not come back after a reload"));
        }
        Ok(())
    }
}

/// The machine's free memory, when the kernel has given back what went before.
fn settled() -> f64 {
    let mut free = available();
    for _ in 0..60 {
        std::thread::sleep(BEGIN / 2);
        let now = available();
        if (now - free).abs() < f64::from(2 << 20) {
            return now;
        }
        free = now;
    }
    free
}

/// Lets all begin a step, the publisher last, and waits until all are through.
fn step_all(
    generators: &mut [Generator],
    publisher: Option<&mut Generator>,
) -> Result<Vec<Value>, String> {
    for generator in generators.iter_mut() {
        generator.go()?;
    }
    if let Some(publisher) = publisher {
        std::thread::sleep(BEGIN);
        publisher.step()?;
    }
    generators.iter_mut().map(Generator::hear).collect()
}
