# A worker is stopped while it holds the lock of a hub with Redis. The connection to Redis is not considered
# lost, publishing continues, and the events are delivered when the worker continues.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;
use SSE::WorkerConnection;

my $redis = SSE::Redis->start;
my $stage = SSE::RedisStage->new(
    redis   => $redis->url,
    workers => 3,
    server  => 'location = /admin { sse_admin; } location = /ping { return 200; }',
);
my $nginx  = $stage->cluster;
my $holder = $stage->holder($redis);
my ($victim) = grep { $_ != $holder } $nginx->workers;

my $client;
for (1 .. 60) {
    $client = $stage->stream('/on/news');
    last if $client->worker == $holder;
    $client->close;
}
is($client->worker, $holder, 'a client is on the worker that holds the subscription');
$stage->post('news', 'before');

# Opens streams of many channels on the victim, each of which takes the lock often. On a busy machine, more attempts are
# needed, and longer ones.
my $probe = SSE::WorkerConnection->new($stage->port, $holder);
my ($stuck, $attempts) = (0, 0);
while (!$stuck && ++$attempts <= 3000) {
    my @busy = map { SSE::WorkerConnection->new($stage->port, $victim) } 1 .. 8;
    for my $number (0 .. $#busy) {
        $busy[$number]->send(path => '/on/' . join ',', map { "c$attempts-$number-$_" } 1 .. 64);
    }
    serve_for(rand 0.006 + $attempts / 50_000);
    $nginx->pause($victim);
    $stuck = ($probe->ask(path => '/admin?channel=news')->{json}{error} // '') =~ /stopped/;
    $nginx->resume($victim) if !$stuck;
    $_->drop for @busy;
}
note("attempts: $attempts");
ok($stuck, 'another worker is stopped while it holds the lock');

my @answers = map { $probe->ask(path => '/to/news', body => "during $_") } 1 .. 3;
is(join(' ', map { $_->{status} } @answers), '201 201 201', 'publishes are accepted by Redis');
ok(wait_for(sub { $nginx->error_log =~ /\[warn\] .*cannot receive events from Redis: the hub's lock is held by a stopped process/ }, 20),
    'the log has a line about it with the reason');
serve_for(1);
unlike($nginx->error_log, qr/Redis is unreachable|lost the connection to Redis/, 'the log does not report Redis as lost');
is(scalar(() = $nginx->error_log =~ /cannot receive events from Redis/g), 1, 'the line is logged once');

$nginx->resume($victim);
ok($client->wait_data('during 3', 20), 'when the worker continues, the published events arrive');
is(join(', ', $client->data), 'before, during 1, during 2, during 3', 'all of them arrive in order');
is(scalar($client->events('sse.gap')), 0, 'without a gap event');
ok(wait_for(sub { $nginx->error_log =~ /\[notice\] .*receiving events from Redis again/ }, 10), 'the log has a line about the recovery');

$probe->drop;
$stage->ends_cleanly;
done_testing();
