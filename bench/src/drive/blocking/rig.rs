//! A server whose module measures how long it blocks, requests to it, and its measurements.

use crate::drive::options::Options;
use crate::drive::page::Page;
use crate::drive::process::family;
use crate::drive::server::{Server, Wanted};
use crate::drive::transport::Transport;
use crate::drive::variant::{Kind, Module, Pieces, Variant};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A worker writes its measurements at least once in this interval.
const REPORT: Duration = Duration::from_millis(1_300);
/// The prefix of the module's measurements in the error log.
const MARK: &str = "sse: blocking: ";
/// Events of a batch.
const BATCH: usize = 1_000;
/// Requests in flight on one connection.
const PIPELINED: usize = 50;

/// The longest turn and the longest lock hold of a measurement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Longest {
    pub turn_us: f64,
    pub hold_us: f64,
    /// File and line that took the lock for the longest hold.
    pub place: String,
}

impl Longest {
    /// Replaces values by those of `other` that are longer.
    pub fn take_longer(&mut self, other: Longest) {
        self.turn_us = self.turn_us.max(other.turn_us);
        if other.hold_us > self.hold_us {
            (self.hold_us, self.place) = (other.hold_us, other.place);
        }
    }

    /// Parses lines of the error log, except those of the process `without` (0: of all processes).
    pub fn of_log(text: &str, without: u32) -> Longest {
        let mut longest = Longest::default();
        for line in text.lines() {
            let Some((head, reported)) = line.split_once(MARK) else { continue };
            if head.contains(&format!(" {without}#")) {
                continue;
            }
            let us =
                reported.rsplit_once("max_us=").and_then(|(_, us)| us.parse().ok()).unwrap_or(0.0);
            match reported.split_once(": ").map(|(what, _)| what) {
                Some("turn") => longest.turn_us = longest.turn_us.max(us),
                Some(hold) if us > longest.hold_us => {
                    longest.hold_us = us;
                    longest.place = hold.trim_start_matches("hold ").to_owned();
                }
                _ => {}
            }
        }
        longest
    }
}

/// The configuration of a server.
pub struct Parts {
    /// The hub's block, and other directives of the `http` block.
    pub http: &'static str,
    pub workers: usize,
    pub clients: usize,
}

/// A running server.
pub struct Rig {
    server: Server,
    log: PathBuf,
    /// Bytes of the log that were written before the measurement.
    before: usize,
}

const LOCATIONS: &str = "\
    location = /many { sse_stream $arg_c split=,; } \
    location = /all { sse_stream $arg_c split=,; sse_replay all; } \
    location = /like { sse_stream $arg_c pattern; } \
    location = /like-all { sse_stream $arg_c pattern; sse_replay all; } \
    location = /admin { sse_admin; }";

impl Rig {
    pub fn start(options: &Options, name: &str, parts: &Parts) -> Result<Rig, String> {
        let pieces = Pieces {
            module: Module::Traced,
            http: parts.http,
            stream: "sse_stream $arg_c;",
            publish: "sse_publish $arg_c;",
            more: LOCATIONS,
        };
        let directory = options.directory.join("blocking").join(name);
        fs::create_dir_all(&directory).map_err(describe)?;
        let log = directory.join("error.log");
        fs::write(&log, "").map_err(describe)?;
        let server = Server::start(&Wanted {
            variant: &Variant { name: "blocking", kind: Kind::Nginx(pieces) },
            place: &options.place,
            directory: &directory,
            workers: parts.workers,
            clients: parts.clients * parts.workers,
            transport: Transport::Plain,
        })?;
        std::thread::sleep(Duration::from_millis(200));
        Ok(Rig { server, log, before: 0 })
    }

    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// Returns the worker processes.
    pub fn workers(&self) -> Vec<u32> {
        self.server.processes().into_iter().filter(|pid| family(*pid).len() == 1).collect()
    }

    pub fn page(&self) -> Result<Page, String> {
        Page::open(self.port())
    }

    /// Starts a measurement.
    pub fn begin(&mut self) -> Result<(), String> {
        std::thread::sleep(REPORT);
        self.before = fs::read(&self.log).map_err(describe)?.len();
        Ok(())
    }

