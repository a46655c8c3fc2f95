# Runs that finish, in a hub that is connected to Redis: over HTTP, with the script and the function, by an entry
# of an application's stream, and by an administrator. Every nginx ends its streams, also one that was away.

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
    location ~ ^/run/(.+)$    { sse_publish $1 finish; }
    location ~ ^/replay/(.+)$ { sse_stream $1; sse_replay all; sse_finished replay; }
    location = /admin         { sse_admin; }
EOF_SERVER
for my $source ('pubsub', 'stream') {
    my $redis = SSE::Redis->start(notify => 'Kt');
    my @nginx = map { SSE::RedisStage->new(redis => $redis->url, hub => "redis_source $source;", server => $server) } 1, 2;
    my ($one, $two) = @nginx;

    # Over HTTP.
    my @clients = map { $_->stream('/on/a') } @nginx;
    $one->publish('a', 'first');
    my $answer = finish($one, 'a', 'last');
    is($answer->{status}, 201, "$source: a run is finished");
    is_deeply([scalar @{ $answer->{json}{ids} }, !!$answer->{json}{finished}], [1, !!1], "$source: with the id of its last event");
    $two->publish('a', 'of the next run');
    for my $client (@clients) {
        ok(wait_for(sub { @{ $client->{ends} } }, 10), "$source: its stream ends");
        is_deeply([[$client->data], $client->{ends}[0]{how}], [['first', 'last'], 'clean'], "$source: cleanly, after the last event");
    }
    my $next = $two->stream('/on/a', last_event_id => $answer->{json}{ids}[0]);
    ok($next->wait_data('of the next run'), "$source: a client continues with the next run");
    is(finish($two, 'a', '')->{status}, 201, "$source: which is finished without an event");
    ok(wait_for(sub { @{ $next->{ends} } }, 10), "$source: so that its stream ends");
    is(finish($one, 'a', '')->{status}, 201, "$source: it can be finished again");
    for my $stage (@nginx) {
        is(get($stage, '/on/a')->{status}, 204, "$source: a new client is answered with 204");
        is(get($stage, '/on/a', 'Last-Event-ID' => $next->{last_event_id})->{status}, 204, "$source: and one that has everything");
    }
    is_deeply([ended($two, '/replay/a')], ['of the next run', 'clean'], "$source: the finished run can be replayed");

    # A repetition with its key.
    my @key = ('Idempotency-Key' => 'k');
    is(finish($one, 'b', 'once', @key)->{status}, 201, "$source: a run is finished with a key");
    $one->publish('b', 'next');
    is(finish($two, 'b', 'once', @key)->{status}, 201, "$source: again");
    my $open = $two->stream('/replay/b');
    ok($open->wait_data('next') && !grep({ $_ eq 'once' } $open->data), "$source: the next run is not ended");
    $open->close;

    # An administrator.
    my %keys  = map { $_ => 1 } @{ $redis->must('KEYS', '*:k:1:b:*') };
    my $admin = request(port => $one->port, path => '/admin?channel=b&only=run', method => 'DELETE');
    is($admin->{status}, 200, "$source: an administrator finishes a run");
    # With a key, the command can be repeated after the connection was lost without ending the next run.
    is(scalar(grep { !$keys{$_} } @{ $redis->must('KEYS', '*:k:1:b:*') }), 1, "$source: the command has a key");
    ok(wait_for(sub { (get($two, "/on/b")->{status} // 0) == 204 }, 10), "$source: on every nginx");

    # Other clients of Redis.
    my $watching = $one->stream('/on/c');
    if ($source eq 'pubsub') {
        my $key = 'sse:{sse}:s:c';
        like($redis->must('EVAL', script(), 1, $key, 'by script', '', '', 'last'), qr/\A\d+-\d+\z/, 'the script publishes the last event');
        ok(wait_for(sub { @{ $watching->{ends} } }, 10), 'and the stream ends');
        is_deeply([$watching->data], ['by script'], 'after it');
        is($redis->must('EVAL', script(), 1, $key, '', '', '', 'finish'), 'OK', 'the script finishes a finished run');
        is($redis->must('XLEN', $key), 2, 'which adds nothing');
        for my $case (['x', '', '', 'finish'], ['', 'x', '', 'finish'], ['x', '', '', 'first'], ['x', '', '', 'last', 'more']) {
            is(ref $redis->command('EVAL', script(), 1, $key, @$case), 'SSE::RESP::Error', "the script rejects @$case");
        }
        SKIP: {
            skip 'Redis before 7.0 has no functions', 1 if SSE::Redis::version() < 7000;
            $redis->must('FUNCTION', 'LOAD', slurp('sse.lua'));
            $redis->must('FCALL', 'sse_publish', 1, $key, 'another');
            is($redis->must('FCALL', 'sse_finish', 1, $key), 'OK', 'the function finishes a run');
            is($redis->must('FCALL', 'sse_finish', 1, $key, 'key'), 'OK', 'with a key');
            ok(wait_for(sub { (get($two, '/on/c')->{status} // 0) == 204 }, 10), 'on every nginx');
        }
    } else {
        $redis->must('XADD', 'c', '*', 'data', 'by an application', 'finish', '1');
        ok($watching->wait_data('by an application') && $watching->is_open, 'the field finish is an application\'s own');
        $redis->must('XADD', 'c', '*', 'sse.finish', '1');
        ok(wait_for(sub { @{ $watching->{ends} } }, 10), 'an entry with the field sse.finish finishes the run');
        is_deeply([$watching->data], ['by an application'], 'and is no event');
    }

    # An nginx that was away, and one that starts.
    my $late = $two->stream('/on/d');
    $one->publish('d', 'before');
    $late->wait_data('before');
    $redis->must('CLIENT', 'KILL', 'TYPE', 'pubsub');
    finish($one, 'd', 'missed');
    $one->publish('d', 'next');
    ok(wait_for(sub { @{ $late->{ends} } }, 15), "$source: a finish that was missed ends the stream");
    is_deeply([$late->data], ['before', 'missed'], "$source: where it belongs");
    finish($one, 'd', 'done');
    ok($two->cluster->reload, "$source: nginx reloads");
    is(get($two, '/on/d')->{status}, 204, "$source: the channel is finished after a reload");
    $two->cluster->quit;
    $two->cluster->start;
    $two->wait_up;
    is(get($two, '/on/d')->{status}, 204, "$source: and after a restart");
    is_deeply([ended($two, '/replay/d')], ['next done', 'clean'], "$source: with its newest run");
    $_->cluster->allow(qr/redis/i) for @nginx;
    $_->ends_cleanly for @nginx;
}
done_testing();

sub finish ($stage, $channel, $data, @headers) {
    return request(port => $stage->port, path => "/run/$channel?finish=1", body => $data, headers => \@headers) // {};
}

sub get ($stage, $path, @headers) {
    return request(port => $stage->port, path => $path, headers => \@headers, timeout => 3) // {};
}

sub ended ($stage, $path) {
    my $client = SSE::Client->new(port => $stage->port, path => $path);
    wait_for(sub { @{ $client->{ends} } }, 10);
    $client->close;
    return (join(' ', $client->data), $client->{ends}[0]{how});
}

sub slurp ($name) {
    open my $file, '<', "$FindBin::Bin/../lua/$name" or die "$name: $!";
    local $/ = undef;
    return scalar <$file>;
}

sub script { return slurp('publish.lua') }
