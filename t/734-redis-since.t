# sse_since in hubs that are connected to Redis: durable events by the clock of Redis, on every nginx, and plain
# messages by the time at which they arrived.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Time::HiRes qw(time);
use SSE::FakeClock;
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $pattern = 'location ~ ^/like/(.+)$ { sse_stream $1* pattern; }';
my $redis = SSE::Redis->start(notify => 'Kt');
my @nginx = map { stage() } 1 .. 2;

# Durable events, published on either nginx, and read on the other and by a program.
my @ids = map { $nginx[$_ % 2]->post('news', "durable $_")->{json}{id} =~ s/-.*//r } 1 .. 4;
pause(), push @ids, $nginx[0]->post('news', 'durable 5')->{json}{id} =~ s/-.*//r;
for my $here (@nginx) {
    begins($here, '/on/news', $ids[0], [map { "durable $_" } 1 .. 5], 'from the time in the id of the first event: all');
    begins($here, '/on/news', $ids[4], ['durable 5'], 'from that of the last event: that event');
    begins($here, '/on/news', $ids[4] + 1, ['sse.open'], 'from after that: none');
}

# Plain messages have no id: all have the mark of the durable event before them.
my $keeper = $nginx[0]->stream('/on/plain');
$redis->must('PUBLISH', 'plain', 'early');
ok($keeper->wait_data('early'), 'a plain message arrives');
pause();
my $between = int(time() * 1000);
pause();
$redis->must('PUBLISH', 'plain', 'late');
ok($keeper->wait_data('late'), 'and another');
my ($early, $late) = map { my $data = $_; grep { $_->{data} eq $data } @{ $keeper->{events} } } 'early', 'late';
is($early->{id} =~ s/-\d+\z//r, $late->{id} =~ s/-\d+\z//r, 'both with the same mark');
begins($nginx[0], '/on/plain', $between, ['late'], 'only what came after a time is given');

# Both on one channel, and channels that a pattern matches.
my $both = $nginx[0]->stream('/like/both');
$nginx[0]->post('both1', 'd1');
$redis->must('PUBLISH', 'both2', 'p1');
ok($both->wait_data('p1') && $both->wait_data('d1'), 'a durable event and a plain message reach a pattern');
pause();
$between = int(time() * 1000);
pause();
$nginx[1]->post('both2', 'd2');
$redis->must('PUBLISH', 'both1', 'p2');
ok($both->wait_data('p2') && $both->wait_data('d2'), 'and again');
my $matching = $nginx[0]->SUPER_stream("/like/both?since=$between");
ok(wait_for(sub { ($matching->data) >= 2 }), 'a stream of the pattern opens');
is_deeply([sort $matching->data], ['d2', 'p2'], '... with what came after a time');
$matching->close;
$_->close for $keeper, $both;

# What Redis has deleted.
my @gone = map { pause(); $nginx[0]->post('gone', "gone $_")->{json}{id} } 1 .. 3;
my @ms   = map { s/-.*//r } @gone;
$redis->must('XDEL', 'sse:{sse}:s:gone', @gone[0, 1]);
$redis->must('XTRIM', 'sse:{sse}:s:gone', 'MAXLEN', 1);
begins($nginx[1], '/on/gone', $ms[1], ['sse.gap', 'gone 3'], 'a gap event comes first if something from the time on is lost');
begins($nginx[1], '/on/gone', $ms[1] + 1, ['gone 3'], 'and none if it was published before');

# Redis is away, and comes back with events that were published elsewhere in the meantime.
my $open  = $nginx[0]->stream('/on/away');
my $start = int(time() * 1000);
$nginx[0]->post('away', 'before');
ok($open->wait_data('before'), 'an event before an outage');
for my $stage (@nginx) { $stage->cluster->reload }
begins($nginx[0], '/on/away', $start, ['before'], 'a time is valid after a reload');
$nginx[1]->cluster->kill_worker($_) for $nginx[1]->cluster->workers;
begins($nginx[1], '/on/away', $start, ['before'], 'and after the death of all workers');
$open->close;

# nginx on a machine whose clock is 20 minutes ahead, or behind.
for my $offset (1200, -1200) {
    my $clock = SSE::FakeClock->new;
    my $wrong = $clock->in(sub { stage() });
    $clock->set($offset);
    my $id = $nginx[0]->post("clock$offset", 'one')->{json}{id} =~ s/-.*//r;
    pause();
    my $next = $nginx[0]->post("clock$offset", 'two')->{json}{id} =~ s/-.*//r;
    begins($wrong, "/on/clock$offset", $id, ['one', 'two'], "with a clock of $offset s: the clock of Redis counts");
    begins($wrong, "/on/clock$offset", $next, ['two'], '... from each time on');
    my $live = $wrong->SUPER_stream("/on/clock$offset?since=" . ($next + 1));
    ok(wait_for(sub { @{ $live->{events} } }), '... a stream from now on opens');
    $nginx[0]->post("clock$offset", 'three');
    ok($live->wait_data('three'), '... and receives new events');
    $live->close;
    $wrong->ends_cleanly;
}

# Streams that applications write.
my $streams = SSE::RedisStage->new(redis => $redis->url, hub => 'redis_source stream; history 100;', server => 'sse_since $arg_since;');
my @entries = map { pause(); $redis->must('XADD', 'stream-a', '*', 'data', "a$_") } 1 .. 3;
my ($first, $second, $third) = map { s/-.*//r } @entries;
begins($streams, '/on/stream-a', $second, ['a2', 'a3'], 'redis_source stream: entries from the time in their ids on');
begins($streams, '/on/stream-a', $third + 1, ['sse.open'], '... or none');
my $a = $streams->stream('/on/stream-a');
# An entry of another stream with a lower id than the newest here.
my $other = $redis->must('XADD', 'stream-b', $first . '-0', 'data', 'b1');
begins($streams, '/on/stream-b', $first, ['b1'], '... of each stream');
begins($streams, '/on/stream-b', $second, ['sse.open'], '... by its own time');
$a->close;

$_->ends_cleanly for @nginx, $streams;
done_testing();

sub stage () {
    return SSE::RedisStage->new(redis => $redis->url, hub => 'history 100;', server => "sse_since \$arg_since; $pattern");
}

sub pause () { select undef, undef, undef, 0.02; return }

# Checks what a new client receives first from a time on: the types of the module's own events, and the data of others.
sub begins ($stage, $path, $time, $expected, $name) {
    my $client = $stage->SUPER_stream("$path?since=$time");
    wait_for(sub { @{ $client->{events} } >= @$expected });
    my @seen = map { $_->{type} eq 'message' ? $_->{data} : $_->{type} } @{ $client->{events} };
    $client->close;
    return is_deeply(\@seen, $expected, $name);
}

# RedisStage waits for an id, which a stream that resumes gets only with an event.
sub SSE::RedisStage::SUPER_stream ($self, $path) { return SSE::Stage::stream($self, $path) }
