//! More clients than one process can hold: how many fit into the machine, the server that they
//! connect to, and the generators over which they are spread, because the number of open files of a
//! process is limited.

use super::generator::Generator;
use super::options::{descriptors, Options};
use super::process::available;
use super::progress::passing;
use super::run::number;
use super::server::{Server, Wanted};
use super::transport::Transport;
use super::variant::Variant;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Maximum memory of the machine per client in bytes: two sockets, a generator's record, nginx's
/// request.
const BYTES: f64 = 22_000.0;
/// Maximum memory per client in bytes if nginx's request is released (`sse_lean`).
const LEAN_BYTES: f64 = 12_000.0;
/// Share of a worker's open files that clients may use. They are distributed unevenly, and a reload
/// needs reserves.
const WORKER_SHARE: f64 = 0.85;

/// Time until all workers run, or all generators have begun a step, so that each counts everything
/// that belongs to it.
pub const BEGIN: Duration = Duration::from_secs(1);

/// How the clients are spread.
pub struct Fleet {
    pub clients: usize,
    pub workers: usize,
    pub generators: usize,
}

/// A fleet of connected clients.
pub struct Gathered {
    pub generators: Vec<Generator>,
    pub refused: f64,
    pub seconds: f64,
}

impl Fleet {
    /// Plans as many clients as are requested, or as fit into the machine.
    pub fn reckon(variant: &Variant, asked: usize) -> Self {
        let each = if variant.name.contains("lean") { LEAN_BYTES } else { BYTES };
        let room = (available() * 0.85 / each) as usize;
        let clients = asked.min(room);
        let files = descriptors().min(100_000);
        let workers = (clients as f64 / (files as f64 * WORKER_SHARE)).ceil() as usize;
        let generators = clients.div_ceil(files.saturating_sub(300).max(1));
        Self { clients, workers: workers.max(2), generators: generators.max(1) }
    }

    /// Starts a server with the capacity for the fleet.
    pub fn serve(
        &self,
        variant: &Variant,
        settings: &Options,
        directory: &str,
    ) -> Result<Server, String> {
        let directory = settings.directory.join(variant.name).join(directory);
        std::fs::create_dir_all(&directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        let server = Server::start(&Wanted {
            variant,
            place: &settings.place,
            directory: &directory,
            workers: self.workers,
            // Workers get unequal shares, so each needs more capacity than its own share.
            clients: self.clients * 12 / 10,
            transport: Transport::Plain,
        })?;
        std::thread::sleep(BEGIN);
        Ok(server)
    }

    /// Connects all clients, using generators with these options.
    pub fn gather(&self, options: &[String]) -> Result<Gathered, String> {
        let since = Instant::now();
        let (mut generators, mut connected, mut refused) = (Vec::new(), 0, 0.0);
        while connected < self.clients {
            let part = self.clients.div_ceil(self.generators).min(self.clients - connected);
            let own = [format!("--clients={part}"), format!("--first={connected}")];
            let mut generator = Generator::start(&[options, &own].concat(), self.workers)?;
            refused += number(&generator.next_line()?, "refused");
            generators.push(generator);
            connected += part;
            passing(&format!("{connected} clients"));
        }
        passing("");
        Ok(Gathered { generators, refused, seconds: since.elapsed().as_secs_f64() })
    }
}

/// Starts a step in all generators, the publisher last, and waits until all have finished it.
pub fn step_all(
    generators: &mut [Generator],
    publisher: &mut Generator,
) -> Result<Vec<Value>, String> {
    for generator in generators.iter_mut() {
        generator.go()?;
    }
    std::thread::sleep(BEGIN);
    publisher.step()?;
    generators.iter_mut().map(Generator::next_line).collect()
}
