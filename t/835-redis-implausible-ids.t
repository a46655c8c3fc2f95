# Implausible ids: the largest possible one, or microseconds instead of milliseconds. They affect only their
# channel, whose events are still delivered, and do not change the clock.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Time::HiRes qw(time);
use SSE::EventIds qw(by_id);
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $LARGEST = '18446744073709551615-18446744073709551615';
my $NUMBER  = qr/\A\d+-\d+\z/;

streams($_) for 'Kt', undef;
pubsub();
done_testing();

# With redis_source stream, with and without keyspace notifications.
sub streams ($notify) {
    my $how   = $notify ? 'notified' : 'asked';
    my $redis = SSE::Redis->start($notify ? (notify => $notify) : ());
    my $one   = SSE::RedisStage->new(redis => $redis->url, workers => 2, hub => 'redis_source stream;');
    my %client = map { $_ => $one->stream("/on/$_") } qw(good micro largest);
    my $many   = $one->stream('/on/' . join ',', 'good', 'micro', map { "other-$_" } 1 .. 62);
    my $add    = sub ($channel, $id, $data) { $redis->must('XADD', $channel, $id, 'data', $data) };
    my $ahead  = int(time() * 1e6);

    my $first = $add->('good', '*', 'good 1');
    $add->('micro', "$ahead-0", 'micro 1');
    $add->('micro', '*', 'micro 2');
    $add->('largest', $LARGEST, 'largest');
    ok($client{micro}->wait_data('micro 2'), "$how: events with ids in microseconds arrive");
    ok($client{largest}->wait_data('largest'), 'an event with the largest possible id arrives');
    my $second = $add->('good', '*', 'good 2');
    ok($client{good}->wait_data('good 2'), 'events of other channels arrive');
    is($client{good}{last_event_id}, $second, 'they have their own ids');
    ok($many->wait_data('good 2'), 'also on a stream of 64 channels');
    like($client{micro}{last_event_id}, qr/\A\d+-\d+-\d+-\d+\z/, 'on such channels events have ids of this nginx');
    is($one->post('micro', 'micro 3')->{status}, 201, 'such a channel accepts publishes');
    is($one->post('largest', 'in vain')->{status}, 503, 'a channel without ids left rejects them');
    ok($client{micro}->wait_data('micro 3'), 'the events are delivered');

    # Nothing is read twice or skipped after a new connection and after a reload.
    my $number = 3;
    my %end = (
        'a new connection' => sub { $redis->must('CLIENT', 'KILL', 'TYPE', $_, 'SKIPME', 'yes') for qw(normal pubsub) },
        'a reload' => sub { $one->cluster->reload },
    );
    for my $what ('a new connection', 'a reload') {
        $end{$what}->();
        $number++;
        $add->('micro', '*', "micro $number");
        $add->('good', '*', "good $number");
        ok($client{micro}->wait_data("micro $number"), "an event after $what arrives");
        ok($client{good}->wait_data("good $number"), 'also on other channels');
    }
    is(join('|', $client{micro}->data), join('|', map { "micro $_" } 1 .. $number), 'each event arrives once and in order');
    is(scalar($client{micro}->events('sse.gap')), 0, 'without a gap event');

    # Another nginx that reads these ids for the first time.
    my $two = SSE::RedisStage->new(redis => $redis->url, hub => 'redis_source stream;');
    my $all = $two->stream('/all/micro');
    is(join('|', $two->got($all, "micro $number")), join('|', map { "micro $_" } 1 .. $number), 'another nginx has them as history');
    my $back = $two->stream('/on/good', last_event_id => $first);
    ok($back->wait_data("good $number"), 'a client that returns to it with an id of another channel receives the rest');
    is(scalar($back->data), $number - 1 - 1, 'and nothing else');
    for my $nginx ($one, $two) {
        my @said = $nginx->cluster->wait_lines(qr/more than an hour in the future/);
        cmp_ok(scalar @said, '>', 0, 'the error log has a line about it');
        cmp_ok(scalar @said, '<', 6, 'the line is logged once for each connection');
        $nginx->ends_cleanly;
    }
    return;
}

