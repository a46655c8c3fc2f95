//! As many clients as the machine can hold: their memory, the time for one event to reach all of
//! them, and the time until all have reconnected after a reload.

use super::figures::{errors, Figures, Series};
use super::fleet::{step_all, Fleet, Gathered, BEGIN};
use super::generator::Generator;
use super::options::Options;
use super::process::{available, cpu_us, memory, slab, tcp_buffers};
use super::run::{number, Outcome};
use super::server::Server;
use super::variant::Variant;
use serde_json::Value;
use std::time::Instant;

/// Number of measured events; each is published when the one before has reached all clients.
const EVENTS: usize = 5;

/// Runs this mode on one variant.
pub fn run(variant: &'static Variant, settings: &Options) -> Result<Outcome, String> {
    let asked = settings.clients.unwrap_or(if settings.quick { 50_000 } else { 1_000_000 });
    let fleet = Fleet::reckon(variant, asked);
    println!(
        "million: {}: {} clients, {} workers, {} generators",
        variant.name, fleet.clients, fleet.workers, fleet.generators
    );
    let server = fleet.serve(variant, settings, "million")?;
    let mut trial = MillionTrial { server, fleet, figures: Figures::new(), errors: Vec::new() };
    let mut generators = trial.connect()?;
    trial.deliver(&mut generators)?;
    trial.reload(&mut generators)?;
    Ok(Outcome { figures: trial.figures, errors: trial.errors.join("; ") })
}

struct MillionTrial {
    server: Server,
    fleet: Fleet,
    figures: Figures,
    errors: Vec<String>,
}

impl MillionTrial {
    fn note(&mut self, name: &str, value: f64, text: &str) {
        println!("  {text}");
        self.figures.insert(name.to_owned(), value);
    }

    fn options(&self) -> Vec<String> {
        vec![
            format!("--to=127.0.0.1:{}", self.server.port),
            // One event per step.
            "--rate=1".into(),
            "--warm=1".into(),
            "--seconds=1".into(),
            format!("--times={EVENTS}"),
            "--run=1".into(),
            "--patience=120".into(),
            "--returning".into(),
        ]
    }

    fn connect(&mut self) -> Result<Vec<Generator>, String> {
        settle();
        let processes = self.server.processes();
        let before = Held::now(&processes);
        let Gathered { generators, refused, seconds } = self.fleet.gather(&self.options())?;
        let after = Held::now(&processes);
        let clients = self.fleet.clients as f64 - refused;
        if refused > 0.0 {
            self.errors.push(format!("{refused} clients were rejected"));
        }
        self.note("clients", clients, &format!("{clients} clients held"));
        self.note("connect_s", seconds, &format!("connected in {seconds:.0} s"));
        self.note_memory(&before, &after);
        Ok(generators)
    }

    fn note_memory(&mut self, before: &Held, after: &Held) {
        let clients = self.fleet.clients as f64;
        let mib = after.nginx / f64::from(1 << 20);
        self.note("nginx_bytes", after.nginx, &format!("nginx: {mib:.0} MiB in all processes"));
        let each = (after.nginx - before.nginx) / clients;
        self.note("client_bytes", each, &format!("nginx: {each:.0} bytes per client"));
        let each = (before.free - after.free) / clients;
        let text = format!(
            "machine: {each:.0} bytes per client, both ends of the connections; less after an \
                 earlier run"
        );
        // The kernel keeps some of the memory that sockets of that run used, and reuses it. It also
        // counts some of the sockets' memory as reclaimable, which is part of the next figure but
        // not of this one.
        self.note("machine_bytes", each, &text);
        let each = (after.objects - before.objects) / clients;
        let text = format!("kernel: {each:.0} bytes per client in kernel objects, both ends");
        self.note("slab_bytes", each, &text);
        let each = (after.buffers - before.buffers) / clients;
        let text = format!("kernel: {each:.0} bytes per client in TCP buffers, both ends");
        self.note("tcp_bytes", each, &text);
    }

