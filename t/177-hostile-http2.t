# HTTP/2 clients that break the protocol: floods of frames, windows of zero and below, headers that never end or
# cannot be decoded, frames for closed streams, and connections that are cut off in the middle of a frame. Other
# clients receive every event once and in order meanwhile, no worker exits, and nothing is left behind.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP2;
use SSE::Loop qw(serve_for wait_for);
use SSE::Nginx qw(has_module);
use SSE::Publisher;
use SSE::Stage;

plan skip_all => 'nginx is built without HTTP/2' if !has_module('http_v2');

use constant { DATA => 0, HEADERS => 1, PRIORITY => 2, RST_STREAM => 3, SETTINGS => 4, PUSH_PROMISE => 5, PING => 6,
    GOAWAY => 7, WINDOW_UPDATE => 8, CONTINUATION => 9 };
use constant { END_STREAM => 1, END_HEADERS => 4, PADDED => 8, PRIORITIZED => 0x20 };
use constant INITIAL_WINDOW => 4;
use constant NO_ERROR => 0;

my $locations = <<'EOF_LOCATIONS';
    location = /s       { sse_stream news; }
    location = /publish { sse_publish others; client_max_body_size 100k; }
    location = /here    { return 200 "here"; }
EOF_LOCATIONS
my $stage = SSE::Stage->new(
    http   => "sse_hub default { history 5000; } server { listen 127.0.0.1:%%PORT_h2%% http2; $locations }",
    server => "$locations location = /lean { sse_stream news; sse_lean on; }",
);
my $nginx   = $stage->cluster;
my @workers = $nginx->workers;
my $port    = $nginx->port('h2');

my @steady = map { $stage->stream($_) } ('/s') x 3, ('/lean') x 3;
my $good   = SSE::HTTP2->new(port => $port);
my @shared = map { $good->request('/s') } 1 .. 3;
ok(wait_for(sub { !grep { !$_->{status} } @shared }), 'well-behaved clients are connected');
my $writer = SSE::Publisher->new(port => $stage->port, path => '/to/news');
$writer->stream(100, sub ($number) { $number });
my $before = descriptors();

sub frame { return SSE::HTTP2::frame(@_) }

# A header block of a GET request, with more bytes behind it.
sub get ($path, $more = '') {
    return join '', map({ pack 'CC/aC/a', 0, @$_ } [':method', 'GET'], [':path', $path], [':scheme', 'http'],
        [':authority', 'localhost']), $more;
}

# The header block of a POST to /publish.
sub post (@fields) {
    return join '', map { pack 'CC/aC/a', 0, @$_ } [':method', 'POST'], [':path', '/publish'], [':scheme', 'http'],
        [':authority', 'localhost'], @fields;
}

