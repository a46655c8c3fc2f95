"""A random configuration of nginx that combines streams and publishing with everything around them."""

# Locations that stream, by path: what they have besides `sse_stream $arg_c split=,;`.
STREAMS = {
    "/stream": "",
    "/lean": "sse_lean on;",
    "/filters": "sse_direct off;",
    "/gzip": "gzip on; gzip_types text/event-stream; gzip_min_length 0; gzip_proxied any;",
    "/sub": "sub_filter 'data' 'DATA'; sub_filter_types *; sub_filter_once off;",
    "/ssi": "ssi on; ssi_types text/event-stream;",
    "/ssi-lean": "ssi on; ssi_types text/event-stream; sse_lean on;",
    "/added": "add_before_body /inc; add_after_body /inc; addition_types *;",
    "/rate": "limit_rate 3k; sse_lean on;",
    "/counted": "limit_conn per 3; sse_lean on;",
    "/guarded": "auth_request /check;",
    "/guarded-by-publish": "auth_request /publish-guard;",
    "/mirrored": "mirror /mirror; mirror /stream;",
    "/after": "post_action /publish-after;",
    "/after-stream": "post_action /stream;",
    "/short": "sse_max_age 20ms jitter=300ms; sse_lean on;",
    "/short-plain": "sse_max_age 20ms jitter=300ms;",
    "/slow": "sse_slow_client close; send_timeout 300ms;",
    "/slow-lean": "sse_slow_client close; send_timeout 300ms; sse_lean on;",
    "/replayed": "sse_replay all;",
    "/replayed-lean": "sse_replay 3; sse_lean on;",
    "/crowded": "sse_max_subscribers 2; sse_lean on;",
    "/cors": "sse_cors * ;",
    "/both": "error_page 405 = @publish;",
    "/both-lean": "error_page 405 = @publish; sse_lean on;",
    "/real": "set_real_ip_from 127.0.0.0/8; real_ip_header X-Forwarded-For; sse_lean on;",
    "/beating": "sse_heartbeat 30ms; sse_lean on;",
    "/beating-filters": "sse_heartbeat 30ms; gzip on; gzip_types text/event-stream; gzip_min_length 0;",
    "/lingering": "lingering_close always; sse_lean on; sse_max_age 50ms jitter=200ms;",
    "/postponed": "postpone_output 4000; output_buffers 1 4k; sse_direct off;",
    "/conditional": "if ($arg_x) { set $unused 1; } sse_lean on;",
}

# Other locations that clients ask for a stream.
STREAM_LIKE = {
    "/pattern": "sse_stream $arg_c split=, pattern; sse_replay all;",
    "/pattern-lean": "sse_stream $arg_c split=, pattern; sse_lean on;",
    "/presence": "sse_stream sse.presence hub=presence; sse_lean on;",
    "/denied": "deny all; error_page 403 = @stream;",
    "/tried": "try_files /none @stream;",
    "/rewritten": "rewrite ^ /stream last;",
    "/proxied": "proxy_pass http://own/stream$is_args$args; proxy_buffering off; proxy_http_version 1.1;",
    "/proxied-lean": "proxy_pass http://own/lean$is_args$args; proxy_buffering off;",
    "/proxied-buffered": "proxy_pass http://own/short$is_args$args; proxy_read_timeout 500ms;",
    "/accelerated": "proxy_pass http://own/accelerator?$args;",
    "/fallen-back": "proxy_pass http://nobody; error_page 502 = @stream;",
    "/figures": "sse_status;",
}

# Locations that accept events: what they have besides the target.
PUBLISHERS = {
    "/publish": "sse_publish $arg_c event=$arg_e %(hub)s;",
    "/publish-cors": "sse_publish $arg_c %(hub)s; sse_cors http://a.example;",
    "/publish-checked": "auth_request /check; sse_publish $arg_c %(hub)s;",
    "/publish-mirrored": "mirror /mirror; sse_publish $arg_c %(hub)s;",
    "/publish-proxied": "proxy_pass http://own/publish$is_args$args; proxy_request_buffering off; "
    "proxy_http_version 1.1;",
    "/publish-buffered": "proxy_pass http://own/publish$is_args$args;",
    "/publish-fallen-back": "proxy_pass http://nobody; proxy_request_buffering off; error_page 502 = @publish;",
    "/publish-file": "client_body_in_file_only clean; sse_publish $arg_c %(hub)s;",
    "/publish-single": "client_body_in_single_buffer on; client_body_buffer_size 1k; sse_publish $arg_c %(hub)s;",
    "/publish-after": "sse_publish after %(hub)s;",
    "/publish-limited": "client_max_body_size 1k; error_page 413 = @publish; sse_publish $arg_c %(hub)s;",
    "/publish-joined": "sse_publish $arg_c hub=joined;",
    "/publish-source": "sse_publish $arg_c hub=source;",
    "/publish-lean-error": "error_page 400 403 413 503 = @stream; sse_publish $arg_c %(hub)s;",
}

