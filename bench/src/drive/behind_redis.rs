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
    ("plain messages to one client: a second", "plain_per_s", Unit::PerSecond),
    ("the same: CPU of the subscribing thread per message", "plain_thread_us", Unit::Micros),
    ("the same: CPU of the worker that sends per message", "plain_worker_us", Unit::Micros),
    ("the same: CPU of Redis per message", "plain_redis_us", Unit::Micros),
    ("the same: latency, median", "plain_p50_us", Unit::Millis),
    ("the same: latency, 99th percentile", "plain_p99_us", Unit::Millis),
    ("the same: a file from the other worker, 99th", "file_other_p99_us", Unit::Millis),
    ("the same: a file from the subscribing worker, 99th", "file_own_p99_us", Unit::Millis),
    ("the same: memory that nginx grows by, without the zone", "plain_nginx_bytes", Unit::Bytes),
    ("the same: memory that Redis grows by", "plain_redis_bytes", Unit::Bytes),
    ("durable over HTTP, 16 at a time: publishes a second", "durable_per_s", Unit::PerSecond),
    ("the same: CPU of nginx per publish", "durable_us", Unit::Micros),
    ("the same: CPU of Redis per publish", "durable_redis_us", Unit::Micros),
    ("10,000 channels, a client each: all are let in within", "come_us", Unit::Millis),
    ("the same: all subscribed after the last client came", "begin_us", Unit::Millis),
    ("Redis away for 1 s: nginx connects to it again after", "short_connected_us", Unit::Millis),
    ("the same: all subscribed again after", "short_subscribed_us", Unit::Millis),
    ("the same: a durable event has come to all after", "short_all_us", Unit::Millis),
    ("Redis away for 10 s: nginx connects to it again after", "long_connected_us", Unit::Millis),
    ("the same: all subscribed again after", "long_subscribed_us", Unit::Millis),
    ("the same: a durable event has come to all after", "long_all_us", Unit::Millis),
    ("reload: the new worker has the subscriptions after", "takeover_us", Unit::Millis),
    ("the same: the old one has given them up after", "handed_us", Unit::Millis),
    ("share of the machine that others had, plain messages", "plain_others", Unit::Share),
];

/// Runs all rounds, prints the measurements, and returns them.
pub fn run(variants: &[&'static Variant], options: &Options) -> (Series, Vec<String>) {
    let mut series = Series::default();
    let find = |sort| variants.iter().copied().find(|variant| variant.sort() == sort);
    let (Some(plain), Some(durable)) = (find(Sort::Plain), find(Sort::Durable)) else {
        return (series, vec!["redis: the variants behind Redis are left out".into()]);
    };
    for round in 1..=options.rounds {
        let mut behind = Behind { options, plain, figures: Figures::new(), faults: Vec::new() };
        for part in Part::ALL {
            eprintln!("redis, round {round}: {}", part.name());
            if let Err(why) = behind.measure(*part, durable) {
                behind.faults.push(why);
            }
        }
        let faults = behind.faults.into_iter();
        series.faults.extend(faults.map(|fault| format!("redis, round {round}: {fault}")));
        series.rounds.push(behind.figures);
    }
    print(&series);
    let faults = series.faults.clone();
    (series, faults)
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
            Self::Step => "in step again",
            Self::Takeover => "takeover",
        }
    }
}

/// One round.
struct Behind<'a> {
    options: &'a Options,
    plain: &'static Variant,
    figures: Figures,
    faults: Vec<String>,
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
    fn fault(&mut self, line: &Value) {
        let told = super::figures::faults(line);
        if !told.is_empty() {
            self.faults.push(told);
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
        let Outcome { figures, faults } = run::run(
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
        if !faults.is_empty() {
            self.faults.push(faults);
        }
        Ok(())
    }
}

fn print(series: &Series) {
    let mut lines = vec![["redis: this module behind Redis", "median", "least", "most"]
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
