//! Processes that the benchmark starts: they run on given processors, end when this program does,
//! and listen on free ports.

use rustix::process::{kill_process, Pid, Signal};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take to respond, and to end.
pub const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(20);

/// Returns a command that ends when this program does and runs on the given processors, or on all.
pub fn pinned(program: &Path, processors: &[usize]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]);
    if !processors.is_empty() {
        let list: Vec<String> = processors.iter().map(usize::to_string).collect();
        command.args(["taskset", "-c", &list.join(",")]);
    }
    command.arg(program);
    command
}

/// Returns the path of this program.
pub fn own_program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| error.to_string())
}

/// Ends a process that was started here: with a signal first, by force if that does not help.
pub fn end(child: &mut Child) {
    if child.try_wait().is_ok_and(|status| status.is_some()) {
        return; // its number may be another's by now
    }
    // Errors mean that the process has ended.
    let _ = signal(child, Signal::TERM);
    let since = Instant::now();
    while child.try_wait().is_ok_and(|status| status.is_none()) {
        if since.elapsed() > STOP {
            let _ = child.kill();
            let _ = child.wait();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal to a process that was started here.
pub fn signal(child: &Child, signal: Signal) -> Result<(), String> {
    let pid = Pid::from_raw(child.id() as i32).ok_or("no process")?;
    kill_process(pid, signal).map_err(|error| error.to_string())
}

/// Returns a port of 127.0.0.1 on which nothing listens. It is below the range of client ports
/// (ip_local_port_range), so that no client takes it before the server does. Each call returns
/// another port, because several may be needed before the first is in use.
pub fn free_port() -> Result<u16, String> {
    static ASKED: AtomicU16 = AtomicU16::new(0);
    const PORTS: u16 = 20_000;
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let first = (std::process::id() % u32::from(PORTS)) as u16;
    let next = || 10_000 + (first + ASKED.fetch_add(1, Ordering::Relaxed) % PORTS) % PORTS;
    let ports = (0..PORTS).map(|_| next()).find(free);
    ports.ok_or_else(|| "no port of 127.0.0.1 is free".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_are_asked_for_together_differ() {
        let ports = [free_port(), free_port(), free_port()].map(Result::unwrap);
        assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2]);
    }
}
