# An application empties its Redis stream, a DELETE that Redis rejects deletes nothing, an invalid token
# does no harm, and more unconfirmed channels than can be looked up do not end a connection.

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
ok($client->wait_data(1), 'an entry arrives');
$redis->must('XTRIM', 'log', 'MAXLEN', 0);
for my $round (1, 2) {
    cut($redis, $nginx);
    $redis->must('XADD', 'log', '*', 'data', "after $round");
    ok($client->wait_data("after $round"), 'events arrive after the Redis stream was emptied');
    $redis->must('XTRIM', 'log', 'MAXLEN', 0);
}
is(scalar($client->events('sse.gap')), 0, 'no gap event is sent, because all entries had been read');

# DELETE of an emptied Redis stream stores a watermark; without permission to announce it, none is stored.
deny($redis);
cmp_ok(deleted($nginx, 'log'), '>=', 400, 'a DELETE that may not be announced is rejected');
is($redis->must('HGET', 'sse:{sse}:forgotten', 'log'), undef, 'no watermark is stored');
allow($redis);
is(deleted($nginx, 'log'), 200, 'a DELETE that may be announced succeeds');
my ($newest) = map { my %about = @$_; $about{'last-generated-id'} } $redis->must('XINFO', 'STREAM', 'log');
is(mark($redis), $newest, 'the watermark is the last id of the emptied stream');
$nginx->ends_cleanly;

# With redis_source pubsub.
my $other  = SSE::Redis->start;
my $hub    = SSE::RedisStage->new(redis => $other->url, workers => 1, %like);
my $reader = $hub->stream('/on/room');
$hub->publish('room', 'kept');
deny($other);
cmp_ok(deleted($hub, 'room'), '>=', 400, 'a DELETE that may not be announced is rejected');
is($other->must('EXISTS', 'sse:{sse}:s:room'), 1, 'nothing is deleted');
allow($other);
ok($hub->wait_up, 'the hub is connected');

$other->must('HSET', 'sse:{sse}:history', 'token', "a b\nc");
$other->must('EVAL', SSE::Cluster::slurp("$FindBin::Bin/../lua/publish.lua"), 1, 'sse:{sse}:s:room', 'intact');
ok($reader->wait_data('intact'), 'a message is complete while the token is invalid');
is(scalar(grep { /sse a b/ } $reader->data), 0, 'no part of the token reaches a client');

my $like   = $hub->stream('/like/r%2A');
my $before = $hub->reconnects;
$other->must('EVAL', 'for i = 1, 10600 do redis.call("PUBLISH", "r" .. i, "\1sse - 99999999999999-0 0-0 0\nforged") end', 0);
ok(wait_for(sub { $like->events('sse.gap') }, 20), 'with more unconfirmed channels than can be looked up, a gap event is sent');
$other->publish('r', 'goes on');
ok($like->wait_data('goes on'), 'the stream continues');
is($hub->reconnects, $before, 'on the same connection to Redis');
my @said = $hub->cluster->wait_lines(qr/messages without the secret/);
is(scalar @said, 1, 'the error log has one line about it') or diag(@said);
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
