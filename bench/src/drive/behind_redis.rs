//! This module with Redis: the cost of a message, and how soon everything is in sync after a start
//! of nginx, after an outage of Redis, and after a reload.

mod plain;
mod step;
mod subscriber;
mod takeover;

use super::figures::{Figures, Series};
use super::mode::{named, Unit};
use super::options::Options;
use super::run::{self, Outcome};
use super::server::{Server, Wanted};
use super::table::{markdown, written};
use super::transport::Transport;
use super::variant::{Sort, Variant};
use serde_json::Value;
use std::path::PathBuf;

/// The rows of the table: title, figure, unit.
const ROWS: &[(&str, &str, Unit)] = &[
    ("plain messages to one client: messages per second", "plain_per_s", Unit::PerSecond),
    (
        "plain messages to one client: CPU of the subscribing thread per message",
        "plain_thread_us",
        Unit::Micros,
    ),
    (
        "plain messages to one client: CPU of the sending worker per message",
        "plain_worker_us",
        Unit::Micros,
    ),
    ("plain messages to one client: CPU of Redis per message", "plain_redis_us", Unit::Micros),
    ("plain messages to one client: latency, median", "plain_p50_us", Unit::Millis),
    ("plain messages to one client: latency, 99th percentile", "plain_p99_us", Unit::Millis),
    (
        "plain messages to one client: a file from the other worker, 99th percentile",
        "file_other_p99_us",
        Unit::Millis,
    ),
    (
        "plain messages to one client: a file from the subscribing worker, 99th percentile",
        "file_own_p99_us",
        Unit::Millis,
    ),
    (
        "plain messages to one client: memory growth of nginx, without the zone",
        "plain_nginx_bytes",
        Unit::Bytes,
    ),
    ("plain messages to one client: memory growth of Redis", "plain_redis_bytes", Unit::Bytes),
    (
        "durable events over HTTP, 16 in flight: publishes per second",
        "durable_per_s",
        Unit::PerSecond,
    ),
    (
        "durable events over HTTP, 16 in flight: CPU of nginx per publish",
        "durable_us",
        Unit::Micros,
    ),
    (
        "durable events over HTTP, 16 in flight: CPU of Redis per publish",
        "durable_redis_us",
        Unit::Micros,
    ),
    ("10,000 channels with one client each: time until all are connected", "come_us", Unit::Millis),
    (
        "10,000 channels with one client each: time from then until all are subscribed",
        "begin_us",
        Unit::Millis,
    ),
    (
        "outage of Redis for 1 s: time until nginx is connected again",
        "short_connected_us",
        Unit::Millis,
    ),
    (
        "outage of Redis for 1 s: time until all channels are subscribed again",
        "short_subscribed_us",
        Unit::Millis,
    ),
    (
        "outage of Redis for 1 s: time until a durable event has reached all clients",
        "short_all_us",
        Unit::Millis,
    ),
    (
        "outage of Redis for 10 s: time until nginx is connected again",
        "long_connected_us",
        Unit::Millis,
    ),
    (
        "outage of Redis for 10 s: time until all channels are subscribed again",
        "long_subscribed_us",
        Unit::Millis,
    ),
    (
        "outage of Redis for 10 s: time until a durable event has reached all clients",
        "long_all_us",
        Unit::Millis,
    ),
    ("reload: time until the new worker has the subscriptions", "takeover_us", Unit::Millis),
    ("reload: time until the old worker has released them", "handed_us", Unit::Millis),
    ("plain messages: share of the machine used by other processes", "plain_others", Unit::Share),
];

