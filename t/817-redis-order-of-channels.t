# A channel is read again while others go on: after a message that was too large, or that had another token, and
# after a takeover. A stream of several channels still receives all durable events in the order of their ids, so
# that a client that moves to another nginx, whatever it has received last, receives the rest, once.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::FaultProxy;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $HISTORY = 'sse:{sse}:history';

my $redis = SSE::Redis->start;
my @nginx = map { SSE::RedisStage->new(redis => $redis->url, hub => 'max_event_size 64k; history 10000;', workers => 2,
    http => 'sse_drain 500ms;') } 1, 2;
my $token = $redis->must('HGET', $HISTORY, 'token');
my $other = scalar reverse $token;
my $round = 0;

my %CASES = (
    'after an event that is too large' => [large('a'), event('a'), event('b'), event('a'), event('b')],
    'after one of each that is too large' => [large('a'), large('b'), event('a'), event('b'), event('b'), event('a')],
    'after an event with another token' => [token($other), event('a'), token($token), event('b'), event('a'), event('b')],
    'after events with another token' => [token($other), (event('a'), event('b')) x 3, token($token), event('b'), event('a')],
    'after forged messages' => [forged('a'), event('a'), event('b'), forged('b'), event('a'), event('b'), event('a')],
);

for my $case (sort keys %CASES) {
    for my $paths (['/on/a,b', '/on/b,a'], ['/on/a', '/on/a'], ['/on/b', '/on/b']) {
        $round++;
        my @client = map { $nginx[$_]->stream($paths->[$_]) } 0, 1;
        my @sent   = grep { $paths->[0] =~ /\b$_->{channel}\b/ } at_once(@{ $CASES{$case} });
        for my $client (@client) {
            wait_for(sub { $client->events('message') >= @sent }, 5);
            is(join(' ', map { "$_->{id} $_->{data}" } $client->events('message')), join(' ', map { "$_->{id} $_->{data}" } @sent),
                "$case: a stream of $client->{path} receives every event once and in order");
        }
        # A client that moves to the other nginx, whatever it has received last.
        for my $had (0 .. $#sent) {
            my @moved = map { $nginx[1 - $_]->stream($paths->[$_], last_event_id => ($client[$_]->events('message'))[$had]{id} // '') } 0, 1;
            my $last  = "last $round.$had";
            $nginx[0]->publish($sent[0]{channel}, $last);
            for my $at (0, 1) {
                is(join(' ', $nginx[1 - $at]->got($moved[$at], $last)), join(' ', (map { $_->{data} } @sent[$had + 1 .. $#sent]), lasts($had), $last),
                    "a client that moves to the other nginx after event $had receives the rest");
            }
            $_->close for @moved;
        }
        $_->close for @client;
    }
}

handovers();
slow_redis();
$_->ends_cleanly for @nginx;
done_testing();

# Messages that the former holder has received arrive at its successor as well.
sub handovers () {
    my $nginx  = $nginx[0]->cluster;
    my @client = map { $nginx[0]->stream('/on/a,b', reconnect => 1) } 1 .. 4;
    my $writer = $redis->connect;
    my $sha    = $redis->must('SCRIPT', 'LOAD', script());
    $writer->stream(800, sub ($number) { ['EVALSHA', $sha, 1, 'sse:{sse}:s:' . ($number % 2 ? 'a' : 'b'), $number] });
    my $reloads = 0;
    for (1 .. 8) {
        serve_for(0.3);
        $reloads++ if $nginx->reload;
    }
    is($reloads, 8, 'nginx reloads eight times');
    ok($writer->stop, 'Redis accepts all events');
    wait_for(sub { !grep { $_->events('message') < $writer->{sent} } @client }, 40);
    my $all = join ' ', 1 .. $writer->{sent};
    is(scalar(grep { join(' ', $_->data) ne $all } @client), 0, "over reloads all $writer->{sent} events arrive once and in order");
    return;
}

# No connection for reading a channel can be made in time: other channels go on. Each channel has its order, and a
# client that resumes on the same nginx, whatever it has received last, receives the rest, once.
sub slow_redis () {
    my $proxy = SSE::FaultProxy->start(to => $redis->port);
    my $far   = SSE::RedisStage->new(redis => $proxy->url, hub => 'max_event_size 64k;');
    my $both  = $far->stream('/on/a,b');
    $round++;
    $proxy->delay(0.6);
    my @sent = at_once(large('a'), event('a'), event('b'), event('a'), event('b'));
    my $of   = sub ($channel, @data) { return join ' ', grep { my $data = $_; grep { $_->{data} eq $data && $_->{channel} eq $channel } @sent } @data };
    my @all  = map { $_->{data} } @sent;
    ok($both->wait_data($sent[-1]{data}, 20), 'another channel goes on while one cannot be read');
    $proxy->pass;
    ok(wait_for(sub { $both->events('message') >= @sent }, 20), 'every event arrives');
    is($of->($_, $both->data), $of->($_, @all), "those of channel $_ once and in order") for qw(a b);
    my @events = $both->events('message');
    for my $had (0 .. $#events) {
        my $again = $far->stream('/on/a,b', last_event_id => $events[$had]{id});
        my $last  = "again $had";
        $far->publish('b', $last);
        is(join(' ', grep { !/again/ } $far->got($again, $last)), join(' ', map { $_->{data} } @events[$had + 1 .. $#events]),
            "a client that returns to the same nginx after event $had receives the rest");
        $again->close;
    }
    $far->ends_cleanly;
    return;
}

# What was published at the end of the earlier rounds, and a client that moves now receives as well.
sub lasts ($had) { return map { "last $round.$_" } 0 .. $had - 1 }

# Executes steps in one transaction, so that their messages arrive together. Returns the events.
sub at_once (@steps) {
    my @events;
    $redis->must('MULTI');
    for my $step (@steps) {
        my $data = "$round." . @events;
        my ($channel, @words) = $step->($data);
        $redis->must(@words);
        push @events, { channel => $channel, data => $data };
    }
    my @answers = @{ $redis->must('EXEC') };
    $events[$_]{id} = $answers[$_] for 0 .. $#events;
    return grep { defined $_->{channel} } @events;
}

sub event ($channel) { return sub ($data) { ($channel, 'EVAL', script(), 1, "sse:{sse}:s:$channel", $data) } }

sub large ($channel) {
    return sub ($data) { (undef, 'EVAL', "local ARGV = {string.rep('x', 200000)}\n" . script(), 1, "sse:{sse}:s:$channel") };
}

sub token ($value) { return sub ($data) { (undef, 'HSET', $HISTORY, 'token', $value) } }

sub forged ($channel) { return sub ($data) { (undef, 'PUBLISH', $channel, "\x01sse - 99999999999999-0 0-0 0\nforged") } }

sub script () { return SSE::Cluster::slurp("$FindBin::Bin/../lua/publish.lua") }
