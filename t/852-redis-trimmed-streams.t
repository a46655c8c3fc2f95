# redis_source stream: entries that are trimmed or deleted before nginx has read them cause a gap event.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my %removed = (
    'trimmed by the next XADD' =>
        'redis.call("XADD", KEYS[1], "*", "data", "lost") redis.call("XADD", KEYS[1], "MAXLEN", 1, "*", "data", "next")',
    'deleted between two others' =>
        'redis.call("XADD", KEYS[1], "*", "data", "one") local id = redis.call("XADD", KEYS[1], "*", "data", "lost")
         redis.call("XADD", KEYS[1], "*", "data", "next") redis.call("XDEL", KEYS[1], id)',
    'deleted at the end' => 'redis.call("XDEL", KEYS[1], redis.call("XADD", KEYS[1], "*", "data", "lost"))',
    'trimmed away'       => 'redis.call("XADD", KEYS[1], "*", "data", "lost") redis.call("XTRIM", KEYS[1], "MAXLEN", 0)',
);

for my $notify ('Kt', '') {
    my $how   = $notify ? 'with notifications' : 'without notifications';
    my $redis = SSE::Redis->start(notify => $notify);
    my $nginx = SSE::RedisStage->new(redis => $redis->url, hub => 'redis_source stream;', workers => 1);
    my %client;
    my $number = 0;
    for my $what (sort keys %removed) {
        my $key = 'log-' . $number++;
        $client{$what} = [$key, $nginx->stream("/on/$key")];
    }
    my $idle = $nginx->stream('/on/' . join ',', map { "idle-$_" } 1 .. 60);

    for my $what (sort keys %removed) {
        my ($key, $client) = $client{$what}->@*;
        # Entries that are removed after they were read cause no gap event.
        for my $read (1 .. 3) {
            $redis->must('XADD', $key, 'MAXLEN', 2, '*', 'data', "read $read");
            ok($client->wait_data("read $read"), "$what, $how: entry $read arrives");
        }
        $redis->must('XTRIM', $key, 'MAXLEN', 0);
        $redis->must('XADD', $key, 'MAXLEN', 1, '*', 'data', 'after');
        ok($client->wait_data('after'), 'so does one after the stream was emptied');
        is(scalar($client->events('sse.gap')), 0, 'without a gap event');
    }
    for my $what (sort keys %removed) {
        my ($key, $client) = $client{$what}->@*;
        $redis->must('EVAL', $removed{$what}, 1, $key);
        ok(wait_for(sub { $client->events('sse.gap') }, 20), "an entry that is $what causes a gap event");
        ok($client->wait_data('next'), 'the next entry arrives') if $removed{$what} =~ /"next"/;
        $redis->must('XADD', $key, '*', 'data', 'last');
        ok($client->wait_data('last'), 'the stream continues');
        is(scalar(grep { $_ eq 'lost' } $client->data), 0, 'without the removed entry');
        is(scalar($client->events('sse.gap')), 1, 'and with one gap event');
    }
    is(scalar($idle->events('sse.gap')), 0, 'other channels receive none');

    # Removed while nginx is not connected.
    my ($key, $client) = $client{'deleted at the end'}->@*;
    $redis->must('EVAL', $removed{'deleted between two others'}, 1, $key);
    ok($client->wait_data('next'), 'an entry between two others is deleted while nginx is connected');
    ok(wait_for(sub { $client->events('sse.gap') == 2 }, 20), 'which causes a gap event');
    $redis->must('MULTI');
    $redis->must('CLIENT', 'KILL', 'TYPE', $_, 'SKIPME', 'yes') for qw(normal pubsub);
    $redis->must('EVAL', $removed{'deleted between two others'} =~ s/next/back/r, 1, $key);
    $redis->must('EXEC');
    ok($client->wait_data('back'), 'entries added while nginx is not connected arrive');
    ok(wait_for(sub { $client->events('sse.gap') == 3 }, 20), 'with a gap event for the deleted one');
    $nginx->ends_cleanly;
}
done_testing();
