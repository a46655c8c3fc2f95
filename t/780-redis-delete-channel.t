# DELETE in a hub with Redis: a channel is forgotten in Redis and on every nginx, and does not come back; what is
# published afterwards stays. While Redis is away nothing is forgotten.

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

# Both have it in memory; both forget.
my @open = map { ($_->stream('/on/room', reconnect => 1), $_->stream('/like/r%2A', reconnect => 1)) } @both;
my @ids  = $one->publish('room', 1 .. 5);
$redis->publish('room', 'plain');
ok($_->wait_data('plain'), 'a channel has events') for @open;
is_deeply(deleted($one, 'room', '&only=history'), [200, 0, 6], 'its history is deleted');
is($redis->must('EXISTS', 'sse:{sse}:s:room'), 0, 'its stream is gone from Redis');
$two->publish('room', 'after');
for my $nginx (@both) {
    is_deeply([replayed($nginx, 'room', 'after')], ['after'], 'a new client gets what came afterwards');
    is_deeply([replayed($nginx, 'room', 'after', path => '/like/roo%2A')], ['after'], 'so does one of a pattern');
    my $back = $nginx->stream('/on/room', last_event_id => $ids[1]);
    is_deeply([map { s/ .*//r } $nginx->got($back, 'after')], ['sse.gap', 'after'], 'one that comes back is told a gap');
}
ok($_->wait_data('after'), 'open streams go on') for @open;
is(scalar(grep { $_->{openings} != 1 } @open), 0, 'without an end');
my $third = SSE::RedisStage->new(redis => $redis->url, %like);
is_deeply([replayed($third, 'room', 'after')], ['after'], 'another nginx has no more');
$third->ends_cleanly;

# Streams end as well, those of this nginx.
@open = map { $_->stream('/on/room', reconnect => 1) } @both;
is_deeply(deleted($one, 'room'), [200, 1, 1], 'a channel is deleted with its streams');
ok(wait_for(sub { $open[0]{openings} == 2 }), 'which come back');

# What is published once the answer is there stays, whoever publishes it.
for my $i (1 .. 15) {
    $both[ $i % 2 ]->publish('room', "a$i");
    $redis->publish('room', "p$i");
    is(deleted($one, 'room', '&only=history')->[0], 200, 'forgotten') if $i == 1;
    deleted($one, 'room', '&only=history') if $i > 1;
    $redis->publish('room', "q$i");
    $both[ $i % 2 ]->publish('room', "b$i");
    my @seen = map { [replayed($_, 'room', "b$i")] } @both;
    is_deeply(\@seen, [["q$i", "b$i"], ["q$i", "b$i"]], "round $i: what came before is gone, what came after is there");
}

# What is not here: only in Redis, or nowhere.
$redis->must('EVAL', SSE::Cluster::slurp("$FindBin::Bin/../lua/publish.lua"), 1, 'sse:{sse}:s:far', 'x');
is_deeply(deleted($one, 'far'), [200, 0, 1], 'a channel that nobody here has heard is forgotten in Redis');
is(deleted($one, 'far')->[0],    404, 'one that is nowhere is not found');
$redis->must('SET', 'sse:{sse}:s:odd', 'x');
deleted($one, 'odd');
is($redis->must('EXISTS', 'sse:{sse}:s:odd'), 0, 'a key of another kind in its place goes, too');
$redis->must('CONFIG', 'SET', 'maxmemory', 1);
is(deleted($one, 'room', '&only=history')->[0], 200, 'also when Redis is full');
$redis->must('CONFIG', 'SET', 'maxmemory', 0);

# Forged.
$one->publish('room', 'stays');
$redis->publish('sse:{sse}:ctl', "\x01sse $_ forget 99999999999999-0\nroom") for '-', '', '0' x 32;
$one->publish('room', 'end');
is_deeply([replayed($_, 'room', 'end')], ['stays', 'end'], 'somebody who may only PUBLISH cannot forget') for @both;

# An nginx that was not connected.
my @away = $two->publish('room', 'seen there');
$redis->publish('room', 'heard there');
replayed($two, 'room', 'heard there');
$proxy->hole;
is(deleted($one, 'room', '&only=history')->[0], 200, 'a channel is deleted while another nginx is cut off');
like(deleted($two, 'room')->[0], qr/\A50[34]\z/, 'which cannot delete');
$proxy->cut;
$proxy->pass;
ok($two->wait_up(20), 'it is joined again');
my $back = $two->stream('/on/room', last_event_id => $away[0]);
$two->publish('room', 'now');
is_deeply([map { s/ .*//r } $two->got($back, 'now')], ['sse.gap', 'now'], 'what it had does not come back, and a gap is told');
is_deeply([replayed($two, 'room', 'now')], ['now'], 'nor for new clients');

# Redis is away.
$one->publish('room', 'kept');
$redis->pause;
my $answer = deleted($one, 'room');
like($answer->[0], qr/\A50[34]\z/, "while Redis does not answer a DELETE is answered $answer->[0]");
$redis->resume;
ok($one->wait_up, 'it answers again');
$one->publish('room', 'kept');
$redis->kill;
ok(wait_for(sub { $one->state ne 'up' }, 10), 'Redis is away');
like(deleted($one, 'room')->[0], qr/\A50[34]\z/, 'it cannot be asked');
is(deleted($one, 'room')->[0], 503, 'which is 503');
is(request(port => $one->port, path => '/admin?channel=room')->{json}{events} > 0, 1, 'nothing is forgotten');
is(deleted($one, 'room', '&only=streams')->[0], 200, 'streams can be ended');
$redis->start;
ok($_->wait_up(20), 'Redis is back') for @both;

# While nginx reloads, and when the process that subscribes is killed.
for my $i (1 .. 4) {
    $one->publish('room', "before $i");
    kill 'HUP', $one->cluster->pid if $i != 3;
    $one->cluster->kill_worker($one->holder($redis)) if $i == 3;
    is(deleted($two, 'room', '&only=history')->[0], 200, 'forgotten');
    $two->publish('room', "after $i");
    $one->wait_up;
    is_deeply([replayed($_, 'room', "after $i")], ["after $i"], 'what was before is gone') for @both;
    $one->cluster->wait_old_workers_gone(8);
}
$_->ends_cleanly for @both;

# With redis_source stream the application's stream is not touched.
my %stream = (hub => 'redis_source stream;', server => 'location /admin { sse_admin; }');
@both = map { SSE::RedisStage->new(redis => $redis->url(1), %stream) } 1, 2;
($one, $two) = @both;
my $app = $redis->connect;
$app->call('SELECT', 1);
my $add = sub (@data) { return map { $app->call('XADD', 'log', '*', data => $_) } @data };
my ($first) = $add->(1 .. 4);
is_deeply([replayed($_, 'log', 4)], [1 .. 4], 'a stream of the application') for @both;
is_deeply(deleted($one, 'log', '&only=history'), [200, 0, 4], 'is forgotten');
is($app->call('XLEN', 'log'), 4, 'and is still there');
$add->('new');
is_deeply([replayed($_, 'log', 'new')], ['new'], 'what came before is not delivered any more') for @both;
$third = SSE::RedisStage->new(redis => $redis->url(1), %stream);
is_deeply([replayed($third, 'log', 'new')], ['new'], 'by another nginx neither');
my $resumed = $third->stream('/on/log', last_event_id => $first);
is_deeply([map { s/ .*//r } $third->got($resumed, 'new')], ['sse.gap', 'new'], 'one that comes back is told a gap');
$app->call('DEL', 'log');
my ($ms) = split /-/, $first;
$app->call('XADD', 'log', $ms - 10 + $_ . '-0', data => "low $_") for 5, 6;
my $fourth = SSE::RedisStage->new(redis => $redis->url(1), %stream);
is_deeply([replayed($fourth, 'log', 'low 6')], ['low 5', 'low 6'], 'a stream that began anew, with lower ids, has nothing forgotten');

$_->ends_cleanly for @both, $third, $fourth;
done_testing();

sub deleted ($nginx, $channel, $rest = '') {
    my $answer = request(port => $nginx->port, path => "/admin?channel=$channel$rest", method => 'DELETE', timeout => 10);
    return ['none'] if !$answer;
    return [$answer->{status}, $answer->{status} == 200 ? @{ $answer->{json} }{qw(streams events)} : ()];
}

# All that a new client gets up to that event.
sub replayed ($nginx, $channel, $last, %options) {
    my $client = $nginx->stream($options{path} // "/all/$channel");
    my @got    = $nginx->got($client, $last);
    $client->close;
    return @got;
}
