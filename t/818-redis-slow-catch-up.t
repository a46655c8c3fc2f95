# A channel takes long to catch up with Redis. Streams of this channel alone, and of others, go on. A stream of
# several channels waits for it, so that a client that moves to another nginx meanwhile, whatever it has
# received last, has every event of all its channels exactly once.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::FaultProxy;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $script = SSE::Cluster::slurp("$FindBin::Bin/../lua/publish.lua");
my $redis  = SSE::Redis->start;
my $token;
my $near = SSE::RedisStage->new(redis => $redis->url, hub => 'max_event_size 64k;',
    server => 'location ~ ^/lean/(.+)$ { sse_stream $1 split=,; sse_lean on; }');
$token = $redis->must('HGET', 'sse:{sse}:history', 'token');
my $round = 0;

for my $path ('/on/%s', '/lean/%s') {
    slow_channel($path, 'an event before it was too large', large('a'));
    slow_channel($path, 'a message had another token', doubtful('a'));
}
killed_holder();
lost_connection();
patterns();
$near->ends_cleanly;
done_testing();

# A nginx whose connections to Redis are slow from now on: those that exist work, but for another, a channel that
# has to be read takes more than two seconds.
sub far (%options) {
    my $proxy = SSE::FaultProxy->start(to => $redis->port);
    my $far   = SSE::RedisStage->new(redis => $proxy->url, hub => 'max_event_size 64k;', http => 'sse_heartbeat 1s;',
        server => 'location ~ ^/lean/(.+)$ { sse_stream $1 split=,; sse_lean on; } location ~ ^/like/(.+)$ { sse_stream $1 pattern; }',
        %options);
    return ($proxy, $far);
}

