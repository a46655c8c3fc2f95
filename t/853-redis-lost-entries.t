# A loss in a stream of Redis is reported between the entries where others are missing: to open streams, to
# clients that return with an id from another nginx, and however many entries are read at a time.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start(notify => 'Kt', users => ['away on >secret ~* &* +@all', 'default on nopass ~* &* +@all']);
my %url   = (away => $redis->url =~ s{redis://}{redis://away:secret\@}r, here => $redis->url);

# Cuts the connections of the nginx under test, calls the code, and lets it connect again.
sub while_away ($nginx, $code) {
    $redis->must('ACL', 'SETUSER', 'away', 'off');
    $redis->must('CLIENT', 'KILL', 'USER', 'away');
    ok(wait_for(sub { $nginx->state ne 'up' }), 'nginx loses its connections to Redis');
    my @result = $code->();
    $redis->must('ACL', 'SETUSER', 'away', 'on');
    ok($nginx->wait_up, 'and has them again');
    return @result;
}

# What a client receives: data, and gap events without theirs.
sub received ($client, $last, $what) {
    ok($client->wait_data($last, 20), "$what: $last arrives") or diag(join ' ', $client->data);
    return join ' ', map { $_->{type} eq 'sse.gap' ? 'gap' : $_->{data} } grep { $_->{type} ne 'sse.open' } @{ $client->{events} };
}

# The ids of the entries of a stream, by their data.
sub ids_of ($key) {
    return map { my ($id, %field) = ($_->[0], $_->[1]->@*); ($field{data} => $id) } $redis->must('XRANGE', $key, '-', '+')->@*;
}

my $add     = 'local function add(data) return redis.call("XADD", KEYS[1], "*", "data", data) end ';
my $removed = $add . 'add("one") local a = add("lost") add("two") local b = add("lost too") add("three")
    redis.call("XDEL", KEYS[1], a) redis.call("XDEL", KEYS[1], b)';
my $several = $add . 'for n = 1, 700 do local id = add("e" .. n) if n == 400 then redis.call("XDEL", KEYS[1], id) end end';

{
    my $nginx = SSE::RedisStage->new(redis => $url{away}, hub => 'redis_source stream; history 2000;', workers => 1);
    for my $how ('connected', 'away') {
        my $key    = "log-$how";
        my $client = $nginx->stream("/on/$key");
        $redis->must('XADD', $key, '*', 'data', 'zero');
        ok($client->wait_data('zero'), "$how: the stream is read");
        my $trimmed = sub { $redis->must('EVAL', $add . 'add("gone") redis.call("XTRIM", KEYS[1], "MAXLEN", 0) add("next")', 1, $key) };
        my $deleted = sub { $redis->must('EVAL', $removed, 1, $key) };
        my $do      = $how eq 'away' ? sub ($code) { while_away($nginx, $code) } : sub ($code) { $code->() };
        $do->($trimmed);
        is(received($client, 'next', "$how, trimmed"), 'zero gap next', 'the gap event is where entries were trimmed');
        $do->($deleted);
        is(received($client, 'three', "$how, deleted"), 'zero gap next one two gap three', 'or at the last place of deleted ones');
        my %id = ids_of($key);
        for my $from (qw(next one two)) {
            my $back = $nginx->stream("/on/$key", last_event_id => $id{$from});
            is(received($back, 'three', "$how, from $from"), 'gap three', "a client that returns with the id of $from receives it");
        }
        $redis->must('XADD', $key, '*', 'data', 'last');
        my $back = $nginx->stream("/on/$key", last_event_id => $id{three});
        is(received($back, 'last', "$how, from three"), 'last', 'and one with an id behind it does not');
        is(received($client, 'last', $how), 'zero gap next one two gap three last', 'nor does an open stream twice');
    }
    my $client = $nginx->stream('/on/many');
    $redis->must('XADD', 'many', '*', 'data', 'zero');
    ok($client->wait_data('zero'), 'a stream is read');
    while_away($nginx, sub { $redis->must('EVAL', $several, 1, 'many') });
    is(received($client, 'e700', 'page by page'), join(' ', 'zero', (map { "e$_" } 1 .. 399), 'gap', map { "e$_" } 401 .. 700),
        'the gap event is where the entry was deleted');
    $nginx->ends_cleanly;
}

{
    my $nginx  = SSE::RedisStage->new(redis => $url{away}, hub => 'history 2000;', workers => 1);
    my $other  = SSE::RedisStage->new(redis => $url{here}, hub => 'history 2000;', workers => 1);
    my $client = $nginx->stream('/on/news');
    my %id;
    ($id{zero}) = $other->publish('news', 'zero');
    ok($client->wait_data('zero'), 'redis_source pubsub: events arrive');
    while_away($nginx, sub {
        for my $data (qw(one lost two three)) { ($id{$data}) = $other->publish('news', $data) }
        $redis->must('XDEL', 'sse:{sse}:s:news', $id{lost});
    });
    is(received($client, 'three', 'deleted'), 'zero one gap two three', 'the gap event is where the event was deleted');
    for my $from (qw(zero one)) {
        my $back = $nginx->stream('/on/news', last_event_id => $id{$from});
        is(received($back, 'three', "from $from"), 'gap two three', "a client that returns with the id of $from receives it");
    }
    my $back = $nginx->stream('/on/news', last_event_id => $id{two});
    is(received($back, 'three', 'from two'), 'three', 'and one with an id behind it does not');

    # A channel that nobody has followed here.
    for my $data (qw(four five)) { ($id{$data}) = $other->publish('old', $data) }
    ($id{lost}) = $other->publish('old', 'lost');
    ($id{six})  = $other->publish('old', 'six');
    $redis->must('XDEL', 'sse:{sse}:s:old', $id{lost});
    my $between = $nginx->stream('/on/old', last_event_id => $id{four});
    is(received($between, 'six', 'an old channel'), 'gap five six', 'a client from another nginx receives one there');
    my $new = $nginx->stream('/all/old');
    is(received($new, 'six', 'an old channel'), 'four five six', 'and a new client has the history');
    $_->ends_cleanly for $nginx, $other;
}
done_testing();
