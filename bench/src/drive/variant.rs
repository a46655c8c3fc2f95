//! The servers that are compared. A new one is an entry of [`VARIANTS`].

use super::transport::Transport;
use std::fmt::Write;
use std::path::PathBuf;

/// One server.
pub struct Variant {
    pub name: &'static str,
    pub kind: Kind,
}

/// What it is made of.
pub enum Kind {
    /// The bare server, with these options.
    Floor(&'static [&'static str]),
    /// nginx with a module and these pieces of configuration.
    Nginx(Pieces),
}

/// What sort of server a variant is: not each can take each load.
#[derive(Clone, Copy, PartialEq)]
pub enum Sort {
    Floor,
    /// nginx by itself.
    Nginx,
    /// nginx behind Redis, published to over HTTP: durable events.
    Durable,
    /// nginx behind Redis, in which the events are published: plain messages.
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

    /// The same server, which sends nothing of itself to clients that are idle.
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

/// What goes into nginx's configuration. `REDIS` in it becomes the URL of a Redis that is started
/// for it.
pub struct Pieces {
    pub module: Module,
    pub http: &'static str,
    pub stream: &'static str,
    /// Empty where events are published in Redis.
    pub publish: &'static str,
    /// More locations.
    pub more: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Module {
    Ours,
    /// Ours, built to measure what blocks.
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

/// The stream of the above without heartbeats.
const QUIET: &str = "sse_stream $arg_c; sse_heartbeat off;";

/// The module behind a Redis, published to over HTTP.
const DURABLE: Pieces = Pieces { http: "sse_hub default { redis REDIS; }", ..OURS };
/// The same, with events published in Redis.
const PLAIN: Pieces = Pieces { publish: "", ..DURABLE };

/// What docs/performance.md calls small pools; a head in a browser's size would want the default of
/// client_header_buffer_size.
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

/// Where everything is that a server is made of.
pub struct Place {
    pub nginx: PathBuf,
    pub ours: PathBuf,
    pub traced: PathBuf,
    pub nchan: PathBuf,
    pub redis: PathBuf,
    /// User and group of nginx's workers; empty when nginx is not started by root.
    pub user: String,
}

/// What one server is started for.
pub struct Listening {
    pub port: u16,
    pub workers: usize,
    pub clients: usize,
    pub transport: Transport,
}

/// The whole of nginx's configuration.
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
    // What a traced module has measured is a notice.
    let level = if pieces.module == Module::Traced { "notice" } else { "warn" };
    line(&format!("daemon off; pid nginx.pid; error_log error.log {level};"));
    line(&format!("worker_processes {};", at.workers));
    // Fewer free than a sixteenth, and nginx turns new clients away.
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
