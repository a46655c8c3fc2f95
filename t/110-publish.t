# Publishing over HTTP: which requests are accepted, the response, and the event on the stream.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use SSE::DeclarativeTests;

our $Config = <<'EOF_CONFIG';
    sse_open_event off;
    sse_replay all;
    location /s { sse_stream messages; }
    location /p { sse_publish messages; }
    location /typed { sse_publish messages event=trade; }
    location /chosen { sse_publish messages event=$arg_kind; }
    location /small { sse_publish messages; client_body_buffer_size 1k; }
    location /file { sse_publish messages; client_body_in_file_only clean; }
EOF_CONFIG

# `publish` is the first request. A stream that is opened afterwards must replay `stream` after its opening
# bytes, where ID stands for the id.
add_block_preprocessor(sub ($block) {
    $block->set_value('config', $::Config) if !defined $block->config;
    return if !defined $block->publish;
    my $publish = $block->publish;
    my $stream  = quotemeta($block->stream) =~ s/ID/\\d+-\\d+-\\d+/gr;
    $block->set_value('request', [$publish, 'GET /s HTTP/1.0']);
    $block->set_value('more_headers', [$block->with // '', '']);
    $block->set_value('error_code', [201, 200]);
    $block->set_value('response_body_like',
        [qr/\A\{"channel":"messages","id":"\d+-\d+-\d+","subscribers":0\}\n?\z/, qr/\Aretry: 3000\n:\n$stream\z/]);
    $block->set_value('abort', '');
});

run_blocks();

__DATA__

=== TEST 1: a POST is answered 201 with channel, id and subscribers as JSON
--- request
POST /p
Hello, World!
--- error_code: 201
--- response_headers
Content-Type: application/json
! Last-Modified
--- response_body_like eval
qr/\A\{"channel":"messages","id":"\d+-\d+-\d+","subscribers":0\}\n?\z/



=== TEST 2: a PUT does the same
--- request
PUT /p
Hello, World!
--- error_code: 201
--- response_headers
Content-Type: application/json
--- response_body_like eval
qr/\A\{"channel":"messages","id":"\d+-\d+-\d+","subscribers":0\}\n?\z/



=== TEST 3: the body is the data
--- publish eval
"POST /p\nHello, World!"
--- stream eval
"data: Hello, World!\nid: ID\n\n"



=== TEST 4: the body of a PUT is the data
--- publish eval
"PUT /p\nput"
--- stream eval
"data: put\nid: ID\n\n"



=== TEST 5: an empty body is an event with empty data
--- publish eval
"POST /p"
--- with
Content-Length: 0
--- stream eval
"data: \nid: ID\n\n"



=== TEST 6: data is split at LF
--- publish eval
"POST /p\nfirst line\nsecond line"
--- stream eval
"data: first line\ndata: second line\nid: ID\n\n"



=== TEST 7: data is split at CR, CRLF and LF, and empty lines stay
--- publish eval
"POST /p\na\rb\r\nc\n\nd"
--- stream eval
"data: a\ndata: b\ndata: c\ndata: \ndata: d\nid: ID\n\n"



=== TEST 8: bytes that end no line are unchanged
--- publish eval
"POST /p\n\xef\xbb\xbf\xe2\x80\xa8 \xc2\x85 \x0b \x0c \t \0 \xf0\x9f\x8e\x89"
--- stream eval
"data: \xef\xbb\xbf\xe2\x80\xa8 \xc2\x85 \x0b \x0c \t \0 \xf0\x9f\x8e\x89\nid: ID\n\n"



=== TEST 9: ?event= sets the type
--- publish eval
"POST /p?event=trade\nx"
--- stream eval
"event: trade\ndata: x\nid: ID\n\n"



=== TEST 10: the type is percent-decoded
--- publish eval
"POST /p?x=1&event=a%20b%2Fc%C3%A9&y=2\nx"
--- stream eval
"event: a b/c\xc3\xa9\ndata: x\nid: ID\n\n"



=== TEST 11: an empty ?event= sets no type
--- publish eval
"POST /p?event=\nx"
--- stream eval
"data: x\nid: ID\n\n"



=== TEST 12: a type of 128 bytes is accepted
--- publish eval
"POST /p?event=" . 'e' x 128 . "\nx"
--- stream eval
"event: " . 'e' x 128 . "\ndata: x\nid: ID\n\n"



=== TEST 13: the type in the directive takes precedence over the argument
--- publish eval
"POST /typed?event=other\nx"
--- stream eval
"event: trade\ndata: x\nid: ID\n\n"



=== TEST 14: the type in the directive may contain variables
--- publish eval
"POST /chosen?kind=note&event=other\nx"
--- stream eval
"event: note\ndata: x\nid: ID\n\n"



=== TEST 15: the type "message" is allowed
--- publish eval
"POST /p?event=message\nx"
--- stream eval
"event: message\ndata: x\nid: ID\n\n"



=== TEST 16: a body that is buffered in a file arrives complete
--- publish eval
"POST /file\nfrom a file"
--- stream eval
"data: from a file\nid: ID\n\n"



=== TEST 17: a chunked body arrives complete
--- publish eval
"POST /p\n9\r\nin chunks\r\n0\r\n\r\n"
--- with
Transfer-Encoding: chunked
--- stream eval
"data: in chunks\nid: ID\n\n"



=== TEST 18: a form content type does not change the data
--- publish eval
"POST /p\na=1&b=%20"
--- with
Content-Type: application/x-www-form-urlencoded
--- stream eval
"data: a=1&b=%20\nid: ID\n\n"



=== TEST 19: two events keep their order and ids rise
--- request eval
["POST /p\none", "POST /p\ntwo", "GET /s HTTP/1.0"]
--- abort
--- error_code eval
[201, 201, 200]
--- response_body_like eval
[qr/"id"/, qr/"id"/, qr/\Aretry: 3000\n:\ndata: one\nid: \S+\n\ndata: two\nid: \S+\n\n\z/]



=== TEST 20: channel names are escaped in the JSON response
--- config
    location ~ ^/to/(.*)$ { sse_publish $1; }
--- request eval
"POST /to/a%22b%5Cc\xc3\xa9\nx"
--- error_code: 201
--- response_body_like eval
qr/\A\{"channel":"a\\"b\\\\c(?:\xc3\xa9|\\u00e9)","id":"[-0-9]+","subscribers":0\}/



=== TEST 21: several events are published on one connection
--- pipelined_requests eval
["POST /p\none", "POST /p\n" . 'x' x 5000, "PUT /p\nthree"]
--- error_code eval
[201, 201, 201]
--- response_body_like eval
[qr/"id"/, qr/"id"/, qr/"id"/]



=== TEST 22: a repeated idempotency key publishes once and returns the same id
--- request eval
["POST /p\none", "POST /p\none", "POST /p\ntwo", "GET /s HTTP/1.0"]
--- more_headers eval
["Idempotency-Key: first", "Idempotency-Key: first", "Idempotency-Key: second", ""]
--- abort
--- error_code eval
[201, 201, 201, 200]
--- response_body_like eval
[qr/"id"/, qr/"id"/, qr/"id"/, qr/\Aretry: 3000\n:\ndata: one\nid: \S+\n\ndata: two\nid: \S+\n\n\z/]



=== TEST 23: an idempotency key of 128 bytes is accepted
--- request
POST /p
x
--- more_headers eval
"Idempotency-Key: " . 'k' x 128
--- error_code: 201



=== TEST 24: a POST with Sec-Fetch-Site: same-origin is accepted
--- request
POST /p
x
--- more_headers
Sec-Fetch-Site: same-origin
Origin: http://localhost
--- error_code: 201



=== TEST 25: a POST with Sec-Fetch-Site: none is accepted
--- request
POST /p
x
--- more_headers
Sec-Fetch-Site: none
--- error_code: 201



=== TEST 26: an Origin with the host and port of the request is accepted
--- raw_request eval
"POST /p HTTP/1.1\r\nHost: example.org:8080\r\nOrigin: http://example.org:8080\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
--- error_code: 201
