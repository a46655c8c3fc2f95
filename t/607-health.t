# The health check for load balancers: one word, and a status by which they decide.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET;
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;
use SSE::Stage;

my $redis = SSE::Redis->start;
my $stage = SSE::Stage->new(
    workers => 1,
    http    => 'sse_hub default { zone 4m; } sse_hub shared { zone 4m; redis ' . $redis->url . '; } sse_drain 200ms;',
    server  => <<'EOF_SERVER',
        location = /s      { sse_stream room hub=default; }
        location = /all    { sse_status; }
        location = /plain  { sse_status hub=default; }
        location = /shared { sse_status hub=shared; }
EOF_SERVER
);
my $nginx = $stage->cluster;

sub health ($path, %options) {
    my $answer = request(port => $nginx->port, path => "$path?format=health", %options) // { status => 'none', body => '' };
    return "$answer->{status} $answer->{body}";
}

# A hub is degraded until its Redis is reached for the first time.
ok(wait_for(sub { health('/all') eq "200 ok\n" }, 20), 'a working nginx is ok');
is(health('/shared'), "200 ok\n", 'so is the hub with Redis');
is(health('/all', method => 'HEAD'), '200 ', 'HEAD has the status only');
is(health('/all', headers => [Accept => 'text/html']), "200 ok\n", 'format= takes precedence over Accept');
my $answer = request(port => $nginx->port, path => '/all?format=health');
is($answer->{header}{'content-type'}[0], 'text/plain; charset=utf-8', 'the response is text');
is($answer->{header}{'cache-control'}[0], 'no-store', 'and must not be cached');

$redis->kill;
ok(wait_for(sub { health('/shared') eq "200 degraded\n" }, 20), 'without Redis, the hub is degraded, and stays in the load balancer');
is(health('/plain'), "200 ok\n", 'the other hub is not');
is(health('/all'), "200 degraded\n", 'the worst hub counts');
$redis->start;
ok(wait_for(sub { health('/all') eq "200 ok\n" }, 20), 'when Redis is back, nginx is ok again');

# A request that arrives at a worker while it shuts down: nginx closes idle connections, but not this one.
my $client = $stage->stream('/s');
my $late   = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $nginx->port) or die "connect: $!";
$late->syswrite("GET /plain?format=health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
is(health('/plain'), "200 ok\n", 'the worker has accepted the connection');
ok($nginx->reload, 'nginx reloads');
ok(wait_for(sub { !$client->is_open }, 20), 'the old worker ends its streams');
$late->syswrite("\r\n");
like(join('', <$late>), qr{\AHTTP/1\.1 503 .*\r\n\r\ndraining\n\z}s, 'and is draining');
is(health('/plain'), "200 ok\n", 'the new worker is ok');

$nginx->allow(qr/Redis is unreachable/);
$nginx->ends_cleanly;
done_testing();
