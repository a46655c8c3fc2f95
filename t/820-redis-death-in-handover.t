# A worker that hangs and is killed during a handover of its subscription: its streams do not remain
# counted, whichever process notices its death first.

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
my @streams = $stage->streams_on_workers(2, ('/on/news') x 24);
my ($hung)  = grep { $_ != $holder } map { $_->worker } @streams;
my $inside  = grep { $_->worker == $hung } @streams;
cmp_ok($inside, '>', 0, "a worker that does not hold the subscription has $inside streams");

# While Redis does not reply, no worker can take over, and the holder checks every few milliseconds whether
# there still is a successor.
$nginx->pause($hung);
$redis->pause;
kill 'HUP', $nginx->pid;
ok(wait_for(sub { grep { $_ == $holder } $nginx->old_workers }, 10), 'the holder receives QUIT');
serve_for(0.3);
$nginx->allow(qr/\[alert\] .*worker process $hung exited on signal 9/);
kill 'KILL', $hung;
ok(wait_for(sub { !grep { $_ == $hung } $nginx->children }, 10), 'the hanging worker is killed meanwhile');
$redis->resume;
ok(wait_for(sub { $stage->status->{subscribers} == 0 }, 15), 'no stream remains counted')
    or diag($stage->status->{subscribers} . ' are counted');
ok($stage->wait_up, 'Redis is subscribed again');

$stage->ends_cleanly;
done_testing();