sub pubsub () {
    my $redis = SSE::Redis->start;
    my @nginx = map { SSE::RedisStage->new(redis => $redis->url) } 1, 2;
    my ($one, $two) = @nginx;
    my @good = map { $_->stream('/on/good') } @nginx;
    my @bad  = map { $_->stream('/on/bad') } @nginx;
    my ($clock, $key) = ('sse:{sse}:clock', 'sse:{sse}:s:bad');
    my $bound = sub ($id) { $id =~ $NUMBER && $id =~ /\A(\d+)/ && $1 <= (time() + 3700) * 1000 };

    my ($last) = $one->publish('good', 'before');
    for my $poison (int(time() * 1e6) . '-0', $LARGEST) {
        # The clock.
        $redis->must('XADD', $clock, 'MAXLEN', 1, $poison, 't', '');
        for my $nginx (@nginx) {
            my ($id) = $nginx->publish('good', "clock $poison $nginx");
            ok($bound->($id), "with the clock at $poison a publish returns a plausible id") or diag($id);
            cmp_ok(by_id($last, $id), '<', 0, 'the id is higher than the previous one') or diag("$last $id");
            $last = $id;
            ok($_->wait_data("clock $poison $nginx"), 'the event arrives') for @good;
            is($_->{last_event_id}, $id, 'with its id') for @good;
        }
        # A clock that is read on a new connection.
        $redis->must('XADD', $clock, 'MAXLEN', 1, $poison, 't', '');
        $redis->must('CLIENT', 'KILL', 'TYPE', 'pubsub');
        ok(wait_for(sub { my ($entry) = @{ $redis->must('XREVRANGE', $clock, '+', '-', 'COUNT', 1) }; $entry && $bound->($entry->[0]) }),
            'a new connection corrects the clock');
        # The Redis stream of a channel.
        $redis->must('XADD', $key, $poison, 'data', 'not announced');
        my ($id) = $two->publish('bad', "key $poison");
        ok($bound->($id), 'a Redis stream that is far ahead accepts events') or diag($id);
        ok($_->wait_data("key $poison"), 'the events arrive') for @bad;
        ($last) = $one->publish('good', "after $poison");
        ok($_->wait_data("after $poison"), 'events of other channels arrive') for @good;
        is($_->{last_event_id}, $last, 'they have their own ids') for @good;
        # A message from a script with such an id.
        my $token = $redis->must('HGET', 'sse:{sse}:history', 'token');
        my $id_of_message = $poison eq $LARGEST ? $poison : int(time() * 1e6) . '-7';
        $redis->publish('bad', "\1sse $token $id_of_message 0-0 0\nmessage $poison");
        ok($_->wait_data("message $poison"), 'a message with such an id arrives') for @bad;
        ok($bound->($_->{last_event_id}) || $_->{last_event_id} =~ /\A\d{13}-\d+-\d+-\d+\z/, 'it has an id of this nginx') for @bad;
        my $returned = $one->stream('/on/good', last_event_id => $last);
        ($last) = $two->publish('good', "then $poison");
        is_deeply([$one->got($returned, "then $poison")], ["then $poison"], 'a client that returns on another channel misses nothing');
        ($id) = $one->publish('bad', "and $poison");
        ok($_->wait_data("and $poison"), 'the channel continues') for @bad;
    }
    # A clock that is slightly ahead is accepted.
    my $ahead = int((time() + 1800) * 1000);
    $redis->must('XADD', $clock, 'MAXLEN', 1, "$ahead-5", 't', '');
    my ($id) = $one->publish('good', 'half an hour ahead');
    is($id, "$ahead-6", 'half an hour ahead is accepted');
    # Invalid limits.
    for my $count (qw(nan -1 1e999 x), '') {
        $redis->must('HSET', 'sse:{sse}:history', 'count', $count, 'age', $count);
        is($one->post('good', "bounds $count")->{status}, 201, "with a history of \"$count\" publishing works");
        ok($_->wait_data("bounds $count"), 'with these limits nothing is lost') for @good;
    }
    my @said;
    wait_for(sub { (@said = map { $_->cluster->wait_lines(qr/clock in Redis/, 0) } @nginx) >= 2 });
    cmp_ok(scalar @said, '>=', 2, 'the error log has lines about the clock') or diag(@said);
    $_->ends_cleanly for @nginx;
    return;
}
