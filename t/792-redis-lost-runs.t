# A run of which nginx has no event, because its events are too old or Redis has lost them: its channel is neither
# unknown nor finished, so no client is made to stop.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Client;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $server = <<'EOF_SERVER';
    location ~ ^/run/(.+)$   { sse_publish $1 finish; }
    location ~ ^/known/(.+)$ { sse_stream $1; sse_unknown_channel 204; }
EOF_SERVER
for my $source ('pubsub', 'stream') {
    my $redis = SSE::Redis->start(notify => 'Kt');
    my $hub   = "redis_source $source; history 10 1s;";
    my ($one, $two) = map { SSE::RedisStage->new(redis => $redis->url, hub => $hub, server => $server) } 1, 2;
    my $key = sub ($channel) { return $source eq 'pubsub' ? "sse:{sse}:s:$channel" : $channel };

    # Older than the history.
    is($one->post('old', 'begun')->{status}, 201, "$source: a run begins");
    is(status($two, '/known/never'), 204, "$source: a channel that never had an event is unknown");
    ok(wait_for(sub { age($redis, $key->('old')) > 1_000 }, 10), "$source: its events are older than the history");
    is(status($two, '/known/old'), 200, "$source: it is known on an nginx that has none of its events");
    is(status($two, '/on/old'), 200, "$source: and not finished");
    finish($one, 'old');
    ok(wait_for(sub { status($two, '/known/old') == 204 }, 10), "$source: until it is");

    # Lost by Redis.
    $one->post('lost', 'of the first run');
    finish($one, 'lost');
    is(status($two, '/on/lost'), 204, "$source: a finished channel");
    is($one->post('lost', 'of the next run')->{status}, 201, "$source: the next run begins");
    # A stream that an application deletes looks the same whether or not its last entries have been read.
    ok(wait_for(sub { status($two, '/on/lost') == 200 }, 10), "$source: which the other nginx has read") if $source eq 'stream';
    $redis->must('DEL', $key->('lost'));
    is(status($two, '/on/lost'), 200, "$source: it may be in progress after its stream was lost");
    $_->ends_cleanly for $one, $two;
}
done_testing();

sub finish ($stage, $channel) {
    return request(port => $stage->port, path => "/run/$channel?finish=1", body => '', headers => []);
}

# The status of a stream, which is then closed.
sub status ($stage, $path) {
    my $client = SSE::Client->new(port => $stage->port, path => $path);
    wait_for(sub { $client->{status} || @{ $client->{ends} } }, 10);
    my $status = $client->{status};
    $client->close;
    return $status;
}

# How old the newest entry of a stream is, by Redis' clock, in ms.
sub age ($redis, $key) {
    my ($ms) = $redis->must('XREVRANGE', $key, '+', '-', 'COUNT', 1)->[0][0] =~ /^(\d+)/;
    my $time = $redis->must('TIME');
    return $time->[0] * 1000 + $time->[1] / 1000 - $ms;
}
