# Unknown channels in a hub that is connected to Redis: the response waits until the channel is in sync, so that
# no client is answered with 204 while Redis has events for it.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Client;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start;
my $known = <<'EOF_SERVER';
    location ~ ^/known/(.+)$ { sse_stream $1 split=,; sse_unknown_channel 204; sse_replay all; }
EOF_SERVER
for my $source ('pubsub', 'stream') {
    my $hub = "redis_source $source;";
    my ($one, $two) = map { SSE::RedisStage->new(redis => $redis->url, hub => $hub, server => $known) } 1, 2;
    my $channel = "news-$source";

    is(get($one, "/known/$channel")->{status}, 204, "$source: nothing is known of the channel");
    is(get($one, "/known/$channel,other")->{status}, 204, "$source: nor of two channels");
    is($one->post($channel, 'first')->{status}, 201, "$source: its first event is published");
    my $here  = $one->stream("/known/$channel");
    my $there = $two->stream("/known/$channel");
    ok($here->wait_data('first') && $there->wait_data('first'), "$source: the channel is known on both nginx instances");
    ok($two->stream("/known/$channel,other")->is_open, "$source: also together with an unknown one");
    my @many = map { SSE::HTTP->new($two->port, sub ($answer) { $two->{answers}{ $answer->{status} }++; return }) } 1 .. 20;
    $_->send(path => '/known/none-' . ($_->fileno % 5)) for @many;
    ok(wait_for(sub { ($two->{answers}{204} // 0) == 20 }, 10), "$source: many requests at once are answered");
    $_->drop for @many;

    my $subscribed = $two->status->{subscribers};
    is($subscribed, 2, "$source: requests that were answered are no subscribers");

    # A client that leaves while it waits.
    SSE::Client->new(port => $two->port, path => '/known/leaving')->reset for 1 .. 5;
    is(get($two, '/known/leaving')->{status}, 204, "$source: clients that leave do no harm");

    # While Redis is away, nobody knows.
    $redis->kill;
    ok(wait_for(sub { $two->state ne "up" }, 15), "$source: Redis goes away");
    my $open = SSE::Client->new(port => $two->port, path => '/known/nobody-knows');
    ok($open->wait_open, "$source: a stream is opened meanwhile");
    $redis->start;
    $_->wait_up for $one, $two;
    is(get($two, '/known/another')->{status}, 204, "$source: afterwards, nothing is known again");
    $two->cluster->allow(qr/redis/i);
    $one->cluster->allow(qr/redis/i);
    ok($two->cluster->reload, "$source: nginx reloads");
    is(get($two, '/known/another')->{status}, 204, "$source: and still nothing is known");
    $_->close for $here, $there, $open;
    $_->ends_cleanly for $one, $two;
}
done_testing();

sub get ($stage, $path) {
    return request(port => $stage->port, path => $path) // {};
}
