//! The servers that are compared. To add one, add an entry to [`VARIANTS`].

use super::transport::Transport;
use std::fmt::Write;
use std::path::PathBuf;

/// A server that is compared.
pub struct Variant {
    pub name: &'static str,
    pub kind: Kind,
}

/// How a variant's server is built.
pub enum Kind {
    /// The bare server, with these options.
    Floor(&'static [&'static str]),
    /// nginx with a module and these parts of a configuration.
    Nginx(Pieces),
}

/// The kind of a variant's server, which determines the loads that it supports.
#[derive(Clone, Copy, PartialEq)]
pub enum Sort {
    Floor,
    /// nginx without Redis.
    Nginx,
    /// nginx with Redis, published to over HTTP: durable events.
    Durable,
    /// nginx with Redis, in which the events are published: plain messages.
    Plain,
}

impl Variant {
    pub fn sort(&self) -> Sort {
        match &self.kind {
            Kind::Floor(_) => Sort::Floor,
            Kind::Nginx(pieces) if !pieces.http.contains("REDIS") => Sort::Nginx,
            Kind::Nginx(pieces) if pieces.publish.is_empty() => Sort::Plain,
            Kind::Nginx(_) => Sort::Durable,
        }
    }

    /// Returns the same server with heartbeats off.
    pub fn quiet(&self) -> Self {
        let kind = match &self.kind {
            Kind::Floor(options) => Kind::Floor(options),
            Kind::Nginx(pieces) if pieces.module == Module::Ours => {
                Kind::Nginx(Pieces { stream: QUIET, ..*pieces })
            }
            Kind::Nginx(pieces) => Kind::Nginx(Pieces { ..*pieces }),
        };
        Self { name: self.name, kind }
    }
}

/// The variable parts of nginx's configuration. `REDIS` in them stands for the URL of a Redis
/// server that is started for nginx.
pub struct Pieces {
    pub module: Module,
    pub http: &'static str,
    pub stream: &'static str,
    /// Empty if events are published in Redis.
    pub publish: &'static str,
    /// Further locations.
    pub more: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Module {
    Ours,
    /// This module, built to measure how long it blocks.
    Traced,
    Nchan,
}

const OURS: Pieces = Pieces {
    module: Module::Ours,
    http: "",
    stream: "sse_stream $arg_c;",
    publish: "sse_publish $arg_c;",
    more: "location = /status { sse_status; }",
};

/// The stream of `OURS` without heartbeats.
const QUIET: &str = "sse_stream $arg_c; sse_heartbeat off;";

/// This module with Redis; events are published over HTTP.
const DURABLE: Pieces = Pieces { http: "sse_hub default { redis REDIS; }", ..OURS };
/// This module with Redis; events are published in Redis.
const PLAIN: Pieces = Pieces { publish: "", ..DURABLE };

/// "Small pools" in docs/performance.md. Requests of browsers, which have larger headers, need the
/// default of `client_header_buffer_size`.
const TUNED: &str =
    "request_pool_size 1k; connection_pool_size 384; client_header_buffer_size 512;";

pub const VARIANTS: &[Variant] = &[
    Variant { name: "floor", kind: Kind::Floor(&[]) },
    Variant { name: "floor-coalescing", kind: Kind::Floor(&["--coalesce"]) },
    Variant { name: "ours", kind: Kind::Nginx(OURS) },
    Variant { name: "ours-tuned", kind: Kind::Nginx(Pieces { http: TUNED, ..OURS }) },
    Variant {
        name: "ours-lean",
        kind: Kind::Nginx(Pieces { http: "sse_lean on; connection_pool_size 384;", ..OURS }),
    },
    Variant { name: "ours-redis", kind: Kind::Nginx(DURABLE) },
    Variant { name: "ours-redis-plain", kind: Kind::Nginx(PLAIN) },
    Variant {
        name: "nchan",
        kind: Kind::Nginx(Pieces {
            module: Module::Nchan,
            http: "nchan_shared_memory_size 256m;",
            stream: "nchan_subscriber eventsource; nchan_channel_id $arg_c; \
                     nchan_subscriber_first_message newest;",
            publish: "nchan_publisher; nchan_channel_id $arg_c; \
                      nchan_message_buffer_length 100; nchan_message_timeout 10m;",
            more: "",
        }),
    },
];

/// Locations of the files that a server needs.
pub struct Place {
    pub nginx: PathBuf,
    pub ours: PathBuf,
    pub traced: PathBuf,
    pub nchan: PathBuf,
    pub redis: PathBuf,
    /// User and group of nginx's workers; empty if nginx is not started by root.
    pub user: String,
}

/// The parameters of a server that is started.
pub struct Listening {
    pub port: u16,
    pub workers: usize,
    pub clients: usize,
    pub transport: Transport,
}

/// Returns nginx's whole configuration.
pub fn configuration(pieces: &Pieces, place: &Place, at: &Listening, redis: &str) -> String {
    let module = match pieces.module {
        Module::Ours => &place.ours,
        Module::Traced => &place.traced,
        Module::Nchan => &place.nchan,
    };
    let mut text = String::new();
    let mut line = |line: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
    };
    line(&format!("load_module \"{}\";", module.display()));
    if !place.user.is_empty() {
        line(&format!("user {};", place.user));
    }
    // A traced module logs its measurements at the level `notice`.
    let level = if pieces.module == Module::Traced { "notice" } else { "warn" };
    line(&format!("daemon off; pid nginx.pid; error_log error.log {level};"));
    line(&format!("worker_processes {};", at.workers));
    // If less than a sixteenth is free, nginx closes idle connections to make room.
    line(&format!("events {{ worker_connections {}; }}", at.clients * 11 / 10 + 512));
    line("http {");
    line("access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;");
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        line(&format!("{kind}_temp_path temp_{kind};"));
    }
    line(&pieces.http.replace("REDIS", redis));
    line("server {");
    let shared = if at.workers > 1 { " reuseport" } else { "" };
    let transport = at.transport.listens();
    line(&format!("listen 127.0.0.1:{}{transport}{shared} backlog=4096;", at.port));
    if at.transport == Transport::Tls {
        line(
            "ssl_certificate certificate.pem; ssl_certificate_key key.pem; ssl_protocols TLSv1.3;",
        );
    }
    line(&format!("location = /s {{ {} }}", pieces.stream));
    line(&format!("location = /p {{ {} }}", pieces.publish));
    line("location = /file { root html; }");
    line("location = /pid { return 200 $pid; }");
    line(pieces.more);
    line("}\n}");
    text
}
