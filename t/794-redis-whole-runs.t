# Whole runs in a hub that is connected to Redis: every nginx sends a new client the run from its first event,
# although the history is shorter, and never a part of it.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Client;
use SSE::HTTP qw(request);
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $server = <<'EOF_SERVER';
    location ~ ^/run/(.+)$    { sse_publish $1 finish; }
    location ~ ^/whole/(.+)$  { sse_stream $1 split=,; sse_replay run; }
    location ~ ^/kept/(.+)$   { sse_stream $1; sse_replay run; sse_finished replay; }
    location ~ ^/lean/(.+)$   { sse_stream $1; sse_replay run; sse_lean on; }
    location = /admin         { sse_admin; }
EOF_SERVER
my @run = map { "word $_" } 1 .. 300;
for my $source ('pubsub', 'stream') {
    my $redis = SSE::Redis->start(notify => 'Kt', appendonly => 1);
    my $hub   = "redis_source $source; history 2 1s; runs 1000 1h;";
    my $stage = sub { return SSE::RedisStage->new(redis => $redis->url, hub => $hub, server => $server) };
    my ($one, $two) = map { $stage->() } 1, 2;
    my $key = sub ($channel) { return $source eq 'pubsub' ? "sse:{sse}:s:$channel" : $channel };

    # Longer and older than the history, on an nginx that has none of it.
    $one->batch('long', @run);
    my $live = $one->stream('/whole/long');
    ok($live->wait_data('word 300'), "$source: a new client receives the run");
    ok(wait_for(sub { age($redis, $key->('long')) > 1_000 }, 10), "$source: it is older than the history");
    for my $path ('/whole/long', '/lean/long') {
        my $other = open_stream($two, $path);
        ok($other->wait_data('word 300'), "$source: $path on another nginx, too");
        is_deeply([$other->data], \@run, "$source: all of it once, in order");
        $other->close;
    }
    cmp_ok($redis->must('XLEN', $key->('long')), '>=', 300, "$source: Redis keeps it");
    finish($two, 'long', 'last');
    ok(wait_for(sub { @{ $live->{ends} } }, 10), "$source: its end is received");
    is_deeply([$live->data], [@run, 'last'], "$source: after everything");
    is(get($_, '/whole/long')->{status}, 204, "$source: then a new client is answered with 204") for $one, $two;
    $two->publish('long', 'of the next run');
    for my $any ($one, $two, my $three = $stage->()) {
        my $next = open_stream($any, '/whole/long');
        ok($next->wait_data('of the next run'), "$source: the next run begins");
        is_deeply([$next->data], ['of the next run'], "$source: with its own first event");
        $next->close;
        $any->ends_cleanly if $any == $three;
    }

    # Without its beginning.
    $one->batch('cut', 1 .. 5);
    open_stream($one, '/whole/cut')->wait_data(5);
    $redis->must('XTRIM', $key->('cut'), 'MAXLEN', 3);
    is(get($two, '/whole/cut')->{status}, 410, "$source: a run that Redis has trimmed is answered with 410");
    is(get($two, '/whole/long,cut')->{status}, 410, "$source: also together with one that is complete");
    my $whole = open_stream($one, '/whole/cut');
    ok($whole->wait_data(5), "$source: an nginx that has all of it sends it");
    is_deeply([$whole->data], [1 .. 5], "$source: from the beginning");
    $whole->close;
    $two->publish('cut', 6);
    is(get($two, '/whole/cut')->{status}, 410, "$source: more events do not make it complete");
    is($two->status->{incomplete_runs}, 3, "$source: the status counts the requests");
    finish($one, 'cut');
    $one->publish('cut', 'next');
    my $next = open_stream($two, '/whole/cut');
    ok($next->wait_data('next'), "$source: the next run is sent");
    is_deeply([$next->data], ['next'], "$source: and nothing else");
    $next->close;

    # Deleted by an administrator.
    $one->batch('deleted', 1 .. 3);
    $_->close for map { open_stream($_, '/whole/deleted') } $one, $two;
    request(port => $one->port, path => '/admin?channel=deleted&only=history', method => 'DELETE');
    $one->publish('deleted', 4);
    ok(wait_for(sub { (get($_, '/whole/deleted')->{status} // 0) == 410 }, 10), "$source: so is a run whose events were deleted")
        for $one, $two, my $new = $stage->();
    $new->ends_cleanly;

    # Lost by Redis.
    $one->batch('lost', 1 .. 3);
    $redis->must('DEL', $key->('lost'));
    $one->publish('lost', 4);
    is(get($two, '/whole/lost')->{status}, 410, 'pubsub: a run that was evicted is not taken for a new one')
        if $source eq 'pubsub';

    # Reload, and the death of the process that holds the subscription.
    $one->batch('lives', @run);
    $_->close for my $before = open_stream($one, '/whole/lives');
    $one->cluster->reload;
    my $reloaded = open_stream($one, '/whole/lives');
    ok($reloaded->wait_data('word 300'), "$source: a run survives a reload");
    $one->cluster->kill_worker($one->holder($redis));
    my $killed = open_stream($one, '/whole/lives');
    $one->wait_up;
    ok($killed->wait_data('word 300'), "$source: and the death of a worker");
    is_deeply([$_->data], \@run, "$source: complete") for $reloaded, $killed;
    $_->close for $reloaded, $killed;

    # Redis is away. What the run is at the moment is not known, so nothing of it is sent.
    $one->batch('away', 1 .. 3);
    $_->close for map { open_stream($_, '/whole/away') } $one, $two;
    $redis->kill;
    $_->cluster->allow(qr/redis/i) for $one, $two;
    ok(wait_for(sub { $two->state eq 'down' }, 15), "$source: Redis is away");
    my $early = open_stream($two, '/whole/away');
    ok($early->is_open, "$source: a stream opens");
    serve_for(0.3);
    is_deeply([$early->data], [], "$source: and waits");
    $redis->start;
    $_->wait_up for $one, $two;
    $one->publish('away', 4);
    ok($early->wait_data(4), "$source: when Redis is back, it continues");
    is_deeply([$early->data], [1 .. 4], "$source: with the whole run");
    $early->close;
    if ($source eq 'pubsub') {
        numbers($redis, $one, $two);
    } else {
        by_applications($redis, $one, $two);
    }
    $_->ends_cleanly for $one, $two;
}
done_testing();

# The numbers in Redis, and entries of scripts that did not number them.
sub numbers ($redis, $one, $two) {
    my $key    = 'sse:{sse}:s:numbered';
    my $script = SSE::Cluster::slurp("$FindBin::Bin/../lua/publish.lua");
    my @call   = ('EVAL', $script, 1, $key);
    $one->batch('numbered', 'a', 'b');
    $redis->must(@call, 'c', 'type');
    finish($one, 'numbered', 'd');
    $redis->must(@call, 'e');
    my @numbers = map { my %fields = @{ $_->[1] }; $fields{run} // 'none' } @{ $redis->must('XRANGE', $key, '-', '+') };
    is_deeply(\@numbers, [0 .. 3, 'none', 0], 'each entry has its number in its run, and a finish has none');
    my @first = @{ $redis->must('XRANGE', $key, '-', '+', 'COUNT', 1)->[0][1] };
    is_deeply([@first[0, 2, 4, 5]], ['data', 'prev', 'run', 0], 'behind the fields that earlier versions read');

    # As an nginx or a publisher of an earlier version would.
    $redis->must('HSET', 'sse:{sse}:history', 'runs', 0);
    $redis->must(@call, 'f');
    $redis->must('HSET', 'sse:{sse}:history', 'runs', 1000);
    $redis->must(@call, 'g');
    is_deeply([map { scalar grep { $_ eq 'run' } @{ $_->[1] } } @{ $redis->must('XREVRANGE', $key, '+', '-', 'COUNT', 2) }],
        [0, 0], 'behind an entry without a number there is none');
    $redis->must('XTRIM', $key, 'MAXLEN', 2);
    is(get($two, '/whole/numbered')->{status}, 410, 'where such a run begins is not known');
    $redis->must(@call, '', '', '', 'finish');
    $redis->must(@call, 'h');
    my $client = open_stream($two, '/whole/numbered');
    ok($client->wait_data('h'), 'until the next one');
    is_deeply([$client->data], ['h'], 'which is sent');
    $client->close;
    return;
}

# Streams that applications write have no numbers: a run begins after a finish, or with the stream.
sub by_applications ($redis, $one, $two) {
    $redis->must('XADD', 'app', '*', 'data', $_) for 1 .. 3;
    my $client = open_stream($one, '/whole/app');
    ok($client->wait_data(3), 'the run of a new stream begins with its first entry');
    is_deeply([$client->data], [1 .. 3], 'and is sent');
    $redis->must('XADD', 'app', '*', 'sse.finish', '1');
    ok(wait_for(sub { @{ $client->{ends} } }, 10), 'an application finishes it');
    $redis->must('XADD', 'app', '*', 'data', $_) for 4 .. 6;
    for my $stage ($one, $two) {
        my $next = open_stream($stage, '/whole/app');
        ok($next->wait_data(6), 'the next run begins after the finish');
        is_deeply([$next->data], [4 .. 6], 'and is sent');
        $next->close;
    }
    return;
}

sub finish ($stage, $channel, $data = '') {
    my $answer = request(port => $stage->port, path => "/run/$channel?finish=1", body => $data);
    is($answer->{status}, 201, "$channel is finished") if !$answer || $answer->{status} != 201;
    return;
}

# The response to a request that is not answered with a stream; without a body if it is.
sub get ($stage, $path) {
    my $client = SSE::Client->new(port => $stage->port, path => $path);
    wait_for(sub { $client->{status} || @{ $client->{ends} } }, 10);
    my $status = $client->{status};
    $client->close;
    return { status => $status };
}

sub open_stream ($stage, $path) {
    my $client = SSE::Client->new(port => $stage->port, path => $path);
    $client->wait_open or diag("$path did not open: $client->{state} " . ($client->{status} // '-'));
    return $client;
}

# How old the newest entry of a stream is, by Redis' clock, in ms.
sub age ($redis, $key) {
    my ($ms) = $redis->must('XREVRANGE', $key, '+', '-', 'COUNT', 1)->[0][0] =~ /^(\d+)/;
    my $time = $redis->must('TIME');
    return $time->[0] * 1000 + $time->[1] / 1000 - $ms;
}
