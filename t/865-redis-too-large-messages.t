# A message that is too large for an event is skipped without growing memory, losing the connection, or
# affecting later messages, and is logged.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::FaultProxy;
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start(config => "client-output-buffer-limit pubsub 0 0 0\n");
my $stage = SSE::RedisStage->new(redis => $redis->url, hub => 'zone 8m; max_event_size 64k;',
    server => 'location ~ ^/like/(.+)$ { sse_stream $1 pattern; }');
my $nginx = $stage->cluster;
my $size  = 12 << 20;

# A plain message, by name and by a pattern.
my $client  = $stage->stream('/on/news');
my $pattern = SSE::Client->new(port => $stage->port, path => '/like/other-*');
ok(wait_for(sub { @{ $redis->must('PUBSUB', 'CHANNELS', 'news') } && $redis->must('PUBSUB', 'NUMPAT') > 0 }), 'the channel and the pattern are subscribed');
my $memory = $nginx->private_memory;
large('PUBLISH', 'news');
$redis->publish('news', 'behind it');
ok($client->wait_data('behind it', 20), 'a message after one of 12 MB arrives');
is_deeply([$client->data], ['behind it'], 'the large message does not arrive');
large('PUBLISH', 'other-1');
$redis->publish('other-1', 'behind it');
ok($pattern->wait_data('behind it', 20), 'a message after one of 12 MB arrives on a pattern');
cmp_ok($nginx->private_memory - $memory, '<', 8 << 20, 'nginx has not grown')
    or diag($nginx->private_memory - $memory);

# A slow connection: heartbeats are answered, and a subscription is confirmed, behind the large message only,
# several times too late.
my $proxy  = SSE::FaultProxy->start(to => $redis->port);
my $slow   = SSE::RedisStage->new(redis => $proxy->url, hub => 'zone 8m; max_event_size 64k;');
my $remote = $slow->stream('/on/slow');
$proxy->rate(3 << 19);
large('PUBLISH', 'slow');
$redis->publish('slow', 'behind it');
my $joining = SSE::Client->new(port => $slow->port, path => '/on/joining');
ok(wait_for(sub { @{ $redis->must('PUBSUB', 'CHANNELS', 'joining') } }), 'another channel is subscribed to meanwhile');
$redis->publish('joining', 'behind it');
ok($_->wait_data('behind it', 60), "a message after one of 12 MB arrives over a slow connection on $_->{path}") for $remote, $joining;
$proxy->pass;
is($slow->reconnects, 0, 'the connection is not given up meanwhile');

# A durable event, live and from the history.
my ($first) = $stage->publish('news', 'before');
large_durable('news');
my ($last) = $stage->publish('news', 'after');
ok($client->wait_data('after', 20), 'an event after a durable one of 12 MB arrives');
is_deeply([$client->data], ['behind it', 'before', 'after'], 'each event arrives once and in order');
my $other = SSE::RedisStage->new(redis => $redis->url, hub => 'zone 8m; max_event_size 64k;');
$memory = $other->cluster->private_memory;
is_deeply([$other->got($other->stream('/all/news'), 'after', 20)], ['before', 'after'], 'another nginx delivers the events before and after it');
cmp_ok($other->cluster->private_memory - $memory, '<', 8 << 20, 'the other nginx has not grown');

is($_->reconnects, 0, 'no connection is closed') for $stage, $other;
is($_->state, 'up', 'the hub is connected') for $stage, $other;
for my $nginx ($stage, $other) {
    ok(scalar $nginx->cluster->wait_lines(qr/\[warn\].*of 1258\d{4} bytes.*"(?:news|other-1)".*max_event_size/), 'the log has a line about the skipped message') or diag($nginx->lines);
}

# redis_source stream, with and without keyspace notifications.
for my $flags ('Kt', '') {
    $redis->must('FLUSHALL');
    $redis->must('CONFIG', 'SET', 'notify-keyspace-events', $flags);
    my $reading = SSE::RedisStage->new(redis => $redis->url, hub => 'zone 8m; max_event_size 64k; redis_source stream;');
    my $reader  = $reading->stream('/on/log');
    $memory = $reading->cluster->private_memory;
    $redis->must('XADD', 'log', '*', 'data', 'one');
    ok($reader->wait_data('one'), "notify-keyspace-events '$flags': an entry arrives");
    large('XADD', 'log', '*', 'data');
    $redis->must('XADD', 'log', '*', 'data', 'two');
    ok($reader->wait_data('two', 20), 'an entry after one of 12 MB arrives');
    is_deeply([$reader->data], ['one', 'two'], 'the large entry is skipped');
    is($reading->reconnects, 0, 'no connection is closed');
    cmp_ok($reading->cluster->private_memory - $memory, '<', 8 << 20, 'nginx has not grown');
    ok(scalar $reading->cluster->wait_lines(qr/\[warn\].*of 1258\d{4} bytes.*"log".*max_event_size/), 'the log has a line about the skipped message');
    $reading->ends_cleanly;
}

$_->ends_cleanly for $stage, $slow, $other;
done_testing();

# Runs a command with a large value that Redis creates itself.
sub large (@words) {
    return $redis->must('EVAL', 'local words = {unpack(ARGV, 2)} words[#words + 1] = string.rep("x", ARGV[1]) return redis.call(unpack(words))', 0, $size, @words);
}

# Publishes a large durable event by the script, with arguments that Redis creates itself.
sub large_durable ($channel) {
    my $file = "$FindBin::Bin/../lua/publish.lua";
    open my $in, '<', $file or die "$file: $!";
    my $script = do { local $/; <$in> };
    return $redis->must('EVAL', "local ARGV = {string.rep('x', ARGV[1])}\n$script", 1, "sse:{sse}:s:$channel", $size);
}
