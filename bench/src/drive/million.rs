//! As many clients as the machine holds: what they cost in memory, how long one event takes to reach
//! all of them, and how long it takes until all are back after a reload.

use super::choice::Choice;
use super::crowd::{step_all, Crowd, Gathered, BEGIN};
use super::figures::{faults, Figures};
use super::generator::Generator;
use super::process::{available, cpu_us, memory};
use super::run::{number, Outcome};
use super::server::Server;
use super::variant::Variant;
use std::time::Instant;

/// Events a second; one must have reached everybody before the next.
const RATE: f64 = 0.05;
const EVENTS: f64 = 3.0;

/// Runs it on one variant.
pub fn run(variant: &'static Variant, choice: &Choice) -> Result<Outcome, String> {
    let asked = choice.clients.unwrap_or(if choice.quick { 50_000 } else { 1_000_000 });
    let crowd = Crowd::reckon(variant, asked);
    println!(
        "million: {}: {} clients, {} workers, {} generators",
        variant.name, crowd.clients, crowd.workers, crowd.generators
    );
    let server = crowd.serve(variant, choice, "million")?;
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

    fn options(&self) -> Vec<String> {
        vec![
            format!("--to=127.0.0.1:{}", self.server.port),
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
        let Gathered { generators, refused, seconds } = self.crowd.gather(&self.options())?;
        let clients = self.crowd.clients as f64;
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
        let mut options = self.options();
        options.extend(["--clients=0".into(), "--publish=/p?c=%d".into()]);
        let mut publisher = Generator::start(&options, 2)?;
        publisher.hear()?;
        let processes = self.server.processes();
        step_all(generators, &mut publisher)?;
        let before = cpu_us(&processes);
        let lines = step_all(generators, &mut publisher)?;
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
