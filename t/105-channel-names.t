# The channels of a stream: variables, several values, split=, duplicates, limits, and 400 if there is none.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use SSE::DeclarativeTests;

our $Config = <<'EOF_CONFIG';
    sse_open_event off;
    sse_replay all;
    location ~ (?s)^/to/(.*)$    { sse_publish $1; }
    location ~ (?s)^/one/(.*)$   { sse_stream $1; }
    location ~ (?s)^/split/(.*)$ { sse_stream $1 split=,; }
    location = /args             { sse_stream $arg_a $arg_b; }
    location = /fixed            { sse_stream a b c; }
    location = /mixed            { sse_stream user.$arg_id $arg_more split=,; }
    location ~ (?s)^/two/(.*)$   { sse_stream always $1 split=,; }
EOF_CONFIG

# With `get`, one event is published on each of the channels a, b, c, and "x,y", with the name as its data;
# then the stream `get` is opened, which must replay the names in `has`.
add_block_preprocessor(sub ($block) {
    $block->set_value('config', $::Config) if !defined $block->config;
    return if !defined $block->get;
    my ($path) = $block->get =~ /(\S+)/;
    my $expected = join '', map { "data: \Q$_\E\\nid: \\S+\\n\\n" } split ' ', $block->has;
    $block->set_value('request', [(map { "POST /to/$_\n$_" } 'a', 'b', 'c', 'x,y'), "GET $path HTTP/1.0"]);
    $block->set_value('error_code', [201, 201, 201, 201, 200]);
    $block->set_value('response_body_like', [(qr/"id"/) x 4, qr/\Aretry: 3000\n:\n$expected\z/]);
    $block->set_value('abort', '');
});

run_blocks();

__DATA__

=== TEST 1: several channels are delivered in the order of publishing
--- get: /fixed
--- has: a b c



=== TEST 2: a channel name can be a variable
--- get: /one/b
--- has: b



=== TEST 3: several values can be variables
--- get: /args?b=a&a=c
--- has: a c



=== TEST 4: an empty value is skipped if another one names a channel
--- get: /args?b=a
--- has: a



=== TEST 5: without split= a comma is part of the name
--- get: /one/x,y
--- has: x,y



=== TEST 6: split= makes several channels from one value
--- get: /split/a,c
--- has: a c



=== TEST 7: empty parts are skipped
--- get: /split/,,a,,b,
--- has: a b



=== TEST 8: duplicates count once
--- get: /split/a,b,a,a,b
--- has: a b



=== TEST 9: 64 names are accepted
--- get eval
"/split/a," . CORE::join ',', map { "n$_" } 1 .. 63
--- has: a



=== TEST 10: duplicates do not count towards the limit of 64
--- get eval
"/split/a," . CORE::join ',', 'a', map { "n$_" } 1 .. 63
--- has: a



=== TEST 11: a value can combine text and variables
--- config
    sse_open_event off;
    sse_replay all;
    location /p { sse_publish user.7; }
    location /s { sse_stream user.$arg_id; }
--- request eval
["POST /p\nfor seven", "GET /s?id=8 HTTP/1.0", "GET /s?id=7 HTTP/1.0"]
--- error_code eval
[201, 200, 200]
--- abort
--- response_body_like eval
[qr/"channel":"user\.7"/, qr/\Aretry: 3000\n:\n\z/, qr/\Aretry: 3000\n:\ndata: for seven\nid: \S+\n\n\z/]



=== TEST 12: names are compared byte by byte
--- request eval
["POST /to/caf\%C3\%A9\ncomposed", "GET /one/cafe\%CC\%81 HTTP/1.0", "GET /one/CAF\%C3\%A9 HTTP/1.0"]
--- error_code eval
[201, 200, 200]
--- abort
--- response_body_like eval
[qr/"id"/, qr/\Aretry: 3000\n:\n\z/, qr/\Aretry: 3000\n:\n\z/]



=== TEST 13: a request that names no channel is a bad request
--- request
GET /args
--- error_code: 400



=== TEST 14: an empty name is a bad request
--- request
GET /one/
--- error_code: 400



=== TEST 15: a value with only empty parts is a bad request
--- request
GET /split/,,,
--- error_code: 400



=== TEST 16: 65 names are a bad request
--- request eval
"GET /split/" . CORE::join ',', map { "n$_" } 1 .. 65
--- error_code: 400



=== TEST 17: a name of 255 bytes is accepted, one of 256 is not
--- request eval
["GET /one/" . 'n' x 255 . " HTTP/1.0", "GET /one/" . 'n' x 256]
--- abort
--- error_code eval
[200, 400]



=== TEST 18: a control character in a name is a bad request
--- request
GET /one/a%0Ab
--- error_code: 400



=== TEST 19: a name that is not UTF-8 is a bad request
--- request
GET /one/a%FF
--- error_code: 400



=== TEST 20: one invalid name among valid ones is a bad request
--- request
GET /split/a,b%7F,c
--- error_code: 400



=== TEST 21: an invalid name is a bad request for HEAD too
--- request
HEAD /one/a%FF
--- error_code: 400
