# nginx without a master process (master_process off): streams and publishing work.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use SSE::DeclarativeTests;

run_blocks(workers => 1, master => 0);

__DATA__

=== TEST 1: publish, then replay
--- config
    location /s { sse_stream messages; sse_replay all; }
    location /p { sse_publish messages; }
--- request eval
["POST /p\nHello, World!", "GET /s HTTP/1.0"]
--- error_code eval
[201, 200]
--- abort
--- response_body_like eval
[qr/"subscribers":0/, qr/\Aretry: 3000\n:\ndata: Hello, World!\nid: \S+\n\n\z/]



=== TEST 2: a stream opens
--- config
    location /s { sse_stream messages; }
--- request
GET /s HTTP/1.0
--- abort
--- response_body_like eval
qr/\Aretry: 3000\n:\nevent: sse\.open\ndata: \{\}\nid: \S+\n\n\z/
