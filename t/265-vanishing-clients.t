# Clients that disconnect at any moment, close only one direction, or pipeline requests.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(serve_for wait_for);
use SSE::Stage;

my $stage = SSE::Stage->new(
    http   => 'sse_hub default { history 200; }',
    server => <<'EOF_CONFIG',
        location = /s   { sse_stream news; }
        location = /all { sse_stream news; sse_replay all; }
EOF_CONFIG
);
my $nginx   = $stage->cluster;
my @workers = $nginx->workers;
my $steady  = $stage->stream('/s');
my $writer  = SSE::Publisher->new(port => $stage->port, path => '/to/news');
$writer->publish(map { "$_ " . 'x' x 20_000 } 1 .. 100);
my @before = map { $nginx->descriptors($_) } @workers;
$writer->stream(200, sub ($number) { "live $number " . 'y' x 20_000 });

# Ways to disconnect: a reset, or closing.
my $request = "GET /all HTTP/1.1\r\nHost: localhost\r\n\r\n";
for my $round (1 .. 150) {
    my $how = $round % 2 ? 'reset' : 'close';
    my @raw = ('', substr($request, 0, 5), substr($request, 0, -1), $request);
    my @early = map { SSE::Client->new(port => $stage->port, raw_request => $_) } @raw;
    serve_for(0.001 * ($round % 5));
    $_->$how for @early;
}
pass('clients disconnect before, during, and right after their request');
for my $round (1 .. 60) {
    my $how     = $round % 2 ? 'reset' : 'close';
    my @clients = map { SSE::Client->new(port => $stage->port, path => $_, receive_buffer => 4096) } '/all', '/all', '/s';
    my $enough  = 1 + $round * 1000;
    $_->{keep_wire} = 1 for @clients;
    wait_for(sub { length($clients[0]{wire}) > $enough }, 2);
    $_->$how for @clients;
}
pass('clients disconnect during the replay and in the middle of a frame');
my @stuck = map { SSE::Client->new(port => $stage->port, path => '/all', receive_buffer => 2048) } 1 .. 20;
wait_for(sub { !grep { !$_->is_open } @stuck });
$_->pause for @stuck;
serve_for(0.5);
$_->reset for @stuck;
pass('clients disconnect after they have stopped reading');

$writer->stop;
ok($writer->wait_idle, 'all publishes succeed');
ok(wait_for(sub { $stage->subscribers('news') == 1 }, 10), 'only the remaining client is counted');
my @expected = map { $_->{data} } $writer->accepted;
ok(wait_for(sub { (grep { $_ ne '' } $steady->data) == @expected }, 10), 'the remaining client receives everything');
ok(join("\n", grep { $_ ne '' } $steady->data) eq join("\n", @expected), 'in order and unchanged');
is_deeply([$nginx->workers], \@workers, 'no worker has crashed');
ok(wait_for(sub { !grep { $nginx->descriptors($workers[$_]) > $before[$_] + 2 } 0 .. $#workers }, 10),
    'no file descriptor is leaked');

# A half-closed connection.
my $half = SSE::Client->new(port => $stage->port, path => '/s');
$half->wait_open;
$half->half_close;
my @early_half = map { SSE::Client->new(port => $stage->port, path => '/s') } 1 .. 10;
wait_for(sub { !grep { $_->{sending} ne '' } @early_half });
$_->half_close for @early_half;
$stage->publish('news', 'to the half closed');
ok(wait_for(sub { !grep { $_->is_open && !grep { $_ eq 'to the half closed' } $_->data } $half, @early_half }, 5),
    'a client that has closed its sending direction is either served or disconnected');
$_->close for $half, @early_half;
ok(wait_for(sub { $stage->subscribers('news') == 1 }, 10), 'it is not counted once it has disconnected');

# Pipelined requests.
my $two = SSE::Client->new(port => $stage->port, raw_request => "GET /s HTTP/1.1\r\nHost: x\r\n\r\n" x 2);
my $garbage = SSE::Client->new(port => $stage->port, raw_request => "GET /s HTTP/1.1\r\nHost: x\r\n\r\n\0\xff garbage\r\n\r\n");
my $behind = SSE::Client->new(port => $stage->port, raw_request => "GET /s HTTP/1.1\r\nHost: x\r\n\r\n"
        . "POST /to/news HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\nslipped");
$_->wait_open for $two, $garbage, $behind;
$stage->publish('news', 'to the pipelined');
for my $client ($two, $garbage, $behind) {
    ok($client->wait_data('to the pipelined'), 'a request pipelined after that of a stream does not disturb the stream');
    is_deeply([grep { /slipped|HTTP/ } $client->data], [], 'it is not answered within the stream');
    $client->close;
}
my $publish = "POST /to/news HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n";
my $then = SSE::Client->new(port => $stage->port, raw_request => "${publish}one!GET /s HTTP/1.1\r\nHost: x\r\n\r\n",
    keep_wire => 1);
ok(wait_for(sub { $then->{wire} =~ /201 Created/ || $then->{state} eq 'failed' }, 5), 'a publish with a stream request pipelined after it is answered');
$then->close;
ok(wait_for(sub { $stage->subscribers('news') == 1 }, 10), 'no stream is left behind');

is_deeply([$nginx->workers], \@workers, 'pipelining crashes no worker');
$stage->ends_cleanly;
done_testing();