# What is sent on a connection with three open streams (1, 3, and 5); the next one is 7. nginx may close the
# connection, the stream, or neither.
my %hostile = (
    'a stream window of zero and a frame that adds nothing' => frame(WINDOW_UPDATE, 0, 1, pack 'N', 0),
    'a connection window that is increased by nothing'      => frame(WINDOW_UPDATE, 0, 0, pack 'N', 0),
    'windows that overflow'     => join('', map { frame(WINDOW_UPDATE, 0, $_, pack 'N', 0x7fffffff) } 1, 3, 0),
    'an initial window that is too large'  => frame(SETTINGS, 0, 0, pack 'nN', INITIAL_WINDOW, 0x80000000),
    'an initial window that changes often' => join('', map { frame(SETTINGS, 0, 0, pack 'nN', INITIAL_WINDOW, $_ % 2 ? 0 : 0x7fffffff) } 1 .. 500),
    'streams that are opened and cancelled at once' =>
        join('', map { frame(HEADERS, END_HEADERS | END_STREAM, $_, get('/s')) . frame(RST_STREAM, 0, $_, pack 'N', 8) } map { 7 + 2 * $_ } 0 .. 400),
    'publishes that are cancelled in their body' => join('', map {
        frame(HEADERS, END_HEADERS, $_, post(['content-length', 1000])) . frame(DATA, 0, $_, 'x' x 500) . frame(RST_STREAM, 0, $_, pack 'N', 8)
    } map { 7 + 2 * $_ } 0 .. 100),
    'a flood of cancellations of the same stream' => frame(RST_STREAM, 0, 1, pack 'N', 8) x 2000,
    'a flood of PING'                       => frame(PING, 0, 0, '12345678') x 20_000,
    'a flood of empty SETTINGS'             => frame(SETTINGS, 0, 0, '') x 20_000,
    'a flood of PRIORITY'                   => join('', map { frame(PRIORITY, 0, 7 + 2 * $_, pack 'NC', 1, 10) } 1 .. 20_000),
    'a stream that depends on itself'       => frame(PRIORITY, 0, 1, pack 'NC', 1, 10) . frame(HEADERS, END_HEADERS | END_STREAM | PRIORITIZED, 7, pack('NC', 7, 1) . get('/s')),
    'a flood of CONTINUATION'               => frame(HEADERS, 0, 7, get('/s')) . frame(CONTINUATION, 0, 7, pack 'CC/aC/a', 0, 'x-more', 'y' x 100) x 5000,
    'a flood of empty CONTINUATION'         => frame(HEADERS, 0, 7, get('/s')) . frame(CONTINUATION, 0, 7, '') x 50_000,
    'CONTINUATION without HEADERS'          => frame(CONTINUATION, END_HEADERS, 1, get('/s')),
    'another frame between HEADERS and CONTINUATION' => frame(HEADERS, 0, 7, get('/s')) . frame(PING, 0, 0, '12345678'),
    'GOAWAY, and requests after it'         => frame(GOAWAY, 0, 0, pack 'NN', 0, NO_ERROR) . frame(HEADERS, END_HEADERS | END_STREAM, 7, get('/s')),
    'DATA for a stream that is not open'    => frame(DATA, 0, 1, 'x' x 100) . frame(DATA, 0, 101, 'x') . frame(DATA, 0, 0, 'x'),
    'HEADERS for a stream that is open'     => frame(HEADERS, END_HEADERS | END_STREAM, 1, get('/s')),
    'a stream number of a server'           => frame(HEADERS, END_HEADERS | END_STREAM, 8, get('/s')),
    'PUSH_PROMISE'                          => frame(PUSH_PROMISE, END_HEADERS, 1, pack('N', 8) . get('/s')),
    'padding that is longer than its frame' => frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 7, "\xff" . get('/s')) . frame(DATA, PADDED, 7, "\xff"),
    'a frame that is too large'             => substr(pack('N', 0xffffff), 1) . pack('CCN', DATA, 0, 1) . 'x' x 100_000,
    'frames of unknown types'               => join('', map { frame($_, 0xff, 1, 'x' x $_) } 10 .. 200),
    'frames of the wrong size'              => join('', map { frame($_, 0, 1, 'x') } PRIORITY, RST_STREAM, WINDOW_UPDATE, PING, SETTINGS),
    'a header whose length overflows'       => frame(HEADERS, END_HEADERS | END_STREAM, 7, get('/s', "\0\x7f\xff\xff\xff\xff\xff\x7f")),
    'a header of a table entry that does not exist' => frame(HEADERS, END_HEADERS | END_STREAM, 7, get('/s', "\xff\xff\x7f")),
    'a header with an invalid Huffman code' => frame(HEADERS, END_HEADERS | END_STREAM, 7, get('/s', "\0\x84\xff\xff\xff\xff\x01x")),
    'a header table that is too large'      => frame(HEADERS, END_HEADERS | END_STREAM, 7, "\x3f\xff\xff\xff\x7f" . get('/s')),
    'an id that is no header value'         => frame(HEADERS, END_HEADERS | END_STREAM, 7, get('/s', pack 'CC/aC/a', 0, 'last-event-id', "1\r\nx: y\0")),
    'a body that is longer than announced'  => frame(HEADERS, END_HEADERS, 7, post(['content-length', 3])) . frame(DATA, END_STREAM, 7, 'too long'),
    'a body that is shorter than announced' => frame(HEADERS, END_HEADERS, 7, post(['content-length', 300])) . frame(DATA, END_STREAM, 7, 'short'),
    'DATA after the end of a body'          => frame(HEADERS, END_HEADERS, 7, post()) . frame(DATA, END_STREAM, 7, 'x') . frame(DATA, 0, 7, 'y' x 1000),
    'bytes that are no frames'              => join('', map { chr $_ * 7 % 251 } 1 .. 5000),
    'HTTP/1.1 after the preface'            => "GET /s HTTP/1.1\r\nHost: localhost\r\n\r\n",
);