    fn deliver(&mut self, generators: &mut [Generator]) -> Result<(), String> {
        let mut options = self.options();
        options.extend(["--clients=0".into(), "--publish=/p?c=%d".into()]);
        let mut publisher = Generator::start(&options, self.fleet.workers)?;
        publisher.next_line()?;
        let processes = self.server.processes();
        step_all(generators, &mut publisher)?;
        let (before, mut events, mut reported) =
            (cpu_us(&processes), Series::default(), Vec::new());
        for _ in 0..EVENTS {
            let lines = step_all(generators, &mut publisher)?;
            events.rounds.push(spread(&lines));
            reported = lines.iter().map(errors).collect(); // counts go on from event to event
        }
        let cpu = cpu_us(&processes) - before;
        self.errors.extend(reported.into_iter().filter(|reported| !reported.is_empty()));
        self.note_events(&events, cpu);
        Ok(())
    }

    fn note_events(&mut self, events: &Series, cpu: f64) {
        let of = |event: &Figures, name| event.get(name).copied().unwrap_or(0.0);
        let deliveries: f64 = events.rounds.iter().map(|event| of(event, "deliveries")).sum();
        let longest = events.rounds.iter().map(|event| of(event, "to_all_s")).fold(0.0, f64::max);
        let median = |name| events.median(name).unwrap_or(0.0);
        let (usual, rate) = (median("to_all_s"), median("deliveries_per_s"));
        let each = cpu / deliveries.max(1.0);
        self.note("deliveries", deliveries, &format!("{deliveries} deliveries of {EVENTS} events"));
        self.note(
            "to_all_s",
            longest,
            &format!("each event reached all clients within {longest:.2} s"),
        );
        self.note("to_all_median_s", usual, &format!("median: {usual:.2} s"));
        let text = format!("{rate:.0} deliveries per second while an event is sent, median");
        self.note("deliveries_per_s", rate, &text);
        self.note("cpu_us", each, &format!("{each:.2} µs CPU of nginx per delivery"));
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
            away += number(&generator.next_line()?, "away");
        }
        let seconds = since.elapsed().as_secs_f64();
        self.note(
            "return_s",
            seconds,
            &format!("all clients reconnected {seconds:.1} s after a reload"),
        );
        if away > 0.0 {
            self.errors.push(format!("{away} clients did not reconnect after a reload"));
        }
        Ok(())
    }
}

/// Computes how one event spread from the generators' lines.
fn spread(lines: &[Value]) -> Figures {
    let deliveries: f64 = lines.iter().map(|line| number(line, "deliveries")).sum();
    let latencies = lines.iter().filter_map(|line| line.get("latency"));
    let seconds = latencies.map(|latency| number(latency, "max_us") / 1e6).fold(0.0, f64::max);
    let rate = if seconds > 0.0 { deliveries / seconds } else { 0.0 };
    [("deliveries", deliveries), ("to_all_s", seconds), ("deliveries_per_s", rate)]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

/// Memory by owner, in bytes.
struct Held {
    nginx: f64,
    /// Free memory of the machine.
    free: f64,
    /// Memory of the kernel's objects.
    objects: f64,
    buffers: f64,
}

impl Held {
    fn now(processes: &[u32]) -> Self {
        Self {
            nginx: memory(processes),
            free: available(),
            objects: slab(),
            buffers: tcp_buffers(),
        }
    }
}

/// Waits until the kernel has freed the memory of earlier runs.
fn settle() {
    let mut free = available();
    for _ in 0..60 {
        std::thread::sleep(BEGIN / 2);
        let now = available();
        if (now - free).abs() < f64::from(2 << 20) {
            return;
        }
        free = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_has_spread_when_the_last_has_it() {
        let line = |deliveries: u64, us: f64| json!({ "deliveries": deliveries, "latency": { "max_us": us } });
        let figures = spread(&[line(300, 2e6), line(100, 1e6)]);
        assert_eq!(figures.get("to_all_s"), Some(&2.0));
        assert_eq!(figures.get("deliveries_per_s"), Some(&200.0));
        assert_eq!(spread(&[]).get("deliveries_per_s"), Some(&0.0));
    }
}
