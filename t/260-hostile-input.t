# Hostile input in data, types, channel names, and ids injects nothing and crashes nothing.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP;
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Stage;

my $stage = SSE::Stage->new(
    http   => 'sse_hub default { history 50; } large_client_header_buffers 8 64k; ignore_invalid_headers off;',
    server => <<'EOF_CONFIG',
        location = /s              { sse_stream news; }
        location = /typed          { sse_publish news event=$http_x_kind; }
        location ~ (?s)^/one/(.*)$ { sse_stream $1; }
        location ~ (?s)^/any/(.*)$ { sse_publish $1; }
EOF_CONFIG
);
my $nginx   = $stage->cluster;
my @workers = $nginx->workers;
my $client  = $stage->stream('/s');
wait_for(sub { $client->events('sse.open') });

# Data.
my @data = (
    "a\rid: evil", "a\nid: evil", "a\r\nid: evil", "a\r\rid: evil", "a\n\ndata: b", "a\r\n\r\nevent: sse.gap\r\ndata: {}",
    "\n\n\n", "\r", "\r\n\r", ':', ': comment', 'data: x', "\0", "x\0\nid: 1\0", "retry: 0\nretry: 0", "\x{feff}", '0',
    "HTTP/1.1 200 OK\r\n\r\n", "0\r\n\r\n", '</script><!--#include virtual="/s" -->', '{"a":"\u0000"}', "\x{2028}\x{85}\x0b\x0c",
);
srand 1;
my @alphabet = ("\r", "\n", "\r\n", ':', ' ', "\0", 'data', 'id', 'event', 'retry', 'x', "\x{e9}", "\x{1f600}", "\x{feff}");
for (1 .. 200) {
    push @data, join '', map { $alphabet[rand @alphabet] } 1 .. 1 + rand 30;
}
utf8::encode($_) for @data;
my @ids = $stage->publish('news', @data);
ok(wait_for(sub { @{ $client->{events} } > @data }), 'all published events arrive');
my @events = @{ $client->{events} };
shift @events;
is(scalar @events, scalar @data, 'each publish makes one event');
is(scalar(grep { $_->{type} ne 'message' } @events), 0, 'no type is injected');
is(join(' ', map { $_->{id} } @events), join(' ', @ids), 'no id is injected');
is(scalar(grep { $events[$_]{data} ne ($data[$_] =~ s/\r\n?/\n/gr) } 0 .. $#data), 0, 'data is what was published, line by line');
is($client->{parser}{retry}, 3000, 'no retry is injected');
is_deeply($client->{parser}{retries}, [3000], 'no retry was in effect at any time');
is($client->{parser}{comments}, 1, 'no comment is injected');

# Types.
my $sent = @{ $client->{events} };
for my $type ("a\rid: evil", "a\tb\x7f", '%0d%0adata: x', 'error', 'open', 'sse.open', "x" x 200, "\xff") {
    my $answer = request(port => $stage->port, path => '/typed', headers => ['X-Kind' => $type], body => 'typed');
    ok($answer && $answer->{status} =~ /\A(?:201|400)\z/, 'an odd type is either used unchanged or rejected');
}
for my $query ('event=a%0d%0aid:1', 'event=a%0aid:1', 'event=%00', 'event=%', 'event=%zz', 'event=' . '%0d' x 500) {
    my $answer = request(port => $stage->port, path => "/to/news?$query", body => 'typed');
    ok($answer && $answer->{status} =~ /\A(?:201|400)\z/, "the argument $query is either used unchanged or rejected") or diag explain $answer;
}
$stage->publish('news', 'after types');
$client->wait_data('after types');
my @new = @{ $client->{events} }[$sent .. $#{ $client->{events} }];
is(scalar(grep { $_->{data} !~ /\A(?:typed|after types)\z/ } @new), 0, 'no type injects a field');

# Channels.
for my $name ('*', '?', '[a-z]', '..x', '...', '{a}{b}', '__keyspace@0__:*', '%25', '%20', '%22%5C', '%7B%7D', 'a%0Db', '%C2%A0',
    'x' x 255, '%E2%80%A8', '%F4%90%80%80', '%ED%A0%80') {
    my $path   = "/any/$name";
    my $answer = request(port => $stage->port, path => $path, body => 'x');
    my $stream = request(port => $stage->port, path => "/one/$name", method => 'HEAD');
    my $known  = $answer && $stream && $answer->{status} == 201 && $stream->{status} == 200;
    my $not    = $answer && $stream && $answer->{status} == 400 && $stream->{status} == 400;
    ok($known || $not, "the channel $name is valid for publishers and streams, or for neither");
    ok(!$known || ref $answer->{json}, 'the response is valid JSON') if $answer;
}

# Ids.
for my $id ('x' x 8192, '1' x 8192, '1-' x 4000, "\xff\xfe\x80", "caf\xc3\xa9", "a\tb", '"\\"', '\\u0000', '<>&', '-1--1',
    '18446744073709551616-1-1', '340282366920938463463374607431768211456-0-0-0', '0-0-0-0', 'null', '%0d%0aevent: evil', '{}') {
    my $stream = SSE::Client->new(port => $stage->port, path => '/s', last_event_id => $id);
    wait_for(sub { @{ $stream->{events} } || $stream->{state} eq 'failed' });
    my ($gap) = $stream->events('sse.gap');
    my $decoded = $gap ? eval { JSON::PP->new->decode($gap->{data}) } : undef;
    is($decoded ? $decoded->{after} : 'no gap', $id =~ s/[^\x20-\x7e]//gr, 'an odd id is returned in valid JSON of printable ASCII');
    $stream->wait_data('after types');
    my (undef, @rest) = map { "$_->{type} $_->{data} $_->{id}" } @{ $stream->{events} };
    my @known = map { "$_->{type} $_->{data} $_->{id}" } @{ $client->{events} };
    is(join('|', @rest), join('|', @known[-@rest .. -1]), 'then the history follows and nothing else');
    $stream->close;
}
my ($real) = $stage->publish('news', 'behind me');
$stage->publish('news', 'newest');
for my $raw ("Last-Event-ID: $real\r\nLast-Event-ID: 1-1-1\r\n", "Last-Event-ID: 1-1-1\r\nLast-Event-ID: $real\r\n",
    "Last-Event-ID:\r\n", "Last-Event-ID: $real \t \r\n", "last-event-id: $real\r\n") {
    my $stream = SSE::Client->new(port => $stage->port, raw_request => "GET /s HTTP/1.1\r\nHost: x\r\n$raw\r\n");
    ok($stream->wait_open(5), 'duplicate, empty, and padded headers still open a stream');
    $stream->close;
}
for my $query ('last_event_id=' . 'x' x 8000, 'last_event_id=%0d%0aevent:%20x', 'last_event_id=%00', 'last_event_id=%ff',
    'last_event_id=&last_event_id=1', "last_event_id=$real%20") {
    my $stream = $stage->stream("/s?$query");
    is($stream->{state}, 'open', 'odd arguments still open a stream');
    $stream->close;
}
my $bad = request(port => $stage->port, path => '/s', headers => ['Last-Event-ID' => "1\0-1"]);
ok(!$bad || $bad->{status} == 400, 'a NUL in a header is rejected by nginx');

# Malformed publish requests.
for my $raw ("POST /to/news HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /to/news HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "POST /to/news HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "POST /to/news HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "POST /to/news HTTP/1.1\r\nHost: x\r\nContent-Type: text/event-stream\r\nContent-Length: 3\r\n\r\n\0\r\n") {
    my $stream = SSE::Client->new(port => $stage->port, raw_request => $raw);
    ok(wait_for(sub { $stream->{state} =~ /\A(?:failed|ended)\z/ }, 5), 'a malformed publish request is rejected');
    $stream->close;
}

is_deeply([$nginx->workers], \@workers, 'no worker has crashed');
is_deeply([$stage->replayed('/s', 'news', last_event_id => $real)], ['newest'], 'the hub is unchanged');
$stage->ends_cleanly;
done_testing();
