//! A progress line on stderr.

use std::io::IsTerminal;
use std::time::Instant;

/// Shows a line that the next one overwrites, if stderr is a terminal.
pub fn passing(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
    }
}

/// The progress of the benchmark.
pub struct Progress {
    runs: usize,
    begun: usize,
    since: Instant,
    overwrites: bool,
}

impl Progress {
    pub fn new(runs: usize) -> Self {
        let overwrites = std::io::stderr().is_terminal();
        Self { runs, begun: 0, since: Instant::now(), overwrites }
    }

    /// Announces the next run.
    pub fn begin(&mut self, mode: &str, case: &str, variant: &str, round: usize) {
        let left = match self.begun {
            0 => String::new(),
            done => {
                let each = self.since.elapsed().as_secs_f64() / done as f64;
                format!(", about {} left", duration(each * self.runs.saturating_sub(done) as f64))
            }
        };
        self.begun += 1;
        let case = if case == mode { String::new() } else { format!(" ({case})") };
        let line =
            format!("[{}/{}] {mode}{case}, round {round}: {variant}{left}", self.begun, self.runs);
        if self.overwrites {
            passing(&line);
        } else {
            eprintln!("{line}");
        }
    }
}

fn duration(seconds: f64) -> String {
    if seconds < 90.0 {
        format!("{seconds:.0} s")
    } else {
        format!("{:.0} min", seconds / 60.0)
    }
}