/// Runs all rounds, prints the measurements, and returns them.
pub fn run(variants: &[&'static Variant], options: &Options) -> (Series, Vec<String>) {
    let mut series = Series::default();
    let find = |sort| variants.iter().copied().find(|variant| variant.sort() == sort);
    let (Some(plain), Some(durable)) = (find(Sort::Plain), find(Sort::Durable)) else {
        return (series, vec!["redis: the variants with Redis are left out".into()]);
    };
    for round in 1..=options.rounds {
        let mut behind = Behind { options, plain, figures: Figures::new(), errors: Vec::new() };
        for part in Part::ALL {
            eprintln!("redis, round {round}: {}", part.name());
            if let Err(why) = behind.measure(*part, durable) {
                behind.errors.push(why);
            }
        }
        let errors = behind.errors.into_iter();
        series.errors.extend(errors.map(|error| format!("redis, round {round}: {error}")));
        series.rounds.push(behind.figures);
    }
    print(&series);
    let errors = series.errors.clone();
    (series, errors)
}

#[derive(Clone, Copy)]
enum Part {
    Plain,
    Durable,
    Step,
    Takeover,
}

impl Part {
    const ALL: &'static [Self] = &[Self::Plain, Self::Durable, Self::Step, Self::Takeover];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain messages",
            Self::Durable => "durable events over HTTP",
            Self::Step => "synchronization",
            Self::Takeover => "takeover",
        }
    }
}

/// One round.
struct Behind<'a> {
    options: &'a Options,
    plain: &'static Variant,
    figures: Figures,
    errors: Vec<String>,
}

impl Behind<'_> {
    fn measure(&mut self, part: Part, durable: &'static Variant) -> Result<(), String> {
        match part {
            Part::Plain => self.measure_plain(),
            Part::Durable => self.measure_durable(durable),
            Part::Step => self.measure_steps(),
            Part::Takeover => self.measure_takeover(),
        }
    }

    fn note(&mut self, name: &str, value: f64) {
        self.figures.insert(name.to_owned(), value);
    }

    /// Records the errors reported by a generator.
    fn record_errors(&mut self, line: &Value) {
        let reported = super::figures::errors(line);
        if !reported.is_empty() {
            self.errors.push(reported);
        }
    }

    /// Returns the number of channels; each has one client.
    fn channels(&self) -> usize {
        let usual = if self.options.quick { 1_000 } else { 10_000 };
        self.options.clients.unwrap_or(usual).min(self.options.most_clients)
    }

    fn directory(&self, name: &str) -> Result<PathBuf, String> {
        let directory = self.options.directory.join("behind").join(name);
        std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
        Ok(directory)
    }

    /// Starts nginx with two workers, and its Redis.
    fn start(&self, name: &str, clients: usize) -> Result<Server, String> {
        Server::start(&Wanted {
            variant: self.plain,
            place: &self.options.place,
            directory: &self.directory(name)?,
            workers: 2,
            // One worker may accept all of them.
            clients: clients * 2,
            transport: Transport::Plain,
        })
    }

    fn measure_durable(&mut self, variant: &'static Variant) -> Result<(), String> {
        let case = named("publish").and_then(|mode| mode.cases.first());
        let work = self.options.shape(case.ok_or("there is no mode publish")?.work);
        let Outcome { figures, errors } = run::run(
            &Wanted {
                variant,
                place: &self.options.place,
                directory: &self.directory("durable")?,
                workers: work.workers,
                clients: work.clients,
                transport: Transport::Plain,
            },
            &work,
        )?;
        let names = [
            ("publish_us", "durable_us"),
            ("redis_us", "durable_redis_us"),
            ("publishes_per_s", "durable_per_s"),
        ];
        for (theirs, ours) in names {
            self.note(ours, figures.get(theirs).copied().unwrap_or(0.0));
        }
        if !errors.is_empty() {
            self.errors.push(errors);
        }
        Ok(())
    }
}

fn print(series: &Series) {
    let mut lines = vec![["redis: this module with Redis", "median", "minimum", "maximum"]
        .map(str::to_owned)
        .to_vec()];
    for (title, name, unit) in ROWS {
        let Some(median) = series.median(name) else { continue };
        let all = || series.rounds.iter().filter_map(|round| round.get(*name).copied());
        let ends = [all().fold(f64::MAX, f64::min), all().fold(f64::MIN, f64::max)];
        let cells = [median, ends[0], ends[1]].map(|value| written(value, *unit));
        lines.push(std::iter::once((*title).to_owned()).chain(cells).collect());
    }
    println!("{}", markdown(&lines));
}
