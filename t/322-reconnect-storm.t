# Many clients that reconnect at once, because the worker of all of them was killed: each continues right after its
# last event, and Redis is asked once for a channel and not once for a client.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Client;
use SSE::Loop qw(wait_for);
use SSE::Publisher;
use SSE::Redis;
use SSE::RedisStage;

my $CLIENTS  = 600;
my @CHANNELS = qw(a b c);

my $redis = SSE::Redis->start;
my $stage = SSE::RedisStage->new(redis => $redis->url, workers => 1, hub => 'history 5000;', connections => 4096,
    main => 'worker_rlimit_nofile 8192;', listen => ' backlog=4096', http => 'sse_lean on;');
my $nginx = $stage->cluster;
my @clients = map {
    SSE::Client->new(port => $stage->port, path => '/on/' . $CHANNELS[$_ % @CHANNELS], reconnect => 1, reconnect_within => 0)
} 1 .. $CLIENTS;
ok(wait_for(sub { !grep { $_->{last_event_id} eq '' } @clients }, 30), "$CLIENTS clients are connected");
my %writers = map { ($_ => SSE::Publisher->new(port => $stage->port, path => "/to/$_")) } @CHANNELS;
for my $channel (@CHANNELS) {
    $writers{$channel}->stream(10, sub ($number) { "$channel $number" });
}
ok(wait_for(sub { !grep { $_->accepted < 5 } values %writers }), 'events are published');

my $before = reads();
for my $round (1 .. 3) {
    my ($worker) = $nginx->workers;
    ok($nginx->kill_worker($worker), 'the worker of all clients is killed');
    ok(wait_for(sub { !grep { $_->{openings} <= $round } @clients }, 30), 'all clients have reconnected');
}
my $reads = reads() - $before;
cmp_ok($reads, '<', $CLIENTS / 4, "Redis was asked for events $reads times, not for each of " . 3 * $CLIENTS . ' returning clients');

$_->stop for values %writers;
ok(wait_for(sub { !grep { !$_->is_idle } values %writers }, 20), 'every publish receives a response');
my %all = map { my $channel = $_; ($channel => [map { $_->{data} } $writers{$channel}->accepted]) } @CHANNELS;
wait_for(sub { !grep { $_->data < @{ $all{channel_of($_)} } } @clients }, 30);
is(scalar(grep { join(',', $_->data) ne join(',', @{ $all{channel_of($_)} }) } @clients), 0, 'every client receives every event once and in order');
is(scalar(map { $_->events('sse.gap') } @clients), 0, 'no gap event is sent');
$stage->ends_cleanly;
done_testing();

sub channel_of ($client) { return substr $client->{path}, -1 }

# How often entries of Redis streams were read.
sub reads {
    my $sum = 0;
    for my $line (split /\r\n/, $redis->must('INFO', 'commandstats')) {
        $sum += $1 if $line =~ /\Acmdstat_(?:xrange|xrevrange|xread):calls=(\d+)/;
    }
    return $sum;
}
