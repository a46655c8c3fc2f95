# Batches: a body of type text/event-stream publishes several events, all of them or none.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use SSE::DeclarativeTests;

our $Config = <<'EOF_CONFIG';
    location /s { sse_stream messages; sse_open_event off; sse_replay all; }
    location /p { sse_publish messages; }
    location /typed { sse_publish messages event=trade; }
EOF_CONFIG

our $Ids = qr/"[-0-9]+"/;

# `batch` is the body. With `stream`, the response has `count` ids and a stream replays this text, where ID
# stands for an id. With `refusal`, the response has this status and the stream stays empty.
add_block_preprocessor(sub ($block) {
    $block->set_value('config', $::Config) if !defined $block->config;
    return if !defined $block->batch;
    my $path = ($block->path // '/p') =~ s/\s//gr;
    $block->set_value('request',      ["POST $path\n" . $block->batch, 'GET /s HTTP/1.0']);
    $block->set_value('more_headers', ['Content-Type: ' . ($block->type // 'text/event-stream'), '']);
    $block->set_value('abort',        '');
    my ($status, $answer, $stream) = (201, undef, '');
    if (defined $block->refusal) {
        ($status) = $block->refusal =~ /(\d+)/;
        $answer = qr/\A\{"error":"[^"]+"\}\n?\z/;
    } else {
        my $more = ($block->count // 1) - 1;
        $answer = qr/\A\{"channel":"messages","ids":\[$::Ids(?:,$::Ids){$more}\],"subscribers":0\}\n?\z/;
        $stream = quotemeta($block->stream) =~ s/ID/\\d+-\\d+-\\d+/gr;
    }
    $block->set_value('error_code',         [$status, 200]);
    $block->set_value('response_body_like', [$answer, qr/\Aretry: 3000\n:\n$stream\z/]);
});

run_blocks();

__DATA__

=== TEST 1: a batch of two events is published
--- batch eval
"data: one\n\nevent: trade\ndata: two\n\n"
--- count: 2
--- stream eval
"data: one\nid: ID\n\nevent: trade\ndata: two\nid: ID\n\n"



=== TEST 2: a batch of one event is answered with a list of ids
--- batch eval
"data: one\n\n"
--- count: 1
--- stream eval
"data: one\nid: ID\n\n"



=== TEST 3: id, retry, comments and unknown fields are ignored
--- batch eval
": a comment\nid: 99\nretry: 1\nnonsense: x\nnonsense\ndata: one\n\n"
--- stream eval
"data: one\nid: ID\n\n"



=== TEST 4: a block without data is not an event
--- batch eval
"event: nothing\nid: 4\n\ndata: one\n\n\n\n: only a comment\n\n"
--- stream eval
"data: one\nid: ID\n\n"



=== TEST 5: all line endings, several data lines, and an optional space after the colon are accepted
--- batch eval
"data: a\rdata:b\r\ndata:  c\ndata\n\r\n"
--- stream eval
"data: a\ndata: b\ndata:  c\ndata: \nid: ID\n\n"



=== TEST 6: empty data is an event
--- batch eval
"data\n\ndata:\n\n"
--- count: 2
--- stream eval
"data: \nid: ID\n\ndata: \nid: ID\n\n"



=== TEST 7: a byte order mark at the beginning is ignored
--- batch eval
"\xef\xbb\xbfdata: one\n\n"
--- stream eval
"data: one\nid: ID\n\n"



=== TEST 8: parameters and case of the content type do not matter
--- batch eval
"data: one\n\n"
--- type: Text/Event-Stream; charset=utf-8
--- stream eval
"data: one\nid: ID\n\n"



=== TEST 9: the last event field of a block is used
--- batch eval
"event: first\nevent: second\ndata: one\n\n"
--- stream eval
"event: second\ndata: one\nid: ID\n\n"



=== TEST 10: a type applies to its own block only
--- batch eval
"event: trade\n\ndata: one\n\n"
--- stream eval
"data: one\nid: ID\n\n"



=== TEST 11: a batch of a thousand events is accepted
--- batch eval
CORE::join '', map { "data: $_\n\n" } 1 .. 1000
--- count: 1000
--- stream eval
CORE::join '', map { "data: $_\nid: ID\n\n" } 901 .. 1000



=== TEST 12: a batch of more than a thousand events is rejected
--- batch eval
CORE::join '', map { "data: $_\n\n" } 1 .. 1001
--- refusal: 400



=== TEST 13: an empty body is rejected
--- batch eval
""
--- refusal: 400



=== TEST 14: a body without data is rejected
--- batch eval
": nothing here\n\nevent: x\n\n"
--- refusal: 400



=== TEST 15: one reserved type rejects the whole batch
--- batch eval
"data: one\n\nevent: sse.gap\ndata: two\n\ndata: three\n\n"
--- refusal: 400



=== TEST 16: a type with NUL rejects the whole batch
--- batch eval
"data: one\n\nevent: a\0b\ndata: two\n\n"
--- refusal: 400



=== TEST 17: invalid UTF-8 rejects the whole batch
--- batch eval
"data: one\n\ndata: \xff\n\n"
--- refusal: 400



=== TEST 18: one event that is too large rejects the whole batch
--- batch eval
"data: one\n\ndata: " . 'x' x 263_000 . "\n\n"
--- refusal: 413
