//! Every figure of a hub, once: its name in JSON, its name in Prometheus, what it means, and where it
//! is read. JSON and Prometheus are made of this table and of nothing else, so they cannot drift.
//!
//! Names in Prometheus follow its conventions: base units, `_total` for what only rises.

use crate::hub::{Counter, Stats};

/// One figure, or one figure by reason.
pub struct Figure {
    /// Its key in JSON.
    pub key: &'static str,
    /// Its name in Prometheus.
    pub name: &'static str,
    /// What it means, in one sentence.
    pub help: &'static str,
    /// Where it is read.
    pub reading: FigureSource,
}

/// Where a figure is read.
pub enum FigureSource {
    /// What is now.
    Gauge(fn(&Stats) -> u64),
    /// What only rises.
    Counter(Counter),
    /// What only rises, by reason.
    Reasons(&'static [(&'static str, Counter)]),
    /// What became of the connection to Redis.
    Redis,
    /// How often something took time, and how long in all.
    Time {
        /// How often.
        count: Counter,
        /// How long, in ms.
        ms: Counter,
    },
}

use FigureSource::{Gauge, Reasons, Time};

/// All of them, in the order in which they are shown.
pub const FIGURES: [Figure; 26] = [
    Figure {
        key: "subscribers",
        name: "nginx_sse_subscribers",
        help: "Streams open now.",
        reading: Gauge(|stats| stats.subscribers),
    },
    Figure {
        key: "channels",
        name: "nginx_sse_channels",
        help: "Channels known now.",
        reading: Gauge(|stats| stats.channels),
    },
    Figure {
        key: "events_in",
        name: "nginx_sse_events_received_total",
        help: "Events that publishers have put on channels.",
        reading: FigureSource::Counter(Counter::EventsIn),
    },
    Figure {
        key: "bytes_in",
        name: "nginx_sse_received_bytes_total",
        help: "Bytes of data of these events.",
        reading: FigureSource::Counter(Counter::BytesIn),
    },
    Figure {
        key: "events_out",
        name: "nginx_sse_events_sent_total",
        help: "Events handed to clients' sockets, each client counted.",
        reading: FigureSource::Counter(Counter::EventsOut),
    },
    Figure {
        key: "bytes_out",
        name: "nginx_sse_sent_bytes_total",
        help: "Bytes of events handed to clients' sockets, as framed.",
        reading: FigureSource::Counter(Counter::BytesOut),
    },
    Figure {
        key: "delivery",
        name: "nginx_sse_delivery_seconds",
        help:
            "Time from an event's publishing until a worker has gone through its channel's streams.",
        reading: Time { count: Counter::Passes, ms: Counter::PassMs },
    },
    Figure {
        key: "retained_events",
        name: "nginx_sse_history_events",
        help: "Events retained in history now.",
        reading: Gauge(|stats| stats.retained_events),
    },
    Figure {
        key: "zone_bytes",
        name: "nginx_sse_zone_bytes",
        help: "Bytes that the zone has for channels and history.",
        reading: Gauge(|stats| stats.zone_bytes),
    },
    Figure {
        key: "zone_used_bytes",
        name: "nginx_sse_zone_used_bytes",
        help: "Bytes of them in use now.",
        reading: Gauge(|stats| stats.zone_used_bytes),
    },
    Figure {
        key: "evicted",
        name: "nginx_sse_events_evicted_total",
        help: "Events that left history because their memory was needed.",
        reading: FigureSource::Counter(Counter::Evicted),
    },
    Figure {
        key: "expired",
        name: "nginx_sse_events_expired_total",
        help: "Events that left history because they were too old.",
        reading: FigureSource::Counter(Counter::Expired),
    },
    Figure {
        key: "forgotten",
        name: "nginx_sse_events_forgotten_total",
        help: "Events that an administrator removed from history.",
        reading: FigureSource::Counter(Counter::Forgotten),
    },
    Figure {
        key: "streams_opened",
        name: "nginx_sse_streams_opened_total",
        help: "Streams opened.",
        reading: FigureSource::Counter(Counter::Opened),
    },
    Figure {
        key: "streams_resumed",
        name: "nginx_sse_streams_resumed_total",
        help: "Streams opened by clients that came back with an id.",
        reading: FigureSource::Counter(Counter::Resumed),
    },
    Figure {
        key: "streams_ended",
        name: "nginx_sse_streams_ended_total",
        help: "Streams ended, by reason.",
        reading: Reasons(&[
            ("client", Counter::EndedClient),
            ("age", Counter::EndedAge),
            ("drain", Counter::EndedDrain),
            ("timeout", Counter::EndedTimeout),
            ("slow", Counter::EndedSlow),
            ("admin", Counter::EndedAdmin),
            ("error", Counter::EndedError),
            ("exit", Counter::EndedExit),
        ]),
    },
    Figure {
        key: "turned_away",
        name: "nginx_sse_streams_turned_away_total",
        help: "Clients that were told to come back later.",
        reading: FigureSource::Counter(Counter::TurnedAway),
    },
    Figure {
        key: "slow_clients",
        name: "nginx_sse_slow_clients_total",
        help: "Times that history overtook a client.",
        reading: FigureSource::Counter(Counter::SlowClients),
    },
    Figure {
        key: "gaps",
        name: "nginx_sse_gaps_total",
        help: "Times that a client was told of lost events.",
        reading: FigureSource::Counter(Counter::Gaps),
    },
    Figure {
        key: "deduplicated",
        name: "nginx_sse_publishes_deduplicated_total",
        help: "Publishes repeated with a known Idempotency-Key.",
        reading: FigureSource::Counter(Counter::Deduplicated),
    },
    Figure {
        key: "refused",
        name: "nginx_sse_publishes_refused_total",
        help: "Publishes refused, by reason.",
        reading: Reasons(&[
            ("bad", Counter::RefusedBad),
            ("forbidden", Counter::RefusedForbidden),
            ("too_large", Counter::RefusedTooLarge),
            ("busy", Counter::RefusedBusy),
            ("no_room", Counter::RefusedNoRoom),
            ("unreachable", Counter::RefusedUnreachable),
            ("unanswered", Counter::RefusedUnanswered),
            ("by_redis", Counter::RefusedByRedis),
        ]),
    },
    Figure {
        key: "drained",
        name: "nginx_sse_streams_drained_total",
        help: "Streams ended because their worker was told to quit.",
        reading: FigureSource::Counter(Counter::EndedDrain),
    },
    Figure {
        key: "lean",
        name: "nginx_sse_requests_given_back_total",
        help: "Streams whose request was given back (sse_lean), and those that stayed ordinary.",
        reading: Reasons(&[("lean", Counter::Lean), ("ordinary", Counter::NotLean)]),
    },
    Figure {
        key: "redis",
        name: "nginx_sse_redis_up",
        help: "Whether the hub is connected to its Redis.",
        reading: FigureSource::Redis,
    },
    Figure {
        key: "redis_reconnects",
        name: "nginx_sse_redis_reconnects_total",
        help: "Times that the connection to Redis was lost and made anew.",
        reading: FigureSource::Counter(Counter::Reconnects),
    },
    Figure {
        key: "repairs",
        name: "nginx_sse_repairs_total",
        help: "Times that a worker finished what another one had left when it died.",
        reading: FigureSource::Counter(Counter::Repairs),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::COUNTERS;
    use std::collections::BTreeSet;

    #[test]
    fn every_counter_is_shown() {
        let mut shown = BTreeSet::new();
        for figure in &FIGURES {
            match figure.reading {
                Gauge(_) | FigureSource::Redis => {}
                FigureSource::Counter(counter) => drop(shown.insert(counter as usize)),
                Reasons(all) => shown.extend(all.iter().map(|(_, counter)| *counter as usize)),
                Time { count, ms } => shown.extend([count as usize, ms as usize]),
            }
        }
        assert_eq!(shown, (0..COUNTERS).collect());
    }

    #[test]
    fn no_name_stands_twice() {
        assert_eq!(FIGURES.iter().map(|f| f.key).collect::<BTreeSet<_>>().len(), FIGURES.len());
        assert_eq!(FIGURES.iter().map(|f| f.name).collect::<BTreeSet<_>>().len(), FIGURES.len());
    }
}
