//! A reload while messages flow: how soon a new process has taken over the subscriptions, and
//! whether each message was put on its channel exactly once.

use super::step::micros;
use super::subscriber::SubscriberWatch;
use super::Behind;
use crate::drive::generator::Generator;
use crate::drive::page::Page;
use crate::drive::run::number;
use crate::drive::server::Server;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Messages per second, over all channels.
const RATE: f64 = 2_000.0;
/// Duration of the publishing in seconds; the reload happens after one second.
const SECONDS: f64 = 5.0;

impl Behind<'_> {
    pub fn measure_takeover(&mut self) -> Result<(), String> {
        let channels = self.channels();
        let mut server = self.start("takeover", channels)?;
        let clients = self.come(&mut server)?;
        let mut watch = SubscriberWatch::open(server.redis().ok_or("there is no Redis")?)?;
        let holder = watch.subscribers()?.into_iter().max_by_key(|found| found.channels);
        let holder = holder.ok_or("no process subscribes")?.id;

        let mut publisher = publisher(&server, channels)?;
        let before = events_in(&server)?;
        publisher.go()?;
        std::thread::sleep(Duration::from_secs(1));
        let since = Instant::now();
        server.reload()?;
        let taken = watch.wait("the new worker subscribed", |found| {
            found.iter().any(|found| found.id != holder && found.channels >= channels)
        })?;
        let handed = watch.wait("the old worker unsubscribed", |found| {
            found.iter().all(|found| found.id != holder)
        })?;
        self.note("takeover_us", micros(since, taken));
        self.note("handed_us", micros(since, handed));

        let line = publisher.next_line()?;
        self.record_errors(&line);
        std::thread::sleep(Duration::from_millis(500));
        let (received, published) = (events_in(&server)? - before, number(&line, "publishes"));
        if received != published {
            self.errors.push(format!("after a reload, {received} of {published} messages arrived"));
        }
        drop(clients);
        Ok(())
    }
}

fn publisher(server: &Server, channels: usize) -> Result<Generator, String> {
    let mut options = vec![
        format!("--to=127.0.0.1:{}", server.port),
        "--clients=0".into(),
        format!("--channels={channels}"),
        format!("--rate={RATE}"),
        "--warm=0".into(),
        format!("--seconds={SECONDS}"),
    ];
    options.extend(server.ways());
    let mut publisher = Generator::start(&options, 2)?;
    publisher.next_line()?;
    publisher.step()?;
    Ok(publisher)
}

/// Returns the number of events published on channels so far.
fn events_in(server: &Server) -> Result<f64, String> {
    let page = Page::open(server.port)?.get("/status")?;
    let page: Value = serde_json::from_slice(&page).map_err(|error| error.to_string())?;
    let figure = page.pointer("/hubs/default/events_in").and_then(Value::as_f64);
    figure.ok_or_else(|| "the status has no events_in".into())
}
