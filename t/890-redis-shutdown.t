# nginx exits, reloads, and stays small whatever Redis does: while it is stopped, while publishers wait for
# it, behind a connection that forwards nothing, and after many broken connections.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::FaultProxy;
use SSE::HTTP;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start;
my $proxy = SSE::FaultProxy->start(to => $redis->port);
my @nginx = map { SSE::RedisStage->new(redis => $_->url, hub => 'zone 8m;', http => 'sse_drain 300ms;') } $redis, $redis, $proxy, $redis;
my ($quick, $polite, $behind, $steady) = @nginx;
$_->stream('/on/news', reconnect => 1) for @nginx, @nginx;
$_->publish('news', 'at first') for @nginx;

# Many broken connections.
my ($worker) = grep { $_ == $steady->holder($redis) } $steady->cluster->workers;
break_connections() for 1 .. 5;
ok($steady->wait_up, 'a hub reconnects');
my $descriptors = $steady->cluster->descriptors($worker);
my $memory      = $steady->cluster->private_memory;
break_connections() for 1 .. 60;
ok($steady->wait_up, 'it reconnects after sixty more broken connections');
$steady->publish('news', 'an event arrives afterwards');
cmp_ok($steady->cluster->descriptors($worker), '<=', $descriptors + 2, 'the worker has no more file descriptors than before');
cmp_ok($steady->cluster->private_memory - $memory, '<', 4 << 20, 'the worker has no more memory than before');
$descriptors = $steady->cluster->descriptors($steady->cluster->pid);
ok($steady->cluster->reload, 'nginx reloads');
ok($steady->cluster->wait_old_workers_gone(5), 'the old workers exit');
ok(wait_for(sub { $steady->cluster->descriptors($steady->cluster->pid) == $descriptors }), 'the master has no more file descriptors than before');

# Redis is stopped while publishers wait.
$redis->pause;
$proxy->black_hole;
my @answers;
my @waiting = map { my $nginx = $_; map { wait_at($nginx) } 1 .. 4 } @nginx;
serve_for(0.2);
kill 'HUP', $_->cluster->pid for $steady, $behind;
ok($_->cluster->wait_old_workers_gone(8), 'old workers exit on a reload while Redis is stopped') for $steady, $behind;
kill 'QUIT', $_->cluster->pid for $polite, $behind;
kill 'TERM', $quick->cluster->pid;
ok(wait_for(sub { $quick->cluster->is_gone }, 5), 'nginx exits on TERM');
ok(wait_for(sub { $_->cluster->is_gone }, 10), 'nginx exits on QUIT') for $polite, $behind;
ok(wait_for(sub { @answers == 16 }, 5), 'no publisher waits any longer');
my %answered;
$answered{ $_->[0]->port }{ $_->[1] }++ for @answers;
is(($answered{ $steady->port }{503} // 0) + ($answered{ $steady->port }{504} // 0), 4, 'a publisher of a reloading nginx receives a response');

# Redis continues.
$redis->resume;
ok($steady->wait_up, 'nginx connects when Redis continues');
my $client = $steady->stream('/on/news');
$steady->publish('news', 'again');
ok($client->wait_data('again'), 'events arrive');

$_->ends_cleanly for @nginx;
done_testing();

sub break_connections {
    $redis->must('CLIENT', 'KILL', 'TYPE', 'pubsub');
    $redis->must('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    $steady->post('news', 'x');
    serve_for(0.03);
    return;
}

sub wait_at ($nginx) {
    my $connection = SSE::HTTP->new($nginx->port, sub ($answer) { push @answers, [$nginx, $answer ? $answer->{status} : 'none']; return });
    $connection->send(path => '/to/news', body => 'waits', headers => ['Idempotency-Key' => 'waits']);
    return $connection;
}