OTHERS = {
    "/inc": "default_type text/plain; alias %(prefix)s/html/inc.txt;",
    "/large": "default_type application/octet-stream; alias %(prefix)s/html/large.bin;",
    "/check": "internal; if ($arg_deny) { return 403; } return 204;",
    "/publish-guard": "internal; sse_publish guard %(hub)s;",
    "/mirror": "internal; sse_publish mirrored %(hub)s;",
    "/accelerator": "add_header X-Accel-Redirect /accelerated-stream; return 200 x;",
    "/accelerated-stream": "internal; sse_stream accelerated; sse_lean on;",
    "/status": "sse_status;",
    "/admin": "sse_admin %(hub)s;",
    "/admin-joined": "sse_admin hub=joined;",
    "/admin-source": "sse_admin hub=source;",
    "/stub": "stub_status;",
    "/probe": "sse_stream probe hub=sound; sse_max_age off; sse_open_event opened;",
    "/probe-publish": "sse_publish probe hub=sound;",
}

LOCAL_HUBS = ["hub=small", "hub=large", "hub=none", "hub=presence"]
HUBS = LOCAL_HUBS + ["hub=joined", "hub=source"]


class Configuration:
    """The configuration of one round. `render` gives another variant at each call, for reloads."""

    def __init__(self, rng, ports, prefix, module, redis_port, user, has_http2_directive, log_level):
        self.log_level = log_level
        self.rng, self.ports, self.prefix, self.module, self.user = rng, ports, prefix, module, user
        # nginx before 1.25.1 has a parameter of `listen` instead.
        self.http2 = ("", "http2 on;") if has_http2_directive else ("http2", "")
        self.redis_port = redis_port
        self.few_connections = rng.random() < 0.25
        self.connections = rng.choice([48, 80]) if self.few_connections else 1024
        self.small_zone = rng.choice(["1m", "2m"])
        self.event_size = rng.choice(["16k", "64k"])

    def render(self):
        rng = self.rng
        return "\n".join([self.main(rng), "http {", self.http(rng), self.hubs(rng), self.servers(rng), "}", ""])

    def main(self, rng):
        shutdown = rng.choice(["", "", "worker_shutdown_timeout 300ms;", "worker_shutdown_timeout 2s;"])
        return f"""load_module {self.module};
{self.user}
env ASAN_OPTIONS; env LSAN_OPTIONS; pid nginx.pid; error_log error.log {self.log_level}; {shutdown}
worker_processes {rng.choice([1, 2, 2, 3])};
events {{ worker_connections {self.connections}; multi_accept {rng.choice(['on', 'off'])};
    accept_mutex {rng.choice(['on', 'off'])}; debug_connection 127.0.0.2; }}"""

    def http(self, rng):
        pick = rng.choice
        return f"""
log_format all '$remote_addr $request $status $sse_channel $sse_last_event_id $sse_events_sent $sse_subscribers $sse_end';
access_log access.log all{pick(['', ' buffer=8k flush=1s'])};
client_body_temp_path temp/body; proxy_temp_path temp/proxy; fastcgi_temp_path temp/f; uwsgi_temp_path temp/u;
scgi_temp_path temp/s; limit_conn_zone $binary_remote_addr zone=per:64k; types {{ }}
client_header_timeout {pick(['1s', '5s'])}; client_body_timeout {pick(['500ms', '3s'])};
send_timeout {pick(['500ms', '2s', '10s'])}; keepalive_timeout {pick(['0', '300ms', '5s'])};
keepalive_requests {pick([2, 100])}; lingering_time 2s; lingering_timeout {pick(['100ms', '1s'])};
lingering_close {pick(['on', 'on', 'off', 'always'])}; reset_timedout_connection {pick(['on', 'off'])};
postpone_output {pick([0, 1460, 1460, 8000])}; sendfile {pick(['on', 'off'])}; tcp_nopush {pick(['on', 'off'])};
sendfile_max_chunk {pick(['0', '4k'])}; client_body_buffer_size {pick(['1k', '16k'])};
client_max_body_size {pick(['0', '100k', '1m'])}; large_client_header_buffers 4 {pick(['1k', '8k'])};
client_header_buffer_size {pick(['128', '1k'])}; connection_pool_size {pick([256, 512])}; request_pool_size {pick([256, 4096])};
http2_max_concurrent_streams {pick([5, 128])}; http2_chunk_size {pick(['1k', '8k'])};
ssl_certificate {self.prefix}/cert.pem; ssl_certificate_key {self.prefix}/key.pem; ssl_buffer_size {pick(['1k', '16k'])};
ssl_protocols {pick(['TLSv1.2', 'TLSv1.2 TLSv1.3'])}; proxy_buffer_size {pick(['1k', '4k'])}; proxy_buffers 4 4k; proxy_busy_buffers_size 8k;
sse_drain {pick(['0s', '100ms', '1s'])}; sse_heartbeat {pick(['100ms', '1s', '15s', 'off'])};
sse_retry 100ms jitter={pick(['0s', '1s'])}; sse_name_events {pick(['by_type', 'by_channel'])};
sse_max_age {pick(['off', '1s jitter=2s'])}; sse_slow_client {pick(['skip', 'close'])};
sse_open_event {pick(['opened', 'off'])};
upstream own {{ server 127.0.0.1:{self.ports['plain']} max_fails=0; keepalive 4; }}
upstream nobody {{ server 127.0.0.1:1 max_fails=0; }}"""

    def hubs(self, rng):
        pick = rng.choice
        redis = f"redis redis://127.0.0.1:{self.redis_port};"
        # A change of these starts with a new hub.
        size = pick(["1m", "2m"]) if rng.random() < 0.1 else self.small_zone
        return f"""
sse_hub small {{ zone {size}; max_event_size {self.event_size}; history {pick([1, 5, 1000])} {pick(['0s', '500ms', '10m'])}; }}
sse_hub large {{ zone 8m; max_event_size 256k; history 100; }}
sse_hub none {{ zone 1m; max_event_size 16k; history off; presence {pick(['on', 'off'])}; }}
sse_hub presence {{ zone 1m; max_event_size 4k; history 20 5s; presence {pick(['on', 'on', 'off'])}; }}
sse_hub sound {{ zone 1m; max_event_size 4k; history 20; }}
sse_hub joined {{ zone 2m; max_event_size 64k; history {pick([3, 50])}; {redis} presence {pick(['on', 'off'])}; }}
sse_hub source {{ zone 2m; max_event_size 64k; history 20; {redis} redis_source stream; redis_prefix app; }}"""

    def servers(self, rng):
        ports, locations = self.ports, self.locations(rng)
        parameter, directive = self.http2
        return f"""
server {{ listen 127.0.0.1:{ports['plain']} backlog=1024; listen unix:{self.prefix}/socket; {locations} }}
server {{ listen 127.0.0.1:{ports['tls']} ssl {parameter}; {directive} {locations} }}
server {{ listen 127.0.0.1:{ports['h2c']} {parameter}; {directive} {locations} }}
server {{ listen 127.0.0.1:{ports['proxied']} proxy_protocol; set_real_ip_from 127.0.0.0/8;
    real_ip_header {rng.choice(['proxy_protocol', 'X-Real-IP'])}; {locations} }}"""

    def locations(self, rng):
        lines = []
        for path, text in STREAMS.items():
            hub = "hub=small" if "beating" in path else rng.choice(HUBS)
            lines.append(f"location = {path} {{ sse_stream $arg_c split=, {hub}; {text} }}")
        for path, text in STREAM_LIKE.items():
            if "sse_stream $arg_c" in text:
                # Hubs with `redis_source stream` have no patterns.
                text = text.replace("pattern;", f"pattern {rng.choice(HUBS[:-1])};")
            lines.append(f"location = {path} {{ {text} }}")
        for path, text in {**PUBLISHERS, **OTHERS}.items():
            text = text % {"hub": rng.choice(LOCAL_HUBS), "prefix": self.prefix}
            text = text.replace("sse_stream accelerated", f"sse_stream accelerated {rng.choice(HUBS)}")
            lines.append(f"location = {path} {{ {text} }}")
        lines.append(f"location @stream {{ sse_stream news {rng.choice(HUBS)}; sse_lean {rng.choice(['on', 'off'])}; }}")
        lines.append(f"location @publish {{ sse_publish $arg_c {rng.choice(HUBS)}; }}")
        return "\n".join(lines)
