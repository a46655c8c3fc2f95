//! A running load generator. A line written to it starts a step, and a line from it reports the
//! result.

use super::child::{end, own_program, pinned};
use super::server::other_processors;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};

/// A running load generator.
pub struct Generator {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Generator {
    /// Starts a generator with these options, next to a server with this many processes.
    pub fn start(options: &[String], workers: usize) -> Result<Self, String> {
        let mut command = pinned(&own_program()?, &other_processors(workers));
        command.arg("load").arg("--steps").args(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let stdout = child.stdout.take().ok_or("the generator has no output")?;
        Ok(Self { child, lines: BufReader::new(stdout) })
    }

    /// Reads the next line.
    pub fn next_line(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        let len = self.lines.read_line(&mut line).map_err(|error| error.to_string())?;
        if len == 0 {
            return Err("the generator ended unexpectedly".into());
        }
        serde_json::from_str(&line).map_err(|error| format!("{line}: {error}"))
    }

    /// Starts the next step.
    pub fn go(&mut self) -> Result<(), String> {
        let stdin = self.child.stdin.as_mut().ok_or("the generator has no input")?;
        stdin
            .write_all(b"go\n")
            .map_err(|error| format!("the generator ended unexpectedly: {error}"))
    }

    /// Runs a step and waits for its result.
    pub fn step(&mut self) -> Result<Value, String> {
        self.go()?;
        self.next_line()
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}
