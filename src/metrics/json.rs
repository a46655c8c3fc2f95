//! The figures as JSON.

use super::table::{FigureSource, FIGURES};
use super::{HubFigures, Seconds, VERSION};
use crate::hub::{DeliveryTimes, Stats};
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
        FigureSource::DeliveryTimes => delivery_times(&stats.delivery_times),
    }
}

/// Buckets are cumulative, as in Prometheus, and named by their upper bounds in seconds.
fn delivery_times(times: &DeliveryTimes) -> Value {
    let buckets: Map<String, Value> = times
        .cumulative()
        .map(|(bound, count)| (Seconds(bound).to_string(), count.into()))
        .collect();
    let seconds = times.total() as f64 / 1_000_000.0;
    json!({ "count": times.count(), "seconds": seconds, "buckets": buckets })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Counter, BUCKET_BOUNDS};

    #[test]
    fn figures_are_grouped_by_hub_and_by_reason() {
        let mut stats = Stats::default()
            .with(Counter::EventsIn, 7)
            .with(Counter::RefusedBusy, 2)
            .with(Counter::EndedDrain, 4);
        stats.delivery_times.add(250_000);
        stats.delivery_times.add(1_250_000);
        stats.delivery_times.add(13_000_000);
        stats.subscribers = 3;
        let hubs = [HubFigures { name: "a\"b".into(), stats }];
        let all: Value = serde_json::from_str(&json(&hubs, 5)).unwrap();
        assert_eq!((&all["time_ms"], &all["version"]), (&json!(5), &json!(VERSION)));
        let hub = &all["hubs"]["a\"b"];
        assert_eq!((&hub["subscribers"], &hub["events_in"]), (&json!(3), &json!(7)));
        assert_eq!((&hub["refused"]["busy"], &hub["refused"]["bad"]), (&json!(2), &json!(0)));
        assert_eq!((&hub["drained"], &hub["streams_ended"]["drain"]), (&json!(4), &json!(4)));
        let delivery = &hub["delivery"];
        assert_eq!((&delivery["count"], &delivery["seconds"]), (&json!(3), &json!(14.5)));
        let buckets = ["0.0001", "0.1", "0.25", "1", "2.5", "10"];
        assert_eq!(buckets.map(|le| delivery["buckets"][le].as_u64().unwrap()), [0, 0, 1, 1, 2, 2]);
        assert_eq!(delivery["buckets"].as_object().unwrap().len(), BUCKET_BOUNDS.len());
    }
}
