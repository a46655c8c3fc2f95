# What the status tells of Redis: whether it is there, and how often it was joined again.

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

is($stage->status('alone')->{redis}, 'off', 'a hub without Redis is not joined');
is($stage->status('alone')->{redis_reconnects}, 0, 'nor ever was');
is($stage->state, 'up', 'one with Redis is');
my $first = $stage->reconnects;
is($first, 0, 'and was not joined again yet');
is_deeply(prometheus(), { up => 1, reconnects => 0 }, 'Prometheus is told the same');

$redis->must('CLIENT', 'KILL', 'TYPE', 'pubsub');
ok(wait_for(sub { $stage->reconnects == 1 && $stage->state eq 'up' }, 5), 'a connection that breaks is counted when it is back');
$redis->kill;
ok(wait_for(sub { $stage->state =~ /\A(?:connecting|down)\z/ }, 5), 'a Redis that is gone is seen');
is(prometheus()->{up}, 0, 'by Prometheus too');
is(scalar(grep { !/\A(?:connecting|down)\z/ } workers_say('redis')), 0, 'all workers say so');
serve_for(1);
is($stage->reconnects, 1, 'tries are not counted');
$redis->start;
ok($stage->wait_up, 'it is back');
is($stage->reconnects, 2, 'which is counted');
is(prometheus()->{up}, 1, 'by Prometheus');
is(prometheus()->{reconnects}, 2, 'too');
ok($stage->cluster->reload, 'nginx reloads');
ok($stage->cluster->wait_old_workers_gone(5), 'and the old workers go');
is($stage->state, 'up', 'the hub is joined as before');
my $page = request(port => $stage->port, path => '/status?format=html');
like($page->{body}, qr/redis/i, 'the page shows it');
unlike(request(port => $stage->port, path => "/status$_")->{body}, qr{redis://|@{[$redis->port]}}, 'where it is nobody is told')
    for '', '?format=prometheus', '?format=html';

$stage->ends_cleanly;
done_testing();

sub prometheus {
    my $text = request(port => $stage->port, path => '/status?format=prometheus')->{body};
    my ($up)         = $text =~ /^nginx_sse_redis_up\{hub="default"\} (\S+)$/m;
    my ($reconnects) = $text =~ /^nginx_sse_redis_reconnects_total\{hub="default"\} (\S+)$/m;
    return { up => $up, reconnects => $reconnects };
}

# What the workers say of one figure, as far as twenty requests meet them.
sub workers_say ($key) {
    return map { $stage->status->{$key} } 1 .. 20;
}
