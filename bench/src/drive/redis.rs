//! A Redis server for the benchmark, on a free port of 127.0.0.1. It is stopped when the value is
//! dropped.

use super::child::{end, free_port, pinned, START};
use crate::resp::RedisConnection;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A Redis server for the benchmark.
pub struct Redis {
    child: Child,
    address: SocketAddr,
    program: PathBuf,
    directory: PathBuf,
}

impl Redis {
    pub fn start(program: &Path, directory: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(directory).map_err(|error| error.to_string())?;
        // This server must not load what an earlier one saved.
        let _ = std::fs::remove_file(directory.join("dump.rdb"));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let child = spawn(program, address, directory)?;
        let (program, directory) = (program.to_owned(), directory.to_owned());
        let redis = Self { child, address, program, directory };
        redis.wait_until_it_answers()?;
        Ok(redis)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    pub fn connect(&self) -> Result<RedisConnection, String> {
        RedisConnection::open(self.address)
    }

    /// Stops the server; its data is saved and loaded again by `start_again`.
    pub fn stop(&mut self) -> Result<(), String> {
        // The server does not reply but closes the connection.
        let _ = self.connect()?.ask(&["SHUTDOWN", "SAVE"]);
        self.child.wait().map(drop).map_err(|error| error.to_string())
    }

    /// Starts the server again, and returns when it replies.
    pub fn start_again(&mut self) -> Result<(), String> {
        self.child = spawn(&self.program, self.address, &self.directory)?;
        self.wait_until_it_answers()
    }

    fn wait_until_it_answers(&self) -> Result<(), String> {
        let since = Instant::now();
        while self.connect().and_then(|mut redis| redis.ask(&["PING"])).is_err() {
            if since.elapsed() > START {
                return Err("redis-server did not start".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Whether the program exists.
pub fn is_there(program: &Path) -> bool {
    Command::new(program).arg("-v").output().is_ok()
}

fn spawn(program: &Path, address: SocketAddr, directory: &Path) -> Result<Child, String> {
    let mut command = pinned(program, &[]);
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
    command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(directory);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.map_err(|error| format!("redis-server: {error}"))
}
