# Runs that finish while nginx reloads, hands the subscription over, and is killed: without Redis, with both sources, with
# Redis Cluster whose slot is migrated, and with Sentinel whose master is killed. Every client
# has each event once and in order, and no response has two runs.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Client;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisCluster;
use SSE::RedisStage;
use SSE::Sentinels;
use SSE::Stage;

my $RUNS   = 9;
my $server = 'location ~ ^/run/(.+)$ { sse_publish $1 finish; }';
my @config = (http => 'sse_drain 200ms;', workers => 2);
my %stages = (
    alone    => sub { SSE::Stage->new(@config, server => "$server location ~ ^/on/(.+)\$ { sse_stream \$1; }", http => 'sse_drain 200ms; sse_retry 50ms; sse_hub default { history 1000; }') },
    pubsub   => sub { with_redis(SSE::Redis->start) },
    stream   => sub { with_redis(SSE::Redis->start(notify => 'Kt'), 'redis_source stream;') },
    cluster  => sub { with_redis(SSE::RedisCluster->start(appendonly => 1)) },
    sentinel => sub { with_redis(SSE::Sentinels->start(appendonly => 1)) },
);
# What happens to Redis in the middle of a run, just before it is finished.
my $key  = 'sse:{sse}:clock';
my %fail = (
    cluster => sub ($redis) {
        ok($redis->migrate($key, $redis->other_master($redis->owner($key))), 'cluster: the slot is migrated to another node');
    },
    sentinel => sub ($redis) { $redis->kill_master },
);
# The node to which nginx is connected.
my %node = (
    pubsub   => sub ($redis) { $redis },
    stream   => sub ($redis) { $redis },
    cluster  => sub ($redis) { $redis->owner($key) },
    sentinel => sub ($redis) { $redis->master },
);
for my $name (sort keys %stages) {
    my ($stage, $redis) = $stages{$name}->();
    my $nginx = $stage->cluster;
    $nginx->allow(qr/redis/i) if $redis;
    my @clients = map { client($stage) } 1 .. 6;
    ok(wait_for(sub { !grep { $_->{client}{last_event_id} eq '' } @clients }, 15), "$name: clients are connected");
    my @expected;
    for my $run (1 .. $RUNS) {
        my @events = map { "$run.$_" } 1 .. 3;
        push @expected, @events;
        ok(accepted($stage, '/to/a', $_), "$name: event $_") for @events[0, 1];
        kill 'HUP', $nginx->pid if $run % 4 == 1;
        $fail{$name}->($redis) if $fail{$name} && $run == 4;
        ok(accepted($stage, '/run/a?finish=1', $events[2]), "$name: run $run is finished");
        # In turn the process that holds the subscription, if that is known, and another one.
        my $holder = $redis && $run == 3 && $stage->holder($node{$name}->($redis));
        $nginx->kill_worker($holder || ($nginx->workers)[0]) if $run % 4 == 3;
    }
    my $is_complete = sub ($client) { return ($client->{log}[-1] // ['', ''])->[1] eq $expected[-1] };
    my $have_all    = wait_for(sub {
        # A client that has returned before the next run got the answer that nothing is to come.
        $_->reopen for grep { $_->{state} eq 'failed' && $_->{status} == 204 } map { $_->{client} } grep { !$is_complete->($_) } @clients;
        return !grep { !$is_complete->($_) } @clients;
    }, 30);
    ok($have_all, "$name: every client has the last event");
    for my $client (@clients) {
        my @log = @{ $client->{log} };
        is(join(' ', map { $_->[1] } @log), "@expected", "$name: all events arrive once and in order");
        my (%runs, @glued);
        for (@log) {
            my ($opening, $run) = ($_->[0], $_->[1] =~ /\A(\d+)/);
            push @glued, $_->[1] if ($runs{$opening} //= $run) != $run;
        }
        is("@glued", '', "$name: no response has events of two runs");
    }
    ok(wait_for(sub { (request(port => $stage->port, path => '/on/a', timeout => 3) // {})->{status} == 204 }, 15),
        "$name: at the end, the channel is finished");
    $_->{client}->close for @clients;
    $stage->ends_cleanly;
}
done_testing();

sub with_redis ($redis, $hub = '') {
    return (SSE::RedisStage->new(@config, redis => $redis->url, hub => "history 1000; $hub", server => $server), $redis);
}

# A client that keeps its events with the number of the response.
sub client ($stage) {
    my %this = (log => []);
    $this{client} = SSE::Client->new(
        port             => $stage->port,
        path             => '/on/a',
        reconnect        => 1,
        reconnect_within => 0.1,
        on_event         => sub ($event) {
            push @{ $this{log} }, [$this{client}{openings}, $event->{data}] if $event->{type} eq 'message';
            return;
        },
    );
    return \%this;
}

# Publishes until it is accepted. A repetition takes no effect.
my $number = 0;
sub accepted ($stage, $path, $data) {
    my $key = 'key ' . $number++;
    return wait_for(sub {
        my $answer = request(port => $stage->port, path => $path, body => $data, headers => ['Idempotency-Key' => $key], timeout => 5);
        return $answer && $answer->{status} == 201;
    }, 20);
}
