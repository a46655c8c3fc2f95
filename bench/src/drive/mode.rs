//! The modes: which loads each one puts on a server, and which figures it shows. To add a mode, add
//! an entry to [`MODES`].

use super::transport::Transport;
use super::variant::{Sort, Variant};

/// How events are published; see the generator's options.
#[derive(Clone, Copy)]
pub enum LoadPace {
    /// Events per second.
    Rate(f64),
    /// As fast as possible, with this many publishes in flight.
    Flat(usize),
    /// No events.
    Silence,
}

/// A load.
#[derive(Clone, Copy)]
pub struct Work {
    pub clients: usize,
    pub channels: usize,
    pub size: usize,
    pub pace: LoadPace,
    pub warm: f64,
    pub seconds: f64,
    /// One client in this many never reads; 0 means none.
    pub silent_in: usize,
    pub workers: usize,
    /// Whether a file is fetched from the same server meanwhile.
    pub probe: bool,
    pub transport: Transport,
}

/// A load with a name.
pub struct Case {
    pub name: &'static str,
    pub work: Work,
}

/// The unit of a figure.
#[derive(Clone, Copy, PartialEq)]
pub enum Unit {
    Micros,
    /// Figures in µs that are easier to read in ms.
    Millis,
    Bytes,
    PerSecond,
    /// From 0 to 1, shown as a percentage.
    Share,
}

/// One row of the table.
pub struct Row {
    pub title: &'static str,
    pub case: &'static str,
    pub figure: &'static str,
    pub unit: Unit,
    /// The variant to which the others are compared.
    pub base: Option<&'static str>,
}

/// A mode.
pub struct Mode {
    pub name: &'static str,
    pub description: &'static str,
    /// The kinds of servers that support its loads.
    pub servers: &'static [Sort],
    pub cases: &'static [Case],
    pub rows: &'static [Row],
}

impl Mode {
    pub fn takes(&self, variant: &Variant) -> bool {
        self.servers.contains(&variant.sort())
    }
}

/// Returns the mode with this name.
pub fn named(name: &str) -> Option<&'static Mode> {
    MODES.iter().find(|mode| mode.name == name)
}

impl Work {
    /// Returns a shorter version of this load, for a check rather than a measurement.
    pub fn quick(self) -> Self {
        let pace = match self.pace {
            LoadPace::Rate(rate) if self.clients > 0 => LoadPace::Rate(rate.max(50.0)),
            other => other,
        };
        Self {
            clients: (self.clients / 10).min(1_000),
            channels: (self.channels / 10).max(1),
            pace,
            warm: self.warm.min(0.2),
            seconds: self.seconds.min(0.6),
            ..self
        }
    }
}

const WORK: Work = Work {
    clients: 10_000,
    channels: 1,
    size: 64,
    pace: LoadPace::Rate(10.0),
    warm: 1.0,
    seconds: 6.0,
    silent_in: 0,
    workers: 1,
    probe: false,
    transport: Transport::Plain,
};
const FLAT: Work = Work { clients: 1_000, pace: LoadPace::Flat(16), seconds: 4.0, ..WORK };
const PUBLISH: Work = Work { clients: 0, ..FLAT };
const HOLD: Work = Work { pace: LoadPace::Silence, warm: 0.0, seconds: 0.0, ..WORK };
const ONE_TO_MANY: Work =
    Work { clients: 1_000, pace: LoadPace::Rate(50.0), seconds: 10.0, ..WORK };
const SMALL_CHANNELS: Work =
    Work { clients: 2_000, channels: 100, pace: LoadPace::Rate(100.0), ..ONE_TO_MANY };
const SLOW: Work =
    Work { clients: 1_000, size: 16 << 10, pace: LoadPace::Rate(60.0), seconds: 8.0, ..WORK };

const ALL: &[Sort] = &[Sort::Floor, Sort::Nginx, Sort::Durable, Sort::Plain];
const POSTED: &[Sort] = &[Sort::Floor, Sort::Nginx, Sort::Durable];
/// The cost of Redis does not depend on these loads.
const ALONE: &[Sort] = &[Sort::Floor, Sort::Nginx];
const NGINX: &[Sort] = &[Sort::Nginx];

const FLOOR: Option<&str> = Some("floor");

