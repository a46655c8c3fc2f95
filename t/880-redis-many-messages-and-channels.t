# Large amounts: a flood of plain messages, of which none is lost and which does not grow memory, and ten
# thousand channels, which are subscribed again soon after Redis was not reachable.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use List::Util qw(max);
use Time::HiRes qw(time);
use SSE::Cluster;
use SSE::HTTP qw(request);
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start;
my $stage = SSE::RedisStage->new(redis => $redis->url, hub => 'zone 64m; history 200000;', server => 'location = /file { return 200 "here"; }');
my $nginx = $stage->cluster;

# A flood.
my ($count, $wrong) = (0, 0);
my $client = $stage->stream('/on/news', on_event => sub ($event) {
    return if $event->{type} ne 'message';
    $wrong++ if $event->{data} ne numbered(++$count);
    return;
});
my $holder = $stage->holder($redis);
my $memory = $nginx->private_memory;
my $writer = $redis->connect;
my $since  = time();
$writer->send(['PUBLISH', 'news', numbered($_)]) for 1 .. 100_000;
my $without = SSE::Cluster->start(workers => 1, server => 'location = /file { return 200 "here"; }');
my ($longest, $probe) = (0, 0);
while ($count < 100_000 && time() < $since + 40) {
    my $asked = time();
    serve_for(0.01);
    my $answer = request(port => $stage->port, path => '/file');
    $longest = max($longest, time() - $asked) if $answer->{header}{'x-worker'}[0] != $holder;
    $asked = time();
    serve_for(0.01);
    request(port => $without->port, path => '/file');
    $probe = max($probe, time() - $asked);
}
is($count, 100_000, sprintf '100,000 messages arrive (%.1f s)', time() - $since);
is($wrong, 0, 'each message arrives once and in order');
ok(!$writer->pending, 'Redis accepted all messages');
cmp_ok($nginx->private_memory - $memory, '<', 16 << 20, 'nginx has not grown');
cmp_ok($longest, '<', 10 * $probe, sprintf 'the other worker responds meanwhile (longest %.3f s, an idle nginx %.3f s)', $longest, $probe);
$without->ends_cleanly;
$client->close;

# Ten thousand channels.
my @clients = map { my $from = $_ * 63; SSE::Client->new(port => $stage->port, path => '/on/' . join ',', map { "c$_" } $from .. $from + 62) } 0 .. 158;
ok(wait_for(sub { !grep { $_->{last_event_id} eq '' } @clients }, 20), 'streams of ten thousand channels open');
my $all = 159 * 63;
ok(wait_for(sub { subscribed() >= $all }, 10), "$all channels are subscribed");
$redis->kill;
$redis->start;
ok(wait_for(sub { subscribed() >= $all }, 10), 'they are subscribed again after a restart of Redis');
$redis->connect->flood(map { ['PUBLISH', "c$_", "to $_"] } 0 .. $all - 1);
ok(wait_for(sub { !grep { $_->data < 63 } @clients }, 20), 'messages of all channels arrive');
is(scalar(grep { $_->data != 63 } @clients), 0, 'each once');
is($stage->subscriptions($redis), 1, 'on one connection');

$stage->ends_cleanly;
done_testing();

sub numbered ($number) { return sprintf 'message %056d', $number }

sub subscribed { return scalar grep { /\Ac\d/ } @{ $redis->must('PUBSUB', 'CHANNELS') } }