# The announced length of these frames is larger than what is sent, so nginx waits for the rest.
my %is_incomplete = map { $_ => 1 } 'a frame that is too large', 'bytes that are no frames', 'HTTP/1.1 after the preface';

for my $what (sort keys %hostile) {
    my $client  = SSE::HTTP2->new(port => $port);
    my @streams = map { $client->request('/s') } 1 .. 3;
    wait_for(sub { !grep { !$_->{status} } @streams });
    $client->send($hostile{$what});
    wait_for(sub { !$client->is_open || $client->{sending} eq '' });
    # nginx has read all of it when it responds to another request, or closes the connection.
    $client->{next} = 100_001;
    my $probe = $client->request('/here');
    ok($is_incomplete{$what} || wait_for(sub { !$client->is_open || $probe->{status} || $probe->{reset} }, 20), $what)
        or diag('nginx neither responds nor closes the connection');
    $client->reset;
}

# Connections that are cut off after any number of bytes.
my $whole = frame(HEADERS, END_HEADERS, 7, post()) . frame(DATA, 0, 7, 'x' x 300) . frame(HEADERS, END_HEADERS | END_STREAM, 9, get('/s'));
for my $length (map { 7 * $_ } 0 .. length($whole) / 7) {
    my $client = SSE::HTTP2->new(port => $port);
    $client->request('/s');
    $client->send(substr $whole, 0, $length);
    wait_for(sub { !$client->is_open || $client->{sending} eq '' });
    $length % 2 ? $client->drop : $client->reset;
}
pass('connections are cut off in the middle of a frame');

# A client that accepts nothing for a while, by the window of its stream and of all streams.
my $closed = SSE::HTTP2->new(port => $port);
my @behind = map { $closed->request('/s') } 1 .. 2;
ok(wait_for(sub { !grep { !@{ $_->{events} } } @behind }), 'streams open');
$closed->send(frame(SETTINGS, 0, 0, pack 'nN', INITIAL_WINDOW, 0));
serve_for(0.1);
my $known = $writer->accepted;
ok(wait_for(sub { $writer->accepted > $known + 30 }), 'events are published while the windows of two streams are closed');
$closed->send(frame(WINDOW_UPDATE, 0, $_->{id}, pack 'N', 0x7fffff00)) for @behind;

$writer->stop;
ok($writer->wait_idle, 'every publish receives a response');
my @all = map { $_->{data} } $writer->accepted;
ok(wait_for(sub { !grep { data_of($_->{events}) < @all } @steady, @shared }), 'well-behaved clients receive all events');
is(scalar(grep { "@{[data_of($_->{events})]}" ne "@all" } @steady, @shared), 0, 'once and in order');
ok(wait_for(sub { !grep { (data_of($_->{events}))[-1] != $all[-1] } @behind }), 'so do streams whose windows were closed');
is(scalar(grep { my @got = data_of($_->{events}); "@got" ne "@all[-@got .. -1]" } @behind), 0, 'without a hole or a repetition');
$_->drop for $closed, $good;
$_->close for @steady;
ok(wait_for(sub { $stage->subscribers('news') == 0 }), 'no stream is left behind');
ok(wait_for(sub { descriptors() <= $before }), 'no connection is left behind') or diag(descriptors() . " instead of $before descriptors");
is_deeply([$nginx->workers], \@workers, 'no worker has exited');
unlike($nginx->error_log, qr/output on closed stream|\[crit\]/i, 'nothing is sent on a closed stream');
$stage->ends_cleanly;
done_testing();

sub data_of ($events) { return map { $_->{data} } grep { $_->{type} eq 'message' } @$events }

sub descriptors {
    my $sum = 0;
    $sum += $nginx->descriptors($_) for @workers;
    return $sum;
}