pub const MODES: &[Mode] = &[
    Mode {
        name: "fanout",
        description: "one channel, 10,000 clients, 10 events/s",
        servers: ALONE,
        cases: &[Case { name: "fanout", work: WORK }],
        rows: &[
            row("one channel, 10,000 clients, 10 events/s: CPU per delivery", "fanout", CPU),
            latency(
                "one channel, 10,000 clients, 10 events/s: latency, 99th percentile",
                "fanout",
                "p99_us",
            ),
        ],
    },
    Mode {
        name: "channels",
        description: "1,000 channels of 10 clients, 1,000 events/s",
        servers: ALL,
        cases: &[Case {
            name: "channels",
            work: Work { channels: 1_000, pace: LoadPace::Rate(1_000.0), ..WORK },
        }],
        rows: &[
            row("1,000 channels × 10 clients, 1,000 events/s: CPU per delivery", "channels", CPU),
            latency(
                "1,000 channels × 10 clients, 1,000 events/s: latency, 99th percentile",
                "channels",
                "p99_us",
            ),
            redis(
                "1,000 channels × 10 clients, 1,000 events/s: CPU of Redis per event",
                "channels",
            ),
        ],
    },
    Mode {
        name: "flood",
        description: "one channel, 1,000 clients, 16 events in flight, unlimited rate",
        servers: ALL,
        cases: &[Case { name: "flood", work: FLAT }],
        rows: &[
            Row {
                base: Some("floor-coalescing"),
                ..row("one channel, 1,000 clients, unlimited rate: CPU per delivery", "flood", CPU)
            },
            Row {
                title: "one channel, 1,000 clients, unlimited rate: deliveries per second",
                case: "flood",
                figure: "deliveries_per_s",
                unit: Unit::PerSecond,
                base: Some("floor-coalescing"),
            },
            redis("one channel, 1,000 clients, unlimited rate: CPU of Redis per event", "flood"),
        ],
    },
    Mode {
        name: "latency",
        description: "time from publishing to receiving an event, at moderate rates",
        servers: ALONE,
        cases: &[
            Case { name: "1 to 1000", work: ONE_TO_MANY },
            Case { name: "100 x 20", work: SMALL_CHANNELS },
        ],
        rows: &[
            row("one channel, 1,000 clients, 50 events/s: median", "1 to 1000", "p50_us"),
            row("one channel, 1,000 clients, 50 events/s: 90%", "1 to 1000", "p90_us"),
            row("one channel, 1,000 clients, 50 events/s: 99%", "1 to 1000", "p99_us"),
            row("one channel, 1,000 clients, 50 events/s: 99.9%", "1 to 1000", "p999_us"),
            row("100 channels × 20 clients, 100 events/s: median", "100 x 20", "p50_us"),
            row("100 channels × 20 clients, 100 events/s: 90%", "100 x 20", "p90_us"),
            row("100 channels × 20 clients, 100 events/s: 99%", "100 x 20", "p99_us"),
            row("100 channels × 20 clients, 100 events/s: 99.9%", "100 x 20", "p999_us"),
        ],
    },
    Mode {
        name: "idle",
        description: "10,000 idle clients: memory of the server's processes",
        servers: ALONE,
        cases: &[Case { name: "hold", work: HOLD }],
        rows: &[IDLE],
    },
    Mode {
        name: "connect",
        description: "10,000 clients connect: CPU to accept one and answer its request",
        servers: ALONE,
        cases: &[Case { name: "hold", work: HOLD }],
        rows: &[row("CPU to accept a client and answer its request", "hold", "connect_us")],
    },
    Mode {
        name: "publish",
        description: "HTTP publish without clients, 16 in flight, unlimited rate",
        servers: POSTED,
        cases: &[Case { name: "publish", work: PUBLISH }],
        rows: &[
            row("HTTP publish, no client: CPU per publish", "publish", "publish_us"),
            redis("HTTP publish, no client: CPU of Redis per publish", "publish"),
            Row {
                figure: "publishes_per_s",
                ..per_second("HTTP publish, no client: publishes per second", "publish")
            },
        ],
    },
    Mode {
        name: "wide",
        description: "10 channels compared with 10,000 (publish, subscribe) and 100,000 (publish)",
        servers: ALONE,
        cases: &[
            Case { name: "publish 10", work: Work { channels: 10, ..PUBLISH } },
            Case { name: "publish 100k", work: Work { channels: 100_000, ..PUBLISH } },
            Case { name: "hold 10", work: Work { channels: 10, ..HOLD } },
            Case { name: "hold 10k", work: Work { channels: 10_000, ..HOLD } },
        ],
        rows: &[
            row("HTTP publish to 10 channels in turn: CPU per publish", "publish 10", "publish_us"),
            row(
                "HTTP publish to 100,000 channels in turn: CPU per publish",
                "publish 100k",
                "publish_us",
            ),
            row("CPU to accept a client, 10 channels", "hold 10", "connect_us"),
            row("CPU to accept a client, one channel per client", "hold 10k", "connect_us"),
        ],
    },
    Mode {
        name: "fair",
        description: "a file from the same worker while 10,000 clients receive 10 events/s",
        servers: ALONE,
        cases: &[Case { name: "fair", work: Work { probe: true, ..WORK } }],
        rows: &[
            latency(
                "a file beside 10,000 clients, 10 events/s: latency, median",
                "fair",
                "file_p50_us",
            ),
            latency(
                "a file beside 10,000 clients, 10 events/s: latency, 99th percentile",
                "fair",
                "file_p99_us",
            ),
            latency(
                "a file beside 10,000 clients, 10 events/s: longest latency",
                "fair",
                "file_max_us",
            ),
        ],
    },
    Mode {
        name: "slow",
        description: "1,000 clients, 60 events/s of 16 KiB, with and without 10 that never read",
        servers: ALONE,
        cases: &[
            Case { name: "all read", work: SLOW },
            Case { name: "10 never read", work: Work { silent_in: 100, ..SLOW } },
        ],
        rows: &[
            latency(
                "16 KiB events, all clients read: latency, 99th percentile",
                "all read",
                "p99_us",
            ),
            latency(
                "16 KiB events, 1 client in 100 never reads: latency of the others, 99th percentile",
                "10 never read",
                "p99_us",
            ),
            memory(
                "16 KiB events, all clients read: memory growth in 8 s",
                "all read",
                "growth_bytes",
            ),
            memory(
                "16 KiB events, 1 client in 100 never reads: memory growth in 8 s",
                "10 never read",
                "growth_bytes",
            ),
        ],
    },
    Mode {
        name: "workers",
        description: "one worker process compared with two",
        servers: NGINX,
        cases: &[
            Case { name: "1", work: WORK },
            Case { name: "2", work: Work { workers: 2, ..WORK } },
            Case { name: "flood 1", work: FLAT },
            Case { name: "flood 2", work: Work { workers: 2, ..FLAT } },
        ],
        rows: &[
            row("one worker, 10,000 clients: CPU per delivery", "1", CPU),
            row("two workers, 10,000 clients: CPU per delivery", "2", CPU),
            per_second("one worker, unlimited rate: deliveries per second", "flood 1"),
            per_second("two workers, unlimited rate: deliveries per second", "flood 2"),
        ],
    },
    Mode {
        name: "tls-idle",
        description: "200 idle clients over TLS 1.3: memory of the server's processes",
        servers: NGINX,
        cases: &[Case {
            name: "tls",
            work: Work { clients: 200, transport: Transport::Tls, ..HOLD },
        }],
        rows: &[Row { title: "memory per idle client over TLS 1.3", case: "tls", ..IDLE }],
    },
    Mode {
        name: "h2-idle",
        description: "10,000 idle clients over HTTP/2: memory of the server's processes",
        servers: NGINX,
        cases: &[
            Case { name: "h2 1", work: Work { transport: http2(1), ..HOLD } },
            Case { name: "h2 64", work: Work { transport: http2(64), ..HOLD } },
        ],
        rows: &[
            memory(
                "memory per idle stream over HTTP/2, one stream per connection",
                "h2 1",
                "client_bytes",
            ),
            memory(
                "memory per idle stream over HTTP/2, 64 streams per connection",
                "h2 64",
                "client_bytes",
            ),
        ],
    },
];

const CPU: &str = "cpu_us";
const IDLE: Row =
    memory("memory of the server's processes per idle client", "hold", "client_bytes");

const fn http2(streams: usize) -> Transport {
    Transport::Http2 { streams }
}

const fn row(title: &'static str, case: &'static str, figure: &'static str) -> Row {
    Row { title, case, figure, unit: Unit::Micros, base: FLOOR }
}

const fn latency(title: &'static str, case: &'static str, figure: &'static str) -> Row {
    Row { title, case, figure, unit: Unit::Millis, base: None }
}

const fn memory(title: &'static str, case: &'static str, figure: &'static str) -> Row {
    Row { title, case, figure, unit: Unit::Bytes, base: None }
}

const fn per_second(title: &'static str, case: &'static str) -> Row {
    Row { title, case, figure: "deliveries_per_s", unit: Unit::PerSecond, base: None }
}

const fn redis(title: &'static str, case: &'static str) -> Row {
    Row { title, case, figure: "redis_us", unit: Unit::Micros, base: None }
}
