//! Servers: each is started for one run, in a directory and on a port of its own, and stopped when
//! the run is over. Only processes that were started here are stopped.

use super::child::{end, free_port, own_program, pinned, signal, START};
use super::process::{cpus, family};
use super::redis::{self, Redis};
use super::transport::Transport;
use super::variant::{configuration, Kind, Listening, Pieces, Place, Sort, Variant};
use rustix::process::Signal;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server.
pub struct Server {
    child: Child,
    redis: Option<Redis>,
    sort: Sort,
    pub port: u16,
}

/// The parameters of a server.
pub struct Wanted<'a> {
    pub variant: &'a Variant,
    pub place: &'a Place,
    /// Directory for everything that it writes.
    pub directory: &'a Path,
    pub workers: usize,
    pub clients: usize,
    pub transport: Transport,
}

impl Server {
    pub fn start(wanted: &Wanted<'_>) -> Result<Self, String> {
        let (port, sort) = (free_port()?, wanted.variant.sort());
        let mut redis = None;
        let mut command = match &wanted.variant.kind {
            Kind::Floor(options) => {
                let mut command = pinned(&own_program()?, &processors(wanted.workers));
                command.arg("floor").arg(format!("--port={port}")).args(*options);
                command
            }
            Kind::Nginx(pieces) => {
                if matches!(sort, Sort::Durable | Sort::Plain) {
                    redis = Some(Redis::start(&wanted.place.redis, wanted.directory)?);
                }
                let url = redis.as_ref().map(Redis::url).unwrap_or_default();
                let prefix = prepare(wanted, pieces, port, &url)?;
                let mut command = pinned(&wanted.place.nginx, &processors(wanted.workers));
                command.arg("-p").arg(&prefix).args(["-e", "error.log", "-c", "nginx.conf"]);
                command
            }
        };
        let log = fs::File::create(wanted.directory.join("output")).map_err(|e| e.to_string())?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.map_err(|error| format!("{command:?}: {error}"))?;
        let mut server = Self { child, redis, sort, port };
        server.wait_until_it_answers(wanted.directory)?;
        Ok(server)
    }

    fn wait_until_it_answers(&mut self, directory: &Path) -> Result<(), String> {
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            if ended || since.elapsed() > START {
                return Err(format!("it did not start: {}", last_words(directory)));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Returns all processes of the server, without Redis.
    pub fn processes(&self) -> Vec<u32> {
        family(self.child.id())
    }

    /// Returns the Redis that was started for the server.
    pub fn redis(&mut self) -> Option<&mut Redis> {
        self.redis.as_mut()
    }

    pub fn has_redis(&self) -> bool {
        self.redis.is_some()
    }

    /// Returns the generator's options for publishing to the server.
    pub fn ways(&self) -> Vec<String> {
        match &self.redis {
            Some(redis) if self.sort == Sort::Plain => vec![format!("--redis={}", redis.address())],
            _ => vec!["--publish=/p?c=%d".into()],
        }
    }

    /// Reloads nginx, which starts new workers.
    pub fn reload(&self) -> Result<(), String> {
        signal(&self.child, Signal::HUP)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Checks the variant's configuration with nginx. Fails with the reason why nginx rejects it.
pub fn check(wanted: &Wanted<'_>) -> Result<(), String> {
    let Kind::Nginx(pieces) = &wanted.variant.kind else { return Ok(()) };
    if matches!(wanted.variant.sort(), Sort::Durable | Sort::Plain)
        && !redis::is_there(&wanted.place.redis)
    {
        return Err("there is no redis-server".into());
    }
    let prefix = prepare(wanted, pieces, free_port()?, "redis://127.0.0.1:1")?;
    let mut command = Command::new(&wanted.place.nginx);
    command.arg("-p").arg(&prefix).args(["-e", "stderr", "-c", "nginx.conf", "-t"]);
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let why = text
        .lines()
        .find(|line| line.contains("[emerg]"))
        .unwrap_or("nginx rejects the configuration");
    output.status.success().then_some(()).ok_or_else(|| why.to_owned())
}

/// Creates nginx's prefix directory and returns it.
fn prepare(
    wanted: &Wanted<'_>,
    pieces: &Pieces,
    port: u16,
    redis: &str,
) -> Result<PathBuf, String> {
    let Wanted { place, directory, workers, clients, transport, .. } = *wanted;
    let describe = |error: std::io::Error| format!("{}: {error}", directory.display());
    fs::create_dir_all(directory.join("html")).map_err(describe)?;
    fs::write(directory.join("html/file"), "file\n").map_err(describe)?;
    let at = Listening { port, workers, clients: clients / workers.max(1), transport };
    fs::write(directory.join("nginx.conf"), configuration(pieces, place, &at, redis))
        .map_err(describe)?;
    if transport == Transport::Tls {
        super::tls::make_certificate(directory)?;
    }
    Ok(directory.to_owned())
}

/// Returns the processors of a server: with one process, only the first processor, if there are
/// several.
fn processors(workers: usize) -> Vec<usize> {
    let all = cpus();
    if workers > 1 || all.len() < 2 {
        Vec::new()
    } else {
        all.into_iter().take(1).collect()
    }
}

/// Returns the processors of the generator.
pub fn other_processors(workers: usize) -> Vec<usize> {
    let all = cpus();
    if workers > 1 || all.len() < 2 {
        Vec::new()
    } else {
        all.into_iter().skip(1).collect()
    }
}

/// Returns the end of the server's output.
fn last_words(directory: &Path) -> String {
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
    let text = read("error.log") + &read("output");
    text.lines().last().unwrap_or("there was no output").to_owned()
}
