//! Parses the output with a strict parser of the format.

use super::*;
use crate::hub::Counter;
use std::collections::{BTreeMap, BTreeSet};

/// One sample: its labels, and its value as written.
type Sample = (BTreeMap<String, String>, String);

/// The parsed text: types and samples by family.
#[derive(Default)]
struct Scraped {
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<String, Vec<Sample>>,
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Parses a text. Panics at everything that the format or Prometheus' conventions forbid.
fn scrape(text: &str) -> Scraped {
    let mut scraped = Scraped::default();
    let (mut helped, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut family = String::new();
    assert!(text.ends_with('\n'), "the last line ends with LF");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, what) = help.split_once(' ').unwrap();
            assert!(is_name(name) && what.ends_with('.') && !what.contains(['"', '\\']), "{line}");
            assert!(helped.insert(name.to_string()), "HELP of {name} occurs twice");
            family = name.to_string();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, family, "TYPE follows HELP");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(scraped.kinds.insert(name.to_string(), kind.to_string()).is_none());
        } else {
            let (name, labels, value) = sample(line);
            let base = match scraped.kinds[&family].as_str() {
                "histogram" => {
                    let part = ["_bucket", "_sum", "_count"].iter().find(|s| name.ends_with(**s));
                    assert_eq!(labels.contains_key("le"), name.ends_with("_bucket"), "{line}");
                    name.strip_suffix(*part.unwrap()).unwrap()
                }
                _ => &name,
            };
            assert_eq!(base, family, "samples of one family are grouped");
            assert!(seen.insert((name.clone(), labels.clone())), "{line} occurs twice");
            value.parse::<f64>().unwrap();
            scraped.samples.entry(name).or_default().push((labels, value));
        }
    }
    let kinds = scraped.kinds.iter();
    let histograms = kinds.filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name);
    histograms.for_each(|name| check_histogram(&scraped, name));
    scraped
}

/// Checks that each histogram has rising bounds up to `+Inf`, cumulative counts, a sum, and a count
/// that is the one of the last bucket.
fn check_histogram(scraped: &Scraped, name: &str) {
    let samples =
        |suffix: &str| scraped.samples.get(&format!("{name}{suffix}")).into_iter().flatten();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (labels, value) in samples("_count") {
        assert!(counts.insert(&labels["hub"], value.parse().unwrap()).is_none());
    }
    let sums: BTreeSet<&str> = samples("_sum").map(|(labels, _)| labels["hub"].as_str()).collect();
    assert_eq!(sums, counts.keys().copied().collect());
    let hubs: BTreeSet<&str> =
        samples("_bucket").map(|(labels, _)| labels["hub"].as_str()).collect();
    assert_eq!(hubs, sums);
    for (hub, total) in counts {
        let own = samples("_bucket").filter(|(labels, _)| labels["hub"] == hub);
        let buckets: Vec<(f64, u64)> = own
            .map(|(labels, value)| (labels["le"].parse().unwrap(), value.parse().unwrap()))
            .collect();
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, total)));
    }
}

/// `name{label="text",…} value`, and nothing else.
fn sample(line: &str) -> (String, BTreeMap<String, String>, String) {
    let (name, rest) = line.split_once('{').unwrap();
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    let mut chars = rest.chars();
    loop {
        let label: String = chars.by_ref().take_while(|c| *c != '=').collect();
        assert!(is_name(&label), "{line}");
        assert_eq!(chars.next(), Some('"'));
        let mut text = String::new();
        loop {
            match chars.next().unwrap() {
                '"' => break,
                '\\' => text.push(match chars.next().unwrap() {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    other => panic!("escape {other} in {line}"),
                }),
                other => text.push(other),
            }
        }
        assert!(labels.insert(label, text).is_none(), "{line}");
        match chars.next() {
            Some(',') => {}
            Some('}') => break,
            other => panic!("{other:?} in {line}"),
        }
    }
    assert_eq!(chars.next(), Some(' '));
    (name.to_string(), labels, chars.collect())
}

fn hubs() -> [HubFigures; 2] {
    let mut stats =
        Stats::default().with(Counter::EventsIn, u64::MAX).with(Counter::RefusedTooLarge, 9);
    stats.subscribers = 12;
    for microseconds in [100, 44_900, 11_000_000] {
        stats.delivery_times.add(microseconds);
    }
    [
        HubFigures { name: "news".into(), stats },
        HubFigures { name: "a\"b\\c\nd".into(), stats: Stats::default() },
    ]
}

#[test]
fn a_strict_parser_accepts_the_output() {
    let scraped = scrape(&prometheus(&hubs()));
    assert_eq!(scraped.kinds.len(), FIGURES.len() + 1);
    let value = |name: &str, hub: &str, second: Option<&str>| {
        let wanted = |labels: &BTreeMap<String, String>| {
            let other = labels.get("reason").or(labels.get("le"));
            labels.get("hub").map(String::as_str) == Some(hub)
                && other.map(String::as_str) == second
        };
        let found = scraped.samples[name].iter().find(|(labels, _)| wanted(labels));
        found.unwrap_or_else(|| panic!("no {name}")).1.clone()
    };
    assert_eq!(value("nginx_sse_subscribers", "news", None), "12");
    assert_eq!(value("nginx_sse_events_received_total", "news", None), u64::MAX.to_string());
    assert_eq!(value("nginx_sse_delivery_seconds_sum", "news", None), "11.045");
    assert_eq!(value("nginx_sse_delivery_seconds_count", "news", None), "3");
    for (le, count) in [("0.0001", "1"), ("0.025", "1"), ("0.05", "2"), ("10", "2"), ("+Inf", "3")]
    {
        assert_eq!(value("nginx_sse_delivery_seconds_bucket", "news", Some(le)), count, "{le}");
    }
    assert_eq!(value("nginx_sse_publishes_refused_total", "news", Some("too_large")), "9");
    assert_eq!(value("nginx_sse_subscribers", "a\"b\\c\nd", None), "0");
}

#[test]
fn without_a_hub_the_families_are_still_present() {
    let scraped = scrape(&prometheus(&[]));
    assert_eq!(scraped.kinds.len(), FIGURES.len() + 1);
    assert_eq!(scraped.samples.len(), 1, "the version");
}
