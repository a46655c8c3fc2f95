# Which hub a location uses, and that hubs are independent of each other.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use SSE::DeclarativeTests;

add_block_preprocessor(sub ($block) {
    $block->set_value('http_config', ($block->http_config // '') . 'sse_open_event off; sse_replay all;');
    $block->set_value('abort', '');
});

run_blocks();

__DATA__

=== TEST 1: the only hub is used, whatever its name
--- http_config
    sse_hub news { zone 4m; }
--- config
    location /s { sse_stream messages; }
    location /p { sse_publish messages hub=news; }
--- request eval
["POST /p\nx", "GET /s HTTP/1.0"]
--- error_code eval
[201, 200]
--- response_body_like eval
[qr/"id"/, qr/\ndata: x\n/]



=== TEST 2: the hub called default is used if there are several
--- http_config
    sse_hub news { zone 4m; }
    sse_hub default { zone 4m; }
--- config
    location /s { sse_stream messages; }
    location /default { sse_publish messages hub=default; }
    location /news { sse_publish messages hub=news; }
--- request eval
["POST /default\nto default", "POST /news\nto news", "GET /s HTTP/1.0"]
--- error_code eval
[201, 201, 200]
--- response_body_like eval
[qr/"id"/, qr/"id"/, qr/\Aretry: 3000\n:\ndata: to default\nid: \S+\n\n\z/]



=== TEST 3: two hubs have independent channels of the same name
--- http_config
    sse_hub news { zone 4m; }
    sse_hub chat { zone 4m; }
--- config
    location /s/news { sse_stream messages hub=news; }
    location /s/chat { sse_stream messages hub=chat; }
    location /p/news { sse_publish messages hub=news; }
    location /p/chat { sse_publish messages hub=chat; }
--- request eval
["POST /p/news\nn", "POST /p/chat\nc", "GET /s/news HTTP/1.0", "GET /s/chat HTTP/1.0"]
--- error_code eval
[201, 201, 200, 200]
--- response_body_like eval
[qr/"id"/, qr/"id"/, qr/\Aretry: 3000\n:\ndata: n\nid: \S+\n\n\z/, qr/\Aretry: 3000\n:\ndata: c\nid: \S+\n\n\z/]



=== TEST 4: a hub may be defined after the server that uses it
--- http_config
    server {
        listen unix:%%DIR%%/early.sock;
        location /early { sse_stream messages hub=late; }
    }
    sse_hub late { zone 4m; }
--- config
    location /s { sse_stream messages hub=late; }
--- request
GET /s HTTP/1.0
--- response_body eval
"retry: 3000\n:\n"



=== TEST 5: sse_replay shows the history that the hub is configured with
--- http_config
    sse_hub news { zone 4m; history 2; }
--- config
    location /s { sse_stream messages; }
    location /p { sse_publish messages; }
--- request eval
["POST /p\n1", "POST /p\n2", "POST /p\n3", "GET /s HTTP/1.0"]
--- error_code eval
[201, 201, 201, 200]
--- response_body_like eval
[qr/"id"/, qr/"id"/, qr/"id"/, qr/\Aretry: 3000\n:\ndata: 2\nid: \S+\n\ndata: 3\nid: \S+\n\n\z/]



=== TEST 6: a hub without history replays nothing
--- http_config
    sse_hub news { zone 4m; history off; }
--- config
    location /s { sse_stream messages; }
    location /p { sse_publish messages; }
--- request eval
["POST /p\n1", "GET /s HTTP/1.0"]
--- error_code eval
[201, 200]
--- response_body_like eval
[qr/"id"/, qr/\Aretry: 3000\n:\n\z/]
