# An application empties its stream, a DELETE that Redis refuses deletes nothing, a token that is none does no
# harm, and more doubtful channels than can be looked up at a time end no connection.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my %admin = (server => 'location /admin { sse_admin; }');
my %like  = (server => $admin{server} . ' location ~ ^/like/(.+)$ { sse_stream $1 pattern; }');
my $redis = SSE::Redis->start(notify => 'Kt');
my $nginx = SSE::RedisStage->new(redis => $redis->url, hub => 'redis_source stream;', workers => 1, %admin);
my $client = $nginx->stream('/on/log');
my $first = $redis->must('XADD', 'log', '*', 'data', 1);
ok($client->wait_data(1), 'an entry comes');
$redis->must('XTRIM', 'log', 'MAXLEN', 0);
for my $round (1, 2) {
    cut($redis, $nginx);
    $redis->must('XADD', 'log', '*', 'data', "after $round");
    ok($client->wait_data("after $round"), 'the stream goes on after it was emptied');
    $redis->must('XTRIM', 'log', 'MAXLEN', 0);
}
is(scalar($client->events('sse.gap')), 0, 'without a gap: everything had been read');

# A DELETE of an emptied stream leaves a watermark; one that may not be told leaves none.
deny($redis);
cmp_ok(deleted($nginx, 'log'), '>=', 400, 'a DELETE that may not be told is refused');
is($redis->must('HGET', 'sse:{sse}:forgotten', 'log'), undef, 'and leaves no watermark');
allow($redis);
is(deleted($nginx, 'log'), 200, 'one that may be told is done');
my ($newest) = map { my %about = @$_; $about{'last-generated-id'} } $redis->must('XINFO', 'STREAM', 'log');
is(mark($redis), $newest, 'up to the last id that the emptied stream has had');
$nginx->ends_cleanly;

# With redis_source pubsub.
my $other  = SSE::Redis->start;
my $hub    = SSE::RedisStage->new(redis => $other->url, workers => 1, %like);
my $reader = $hub->stream('/on/room');
$hub->publish('room', 'kept');
deny($other);
cmp_ok(deleted($hub, 'room'), '>=', 400, 'a DELETE that may not be told is refused');
is($other->must('EXISTS', 'sse:{sse}:s:room'), 1, 'and deletes nothing');
allow($other);
ok($hub->wait_up, 'the hub is joined');

$other->must('HSET', 'sse:{sse}:history', 'token', "a b\nc");
$other->must('EVAL', SSE::Cluster::slurp("$FindBin::Bin/../lua/publish.lua"), 1, 'sse:{sse}:s:room', 'intact');
ok($reader->wait_data('intact'), 'a message is whole while something else stands in the place of the token');
is(scalar(grep { /sse a b/ } $reader->data), 0, 'nothing of which reaches a client');

my $like   = $hub->stream('/like/r%2A');
my $before = $hub->reconnects;
$other->must('EVAL', 'for i = 1, 10600 do redis.call("PUBLISH", "r" .. i, "\1sse - 99999999999999-0 0-0 0\nforged") end', 0);
ok(wait_for(sub { $like->events('sse.gap') }, 20), 'more doubtful channels than can be looked up: a gap is told');
$other->publish('r', 'goes on');
ok($like->wait_data('goes on'), 'and the stream goes on');
is($hub->reconnects, $before, 'on the same connection');
my @said = $hub->cluster->wait_lines(qr/messages without the secret/);
is(scalar @said, 1, 'the error log says it once') or diag(@said);
$hub->ends_cleanly;
done_testing();

sub deleted ($stage, $channel) {
    my $answer = request(port => $stage->port, path => "/admin?channel=$channel&only=history", method => 'DELETE', timeout => 10);
    return $answer ? $answer->{status} : 0;
}

sub mark ($server) { return $server->must('HGET', 'sse:{sse}:forgotten', 'log') }

sub deny ($server) { return $server->must('ACL', 'SETUSER', 'default', 'resetchannels', '&room', '&r*', '&__key*') }

sub allow ($server) { return $server->must('ACL', 'SETUSER', 'default', 'allchannels') }

sub cut ($server, $stage) {
    my $was = $stage->reconnects;
    $server->must('CLIENT', 'KILL', 'TYPE', $_, 'SKIPME', 'yes') for qw(normal pubsub);
    wait_for(sub { $stage->reconnects > $was && $stage->state eq 'up' });
    return;
}
