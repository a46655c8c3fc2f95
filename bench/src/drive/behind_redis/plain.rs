//! Plain messages at a high rate to the only client of one channel: what each costs the subscribing
//! thread, the sending worker, and Redis, and how it affects the other worker.

use super::Behind;
use crate::drive::generator::Generator;
use crate::drive::page::Page;
use crate::drive::probe::Probe;
use crate::drive::process::{cpu_us, own_memory, side_threads_us, Machine};
use crate::drive::run::number;
use crate::drive::server::Server;
use crate::histogram::Histogram;
use serde_json::Value;

/// Messages per second.
const RATE: f64 = 50_000.0;
/// Clients tried until one connects to the worker that subscribes.
const TRIES: usize = 20;

/// The processes, by role.
struct Cast {
    generator: Generator,
    /// The worker that subscribes and sends, and the other one.
    own: u32,
    other: u32,
}

/// Resources used so far, in µs and bytes.
struct Used {
    thread: f64,
    worker: f64,
    redis: f64,
    all: f64,
    machine: Machine,
    nginx_bytes: f64,
    redis_bytes: f64,
}

impl Used {
    fn now(server: &mut Server, cast: &Cast) -> Self {
        let redis: Vec<u32> = server.redis().map(|redis| redis.process()).into_iter().collect();
        let nginx = server.processes();
        let others = [cast.generator.process(), std::process::id()];
        let thread = side_threads_us(cast.own);
        let redis_us = cpu_us(&redis);
        Self {
            thread,
            worker: cpu_us(&[cast.own]) - thread,
            redis: redis_us,
            all: cpu_us(&nginx) + cpu_us(&others) + redis_us,
            machine: Machine::now(),
            nginx_bytes: own_memory(&nginx),
            redis_bytes: own_memory(&redis),
        }
    }
}

impl Behind<'_> {
    pub fn measure_plain(&mut self) -> Result<(), String> {
        let mut server = self.start("plain", 100)?;
        let seconds = self.options.seconds.unwrap_or(if self.options.quick { 1.0 } else { 6.0 });
        let mut cast = cast(&server, seconds)?;
        let other = Probe::start(Page::open_in(server.port, cast.other)?);
        let own = Probe::start(Page::open_in(server.port, cast.own)?);
        let before = Used::now(&mut server, &cast);
        let line = cast.generator.step()?;
        let after = Used::now(&mut server, &cast);
        self.note_file("file_other", &other.finish()?);
        self.note_file("file_own", &own.finish()?);
        self.record_errors(&line);
        self.note_costs(&line, &before, &after);
        Ok(())
    }

    fn note_costs(&mut self, line: &Value, before: &Used, after: &Used) {
        let (messages, seconds) = (number(line, "publishes"), number(line, "seconds"));
        self.note("plain_per_s", messages / seconds);
        self.note("plain_thread_us", (after.thread - before.thread) / messages);
        self.note("plain_worker_us", (after.worker - before.worker) / messages);
        self.note("plain_redis_us", (after.redis - before.redis) / messages);
        self.note("plain_nginx_bytes", after.nginx_bytes - before.nginx_bytes);
        self.note("plain_redis_bytes", after.redis_bytes - before.redis_bytes);
        let own = after.all - before.all;
        self.note("plain_others", after.machine.others_since(before.machine, own));
        for name in ["p50_us", "p99_us", "max_us"] {
            let value = line.get("latency").map_or(0.0, |latency| number(latency, name));
            self.note(&format!("plain_{name}"), value);
        }
    }

    fn note_file(&mut self, name: &str, latency: &Histogram) {
        self.note(&format!("{name}_p50_us"), latency.quantile(0.5) as f64 / 1e3);
        self.note(&format!("{name}_p99_us"), latency.quantile(0.99) as f64 / 1e3);
        self.note(&format!("{name}_max_us"), latency.max() as f64 / 1e3);
    }
}

/// Finds the subscribing and the sending worker by what each uses. Reconnects a client until both
/// are the same worker, so that the other one is not involved.
fn cast(server: &Server, seconds: f64) -> Result<Cast, String> {
    let workers: Vec<u32> = server.processes().into_iter().skip(1).collect();
    let mut options = vec![
        format!("--to=127.0.0.1:{}", server.port),
        "--clients=1".into(),
        format!("--rate={RATE}"),
        "--warm=0.5".into(),
        format!("--seconds={seconds}"),
    ];
    options.extend(server.ways());
    for _ in 0..TRIES {
        let mut generator = Generator::start(&options, 2)?;
        generator.next_line()?;
        let used = |worker: &u32| (side_threads_us(*worker), cpu_us(&[*worker]));
        let before: Vec<_> = workers.iter().map(used).collect();
        generator.step()?;
        let after = workers.iter().map(used);
        let rise = after.zip(&before).map(|(after, before)| {
            let thread = after.0 - before.0;
            (thread, after.1 - before.1 - thread)
        });
        let rise: Vec<_> = rise.zip(&workers).collect();
        let thread = rise.iter().max_by(|a, b| a.0 .0.total_cmp(&b.0 .0));
        let worker = rise.iter().max_by(|a, b| a.0 .1.total_cmp(&b.0 .1));
        let (Some(thread), Some(worker)) = (thread, worker) else { break };
        if thread.1 == worker.1 {
            let other = workers.iter().find(|other| *other != thread.1);
            let (own, other) = (*thread.1, *other.ok_or("there is no other worker")?);
            return Ok(Cast { generator, own, other });
        }
    }
    Err("no client was accepted by the subscribing worker".into())
}
