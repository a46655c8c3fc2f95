# A channel whose history is large for the connection to Redis: it is read page by page and in order without
# affecting others, and a page is small compared to the zone.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Time::HiRes qw(time);
use SSE::FaultProxy;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my %source = (
    pubsub => { hub => '',                      add => sub ($stage, $redis, @data) { $stage->publish('big', @data); return } },
    stream => { hub => 'redis_source stream;',  add => sub ($stage, $redis, @data) { $redis->must('XADD', 'big', '*', 'data', $_) for @data; return } },
);

for my $name (sort keys %source) {
    my ($hub, $add) = @{ $source{$name} }{qw(hub add)};
    my $redis = SSE::Redis->start(notify => 'Kt');
    my $proxy = SSE::FaultProxy->start(to => $redis->port);
    my ($near, $far) = map { SSE::RedisStage->new(redis => $_->url, workers => 1, hub => "zone 32m; history 1000; $hub") } $redis, $proxy;
    $add->($near, $redis, map { "$_ " . 'x' x 50_000 } 1 .. 100);

    beside($near, $redis, $name, 'other', 'the first', 1);

    # 5 MB at 2 MB per second: more than the 2 seconds that a reply may take.
    my $good = $far->stream('/on/good');
    my $both = $far->stream('/on/good,other');
    $proxy->rate(2_000_000);
    my $big = SSE::Client->new(port => $far->port, path => '/all/big');
    my ($sent, %states, $new) = 0;
    my $since = time();
    while ($big->data < 100 && time() < $since + 60) {
        beside($near, $redis, $name, 'good', 'good ' . ++$sent);
        $states{ $far->state }++;
        serve_for(0.05);
        next if $sent != 10;
        $add->($near, $redis, 'live');
        $new = $far->stream('/all/new');
        beside($near, $redis, $name, 'new', 'new');
        ok($new->wait_data('new', 10), "$name: a channel that is subscribed meanwhile receives events");
    }
    ok($big->wait_data('live', 10), "$name: an event from the time of the catch-up arrives");
    is(join(' ', map { (split)[0] } $big->data), join(' ', 1 .. 100, 'live'), 'after all others, each once and in order');
    is_deeply([keys %states], ['up'], 'the hub stays connected');
    is($far->reconnects, 0, 'on one connection');
    beside($near, $redis, $name, 'good', 'last');
    for my $client ($good, $both) {
        ok($client->wait_data('last'), 'other streams continue');
        is_deeply([$client->data], [map({ "good $_" } 1 .. $sent), 'last'], 'they have lost nothing');
    }

    # Open streams miss just as much while Redis is not reachable.
    $proxy->refuse;
    $proxy->cut;
    ok(wait_for(sub { $far->state ne 'up' }), "$name: the connection is lost");
    $add->($near, $redis, map { "$_ " . 'y' x 50_000 } 101 .. 200);
    beside($near, $redis, $name, 'other', 'missed', 1);
    $proxy->rate(2_000_000);
    ok($both->wait_data('missed', 30), 'afterwards a small channel catches up');
    cmp_ok(scalar $big->data, '<', 201, 'before the large one');
    ok($far->wait_up, 'the hub is connected');
    my $reconnects = $far->reconnects;
    $add->($near, $redis, 'live again');
    ok($big->wait_data('live again', 60), 'the large channel catches up');
    is(join(' ', map { (split)[0] } $big->data), join(' ', 1 .. 100, 'live', 101 .. 200, 'live'), 'each event arrives once and in order');
    is($far->reconnects, $reconnects, 'without another reconnect');
    is(scalar $_->events('sse.gap'), 0, 'no gap event is sent') for $good, $both, $big;
    $proxy->pass;
    $_->ends_cleanly for $near, $far;
}

# Missed events of several streams keep their ids, although each has more than a page.
my $plain = SSE::Redis->start;
my $proxy = SSE::FaultProxy->start(to => $plain->port);
my ($near, $far) = map { SSE::RedisStage->new(redis => $_->url, workers => 1, hub => 'history 2000;') } $plain, $proxy;
my @three = map { $near->batch("many-$_", 'first'); $far->stream("/on/many-$_") } 1 .. 3;
$proxy->refuse;
$proxy->cut;
ok(wait_for(sub { $far->state ne 'up' }), 'the connection is lost');
for my $round (1 .. 3) {
    $near->batch("many-$_", map { "$round.$_" } 1 .. 200) for 1 .. 3;
}
$proxy->pass;
ok(wait_for(sub { !grep { $_->data < 600 } @three }, 20), 'three streams receive 600 missed events') or diag(join ' ', map { scalar $_->data } @three);
is(scalar(grep { $_->{id} !~ /\A\d+-\d+\z/ } map { $_->events('message') } @three), 0, 'with the ids of Redis');
$_->ends_cleanly for $near, $far;

# The size of a page.
my $redis = SSE::Redis->start;
my $small = SSE::RedisStage->new(redis => $redis->url, workers => 1, hub => 'zone 8m; max_event_size 128k; history 2000;');
$redis->must('HSET', 'sse:{sse}:history', 'count', 2000);
my $script = do { local (@ARGV, $/) = "$FindBin::Bin/../lua/publish.lua"; <> };
$redis->must('EVAL', "local ARGV = {string.rep('x', 100000)}\n$script", 1, 'sse:{sse}:s:much') for 1 .. 300;
my $last   = ($small->publish('much', 'last'))[0];
my $memory = $small->cluster->private_memory;
my $most   = 0;
my $client = $small->stream('/all/much');
ok(wait_for(sub { my $now = $small->cluster->private_memory; $most = $now if $now > $most; return grep { $_ eq 'last' } $client->data }, 30),
    'of 30 MB in Redis, a zone of 8 MB has the newest');
cmp_ok($most - $memory, '<', 16 << 20, 'the worker has not grown by more than that') or diag($most - $memory);
cmp_ok(scalar $client->data, '>', 10, 'there are events');
$small->ends_cleanly;
done_testing();

# Publishes on another channel, by the method of the source.
sub beside ($near, $redis, $source, $channel, $data, $durable = 0) {
    return $redis->must('XADD', $channel, '*', 'data', $data) if $source eq 'stream';
    return $durable ? $near->publish($channel, $data) : $redis->publish($channel, $data);
}
