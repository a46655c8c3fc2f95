//! The figures in Prometheus' text format, version 0.0.4.

use super::table::{Figure, FigureSource, FIGURES};
use super::{HubFigures, Seconds, VERSION};
use crate::hub::{DeliveryTimes, RedisState, Stats};
use std::fmt::{self, Display, Write};

/// The content type.
pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns all figures of these hubs, grouped by figure as the format requires.
pub fn prometheus(hubs: &[HubFigures]) -> String {
    let mut text = Text::default();
    text.head("nginx_sse_build_info", "Version of the module.", "gauge");
    text.line("nginx_sse_build_info", &[("version", VERSION)], &1);
    for figure in &FIGURES {
        text.head(figure.name, figure.help, kind(&figure.source));
        for hub in hubs {
            text.samples(figure, &hub.name, &hub.stats);
        }
    }
    text.0
}

fn kind(source: &FigureSource) -> &'static str {
    match source {
        FigureSource::Gauge(_) | FigureSource::Redis => "gauge",
        FigureSource::Counter(_) | FigureSource::Reasons(_) => "counter",
        FigureSource::DeliveryTimes => "histogram",
    }
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.write(format_args!("# HELP {name} {}\n", LabelValue(help)));
        self.write(format_args!("# TYPE {name} {kind}\n"));
    }

    fn samples(&mut self, figure: &Figure, hub: &str, stats: &Stats) {
        let hub = ("hub", hub);
        match figure.source {
            FigureSource::Gauge(read) => self.line(figure.name, &[hub], &read(stats)),
            // A hub without Redis has no such sample.
            FigureSource::Redis if stats.redis == RedisState::Off => {}
            FigureSource::Redis => {
                self.line(figure.name, &[hub], &u64::from(stats.redis == RedisState::Up));
            }
            FigureSource::Counter(counter) => {
                self.line(figure.name, &[hub], &stats.counter(counter))
            }
            FigureSource::Reasons(reasons) => {
                for (reason, counter) in reasons {
                    let labels = [hub, ("reason", reason)];
                    self.line(figure.name, &labels, &stats.counter(*counter));
                }
            }
            FigureSource::DeliveryTimes => self.histogram(figure.name, hub, &stats.delivery_times),
        }
    }

    fn histogram(&mut self, name: &str, hub: (&str, &str), times: &DeliveryTimes) {
        let bucket = format!("{name}_bucket");
        for (bound, count) in times.cumulative() {
            self.line(&bucket, &[hub, ("le", &Seconds(bound).to_string())], &count);
        }
        self.line(&bucket, &[hub, ("le", "+Inf")], &times.count());
        self.line(&format!("{name}_sum"), &[hub], &Seconds(times.total()));
        self.line(&format!("{name}_count"), &[hub], &times.count());
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: &dyn Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, text)| format!("{label}=\"{}\"", LabelValue(text)))
            .collect();
        self.write(format_args!("{name}{{{}}} {value}\n", labels.join(",")));
    }

    fn write(&mut self, text: fmt::Arguments<'_>) {
        // Writing into a string cannot fail.
        let _ = self.0.write_fmt(text);
    }
}

/// Escapes a label's value. (A help text must not have its quotes escaped, but none contains any.)
struct LabelValue<'a>(&'a str);

impl Display for LabelValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
