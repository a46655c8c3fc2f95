# A Redis stream starts over with lower ids: it was deleted and rewritten, restored from a backup, or
# flushed while the clock was ahead. Its events are delivered after a gap event, with and without keyspace
# notifications, live and after a new connection, and the error log has one line about it.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Time::HiRes qw(time);
use SSE::Client;
use SSE::FaultProxy;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my @PATHS = ('/on/news', '/lean/news', '/on/' . join(',', 'news', map { "other-$_" } 1 .. 63));
my $LEAN  = 'location ~ ^/lean/(.+)$ { sse_stream $1 split=,; sse_lean on; }';
my $SAID  = qr/stream of channel "news" in Redis was deleted, evicted, or restored to an older state/;

streams($_) for 'Kt', undef;
pubsub();
burst();
while_opening();
while_joining();
after_takeover();
done_testing();

sub seen ($nginx, $client, $last) { return join '|', map { s/\Asse\.gap .*/gap/r } $nginx->got($client, $last) }

sub cut ($redis) { $redis->must('CLIENT', 'KILL', 'TYPE', $_, 'SKIPME', 'yes') for qw(normal pubsub); return }

sub streams ($notify) {
    my $how   = $notify ? 'reported' : 'asked';
    my $redis = SSE::Redis->start($notify ? (notify => $notify) : ());
    my $nginx = SSE::RedisStage->new(redis => $redis->url, hub => 'redis_source stream;', server => $LEAN, workers => 2);
    my $add   = sub ($id, $data) { $redis->must('XADD', 'news', $id, 'data', $data) };
    my $other = $nginx->stream('/on/other');
    my @all   = map { $nginx->stream($_) } @PATHS;
    my $big   = int(time() * 1000) + 1_000;
    $add->("$big-0", 'old');
    ok($_->wait_data('old'), "$how: an event arrives") for @all;

    # On a live connection, with much lower ids.
    $redis->must('DEL', 'news');
    $add->("$_-0", "new $_") for 1 .. 3;
    is(seen($nginx, $_, 'new 3'), 'old|gap|new 1|new 2|new 3', 'events with lower ids arrive after a gap event') for @all;
    $add->('4-0', 'new 4');
    is(seen($nginx, $_, 'new 4'), 'old|gap|new 1|new 2|new 3|new 4', 'further events arrive without another one') for @all;
    my $back = $nginx->stream('/on/news', last_event_id => "$big-0");
    is(seen($nginx, $back, 'new 4'), 'gap|new 1|new 2|new 3|new 4', 'a client that returns with an earlier id receives the same');
    my $id = $nginx->post('news', 'posted')->{json}{id};
    ok($_->wait_data('posted'), 'a publish is delivered') for @all;

    # During a lost connection, with more events afterwards.
    $redis->must('DEL', 'news');
    cut($redis);
    $add->('2-0', 'meanwhile');
    ok($_->wait_data('meanwhile'), 'events from the time of a lost connection are delivered') for @all;
    $add->('3-0', 'afterwards');
    ok($_->wait_data('afterwards'), 'later events are delivered') for @all;
    cut($redis);
    ok(wait_for(sub { $nginx->reconnects >= 2 }), 'the hub reconnects');
    $add->('5-0', 'last');
    ok($_->wait_data('last'), 'the stream continues') for @all;
    is((grep { $_ eq 'meanwhile' || $_ eq 'afterwards' } $_->data), 2, 'each event arrives once') for @all;

    # A new worker takes over the subscription.
    ok($nginx->cluster->reload, 'a reload');
    $redis->must('DEL', 'news');
    $add->('1-0', 'after the reload');
    ok(wait_for(sub { grep { $_->{data} eq 'after the reload' } map { $_->events('message') } @all[0, 2] }), 'after a reload lower ids are delivered')
        or diag(explain([map { $_->data } @all]));
    my $fresh = $nginx->stream('/on/news', last_event_id => '5-0');
    $add->('6-0', 'end');
    ok($fresh->wait_data('end'), 'new streams receive them too');

    is(scalar($other->events('sse.gap')), 0, 'other channels receive no gap event');
    my @said = $nginx->cluster->wait_lines($SAID);
    cmp_ok(scalar @said, '<=', 4, 'the error log has at most one line for each connection') or diag(@said);
    cmp_ok(scalar @said, '>=', 1, 'the error log has at least one line');
    $nginx->ends_cleanly;
    return;
}

