# Valid directives: in which contexts they are allowed, how they are inherited, and what their values mean.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use SSE::DeclarativeTests;

run_blocks();

__DATA__

=== TEST 1: all directives together are accepted
--- http_config
    sse_hub news {
        zone 4m;
        history 10 1m;
        runs 1000 2h;
        max_event_size 64k;
    }
    sse_hub chat {
        history off;
        runs off;
    }
    sse_replay 5;
    sse_last_event_id $arg_cursor $http_last_event_id;
    sse_since $arg_since;
    sse_heartbeat 30s;
    sse_retry 2s jitter=1s;
    sse_open_event hello;
    sse_gap_event lost;
    sse_slow_client close;
    sse_drain 2s;
    sse_direct on;
    sse_reconnect clean;
    sse_proxy_unbuffered on;
    sse_proxy_read_timeout 2h;
--- config
    sse_replay all;
    sse_heartbeat off;
    sse_open_event off;
    location /s {
        sse_stream a b $arg_more hub=news split=,;
        sse_slow_client skip;
        sse_gap_event off;
        sse_replay off;
        sse_since "";
        sse_retry 0;
        sse_reconnect cut;
        sse_proxy_unbuffered off;
        sse_proxy_read_timeout off;
        sse_drain 0;
        sse_direct off;
    }
    location /p {
        sse_publish chat event=note hub=chat;
    }
    location /status {
        sse_status hub=news;
    }
--- request
GET /nothing
--- error_code: 404
--- no_error_log eval
[qr/\[warn\]/, qr/\[alert\]/, qr/\[emerg\]/]



=== TEST 2: a location with sse_stream and no sse_hub uses a default hub
--- config
    location /s {
        sse_stream messages;
        sse_open_event off;
    }
--- request
GET /s HTTP/1.0
--- abort
--- response_body eval
"retry: 3000\n:\n"



=== TEST 3: a location inherits the value of its server
--- http_config
    sse_open_event off;
    sse_retry 7s;
--- config
    sse_retry 4s;
    location /s {
        sse_stream messages;
    }
--- request
GET /s HTTP/1.0
--- abort
--- response_body eval
"retry: 4000\n:\n"



=== TEST 4: a server inherits the value of http
--- http_config
    sse_open_event off;
    sse_retry 1500ms;
--- config
    location /s {
        sse_stream messages;
    }
--- request
GET /s HTTP/1.0
--- abort
--- response_body eval
"retry: 1500\n:\n"



=== TEST 5: the value of a location takes precedence, and times have units
--- http_config
    sse_open_event off;
    sse_retry 7s;
--- config
    sse_retry 4s;
    location /s {
        sse_stream messages;
        sse_retry 1m;
    }
--- request
GET /s HTTP/1.0
--- abort
--- response_body eval
"retry: 60000\n:\n"



=== TEST 6: jitter adds at most its own time to retry
--- config
    location /s {
        sse_stream messages;
        sse_open_event off;
        sse_retry 2s jitter=500ms;
    }
--- request
GET /s HTTP/1.0
--- abort
--- response_body_like eval
qr/\Aretry: 2(?:[0-4]\d\d|500)\n:\n\z/



=== TEST 7: nested locations inherit
--- config
    location /a {
        sse_open_event off;
        sse_retry 9s;
        location /a/b {
            sse_stream messages;
        }
    }
--- request
GET /a/b HTTP/1.0
--- abort
--- response_body eval
"retry: 9000\n:\n"



=== TEST 8: a location can set the default names of the module's events again
--- http_config
    sse_open_event off;
    sse_gap_event off;
--- config
    location /s {
        sse_stream messages;
        sse_open_event sse.open;
        sse_gap_event sse.gap;
        sse_retry 9s;
    }
--- request
GET /s HTTP/1.0
--- abort
--- response_body_like eval
qr/\Aretry: 9000\n:\nevent: sse\.open\ndata: \{\}\nid: \S+\n\n\z/
