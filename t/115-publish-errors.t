# Publish requests that are rejected, with status and JSON error; none of them reaches a stream.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use SSE::DeclarativeTests;

our $Config = <<'EOF_CONFIG';
    location /s { sse_stream messages; sse_open_event off; sse_replay all; }
    location /p { sse_publish messages; }
    location /chosen { sse_publish messages event=$http_x_kind; }
    location ~ (?s)^/to/(.*)$ { sse_publish $1; }
    location /limited { sse_publish messages; client_max_body_size 1k; }
EOF_CONFIG

# `refusal` is the expected status. The module's own errors are a JSON object with one sentence.
add_block_preprocessor(sub ($block) {
    $block->set_value('config', $::Config) if !defined $block->config;
    return if !defined $block->refusal;
    my $status = $block->refusal =~ s/\s//gr;
    $block->set_value('error_code', $status);
    $block->set_value('response_headers', 'Content-Type: application/json');
    $block->set_value('response_body_like', qr/\A\{"error":"[^"\\]+(?:\\.[^"\\]*)*"\}\n?\z/);
});

run_blocks();

__DATA__

=== TEST 1: GET is not allowed
--- request
GET /p
--- refusal: 405
--- raw_response_headers_like eval
qr/^Allow: .*POST.*\r$/m



=== TEST 2: HEAD is not allowed
--- request
HEAD /p
--- error_code: 405
--- raw_response_headers_like eval
qr/^Allow: .*PUT.*\r$/m



=== TEST 3: DELETE is not allowed
--- request
DELETE /p
--- refusal: 405
--- raw_response_headers_like eval
qr/^Allow: .*POST.*\r$/m



=== TEST 4: OPTIONS is not allowed without sse_cors
--- request
OPTIONS /p
--- error_code: 405
--- response_headers
! Access-Control-Allow-Origin



=== TEST 5: data that is not UTF-8 is rejected
--- request eval
"POST /p\n\xff\xfe"
--- refusal: 400



=== TEST 6: data that ends inside a character is rejected
--- request eval
"POST /p\nabc\xe2\x82"
--- refusal: 400



=== TEST 7: an overlong encoding in data is rejected
--- request eval
"POST /p\n\xc0\xaf"
--- refusal: 400



=== TEST 8: a surrogate in data is rejected
--- request eval
"POST /p\n\xed\xa0\x80"
--- refusal: 400



=== TEST 9: LF in the type is rejected
--- request eval
"POST /p?event=a%0Adata:%20evil\nx"
--- refusal: 400



=== TEST 10: CR in the type is rejected
--- request eval
"POST /p?event=a%0Did:%207\nx"
--- refusal: 400



=== TEST 11: NUL in the type is rejected
--- request eval
"POST /p?event=a%00b\nx"
--- refusal: 400



=== TEST 12: a type that is not UTF-8 is rejected
--- request eval
"POST /p?event=%ff\nx"
--- refusal: 400



=== TEST 13: a type of 129 bytes is rejected
--- request eval
"POST /p?event=" . 'e' x 129 . "\nx"
--- refusal: 400



=== TEST 14: the reserved type "error" is rejected
--- request eval
"POST /p?event=error\nx"
--- refusal: 400



=== TEST 15: the reserved type "open" is rejected
--- request eval
"POST /p?event=open\nx"
--- refusal: 400



=== TEST 16: a type that begins with "sse." is rejected
--- request eval
"POST /p?event=sse.gap\nx"
--- refusal: 400



=== TEST 17: a percent-encoded reserved type is rejected
--- request eval
"POST /p?event=%65rror\nx"
--- refusal: 400



=== TEST 18: a reserved type from a variable of the directive is rejected
--- request eval
"POST /chosen\nx"
--- more_headers
X-Kind: sse.open
--- refusal: 400



=== TEST 19: an empty channel is rejected
--- request eval
"POST /to/\nx"
--- refusal: 400



=== TEST 20: a channel of 256 bytes is rejected
--- request eval
"POST /to/" . 'c' x 256 . "\nx"
--- refusal: 400



=== TEST 21: a channel of 255 bytes is accepted
--- request eval
"POST /to/" . 'c' x 255 . "\nx"
--- error_code: 201



=== TEST 22: a control character in the channel is rejected
--- request eval
"POST /to/a%0Ab\nx"
--- refusal: 400



=== TEST 23: DEL in the channel is rejected
--- request eval
"POST /to/a%7Fb\nx"
--- refusal: 400



=== TEST 24: a C1 control character in the channel is rejected
--- request eval
"POST /to/a%C2%85b\nx"
--- refusal: 400



=== TEST 25: a channel that is not UTF-8 is rejected
--- request eval
"POST /to/a%FFb\nx"
--- refusal: 400



=== TEST 26: a reserved channel is rejected
--- request eval
"POST /to/sse.status\nx"
--- refusal: 400



=== TEST 27: a channel with spaces, slashes, and letters of any script is accepted
--- request eval
"POST /to/a%20b/c:d*%5B%D0%B6%5D\nx"
--- error_code: 201



=== TEST 28: an event larger than max_event_size is rejected
--- request eval
"POST /p\n" . 'x' x (256 * 1024 + 1)
--- refusal: 413



=== TEST 29: an event just below max_event_size is accepted
--- request eval
"POST /p\n" . 'x' x (256 * 1024 - 200)
--- error_code: 201



=== TEST 30: a body larger than client_max_body_size is rejected
--- request eval
"POST /limited\n" . 'x' x 2000
--- error_code: 413



=== TEST 31: a smaller limit of a hub applies
--- http_config
    sse_hub default { max_event_size 1k; }
--- request eval
"POST /p\n" . 'x' x 1100
--- refusal: 413



=== TEST 32: a POST with Sec-Fetch-Site: cross-site is rejected
--- request eval
"POST /p\nx"
--- more_headers
Sec-Fetch-Site: cross-site
--- refusal: 403



=== TEST 33: an Origin with another host is rejected
--- request eval
"POST /p\nx"
--- more_headers
Origin: http://evil.example
--- refusal: 403



=== TEST 34: an opaque Origin is rejected
--- request eval
"POST /p\nx"
--- more_headers
Origin: null
--- refusal: 403



=== TEST 35: an Origin that only begins with this host is rejected
--- request eval
"POST /p\nx"
--- more_headers
Origin: http://localhost.evil.example
--- refusal: 403



=== TEST 36: an Origin with another port of this host is rejected
--- request eval
"POST /p\nx"
--- more_headers
Origin: http://localhost:1
--- refusal: 403



=== TEST 37: another Origin is rejected despite Sec-Fetch-Site: same-origin
--- request eval
"POST /p\nx"
--- more_headers
Sec-Fetch-Site: cross-site
Origin: http://localhost
--- refusal: 403



=== TEST 38: an idempotency key of 129 bytes is rejected
--- request eval
"POST /p\nx"
--- more_headers eval
"Idempotency-Key: " . 'k' x 129
--- refusal: 400



=== TEST 39: rejected events do not reach a stream
--- request eval
["POST /p?event=error\nx", "POST /p\n\xff", "GET /p", "POST /p\n" . 'x' x 300_000, "GET /s HTTP/1.0"]
--- error_code eval
[400, 400, 405, 413, 200]
--- abort
--- response_body_like eval
[qr/error/, qr/error/, qr/error/, qr/error/, qr/\Aretry: 3000\n:\n\z/]



=== TEST 40: the connection can be used after a rejected request
--- pipelined_requests eval
["POST /p?event=error\nx", "POST /p\nx", "GET /p", "POST /p\ny"]
--- error_code eval
[400, 201, 405, 201]
--- response_body_like eval
[qr/"error"/, qr/"id"/, qr/"error"/, qr/"id"/]
