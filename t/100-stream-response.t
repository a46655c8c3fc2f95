# The response of a stream: status, headers, first bytes, methods, and HTTP versions.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use SSE::DeclarativeTests;

our $Config = <<'EOF_CONFIG';
    location /s {
        sse_stream messages;
    }
    location /plain {
        sse_stream messages;
        sse_open_event off;
    }
EOF_CONFIG

run_blocks();

__DATA__

=== TEST 1: a GET is answered at once with the headers of an event stream
--- config eval: $::Config
--- request
GET /s HTTP/1.0
--- abort
--- error_code: 200
--- response_headers
Content-Type: text/event-stream
Cache-Control: no-cache, no-transform
X-Accel-Buffering: no
! Content-Length
! Last-Modified
! ETag
! Expires
! Content-Encoding
! Access-Control-Allow-Origin
--- raw_response_headers_like eval
qr{\AHTTP/1\.1 200 OK\r\n.*Content-Type: text/event-stream\r\n}s



=== TEST 2: the body begins with retry, a comment and the event that opens the stream
--- config eval: $::Config
--- request
GET /s HTTP/1.0
--- abort
--- response_body_like eval
qr/\Aretry: 3000\n:\nevent: sse\.open\ndata: \{\}\nid: \d+-\d+-\d+\n\n\z/



=== TEST 3: the first bytes are flushed even without the open event
--- config eval: $::Config
--- request
GET /plain HTTP/1.0
--- abort
--- response_body eval
"retry: 3000\n:\n"



=== TEST 4: an HTTP/1.0 response is not chunked and closes the connection
--- config eval: $::Config
--- request
GET /plain HTTP/1.0
--- abort
--- response_headers
! Transfer-Encoding
Connection: close
--- response_body eval
"retry: 3000\n:\n"



=== TEST 5: an HTTP/1.1 response is chunked
--- config eval: $::Config
--- raw_request eval
"GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n"
--- abort
--- http09
--- response_body_like eval
qr/\AHTTP\/1\.1 200 OK\r\n.*Transfer-Encoding: chunked\r\n.*\r\n\r\n[0-9a-f]+\r\nretry: 3000\n.*:\n\r\n\z/s



=== TEST 6: a configured charset is not appended to the type
--- config
    charset utf-8;
    charset_types *;
    location /s {
        sse_stream messages;
    }
--- request
GET /s HTTP/1.0
--- abort
--- response_headers
Content-Type: text/event-stream



=== TEST 7: another charset is not appended to the type either
--- config
    charset iso-8859-1;
    charset_types *;
    location /s {
        sse_stream messages;
        default_type text/html;
    }
--- request
GET /s HTTP/1.0
--- abort
--- response_headers
Content-Type: text/event-stream



=== TEST 8: HEAD returns the headers without a body
--- config eval: $::Config
--- request
HEAD /s
--- error_code: 200
--- response_headers
Content-Type: text/event-stream
Cache-Control: no-cache, no-transform
X-Accel-Buffering: no
--- response_body:



=== TEST 9: HEAD does not subscribe
--- config
    location /s { sse_stream messages; }
    location /p { sse_publish messages; }
--- request eval
["HEAD /s HTTP/1.1", "POST /p\nx"]
--- error_code eval
[200, 201]
--- response_body_like eval
[qr/\A\z/, qr/"subscribers":0/]



=== TEST 10: POST to a stream is not allowed
--- config eval: $::Config
--- request
POST /s
x
--- error_code: 405
--- response_headers_like
Allow: .*GET.*



=== TEST 11: PUT to a stream is not allowed
--- config eval: $::Config
--- request
PUT /s
x
--- error_code: 405
--- response_headers_like
Allow: .*GET, HEAD.*



=== TEST 12: DELETE of a stream is not allowed
--- config eval: $::Config
--- request
DELETE /s
--- error_code: 405
--- response_headers_like
Allow: .*HEAD.*



=== TEST 13: OPTIONS is not allowed without sse_cors
--- config eval: $::Config
--- request
OPTIONS /s
--- error_code: 405
--- response_headers_like
Allow: .*GET.*
--- response_headers
! Access-Control-Allow-Origin



=== TEST 14: a GET with a body opens a stream
--- config eval: $::Config
--- request eval
"GET /plain HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello"
--- abort
--- response_body eval
"retry: 3000\n:\n"



=== TEST 15: a client need not send Accept: text/event-stream
--- config eval: $::Config
--- request
GET /plain HTTP/1.0
--- more_headers
Accept: text/html
--- abort
--- response_headers
Content-Type: text/event-stream



=== TEST 16: conditional and range headers are ignored
--- config eval: $::Config
--- request
GET /plain HTTP/1.0
--- more_headers
If-None-Match: *
If-Modified-Since: Sat, 01 Jan 2050 00:00:00 GMT
Range: bytes=0-3
--- abort
--- error_code: 200
--- response_body eval
"retry: 3000\n:\n"



=== TEST 17: headers of the configuration are added
--- config
    location /s {
        sse_stream messages;
        add_header X-Extra yes;
    }
--- request
GET /s HTTP/1.0
--- abort
--- response_headers
X-Extra: yes
Content-Type: text/event-stream

