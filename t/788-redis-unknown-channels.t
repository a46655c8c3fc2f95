# Unknown channels in a hub that is connected to Redis: the response waits until the channel is in sync, and until all
# that Redis has sent before has arrived, so that no client is answered with 204 while Redis has events for it.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Client;
use SSE::FaultProxy;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start;
my $known = <<'EOF_SERVER';
    location ~ ^/known/(.+)$ { sse_stream $1 split=,; sse_unknown_channel 204; sse_replay all; }
    location ~ ^/done/(.+)$  { sse_stream $1; sse_finished replay; sse_replay all; }
    location ~ ^/run/(.+)$   { sse_publish $1 finish; }
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

# A publish is answered when Redis has the event, and the connection with which this nginx subscribes is late. A client
# that asks after the answer is not answered with 204, whether this nginx has asked for the channel before, or its run
# was finished; a location that has nothing to send is still answered with 204.
for my $source ('pubsub', 'stream') {
    my $busy  = SSE::Redis->start(notify => 'Kt');
    my $proxy = SSE::FaultProxy->start(to => $busy->port);
    my $hub   = "redis_source $source;";
    my $far   = SSE::RedisStage->new(redis => $proxy->url, hub => $hub, workers => 2, server => $known);
    my $near  = SSE::RedisStage->new(redis => $busy->url, hub => $hub, server => $known);
    is(get($far, "/known/$_")->{status}, 204, "$source: nothing is known of channel $_") for 'early', 'never';
    my $done = SSE::Client->new(port => $far->port, path => '/done/done');
    is(request(port => $near->port, path => '/run/done?finish=1', body => 'the end')->{status}, 201, "$source: a run is published");
    ok($done->wait_data('the end'), "$source: and received");
    ok(wait_for(sub { get($far, '/done/done', 'Last-Event-ID' => $done->{last_event_id})->{status} == 204 }),
        "$source: a client that has it is answered with 204");
    $proxy->delay(0.12);
    is($near->post($_, 'in time')->{status}, 201, "$source: an event is published on channel $_") for 'early', 'done';
    my @late = map { SSE::Client->new(port => $far->port, path => @$_, reconnect => 1) }
        ['/known/early'], ['/done/done', last_event_id => $done->{last_event_id}];
    ok(wait_for(sub { (get($far, '/known/never')->{status} // 0) == 204 }), "$source: of another one still nothing is known");
    for my $client (@late) {
        ok($client->wait_data('in time'), "$source: a client that asks then receives it") or diag(join ' ', %$client{qw(status state path)}, explain($client->{events}, $client->{ends}));
    }
    # The process that holds the subscription is stopped: nothing is known, so streams are opened. Once another process
    # has taken over, which takes 2 s, nothing is known of the channel again; on a busy machine that can come first.
    my $held = SSE::RedisStage->new(redis => $busy->url, hub => $hub, workers => 2, server => $known);
    is(get($held, '/known/never')->{status}, 204, "$source: nothing is known");
    my $takeovers = sub { scalar(() = $held->cluster->error_log =~ /took over the subscription/g) };
    my @open;
    for (1 .. 5) {
        wait_for(sub { $held->subscriptions($busy) == 1 });
        my ($holder, $before) = ($held->holder($busy), $takeovers->());
        $held->cluster->pause($holder);
        @open = map { SSE::Client->new(port => $held->port, path => '/known/never') } 1 .. 8;
        ok(wait_for(sub { grep { defined $_->{status} } @open }), "$source: while the subscription is stopped, requests are answered");
        my $is_taken_over = $takeovers->() > $before;
        is(scalar(grep { ($_->{status} // 200) != 200 } @open), 0, "$source: with a stream") if !$is_taken_over;
        $held->cluster->resume($holder);
        ok(wait_for(sub { !grep { !defined $_->{status} } @open }), "$source: afterwards, all are answered");
        last if !$is_taken_over;
        $_->close for splice @open;
    }
    ok(@open > 0, "$source: before another process took over");
    $_->close for @late, @open, $done;
    $_->cluster->allow(qr/redis/i) for $far, $held;
    $_->ends_cleanly for $far, $near, $held;
}
done_testing();

sub get ($stage, $path, @headers) {
    return request(port => $stage->port, path => $path, headers => [@headers], timeout => 2) // {};
}
