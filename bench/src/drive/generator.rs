//! A generator that runs: its steps are begun by a line to it, and told by a line from it.

use super::child::{end, own_program, pinned};
use super::server::other_processors;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};

/// See above.
pub struct Generator {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Generator {
    /// Starts one with these options, beside a server of so many processes.
    pub fn start(options: &[String], workers: usize) -> Result<Self, String> {
        let mut command = pinned(&own_program()?, &other_processors(workers));
        command.arg("load").arg("--steps").args(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let stdout = child.stdout.take().ok_or("the generator has no output")?;
        Ok(Self { child, lines: BufReader::new(stdout) })
    }

    /// Its next line.
    pub fn hear(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        let told = self.lines.read_line(&mut line).map_err(|error| error.to_string())?;
        if told == 0 {
            return Err("the generator broke off".into());
        }
        serde_json::from_str(&line).map_err(|error| format!("{line}: {error}"))
    }

    /// Lets it begin its next step.
    pub fn go(&mut self) -> Result<(), String> {
        let stdin = self.child.stdin.as_mut().ok_or("the generator has no input")?;
        stdin.write_all(b"go\n").map_err(|error| format!("the generator broke off: {error}"))
    }

    /// Begins a step and waits until it is over.
    pub fn step(&mut self) -> Result<Value, String> {
        self.go()?;
        self.hear()
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
