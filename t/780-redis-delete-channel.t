# DELETE in a hub with Redis: a channel is deleted in Redis and on every nginx and does not reappear. Events
# that are published afterwards remain. Nothing is deleted while Redis is not reachable.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::FaultProxy;
use SSE::HTTP qw(request);
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis  = SSE::Redis->start;
my $proxy  = SSE::FaultProxy->start(to => $redis->port);
my %like   = (server => 'location /admin { sse_admin; } location ~ ^/like/(.+)$ { sse_stream $1 pattern; sse_replay all; }',
    http => 'sse_drain 100ms;');
my ($one, $two) = map { SSE::RedisStage->new(redis => $_->url, %like) } $redis, $proxy;
my @both   = ($one, $two);

# Two nginx instances that have the channel in memory.
my @open = map { ($_->stream('/on/room', reconnect => 1), $_->stream('/like/r%2A', reconnect => 1)) } @both;
my @ids  = $one->publish('room', 1 .. 5);
$redis->publish('room', 'plain');
ok($_->wait_data('plain'), 'a channel has events') for @open;
is_deeply(deleted($one, 'room', '&only=history'), [200, 0, 6], 'its history is deleted');
is($redis->must('EXISTS', 'sse:{sse}:s:room'), 0, 'its stream in Redis is deleted');
$two->publish('room', 'after');
for my $nginx (@both) {
    is_deeply([replayed($nginx, 'room', 'after')], ['after'], 'a new client receives later events');
    is_deeply([replayed($nginx, 'room', 'after', path => '/like/roo%2A')], ['after'], 'a new stream with a pattern receives later events');
    my $back = $nginx->stream('/on/room', last_event_id => $ids[1]);
    is_deeply([map { s/ .*//r } $nginx->got($back, 'after')], ['sse.gap', 'after'], 'a returning client receives a gap event');
}
ok($_->wait_data('after'), 'open streams continue') for @open;
is(scalar(grep { $_->{openings} != 1 } @open), 0, 'they are not ended');
my $third = SSE::RedisStage->new(redis => $redis->url, %like);
is_deeply([replayed($third, 'room', 'after')], ['after'], 'another nginx has no more than that');
$third->ends_cleanly;

# Streams of this nginx can be ended too.
@open = map { $_->stream('/on/room', reconnect => 1) } @both;
is_deeply(deleted($one, 'room'), [200, 1, 1], 'a channel is deleted with its streams');
ok(wait_for(sub { $open[0]{openings} == 2 }), 'the clients reconnect');

# Events that are published after the response remain, whoever publishes them.
for my $i (1 .. 15) {
    $both[ $i % 2 ]->publish('room', "a$i");
    $redis->publish('room', "p$i");
    is(deleted($one, 'room', '&only=history')->[0], 200, 'the channel is deleted') if $i == 1;
    deleted($one, 'room', '&only=history') if $i > 1;
    $redis->publish('room', "q$i");
    $both[ $i % 2 ]->publish('room', "b$i");
    my @seen = map { [replayed($_, 'room', "b$i")] } @both;
    is_deeply(\@seen, [["q$i", "b$i"], ["q$i", "b$i"]], "round $i: earlier events are deleted, later ones remain")
        or diag(map { 'connections lost: ' . $_->reconnects . "\n" . $_->cluster->error_log } @both);
}

# Channels that are only in Redis, or nowhere.
$redis->must('EVAL', SSE::Cluster::slurp("$FindBin::Bin/../lua/publish.lua"), 1, 'sse:{sse}:s:far', 'x');
is_deeply(deleted($one, 'far'), [200, 0, 1], 'a channel that is only in Redis is deleted there');
is(deleted($one, 'far')->[0],    404, 'a channel that does not exist is not found');
$redis->must('SET', 'sse:{sse}:s:odd', 'x');
deleted($one, 'odd');
is($redis->must('EXISTS', 'sse:{sse}:s:odd'), 0, 'a key of another type is deleted too');
$redis->must('CONFIG', 'SET', 'maxmemory', 1);
is(deleted($one, 'room', '&only=history')->[0], 200, 'also when Redis is out of memory');
$redis->must('CONFIG', 'SET', 'maxmemory', 0);

# Forged messages.
$one->publish('room', 'stays');
$redis->publish('sse:{sse}:ctl', "\x01sse $_ forget 99999999999999-0\nroom") for '-', '', '0' x 32;
$one->publish('room', 'end');
is_deeply([replayed($_, 'room', 'end')], ['stays', 'end'], 'a client that may only PUBLISH cannot delete') for @both;

# An nginx that was disconnected.
my @away = $two->publish('room', 'seen there');
$redis->publish('room', 'heard there');
replayed($two, 'room', 'heard there');
$proxy->black_hole;
is(deleted($one, 'room', '&only=history')->[0], 200, 'a channel is deleted while another nginx is disconnected');
like(deleted($two, 'room')->[0], qr/\A50[34]\z/, 'the disconnected nginx cannot delete');
$proxy->cut;
$proxy->pass;
ok($two->wait_up(20), 'it reconnects');
my $back = $two->stream('/on/room', last_event_id => $away[0]);
$two->publish('room', 'now');
is_deeply([map { s/ .*//r } $two->got($back, 'now')], ['sse.gap', 'now'], 'deleted events do not reappear, and a gap event is sent');
is_deeply([replayed($two, 'room', 'now')], ['now'], 'new clients do not receive deleted events either');

# Redis is not reachable.
$one->publish('room', 'kept');
$redis->pause;
my $answer = deleted($one, 'room');
like($answer->[0], qr/\A50[34]\z/, "while Redis does not answer a DELETE is answered $answer->[0]");
$redis->resume;
ok($one->wait_up, 'Redis replies again');
$one->publish('room', 'kept');
ok(wait_for(sub { listed($one, 'room')->{events} }), 'the event is received');
$redis->kill;
ok(wait_for(sub { $one->state ne 'up' }, 10), 'Redis is unreachable');
like(deleted($one, 'room')->[0], qr/\A50[34]\z/, 'DELETE reports that Redis could not be asked');
# A worker that has not used its connection since then cannot know that nothing was sent: 504.
ok(wait_for(sub { deleted($one, 'room')->[0] == 503 }, 10), 'with status 503 once the worker knows that its connection is gone');
ok(listed($one, 'room')->{events}, 'nothing is deleted');
is(deleted($one, 'room', '&only=streams')->[0], 200, 'streams can still be ended');
$redis->start;
ok($_->wait_up(20), 'Redis is reachable again') for @both;

# A reload, and a killed holder of the subscription.
for my $i (1 .. 4) {
    $one->publish('room', "before $i");
    kill 'HUP', $one->cluster->pid if $i != 3;
    $one->cluster->kill_worker($one->holder($redis)) if $i == 3;
    # A busy machine may not answer in time.
    ok(wait_for(sub { deleted($two, 'room', '&only=history')->[0] == 200 }), 'the channel is deleted');
    $two->publish('room', "after $i");
    # A killed holder leaves the state "up" behind.
    $one->holder($redis) && $one->wait_up;
    is_deeply([replayed($_, 'room', "after $i")], ["after $i"], 'earlier events are deleted') for @both;
    $one->cluster->wait_old_workers_gone(8);
}
$_->ends_cleanly for @both;

# With redis_source stream the Redis stream of the application is not changed.
my %stream = (hub => 'redis_source stream;', server => 'location /admin { sse_admin; }');
@both = map { SSE::RedisStage->new(redis => $redis->url(1), %stream) } 1, 2;
($one, $two) = @both;
my $app = $redis->connect;
$app->call('SELECT', 1);
my $add = sub (@data) { return map { $app->call('XADD', 'log', '*', data => $_) } @data };
my ($first) = $add->(1 .. 4);
is_deeply([replayed($_, 'log', 4)], [1 .. 4], 'a stream of the application') for @both;
is_deeply(deleted($one, 'log', '&only=history'), [200, 0, 4], 'is deleted in the hub');
is($app->call('XLEN', 'log'), 4, 'it still exists in Redis');
$add->('new');
is_deeply([replayed($_, 'log', 'new')], ['new'], 'earlier events are no longer delivered') for @both;
$third = SSE::RedisStage->new(redis => $redis->url(1), %stream);
is_deeply([replayed($third, 'log', 'new')], ['new'], 'another nginx does not deliver them either');
my $resumed = $third->stream('/on/log', last_event_id => $first);
is_deeply([map { s/ .*//r } $third->got($resumed, 'new')], ['sse.gap', 'new'], 'a returning client receives a gap event');
$app->call('DEL', 'log');
my ($ms) = split /-/, $first;
$app->call('XADD', 'log', $ms - 10 + $_ . '-0', data => "low $_") for 5, 6;
my $fourth = SSE::RedisStage->new(redis => $redis->url(1), %stream);
is_deeply([replayed($fourth, 'log', 'low 6')], ['low 5', 'low 6'], 'a Redis stream that starts over with lower ids is delivered completely');

$_->ends_cleanly for @both, $third, $fourth;
done_testing();

sub deleted ($nginx, $channel, $rest = '') {
    my $answer = request(port => $nginx->port, path => "/admin?channel=$channel$rest", method => 'DELETE', timeout => 10);
    return ['none'] if !$answer;
    return [$answer->{status}, $answer->{status} == 200 ? @{ $answer->{json} }{qw(streams events)} : ()];
}

# What an nginx lists of a channel; nothing if it does not answer.
sub listed ($nginx, $channel) {
    my $answer = request(port => $nginx->port, path => "/admin?channel=$channel");
    return $answer && $answer->{json} ? $answer->{json} : {};
}

# All data that a new client receives up to this event.
sub replayed ($nginx, $channel, $last, %options) {
    my $client = $nginx->stream($options{path} // "/all/$channel", reconnect => 1);
    my @got    = $nginx->got($client, $last);
    $client->close;
    return @got;
}
