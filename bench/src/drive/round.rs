//! Benchmarks a server that the user runs and names: connects clients to it, and publishes events
//! if a publishing URL is given. Its processor time and memory are reported if its process is
//! named.

use super::figures::errors;
use super::generator::Generator;
use super::process::{cpu_us, family, memory};
use super::run::number;
use crate::flags::Flags;
use std::process::ExitCode;

/// A load for a server that is already running.
pub struct Round {
    /// `HOST:PORT` and the path of the stream.
    to: String,
    stream: String,
    publish: Option<String>,
    pid: Option<u32>,
    clients: usize,
    channels: usize,
    rate: f64,
    seconds: f64,
    size: usize,
}

impl Round {
    /// Parses the options of this mode. Returns `None` if no server is named.
    pub fn read(
        flags: &mut Flags,
        clients: Option<usize>,
        seconds: Option<f64>,
    ) -> Result<Option<Self>, String> {
        let (url, publish) = (flags.value("url")?, flags.value("publish-url")?);
        let (pid, rate) = (flags.parsed("pid")?, flags.parsed("rate")?);
        let (channels, size) = (flags.parsed("channels")?, flags.parsed("size")?);
        let Some(url) = url else { return Ok(None) };
        let (to, stream) = parts(&url)?;
        let publish = publish.map(|url| parts(&url)).transpose()?;
        if publish.as_ref().is_some_and(|publish| publish.0 != to) {
            return Err("--publish-url must name the same server as --url".into());
        }
        Ok(Some(Self {
            to,
            stream,
            publish: publish.map(|publish| publish.1),
            pid,
            clients: clients.unwrap_or(1_000),
            channels: channels.unwrap_or(1),
            rate: rate.unwrap_or(10.0),
            seconds: seconds.unwrap_or(5.0),
            size: size.unwrap_or(64),
        }))
    }

    fn options(&self) -> Vec<String> {
        let mut options = vec![
            format!("--to={}", self.to),
            format!("--stream={}", self.stream),
            format!("--clients={}", self.clients),
            format!("--channels={}", self.channels),
            format!("--rate={}", self.rate),
            format!("--size={}", self.size),
        ];
        match &self.publish {
            Some(path) => options.push(format!("--publish={path}")),
            None => options.extend(["--warm=0".into(), "--seconds=0".into()]),
        }
        if self.publish.is_some() {
            options.push(format!("--seconds={}", self.seconds));
        }
        options
    }
}

/// Splits `http://HOST[:PORT]/PATH` into `HOST:PORT` and the path.
fn parts(url: &str) -> Result<(String, String), String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url}: http:// is needed"))?;
    let (host, path) = match rest.find(['/', '?']) {
        Some(place) => rest.split_at(place),
        None => (rest, "/"),
    };
    let port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok((if port { host.to_owned() } else { format!("{host}:80") }, path.to_owned()))
}

/// Puts the load on the server and prints the results.
pub fn round(round: &Round) -> Result<ExitCode, String> {
    let processes = round.pid.map(family).unwrap_or_default();
    let (cpu, bytes) = (cpu_us(&processes), memory(&processes));
    let mut generator = Generator::start(&round.options(), 2)?;
    let line = generator.next_line()?;
    let clients = number(&line, "clients");
    let rate = clients / number(&line, "seconds");
    println!("{clients} clients connected, {rate:.0} per second");
    if !processes.is_empty() && clients > 0.0 {
        let (cpu, bytes) = (cpu_us(&processes) - cpu, memory(&processes) - bytes);
        println!("{:.2} µs CPU and {:.0} bytes per client", cpu / clients, bytes / clients);
    }
    if clients < round.clients as f64 {
        return Err(format!("only {clients} of {} clients received status 200", round.clients));
    }
    if round.publish.is_none() {
        println!("holding them for {} s; use --publish-url to publish events", round.seconds);
        std::thread::sleep(std::time::Duration::from_secs_f64(round.seconds));
        return Ok(ExitCode::SUCCESS);
    }
    generator.step()?;
    let before = cpu_us(&processes);
    let line = generator.step()?;
    let deliveries = number(&line, "deliveries");
    println!("{deliveries} deliveries, {:.0} per second", number(&line, "deliveries_per_s"));
    if !processes.is_empty() && deliveries > 0.0 {
        println!("{:.2} µs CPU per delivery", (cpu_us(&processes) - before) / deliveries);
    }
    let millis = |name| line.get("latency").map_or(0.0, |latency| number(latency, name) / 1e3);
    println!(
        "latency: median {:.2} ms, 99th percentile {:.2} ms, longest {:.2} ms",
        millis("p50_us"),
        millis("p99_us"),
        millis("max_us")
    );
    let errors = errors(&line);
    if errors.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("bench: ERROR: {errors}");
    Ok(ExitCode::FAILURE)
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn urls() {
        let owned = |host: &str, path: &str| Ok((host.to_owned(), path.to_owned()));
        assert_eq!(parts("http://127.0.0.1:8080/stream"), owned("127.0.0.1:8080", "/stream"));
        assert_eq!(parts("http://localhost"), owned("localhost:80", "/"));
        assert!(parts("https://localhost/").is_err());
    }
}
