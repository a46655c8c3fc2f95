//! Figures of runs by name, their medians, and the errors that invalidate a run.

use serde_json::{json, Value};
use std::collections::BTreeMap;

/// The measurements of one run.
pub type Figures = BTreeMap<String, f64>;

/// The measurements of a variant's rounds of one load.
#[derive(Default)]
pub struct Series {
    pub rounds: Vec<Figures>,
    /// Descriptions of what went wrong.
    pub errors: Vec<String>,
}

impl Series {
    /// Returns the median over the rounds; `None` if no round has the figure.
    pub fn median(&self, name: &str) -> Option<f64> {
        let mut values: Vec<f64> =
            self.rounds.iter().filter_map(|round| round.get(name).copied()).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        if values.len() % 2 == 1 {
            return Some(upper);
        }
        values.get(middle - 1).map(|lower| (lower + upper) / 2.0)
    }

    pub fn as_json(&self) -> Value {
        let names = self.rounds.iter().flat_map(BTreeMap::keys);
        let medians: BTreeMap<&String, Option<f64>> =
            names.map(|name| (name, self.median(name))).collect();
        json!({ "median": medians, "rounds": self.rounds, "errors": self.errors })
    }
}

/// Returns the errors reported by a generator as one sentence; empty if there are none.
pub fn errors(line: &Value) -> String {
    let counts = line.get("errors").and_then(Value::as_object);
    let reports: Vec<String> = counts
        .into_iter()
        .flatten()
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(name, count)| format!("{count} {}", describe(name)))
        .collect();
    reports.join(", ")
}

fn describe(name: &str) -> &str {
    match name {
        "lost" => "deliveries LOST",
        "duplicated" => "deliveries DUPLICATED",
        "disordered" => "deliveries OUT OF ORDER",
        "misplaced" => "events of another channel or size",
        "orders" => "clients that received a different order",
        "malformed" => "streams with invalid chunks",
        "ended" => "streams ended by the server",
        "refused" => "publishes rejected",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let round = |value: f64| Figures::from([("a".to_owned(), value)]);
        let mut series = Series::default();
        assert_eq!(series.median("a"), None);
        series.rounds = vec![round(3.0), round(1.0), round(8.0)];
        assert_eq!(series.median("a"), Some(3.0));
        series.rounds.push(round(5.0));
        assert_eq!(series.median("a"), Some(4.0));
        assert_eq!(series.median("b"), None);
    }

    #[test]
    fn errors_are_reported_in_words() {
        let line = json!({ "errors": { "lost": 2, "duplicated": 0 } });
        assert_eq!(errors(&line), "2 deliveries LOST");
        assert_eq!(errors(&json!({})), "");
    }
}
