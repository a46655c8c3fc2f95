# A worker that hangs and is killed while another hands its subscription over: its streams are not counted for good,
# whichever process notices the death first.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start;
my $stage = SSE::RedisStage->new(redis => $redis->url, workers => 3, http => 'sse_drain 100ms;');
my $nginx = $stage->cluster;

my $holder  = $stage->holder($redis);
my @streams = map { $stage->stream('/on/news') } 1 .. 24;
my ($hung)  = grep { $_ != $holder } map { $_->worker } @streams;
my $inside  = grep { $_->worker == $hung } @streams;
cmp_ok($inside, '>', 0, "a worker that does not hold the subscription has $inside streams");

# With a Redis that does not answer nobody can take over, and the holder looks every few milliseconds whether
# there still is somebody who could.
$nginx->pause($hung);
$redis->pause;
kill 'HUP', $nginx->pid;
ok(wait_for(sub { grep { $_ == $holder } $nginx->old_workers }, 10), 'the holder is to quit');
serve_for(0.3);
$nginx->allow(qr/\[alert\] .*worker process $hung exited on signal 9/);
kill 'KILL', $hung;
ok(wait_for(sub { !grep { $_ == $hung } $nginx->children }, 10), 'the worker that hangs is killed meanwhile');
$redis->resume;
ok(wait_for(sub { $stage->status->{subscribers} == 0 }, 15), 'no stream is left')
    or diag($stage->status->{subscribers} . ' are counted');
ok($stage->wait_up, 'the subscription is back');

$stage->ends_cleanly;
done_testing();