    /// Returns the measurements since `begin` of all processes except `without` (0: of all
    /// processes).
    pub fn end(&self, without: u32) -> Result<Longest, String> {
        std::thread::sleep(REPORT);
        let log = fs::read(&self.log).map_err(describe)?;
        let text = String::from_utf8_lossy(log.get(self.before..).unwrap_or_default());
        if !text.contains(MARK) {
            return Err("the module measures nothing: it is built without trace-blocking".into());
        }
        Ok(Longest::of_log(&text, without))
    }

    /// Publishes events on a channel. Returns the first one's id.
    pub fn fill(&self, channel: &str, events: usize) -> Result<String, String> {
        let mut page = self.page()?;
        let mut first = None;
        for begin in (0..events).step_by(BATCH) {
            let numbers = begin..events.min(begin + BATCH);
            let body: String = numbers.map(|number| format!("data: {number:032}\n\n")).collect();
            let path = format!("/p?c={channel}");
            let kind = "Content-Type: text/event-stream\r\n";
            let answer = page.ask("POST", &path, kind, body.as_bytes())?.body_of(201)?;
            first.get_or_insert(answer);
        }
        let answer: serde_json::Value =
            serde_json::from_slice(&first.unwrap_or_default()).map_err(|e| e.to_string())?;
        let id = answer.get("ids").and_then(|ids| ids.get(0)).and_then(|id| id.as_str());
        id.map(str::to_owned).ok_or_else(|| "a publish was answered without ids".into())
    }

    /// Publishes a small event on each of these channels.
    pub fn publish_on(&self, channels: impl Iterator<Item = String>) -> Result<(), String> {
        let mut page = self.page()?;
        let requests: Vec<String> = channels
            .map(|channel| {
                format!(
                    "POST /p?c={channel} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
                )
            })
            .collect();
        for some in requests.chunks(PIPELINED) {
            page.pipeline(&some.concat(), some.len(), 201)?;
        }
        Ok(())
    }

    /// Opens a stream, with a header line if it is not empty.
    pub fn stream(&self, path: &str, header: &str) -> Result<TcpStream, String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port())).map_err(describe)?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).map_err(describe)?;
        Ok(stream)
    }
}

/// Reads a stream until nothing has arrived for a second. Returns the number of bytes.
pub fn read_all(stream: &mut TcpStream) -> Result<usize, String> {
    const QUIET: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(60);
    stream.set_read_timeout(Some(QUIET)).map_err(describe)?;
    let (since, mut all) = (Instant::now(), 0);
    let mut buffer = vec![0; 1 << 16];
    while since.elapsed() < LONGEST {
        match stream.read(&mut buffer) {
            Ok(0) => return Err("a stream was ended".into()),
            Ok(len) => all += len,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(all),
            Err(error) => return Err(describe(error)),
        }
    }
    Ok(all)
}

pub fn describe(error: std::io::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_a_log() {
        let log = "2026/01/01 00:00:00 [notice] 7#7: sse: blocking: turn: count=9 min_us=1.0 p99_us=5.0 max_us=9.5\n\
            2026/01/01 00:00:00 [notice] 7#7: sse: blocking: hold src/a.rs:12: count=9 min_us=1.0 p99_us=5.0 max_us=4.0\n\
            2026/01/01 00:00:00 [notice] 7#7: something else\n\
            2026/01/01 00:00:01 [notice] 8#8: sse: blocking: turn: count=9 min_us=1.0 p99_us=5.0 max_us=70.0\n\
            2026/01/01 00:00:01 [notice] 8#8: sse: blocking: hold src/b.rs:3: count=9 min_us=1.0 p99_us=5.0 max_us=60.0\n";
        let longest =
            |turn_us, hold_us, place: &str| Longest { turn_us, hold_us, place: place.into() };
        assert_eq!(Longest::of_log(log, 0), longest(70.0, 60.0, "src/b.rs:3"));
        assert_eq!(Longest::of_log(log, 8), longest(9.5, 4.0, "src/a.rs:12"));
    }
}