sub slow_channel ($path, $why, @first) {
    $round++;
    my ($proxy, $far) = far();
    my ($both, $only_a, $only_b) = map { $far->stream(sprintf $path, $_) } 'a,b', 'a', 'b';
    my @before = at_once(event('a'), event('b'));
    for ($both, $only_a, $only_b) { ok($_->wait_data($_ == $only_a ? $before[0]{data} : $before[1]{data}), "$path: a stream receives events") }
    $proxy->delay(0.6);
    my @sent = (@before, at_once(@first, event('a'), event('b'), event('a'), event('b')));
    ok($only_b->wait_data($sent[-1]{data}, 20), "$path: while a channel cannot be read, because $why, another one goes on");
    is(join(' ', $only_a->data), $before[0]{data}, 'the channel itself has not caught up then');
    is(moved($near, sprintf($path, 'b,a'), $both, @sent), all(@sent), 'a client that moves to another nginx now has every event once');
    my $new = $far->stream(sprintf($path, 'a,b'), last_event_id => $sent[0]{id});
    serve_for(0.3);
    is(moved($near, sprintf($path, 'b,a'), $new, @sent[1 .. $#sent]), all(@sent[1 .. $#sent]), 'so has one that came in the meantime');
    $proxy->pass;
    my @a = grep { $_->{channel} eq 'a' } @sent;
    ok(wait_for(sub {
        $both->events('message') >= @sent && $new->events('message') >= @sent - 1 && $only_a->events('message') >= @a
    }, 20), 'the channel catches up');
    is(join(' ', $both->data), all(@sent), 'the stream of both channels has every event once and in the order of ids');
    is(join(' ', $new->data), all(@sent[1 .. $#sent]), 'so has the later one');
    is(join(' ', $only_a->data), all(@a), 'and the one of the channel alone');
    moves_anywhere($path, $far, \@sent, $both, $only_a);
    $_->close for $both, $only_a, $only_b, $new;
    $far->ends_cleanly;
    return;
}

# Clients that move to the other nginx, or return to the same one, whatever they have received last.
sub moves_anywhere ($path, $far, $sent, $both, $only_a) {
    my @a = grep { $_->{channel} eq 'a' } @$sent;
    for my $nginx ($near, $far) {
        for ([$both, 'a,b', $sent], [$only_a, 'a', \@a]) {
            my ($client, $channels, $all) = @$_;
            my @events = $client->events('message');
            for my $had (0 .. $#events) {
                my $again = $nginx->stream(sprintf($path, $channels), last_event_id => $events[$had]{id});
                wait_for(sub { $again->events('message') >= $#events - $had }, 10);
                is(join(' ', $again->data), all(@{$all}[$had + 1 .. $#$all]), "a client of $channels that comes back after event $had receives the rest");
                $again->close;
            }
        }
    }
    return;
}

# The process that holds the subscription is killed meanwhile.
sub killed_holder () {
    $round++;
    my ($proxy, $far) = far(workers => 2);
    my @both = map { $far->stream('/on/a,b', reconnect => 1) } 1 .. 6;
    my @sent = at_once(event('a'), event('b'));
    ok($_->wait_data($sent[-1]{data}), 'a stream receives events') for @both;
    my $only_b = $far->stream('/on/b', reconnect => 1);
    $proxy->delay(0.6);
    push @sent, at_once(large('a'), event('a'), event('b'), event('a'), event('b'));
    ok($only_b->wait_data($sent[-1]{data}, 20), 'a channel catches up');
    # The proxy hides which worker holds the subscription.
    $far->cluster->kill_worker(($far->cluster->workers)[0]);
    push @sent, at_once(event('b'), event('a'));
    serve_for(0.5);
    is(moved($near, '/on/a,b', $_, @sent), all(@sent), 'after the holder was killed, a client that moves has every event once') for @both[0 .. 2];
    $proxy->pass;
    ok(wait_for(sub { !grep { $_->events('message') < @sent } @both[3 .. 5] }, 30), 'the next holder reads the channel');
    is(join(' ', $_->data), all(@sent), 'every event arrives once and in the order of ids') for @both[3 .. 5];
    $_->close for @both, $only_b;
    $far->ends_cleanly;
    return;
}

# The connection is lost, and the backlog of one channel is large.
sub lost_connection () {
    $round++;
    my ($proxy, $far) = far();
    my ($both, $only_b) = map { $far->stream($_) } '/on/a,b', '/on/b';
    my @sent = at_once(event('a'), event('b'));
    ok($_->wait_data($sent[-1]{data}), 'a stream receives events') for $both, $only_b;
    $proxy->refuse;
    $proxy->cut;
    ok(wait_for(sub { $far->state ne 'up' }, 10), 'the connection is lost');
    push @sent, at_once((map { event('a', 60_000) } 1 .. 60), event('b'));
    # A new channel, too.
    my $three = $far->stream('/on/a,b,c', last_event_id => $sent[0]{id});
    $proxy->rate(300_000);
    ok($only_b->wait_data(all($sent[-1]), 30), 'a channel with few events catches up first');
    push @sent, at_once(event('b'));
    ok($only_b->wait_data(all($sent[-1]), 30), 'and goes on');
    my $had = () = $both->events('message');
    cmp_ok($had, '<', @sent, 'the other one is still being read');
    is(moved($near, '/on/a,b', $both, @sent), all(@sent), 'a client that moves to another nginx now has every event once');
    is(moved($near, '/on/a,b', $three, @sent[1 .. $#sent]), all(@sent[1 .. $#sent]), 'so has one that came while Redis was unreachable');
    $proxy->pass;
    ok(wait_for(sub { $both->events('message') >= @sent }, 30), 'the channel catches up');
    is(join(' ', map { short($_) } $both->data), all(@sent), 'every event arrives once and in the order of ids');
    $_->close for $both, $only_b, $three;
    $far->ends_cleanly;
    return;
}

# Streams of patterns wait for the channels that they match, and resume on the same nginx.
sub patterns () {
    $round++;
    my ($proxy, $far) = far();
    my ($all, $only_a, $only_b, $others) = map { $far->stream($_) } '/like/*', '/on/a', '/on/b', '/like/b*';
    my @sent = at_once(event('a'), event('b'));
    ok($_->wait_data($sent[$_ != $only_a]{data}), 'a stream receives events') for $all, $only_a, $only_b, $others;
    $proxy->delay(0.6);
    push @sent, at_once(large('a'), event('a'), event('b'), event('a'), event('b'));
    ok($_->wait_data($sent[-1]{data}, 20), 'another channel goes on, and patterns that match no others') for $only_b, $others;
    is(join(' ', $all->data), all(@sent[0, 1]), 'a stream of a pattern waits for all channels that it matches');
    my $again = $far->stream('/like/*', last_event_id => $sent[1]{id});
    $proxy->pass;
    ok(wait_for(sub { $all->events('message') >= @sent && $again->events('message') >= @sent - 2 }, 20), 'the channel catches up');
    is(join(' ', $all->data), all(@sent), 'every event arrives once and in the order of ids');
    is(join(' ', $again->data), all(@sent[2 .. $#sent]), 'also on a stream that was opened meanwhile');
    my @events = $all->events('message');
    for my $had (0 .. $#events) {
        my $back = $far->stream('/like/*', last_event_id => $events[$had]{id});
        wait_for(sub { $back->events('message') >= $#events - $had }, 10);
        is(join(' ', $back->data), all(@sent[$had + 1 .. $#sent]), "a client that comes back after event $had receives the rest");
        $back->close;
    }
    $_->close for $all, $only_a, $only_b, $others, $again;
    $far->ends_cleanly;
    return;
}

# Everything that a client would have if it moved to this nginx now.
sub moved ($nginx, $path, $client, @sent) {
    my ($id, @had) = ($client->{last_event_id}, map { short($_) } $client->data);
    my $there = $nginx->stream($path, last_event_id => $id);
    wait_for(sub { $there->events('message') >= @sent - @had }, 5);
    my @got = map { short($_) } $there->data;
    $there->close;
    return join ' ', sort { $a <=> $b } @had, @got;
}

sub all (@events) { return join ' ', map { short($_->{data}) } @events }
sub short ($data) { return $data =~ s/x+\z//r }

# Executes steps in one transaction, so that their messages arrive together. Returns the events.
my $number = 0;
sub at_once (@steps) {
    my @events;
    $redis->must('MULTI');
    for my $step (@steps) {
        my ($channel, $data, @words) = $step->(++$number);
        $redis->must(@words);
        push @events, { channel => $channel, data => $data };
    }
    my @answers = @{ $redis->must('EXEC') };
    $events[$_]{id} = $answers[$_] for 0 .. $#events;
    return grep { defined $_->{channel} } @events;
}

sub event ($channel, $bytes = 0) {
    return sub ($data) { ($channel, $data . 'x' x $bytes, 'EVAL', $script, 1, "sse:{sse}:s:$channel", $data . 'x' x $bytes) };
}

sub large ($channel) {
    return sub ($data) { (undef, undef, 'EVAL', "local ARGV = {string.rep('x', 200000)}\n$script", 1, "sse:{sse}:s:$channel") };
}

# A message without the token, whose channel has to be read.
sub doubtful ($channel) {
    return sub ($data) { (undef, undef, 'PUBLISH', $channel, "\x01sse - 99999999999999-0 0-0 0\nforged") };
}
