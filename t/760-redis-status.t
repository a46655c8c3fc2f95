# The status of Redis in the figures: whether it is connected, and how often it was reconnected.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start;
my $stage = SSE::RedisStage->new(redis => $redis->url, http => "sse_hub alone { zone 2m; max_event_size 64k; }\nsse_drain 300ms;");

is($stage->status('alone')->{redis}, 'off', 'a hub without Redis reports "off"');
is($stage->status('alone')->{redis_reconnects}, 0, 'it has no reconnects');
is($stage->state, 'up', 'a hub with Redis reports "up"');
my $first = $stage->reconnects;
is($first, 0, 'it has no reconnects yet');
is_deeply(prometheus(), { up => 1, reconnects => 0 }, 'Prometheus has the same figures');

$redis->must('CLIENT', 'KILL', 'TYPE', 'pubsub');
ok(wait_for(sub { $stage->reconnects == 1 && $stage->state eq 'up' }, 5), 'a reconnect is counted');
$redis->kill;
ok(wait_for(sub { $stage->state =~ /\A(?:connecting|down)\z/ }, 5), 'a killed Redis is reported');
is(prometheus()->{up}, 0, 'Prometheus reports it too');
is(scalar(grep { !/\A(?:connecting|down)\z/ } workers_say('redis')), 0, 'all workers report it');
serve_for(1);
is($stage->reconnects, 1, 'failed attempts are not counted');
$redis->start;
ok($stage->wait_up, 'Redis is up again');
is($stage->reconnects, 2, 'the reconnect is counted');
is(prometheus()->{up}, 1, 'Prometheus reports it');
is(prometheus()->{reconnects}, 2, 'Prometheus counts it too');
ok($stage->cluster->reload, 'nginx reloads');
ok($stage->cluster->wait_old_workers_gone(5), 'the old workers exit');
is($stage->state, 'up', 'the hub is connected as before');
my $page = request(port => $stage->port, path => '/status?format=html');
like($page->{body}, qr/redis/i, 'the page shows the state');
unlike(request(port => $stage->port, path => "/status$_")->{body}, qr{redis://|@{[$redis->port]}}, 'the address is not in the output')
    for '', '?format=prometheus', '?format=html';

$stage->ends_cleanly;
done_testing();

sub prometheus {
    my $text = request(port => $stage->port, path => '/status?format=prometheus')->{body};
    my ($up)         = $text =~ /^nginx_sse_redis_up\{hub="default"\} (\S+)$/m;
    my ($reconnects) = $text =~ /^nginx_sse_redis_reconnects_total\{hub="default"\} (\S+)$/m;
    return { up => $up, reconnects => $reconnects };
}

# One figure, from twenty requests that reach different workers.
sub workers_say ($key) {
    return map { $stage->status->{$key} } 1 .. 20;
}
