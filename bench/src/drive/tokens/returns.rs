//! Many streams whose permission ends at the same moment. Their clients return after the time that
//! the server asks for with `retry`, with a new token. Meanwhile, a file is requested from the same
//! worker, 500 times per second; the worker's processor time includes that.

use super::issuer::Algorithm;
use super::TokenRig;
use crate::drive::figures::Figures;
use crate::drive::generator::Generator;
use crate::drive::options::Options;
use crate::drive::page::Page;
use crate::drive::probe::Probe;
use crate::drive::process::cpu_us;
use crate::drive::run::number;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const CLIENTS: usize = 10_000;
const QUICK_CLIENTS: usize = 500;
/// How long the first tokens are valid, so that all clients can connect before: at least this, and
/// a second for this many clients.
const VALID: Duration = Duration::from_secs(3);
const CLIENTS_PER_SECOND: u64 = 1_000;
/// How long the tokens of returning clients are valid.
const VALID_AGAIN: Duration = Duration::from_secs(3600);
/// How long before the end the measurement begins. Streams end up to 100 ms before their permission
/// does.
const LEAD: Duration = Duration::from_millis(200);

/// Returns the number of streams.
pub fn clients(options: &Options) -> usize {
    let usual = if options.quick { QUICK_CLIENTS } else { CLIENTS };
    options.clients.unwrap_or(usual).min(options.most_clients)
}

pub fn measure(options: &Options, algorithm: Algorithm) -> Result<Figures, String> {
    let clients = clients(options);
    let rig = TokenRig::start(options, algorithm, clients)?;
    let valid = VALID + Duration::from_secs(clients as u64 / CLIENTS_PER_SECOND);
    let seconds = unix_seconds(SystemTime::now() + valid);
    let end = UNIX_EPOCH + Duration::from_secs(seconds);
    let mut generator = Generator::start(&load(&rig, clients, seconds)?, 1)?;
    let connected = number(&generator.next_line()?, "clients");
    if connected < clients as f64 {
        return Err(format!("only {connected} of {clients} clients were accepted"));
    }
    generator.step()?; // without events
    generator.go()?;
    let left = end.duration_since(SystemTime::now()).unwrap_or_default().checked_sub(LEAD);
    std::thread::sleep(left.ok_or("connecting took longer than the tokens are valid")?);

    let processes = rig.server.processes();
    let before = cpu_us(&processes);
    let probe = Probe::start_by_clock(Page::open(rig.server.port)?);
    let line = generator.next_line()?;
    let returned = SystemTime::now().duration_since(end).unwrap_or_default();
    let latency = probe.finish()?;
    let cpu = cpu_us(&processes) - before;
    let away = number(&line, "away");
    if away > 0.0 {
        return Err(format!("{away} clients did not return"));
    }
    let us = |nanos: u64| nanos as f64 / 1e3;
    let figures = [
        ("file_p50_us", us(latency.quantile(0.5))),
        ("file_p99_us", us(latency.quantile(0.99))),
        ("file_max_us", us(latency.max())),
        ("returned_us", returned.as_secs_f64() * 1e6),
        ("return_us", cpu / clients as f64),
    ];
    Ok(figures.map(|(name, value)| (name.to_owned(), value)).into())
}

/// Returns the generator's options for clients whose permission ends at a time (s since 1970).
fn load(rig: &TokenRig, clients: usize, end: u64) -> Result<Vec<String>, String> {
    let again = unix_seconds(SystemTime::now() + VALID_AGAIN);
    Ok(vec![
        format!("--to=127.0.0.1:{}", rig.server.port),
        format!("--clients={clients}"),
        // Where tokens determine the end, this has no effect.
        format!("--stream=/s?c=%d&until={end}"),
        format!("--return-stream=/s?c=%d&until={again}"),
        format!("--header={}", rig.issuer.header(end)?),
        format!("--return-header={}", rig.issuer.header(again)?),
        "--obey-retry".into(),
        "--returning".into(),
        "--warm=0".into(),
        "--times=0".into(),
        "--patience=60".into(),
    ])
}

/// Returns a time in s since 1970.
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
