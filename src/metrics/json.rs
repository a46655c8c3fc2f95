//! The figures as JSON.

use super::table::{FigureSource, FIGURES};
use super::{HubFigures, VERSION};
use crate::hub::Stats;
use serde_json::{json, Map, Value};

/// The content type.
pub const JSON: &str = "application/json";

/// Returns `{"version":…,"time_ms":…,"hubs":{NAME:{…}}}`; `wall` is in ms since 1970.
pub fn json(hubs: &[HubFigures], wall: u64) -> String {
    let hubs: Map<String, Value> =
        hubs.iter().map(|hub| (hub.name.clone(), hub_value(&hub.stats))).collect();
    json!({ "version": VERSION, "time_ms": wall, "hubs": hubs }).to_string()
}

fn hub_value(stats: &Stats) -> Value {
    let figures =
        FIGURES.iter().map(|figure| (figure.key.to_owned(), value(&figure.source, stats)));
    Value::Object(figures.collect())
}

fn value(source: &FigureSource, stats: &Stats) -> Value {
    match source {
        FigureSource::Gauge(read) => read(stats).into(),
        FigureSource::Redis => stats.redis.as_str().into(),
        FigureSource::Counter(counter) => stats.counter(*counter).into(),
        FigureSource::Reasons(reasons) => {
            let reasons = reasons.iter();
            let counts =
                reasons.map(|(name, counter)| ((*name).into(), stats.counter(*counter).into()));
            Value::Object(counts.collect())
        }
        FigureSource::Time { count, ms } => {
            json!({ "count": stats.counter(*count), "seconds": stats.counter(*ms) as f64 / 1000.0 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Counter;

    #[test]
    fn figures_are_grouped_by_hub_and_by_reason() {
        let mut stats = Stats::default()
            .with(Counter::EventsIn, 7)
            .with(Counter::RefusedBusy, 2)
            .with(Counter::EndedDrain, 4)
            .with(Counter::Passes, 2)
            .with(Counter::PassMs, 1500);
        stats.subscribers = 3;
        let hubs = [HubFigures { name: "a\"b".into(), stats }];
        let all: Value = serde_json::from_str(&json(&hubs, 5)).unwrap();
        assert_eq!((&all["time_ms"], &all["version"]), (&json!(5), &json!(VERSION)));
        let hub = &all["hubs"]["a\"b"];
        assert_eq!((&hub["subscribers"], &hub["events_in"]), (&json!(3), &json!(7)));
        assert_eq!((&hub["refused"]["busy"], &hub["refused"]["bad"]), (&json!(2), &json!(0)));
        assert_eq!((&hub["drained"], &hub["streams_ended"]["drain"]), (&json!(4), &json!(4)));
        assert_eq!(hub["delivery"], json!({ "count": 2, "seconds": 1.5 }));
    }
}