sub pubsub () {
    my $redis = SSE::Redis->start;
    my @nginx = map { SSE::RedisStage->new(redis => $redis->url, hub => 'history 3;', server => $LEAN) } 1, 2;
    my @all   = map { my $nginx = $_; map { [$nginx, $nginx->stream($_)] } @PATHS } @nginx;
    my $clock = 'sse:{sse}:clock';
    my $ahead = int((time() + 1800) * 1000);
    $redis->must('XADD', $clock, 'MAXLEN', 1, "$ahead-0", 't', '');
    $nginx[0]->publish('news', map { "old $_" } 1 .. 8);
    ok($_->[1]->wait_data('old 8'), 'events arrive while the clock is ahead') for @all;
    my $old = $all[0][1]{last_event_id};

    # FLUSHALL deletes the clock too, so that ids are lower than before.
    $redis->must('FLUSHALL');
    my ($id) = $nginx[0]->publish('news', 'new 1');
    cmp_ok((split /-/, $id)[0], '<', $ahead, 'after FLUSHALL ids are lower');
    $nginx[$_ % 2]->publish('news', "new $_") for 2 .. 5;
    for my $pair (@all) {
        my $seen = seen(@$pair, 'new 5');
        is($seen =~ s/\A(?:old \d\|)+//r, 'gap|new 1|new 2|new 3|new 4|new 5', 'events with lower ids arrive after a gap event');
    }
    my $back = $nginx[1]->stream('/on/news', last_event_id => $old);
    like(seen($nginx[1], $back, 'new 5'), qr/\Agap\|/, 'a client that returns with an earlier id receives a gap event');

    # FLUSHALL during a lost connection.
    $redis->must('FLUSHALL');
    cut($redis);
    $redis->must('EVAL', script(), 1, 'sse:{sse}:s:news', 'meanwhile');
    ok($_->[1]->wait_data('meanwhile'), 'events from the time of a lost connection arrive') for @all;
    $nginx[0]->publish('news', 'end');
    ok($_->[1]->wait_data('end'), 'later events arrive') for @all;
    is(scalar(grep { $_ eq 'meanwhile' || $_ eq 'end' } $_->[1]->data), 2, 'each event arrives once') for @all;
    for my $nginx (@nginx) {
        my @said = $nginx->cluster->wait_lines($SAID);
        cmp_ok(scalar @said, '>=', 1, 'the error log has a line about it');
        cmp_ok(scalar @said, '<=', 3, 'the line is logged once for each connection');
        $nginx->ends_cleanly;
    }
    return;
}

# The token is lost with everything else and recreated at once. The first message is not trusted, and the
# following ones arrive while the Redis stream is read to confirm it.
sub burst () {
    my $redis = SSE::Redis->start;
    my $proxy = SSE::FaultProxy->start(to => $redis->port);
    my $nginx = SSE::RedisStage->new(redis => $proxy->url, server => $LEAN);
    my @all   = map { $nginx->stream($_) } @PATHS;
    my $ahead = int((time() + 1800) * 1000);
    $redis->must('XADD', 'sse:{sse}:clock', 'MAXLEN', 1, "$ahead-0", 't', '');
    $nginx->publish('news', 'old 1');
    ok($_->wait_data('old 1'), 'an event arrives') for @all;
    my $token = $redis->must('HGET', 'sse:{sse}:history', 'token');
    my $back  = $all[0]{last_event_id};

    $proxy->delay(0.1);
    my @publish = ('EVAL', script(), 1, 'sse:{sse}:s:news');
    $redis->must('FLUSHALL');
    $redis->must(@publish, 'new 1');
    $redis->must('HSET', 'sse:{sse}:history', 'token', $token);
    $redis->must(@publish, "new $_") for 2 .. 5;
    is(seen($nginx, $_, 'new 5'), 'old 1|gap|new 1|new 2|new 3|new 4|new 5', 'a burst arrives after a gap event') for @all;
    like(seen($nginx, $nginx->stream('/on/news', last_event_id => $back), 'new 5'), qr/\Agap\|/, 'a client that returns with an earlier id receives a gap event');
    $proxy->pass;
    $nginx->ends_cleanly;
    return;
}

# While a connection opens, after the channel has been read. A single event, so that no later one shows that
# something is missing.
sub while_opening () {
    my ($redis, $proxy, $nginx) = stage_with_clock_ahead();
    my @all = map { $nginx->stream($_) } @PATHS;
    $nginx->publish('news', 'old');
    ok($_->wait_data('old'), 'an event arrives') for @all;
    $proxy->delay(0.2);
    my $reads = calls($redis, 'xrange');
    $proxy->cut;
    ok(wait_for(sub { calls($redis, 'xrange') > $reads }), 'a new connection reads the channel');
    flush_and_publish($redis, 'news', 'new');
    is(seen($nginx, $_, 'new'), 'old|gap|new', 'an event with a lower id that is published while a connection opens arrives after a gap event') for @all;
    $proxy->pass;
    $nginx->ends_cleanly;
    return;
}

# While a channel is being joined, after it has been read.
sub while_joining () {
    my ($redis, $proxy, $nginx) = stage_with_clock_ahead();
    $nginx->publish($_, 'old') for qw(news later);
    $proxy->delay(0.2);
    my @all = map { SSE::Client->new(port => $nginx->port, path => $_) } qw(/on/later /lean/later);
    # The subscribing connection asks for the clock's newest id with the same command.
    my $has_read = sub { grep { $_->{cmd} eq 'xrevrange' && $_->{flags} !~ /P/ } @{ $redis->client_list } };
    ok(wait_for($has_read), 'the channel is read');
    flush_and_publish($redis, 'later', 'new');
    ok($_->wait_data('new'), 'an event with a lower id that is published while its channel is joined arrives') for @all;
    $proxy->pass;
    $nginx->ends_cleanly;
    return;
}

# While the subscription is handed over, and right after that, when messages are expected that the former
# holder has delivered.
sub after_takeover () {
    my $redis = SSE::Redis->start;
    my $nginx = SSE::RedisStage->new(redis => $redis->url, server => $LEAN, workers => 2, http => 'sse_drain 100ms;');
    my @all   = map { $nginx->stream($_, reconnect => 1) } @PATHS;
    my $ahead = int((time() + 1800) * 1000);
    my @when  = (0, 0.02, 0.05, 0.1, 0.2, 'the old workers have exited');
    for my $round (0 .. $#when) {
        $redis->must('XADD', 'sse:{sse}:clock', 'MAXLEN', 1, $ahead + 1000 * $round . '-0', 't', '');
        $nginx->publish('news', "old $round");
        ok($_->wait_data("old $round"), 'an event arrives') for @all;
        kill 'HUP', $nginx->cluster->pid;
        $round < $#when ? serve_for($when[$round]) : $nginx->cluster->wait_old_workers_gone(10);
        my ($ms) = split /-/, flush_and_publish($redis, 'news', "new $round");
        # A successor that connects in between raises the clock again: then nothing is missing.
        my $gap = $ms < $ahead ? qr/(?:.*\|)?gap\|(?:.*\|)?/ : qr/(?:.*\|)?/;
        like(seen($nginx, $_, "new $round"), qr/old $round\|${gap}new $round\z/, "an event arrives, after a gap event if its id is lower ($when[$round])") for @all;
        ok($nginx->cluster->wait_old_workers_gone(10), 'the old workers have exited');
    }
    $nginx->ends_cleanly;
    return;
}

sub stage_with_clock_ahead () {
    my $redis = SSE::Redis->start;
    my $proxy = SSE::FaultProxy->start(to => $redis->port);
    my $nginx = SSE::RedisStage->new(redis => $proxy->url, server => $LEAN);
    my $ahead = int((time() + 1800) * 1000);
    $redis->must('XADD', 'sse:{sse}:clock', 'MAXLEN', 1, "$ahead-0", 't', '');
    return ($redis, $proxy, $nginx);
}

# Redis loses everything but the token, which another nginx has written again, and an event is published.
# Returns its id.
sub flush_and_publish ($redis, $channel, $data) {
    my $token = $redis->must('HGET', 'sse:{sse}:history', 'token');
    $redis->must('FLUSHALL');
    $redis->must('HSET', 'sse:{sse}:history', 'token', $token);
    return $redis->must('EVAL', script(), 1, "sse:{sse}:s:$channel", $data);
}

# How often Redis has executed a command.
sub calls ($redis, $command) { return $redis->must('INFO', 'commandstats') =~ /^cmdstat_$command:calls=(\d+)/m ? $1 : 0 }

sub script () { return SSE::Cluster::slurp("$FindBin::Bin/../lua/publish.lua") }
