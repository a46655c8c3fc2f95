//! Many channels with one client each: how soon all are subscribed to after a start of nginx and
//! after an outage of Redis, and how soon an event published then has reached all clients.

use super::subscriber::SubscriberWatch;
use super::Behind;
use crate::drive::generator::Generator;
use crate::drive::run::number;
use crate::drive::server::Server;
use std::time::{Duration, Instant};

/// The prefixes of the figures, and how long Redis is stopped.
const AWAY: &[(&str, Duration)] =
    &[("short", Duration::from_secs(1)), ("long", Duration::from_secs(10))];

/// Events per second: all at once.
const AT_ONCE: f64 = 1e7;

/// The run whose events are counted, and one whose events are not.
const COUNTED: u32 = 1;
const UNCOUNTED: u32 = 2;

impl Behind<'_> {
    pub fn measure_steps(&mut self) -> Result<(), String> {
        let away = if self.options.quick { AWAY.get(..1).unwrap_or_default() } else { AWAY };
        for (name, away) in away {
            let mut server = self.start("step", self.channels())?;
            let clients = self.come(&mut server)?;
            self.go_away(&mut server, clients, name, *away)?;
        }
        Ok(())
    }

    /// Connects all clients, and waits until their channels are subscribed to.
    pub fn come(&mut self, server: &mut Server) -> Result<Generator, String> {
        let channels = self.channels();
        let mut options = self.options(server, COUNTED);
        options.push(format!("--clients={channels}"));
        options.push("--patience=20".into());
        let mut clients = Generator::start(&options, 2)?;
        let line = clients.next_line()?;
        let since = Instant::now();
        if number(&line, "clients") < channels as f64 {
            return Err(format!("only {} clients were accepted", number(&line, "clients")));
        }
        self.note("come_us", number(&line, "seconds") * 1e6);
        let mut watch = SubscriberWatch::open(server.redis().ok_or("there is no Redis")?)?;
        let all = watch.wait("all subscribed", |found| {
            found.iter().any(|subscriber| subscriber.channels >= channels)
        })?;
        self.note("begin_us", micros(since, all));
        clients.step()?;
        Ok(clients)
    }

    /// Returns the options of a generator for one event on each channel, all at once.
    fn options(&self, server: &Server, run: u32) -> Vec<String> {
        let channels = self.channels();
        vec![
            format!("--to=127.0.0.1:{}", server.port),
            format!("--channels={channels}"),
            format!("--rate={AT_ONCE}"),
            "--warm=0".into(),
            format!("--seconds={}", channels as f64 / AT_ONCE),
            format!("--run={run}"),
        ]
    }

    /// Publishes a durable event on each channel, and returns when all have been confirmed.
    fn publish(&mut self, server: &mut Server, run: u32) -> Result<(), String> {
        let redis = server.redis().ok_or("there is no Redis")?.address();
        let mut options = self.options(server, run);
        options.extend(["--clients=0".into(), format!("--redis={redis}"), "--durable".into()]);
        let mut publisher = Generator::start(&options, 2)?;
        publisher.next_line()?;
        publisher.step()?;
        let line = publisher.step()?;
        self.record_errors(&line);
        Ok(())
    }

    fn go_away(
        &mut self,
        server: &mut Server,
        mut clients: Generator,
        name: &str,
        away: Duration,
    ) -> Result<(), String> {
        let channels = self.channels();
        self.publish(server, UNCOUNTED)?;
        std::thread::sleep(Duration::from_secs(1));
        let redis = server.redis().ok_or("there is no Redis")?;
        redis.stop()?;
        std::thread::sleep(away);
        redis.start_again()?;
        let back = Instant::now();
        let mut watch = SubscriberWatch::open(redis)?;
        let watcher = std::thread::spawn(move || {
            let connected = watch.wait("connected", |found| !found.is_empty())?;
            let subscribed = watch.wait("all subscribed again", |found| {
                found.iter().any(|subscriber| subscriber.channels >= channels)
            })?;
            Ok::<_, String>((connected, subscribed))
        });
        clients.go()?;
        self.publish(server, COUNTED)?;
        self.note(&format!("{name}_published_us"), micros(back, Instant::now()));
        let line = clients.next_line()?;
        let all = Instant::now();
        self.record_errors(&line);
        let (connected, subscribed) = watcher.join().map_err(|_| "the watcher panicked")??;
        self.note(&format!("{name}_connected_us"), micros(back, connected));
        self.note(&format!("{name}_subscribed_us"), micros(back, subscribed));
        self.note(&format!("{name}_all_us"), micros(back, all));
        Ok(())
    }
}

/// Returns the time between two moments in µs.
pub fn micros(since: Instant, until: Instant) -> f64 {
    until.saturating_duration_since(since).as_secs_f64() * 1e6
}
