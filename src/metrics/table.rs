//! The table of a hub's figures: name in JSON, name in Prometheus, meaning, and source. JSON and
//! Prometheus are generated from this table alone, so they cannot diverge.
//!
//! Names in Prometheus follow its conventions: base units, and `_total` for counters.

use crate::hub::{Counter, Stats};

/// One figure, or one figure with a value for each reason.
pub struct Figure {
    /// Its key in JSON.
    pub key: &'static str,
    /// Its name in Prometheus.
    pub name: &'static str,
    /// Its meaning, in one sentence.
    pub help: &'static str,
    /// Where its value comes from.
    pub source: FigureSource,
}

/// The source of a figure's value.
pub enum FigureSource {
    /// A current value.
    Gauge(fn(&Stats) -> u64),
    /// A value that only grows.
    Counter(Counter),
    /// Values that only grow, by reason.
    Reasons(&'static [(&'static str, Counter)]),
    /// The state of the connection to Redis.
    Redis,
    /// The histogram of delivery times.
    DeliveryTimes,
}

use FigureSource::{Gauge, Reasons};

/// All figures, in the order in which they are shown.
pub const FIGURES: [Figure; 29] = [
    Figure {
        key: "subscribers",
        name: "nginx_sse_subscribers",
        help: "Open streams.",
        source: Gauge(|stats| stats.subscribers),
    },
    Figure {
        key: "channels",
        name: "nginx_sse_channels",
        help: "Channels in the zone.",
        source: Gauge(|stats| stats.channels),
    },
    Figure {
        key: "events_in",
        name: "nginx_sse_events_received_total",
        help: "Events published.",
        source: FigureSource::Counter(Counter::EventsIn),
    },
    Figure {
        key: "bytes_in",
        name: "nginx_sse_received_bytes_total",
        help: "Bytes of data in published events.",
        source: FigureSource::Counter(Counter::BytesIn),
    },
    Figure {
        key: "events_out",
        name: "nginx_sse_events_sent_total",
        help: "Events written to clients' sockets, counted per client.",
        source: FigureSource::Counter(Counter::EventsOut),
    },
    Figure {
        key: "bytes_out",
        name: "nginx_sse_sent_bytes_total",
        help: "Bytes of events written to clients' sockets, including framing.",
        source: FigureSource::Counter(Counter::BytesOut),
    },
    Figure {
        key: "delivery",
        name: "nginx_sse_delivery_seconds",
        help:
            "Time from the publishing of an event until a worker has served its channel's streams.",
        source: FigureSource::DeliveryTimes,
    },
    Figure {
        key: "retained_events",
        name: "nginx_sse_history_events",
        help: "Events retained in history.",
        source: Gauge(|stats| stats.retained_events),
    },
    Figure {
        key: "zone_bytes",
        name: "nginx_sse_zone_bytes",
        help: "Bytes available in the zone for channels and history.",
        source: Gauge(|stats| stats.zone_bytes),
    },
    Figure {
        key: "zone_used_bytes",
        name: "nginx_sse_zone_used_bytes",
        help: "Bytes of the zone in use by channels and history.",
        source: Gauge(|stats| stats.zone_used_bytes),
    },
    Figure {
        key: "evicted",
        name: "nginx_sse_events_evicted_total",
        help: "Events removed from history because their memory was needed.",
        source: FigureSource::Counter(Counter::Evicted),
    },
    Figure {
        key: "expired",
        name: "nginx_sse_events_expired_total",
        help: "Events removed from history because they were too old.",
        source: FigureSource::Counter(Counter::Expired),
    },
    Figure {
        key: "forgotten",
        name: "nginx_sse_events_forgotten_total",
        help: "Events removed from history by an administrator.",
        source: FigureSource::Counter(Counter::Forgotten),
    },
    Figure {
        key: "streams_opened",
        name: "nginx_sse_streams_opened_total",
        help: "Streams opened.",
        source: FigureSource::Counter(Counter::Opened),
    },
    Figure {
        key: "streams_resumed",
        name: "nginx_sse_streams_resumed_total",
        help: "Streams opened by clients that resumed from an event id.",
        source: FigureSource::Counter(Counter::Resumed),
    },
    Figure {
        key: "streams_ended",
        name: "nginx_sse_streams_ended_total",
        help: "Streams ended, by reason.",
        source: Reasons(&[
            ("client", Counter::EndedClient),
            ("age", Counter::EndedAge),
            ("expired", Counter::EndedExpired),
            ("drain", Counter::EndedDrain),
            ("timeout", Counter::EndedTimeout),
            ("slow", Counter::EndedSlow),
            ("admin", Counter::EndedAdmin),
            ("finished", Counter::EndedFinished),
            ("error", Counter::EndedError),
            ("exit", Counter::EndedExit),
        ]),
    },
    Figure {
        key: "turned_away",
        name: "nginx_sse_streams_turned_away_total",
        help: "Clients asked to reconnect later because no stream could be opened.",
        source: FigureSource::Counter(Counter::TurnedAway),
    },
    Figure {
        key: "nothing_to_come",
        name: "nginx_sse_nothing_to_come_total",
        help: "Requests answered with 204 because nothing was to come of their channels.",
        source: FigureSource::Counter(Counter::NothingToCome),
    },
    Figure {
        key: "slow_clients",
        name: "nginx_sse_slow_clients_total",
        help: "Times that a client fell behind the retained history.",
        source: FigureSource::Counter(Counter::SlowClients),
    },
    Figure {
        key: "gaps",
        name: "nginx_sse_gaps_total",
        help: "Gap events sent to clients.",
        source: FigureSource::Counter(Counter::Gaps),
    },
    Figure {
        key: "incomplete_runs",
        name: "nginx_sse_incomplete_runs_total",
        help: "Requests answered with 410 because a part of the run had left the history.",
        source: FigureSource::Counter(Counter::IncompleteRuns),
    },
    Figure {
        key: "deduplicated",
        name: "nginx_sse_publishes_deduplicated_total",
        help: "Publishes recognized as repeated by their Idempotency-Key.",
        source: FigureSource::Counter(Counter::Deduplicated),
    },
    Figure {
        key: "refused",
        name: "nginx_sse_publishes_refused_total",
        help: "Publishes refused, by reason.",
        source: Reasons(&[
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
        key: "tokens_refused",
        name: "nginx_sse_tokens_refused_total",
        help: "Requests refused because of their token, by reason.",
        source: Reasons(&[
            ("missing", Counter::TokenMissing),
            ("malformed", Counter::TokenMalformed),
            ("algorithm", Counter::TokenAlgorithm),
            ("key", Counter::TokenKey),
            ("signature", Counter::TokenSignature),
            ("claim", Counter::TokenClaim),
            ("expired", Counter::TokenExpired),
            ("not_yet", Counter::TokenNotYet),
            ("revoked", Counter::TokenRevoked),
            ("channel", Counter::TokenChannel),
        ]),
    },
    Figure {
        key: "drained",
        name: "nginx_sse_streams_drained_total",
        help: "Streams ended because their worker process was shutting down.",
        source: FigureSource::Counter(Counter::EndedDrain),
    },
    Figure {
        key: "lean",
        name: "nginx_sse_requests_given_back_total",
        help: "Streams with sse_lean, by whether their request could be released.",
        source: Reasons(&[("lean", Counter::Lean), ("ordinary", Counter::NotLean)]),
    },
    Figure {
        key: "redis",
        name: "nginx_sse_redis_up",
        help: "Whether the hub is connected to Redis.",
        source: FigureSource::Redis,
    },
    Figure {
        key: "redis_reconnects",
        name: "nginx_sse_redis_reconnects_total",
        help: "Times that the connection to Redis was lost and established again.",
        source: FigureSource::Counter(Counter::Reconnects),
    },
    Figure {
        key: "repairs",
        name: "nginx_sse_repairs_total",
        help: "Changes that a worker process completed for one that died while making them.",
        source: FigureSource::Counter(Counter::Repairs),
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
            match figure.source {
                Gauge(_) | FigureSource::Redis | FigureSource::DeliveryTimes => {}
                FigureSource::Counter(counter) => drop(shown.insert(counter as usize)),
                Reasons(all) => shown.extend(all.iter().map(|(_, counter)| *counter as usize)),
            }
        }
        assert_eq!(shown, (0..COUNTERS).collect());
    }

    #[test]
    fn no_name_occurs_twice() {
        assert_eq!(FIGURES.iter().map(|f| f.key).collect::<BTreeSet<_>>().len(), FIGURES.len());
        assert_eq!(FIGURES.iter().map(|f| f.name).collect::<BTreeSet<_>>().len(), FIGURES.len());
    }
}
