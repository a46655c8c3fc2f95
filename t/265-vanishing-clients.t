# Clients that go at any moment, by half, or that ask for two things at once.

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

# How a client goes: by a reset, or by closing.
my $request = "GET /all HTTP/1.1\r\nHost: localhost\r\n\r\n";
for my $round (1 .. 150) {
    my $how = $round % 2 ? 'reset' : 'close';
    my @raw = ('', substr($request, 0, 5), substr($request, 0, -1), $request);
    my @early = map { SSE::Client->new(port => $stage->port, raw_request => $_) } @raw;
    serve_for(0.001 * ($round % 5));
    $_->$how for @early;
}
pass('clients went before, in and right behind their request');
for my $round (1 .. 60) {
    my $how     = $round % 2 ? 'reset' : 'close';
    my @clients = map { SSE::Client->new(port => $stage->port, path => $_, receive_buffer => 4096) } '/all', '/all', '/s';
    my $enough  = 1 + $round * 1000;
    $_->{keep_wire} = 1 for @clients;
    wait_for(sub { length($clients[0]{wire}) > $enough }, 2);
    $_->$how for @clients;
}
pass('clients went in the replay and in the middle of a frame');
my @stuck = map { SSE::Client->new(port => $stage->port, path => '/all', receive_buffer => 2048) } 1 .. 20;
wait_for(sub { !grep { !$_->is_open } @stuck });
$_->pause for @stuck;
serve_for(0.5);
$_->reset for @stuck;
pass('clients went that had stopped reading');

$writer->stop;
ok($writer->wait_idle, 'publishing was never disturbed');
ok(wait_for(sub { $stage->subscribers('news') == 1 }, 10), 'only the steady client is counted');
my @expected = map { $_->{data} } $writer->accepted;
ok(wait_for(sub { (grep { $_ ne '' } $steady->data) == @expected }, 10), 'the steady client gets everything');
ok(join("\n", grep { $_ ne '' } $steady->data) eq join("\n", @expected), 'in order and byte for byte');
is_deeply([$nginx->workers], \@workers, 'no worker has died');
ok(wait_for(sub { !grep { $nginx->descriptors($workers[$_]) > $before[$_] + 2 } 0 .. $#workers }, 10),
    'no descriptor is left behind');

# Half of a connection.
my $half = SSE::Client->new(port => $stage->port, path => '/s');
$half->wait_open;
$half->half_close;
my @early_half = map { SSE::Client->new(port => $stage->port, path => '/s') } 1 .. 10;
wait_for(sub { !grep { $_->{sending} ne '' } @early_half });
$_->half_close for @early_half;
$stage->publish('news', 'to the half closed');
ok(wait_for(sub { !grep { $_->is_open && !grep { $_ eq 'to the half closed' } $_->data } $half, @early_half }, 5),
    'a client that closed its sending half is ended or served on');
$_->close for $half, @early_half;
ok(wait_for(sub { $stage->subscribers('news') == 1 }, 10), 'and not forgotten once it is gone');

# Two requests in one segment.
my $two = SSE::Client->new(port => $stage->port, raw_request => "GET /s HTTP/1.1\r\nHost: x\r\n\r\n" x 2);
my $garbage = SSE::Client->new(port => $stage->port, raw_request => "GET /s HTTP/1.1\r\nHost: x\r\n\r\n\0\xff garbage\r\n\r\n");
my $behind = SSE::Client->new(port => $stage->port, raw_request => "GET /s HTTP/1.1\r\nHost: x\r\n\r\n"
        . "POST /to/news HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\nslipped");
$_->wait_open for $two, $garbage, $behind;
$stage->publish('news', 'to the pipelined');
for my $client ($two, $garbage, $behind) {
    ok($client->wait_data('to the pipelined'), 'what comes behind the request of a stream does not disturb it');
    is_deeply([grep { /slipped|HTTP/ } $client->data], [], 'and is not served inside it');
    $client->close;
}
my $publish = "POST /to/news HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n";
my $then = SSE::Client->new(port => $stage->port, raw_request => "${publish}one!GET /s HTTP/1.1\r\nHost: x\r\n\r\n",
    keep_wire => 1);
ok(wait_for(sub { $then->{wire} =~ /201 Created/ || $then->{state} eq 'failed' }, 5), 'a publish with a stream behind it is answered');
$then->close;
ok(wait_for(sub { $stage->subscribers('news') == 1 }, 10), 'and leaves no stream behind');

is_deeply([$nginx->workers], \@workers, 'no worker has died of it');
$stage->ends_cleanly;
done_testing();
