# The Redis stream of a channel is deleted or evicted. Its events are lost for clients that have not
# received them: streams whose connection was lost meanwhile, and clients that return to an nginx that never
# had them, receive a gap event. A new channel causes none.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $SCRIPT = SSE::Cluster::slurp("$FindBin::Bin/../lua/publish.lua");

for my $source (qw(pubsub stream)) {
    my $redis = SSE::Redis->start(notify => 'Kt');
    my %options = (redis => $redis->url, hub => "redis_source $source;");
    my $one   = SSE::RedisStage->new(%options);
    my $is_ours = $source eq 'pubsub';
    my $key   = sub ($channel) { $is_ours ? "sse:{sse}:s:$channel" : $channel };
    my $words = sub ($channel, $data) { $is_ours ? ('EVAL', $SCRIPT, 1, $key->($channel), $data) : ('XADD', $channel, '*', 'data', $data) };
    my $add   = sub ($channel, $data) { $redis->must($words->($channel, $data)) };

    my @open = map { $one->stream($_) } '/on/news', '/on/' . join ',', 'news', map { "other-$_" } 1 .. 63;
    my $calm = $one->stream('/on/calm');
    my @ids  = map { $add->('news', "event $_") } 1 .. 3;
    my $calm_id = $add->('calm', 'calm');
    ok($_->wait_data('event 3'), "$source: events arrive") for @open;
    ok($calm->wait_data('calm'), "$source: events arrive on another channel");

    # During a lost connection an event is added, the Redis stream is deleted, and a new one begins.
    $redis->must('MULTI');
    $redis->must(@$_) for ['CLIENT', 'KILL', 'TYPE', 'pubsub'], ['CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes'],
        [$words->('news', 'lost')], ['DEL', $key->('news')], [$words->('news', 'next')];
    $redis->must('EXEC');
    ok($_->wait_data('next'), 'events after the loss arrive') for @open;
    is(scalar($_->events('sse.gap')), 1, 'after a gap event') for @open;
    $add->('calm', 'calm 2');
    ok($calm->wait_data('calm 2'), 'the other channel continues');
    is(scalar($calm->events('sse.gap')), 0, 'without a gap event');

    # An nginx that never had the lost events.
    my $two  = SSE::RedisStage->new(%options);
    for my $id (@ids) {
        my $back = $two->stream('/on/news', last_event_id => $id);
        like(join('|', $two->got($back, 'next')), qr/\Asse\.gap [^|]*\|next\z/, 'a client that returns to another nginx receives a gap event');
    }
    my $quiet = $two->stream('/on/calm', last_event_id => $calm_id);
    is_deeply([$two->got($quiet, 'calm 2')], ['calm 2'], 'not on a channel that has lost nothing');
    if ($is_ours) {
        # Evicted instead of deleted.
        $redis->must('CONFIG', 'SET', 'maxmemory-policy', 'volatile-lru');
        my ($had) = $add->('evicted', 'had');
        $add->('evicted', 'lost');
        $redis->must('CONFIG', 'SET', 'maxmemory', 1);
        $redis->command('SET', 'more', 'x');
        ok(!$redis->must('EXISTS', $key->('evicted')), 'a stream is evicted');
        $redis->must('CONFIG', 'SET', 'maxmemory', 0);
        $add->('evicted', 'next');
        my $back = $two->stream('/on/evicted', last_event_id => $had);
        like(join('|', $two->got($back, 'next')), qr/\Asse\.gap [^|]*\|next\z/, 'a returning client receives a gap event');
        # A channel with its first event.
        $add->('new', 'first');
        my $first = $two->stream('/on/new', last_event_id => $had);
        is_deeply([$two->got($first, 'first')], ['first'], 'a new channel has lost nothing');
    }
    $_->ends_cleanly for $one, $two;
}
done_testing();
