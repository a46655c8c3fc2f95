# redis_source stream: entries that any client adds to the Redis stream with the name of a channel are
# events, and the Redis stream is the history.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Time::HiRes qw(time);
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start(notify => 'Kt');
my $plain = SSE::Redis->start;
my @nginx = map { SSE::RedisStage->new(redis => $_->url, hub => 'history 1000; redis_source stream;') } $redis, $redis, $plain;
my ($one, $two, $without) = @nginx;

# Entries from before the first client are history.
my @early = map { add('messages', 'data', "early $_") } 1 .. 3;
my @clients = map { $_->stream('/on/messages') } $one, $two;
my $all = $one->stream('/all/messages');
is_deeply([$one->got($all, 'early 3')], ['early 1', 'early 2', 'early 3'], 'sse_replay returns the entries of the Redis stream');
is_deeply([map { $_->{id} } $all->events('message')], \@early, 'with the ids of the entries');

# The forms of an entry.
add('messages', 'data', 'only data');
add('messages', 'data', 'with a type', 'event', 'trade');
add('messages', 'event', 'trade', 'data', 'the other way round');
add('messages', 'payload', 'a single field');
add('messages', 'symbol', 'GOLD', 'price', '42');
add('messages', 'data', 'a type that is not allowed', 'event', 'sse.mine');
add('messages', 'data', "bytes \xff", 'more', 'left out');
add('messages', 'data', '');
my $posted = $two->post('messages?event=note', 'by sse_publish');
is($posted->{status}, 201, 'sse_publish adds an entry to the Redis stream');
my ($entry) = @{ $redis->must('XRANGE', 'messages', $posted->{json}{id}, $posted->{json}{id}) };
is_deeply({ @{ $entry->[1] } }, { data => 'by sse_publish', event => 'note' }, 'as others do');
my $last = add('messages', 'data', 'end');
my @got  = $one->got($clients[0], 'end');
my $object = splice @got, 4, 1;
is_deeply(\@got, ['only data', 'trade with a type', 'trade the other way round', 'a single field', 'a type that is not allowed',
    "bytes \xef\xbf\xbd", '', 'note by sse_publish', 'end'], 'entries become events');
is_deeply(JSON::PP->new->decode($object), { symbol => 'GOLD', price => '42' }, 'an entry with several fields becomes a JSON object');
is_deeply([$two->got($clients[1], 'end')], [@got[0 .. 3], $object, @got[4 .. 8]], 'the other nginx delivers the same events');
is($clients[0]{last_event_id}, $last, 'ids are those of the entries');

# Resuming.
my @ids = map { add('messages', 'data', "numbered $_") } 1 .. 300;
ok($_->wait_data('numbered 300'), 'a burst arrives') for @clients;
for my $nginx ($one, $two) {
    my $back = $nginx->stream('/on/messages', last_event_id => $ids[99]);
    is_deeply([$nginx->got($back, 'numbered 300')], [map { "numbered $_" } 101 .. 300], 'a client that returns to either nginx receives the rest');
}
my $several = $one->stream('/on/x,y');
add($_ % 2 ? 'x' : 'y', 'data', $_) for 1 .. 40;
my %got = map { $_ => 1 } $one->got($several, 40);
ok(wait_for(sub { $several->data == 40 }), 'events of two channels arrive');
my @seen = $several->events('message');
my $then = $one->stream('/on/x,y', last_event_id => $seen[19]{id});
ok(wait_for(sub { $then->data >= 20 }), 'a client returns to the same nginx');
is_deeply([$then->data], [map { $_->{data} } @seen[20 .. 39]], 'it receives the rest in the same order');

# A key of another type, and a deleted stream.
$redis->must('SET', 'text', 'x');
my $vain = SSE::Client->new(port => $one->port, path => '/on/text,messages');
ok(wait_for(sub { $vain->{last_event_id} ne '' }), 'a channel whose key is not a Redis stream can be opened');
$redis->must('DEL', 'messages');
add('messages', 'data', 'a new beginning');
ok($_->wait_data('a new beginning'), 'a Redis stream that was deleted and recreated is followed') for @clients;
$redis->must('DEL', 'text');
add('text', 'data', 'a stream after all');
ok($vain->wait_data('a stream after all', 60), 'so is a key that becomes a Redis stream');

# Many channels, with and without keyspace notifications.
for my $case ([$one, $redis, 'with'], [$without, $plain, 'without']) {
    my ($nginx, $server, $how) = @$case;
    my @many = map { my $from = $_ * 60; $nginx->stream('/on/' . join ',', map { "channel-$_" } $from .. $from + 59) } 0 .. 4;
    $server->must('XADD', "channel-$_", '*', 'data', "to $_") for 0 .. 299;
    my $since = time();
    ok(wait_for(sub { !grep { $_->data < 60 } @many }, 20), sprintf "events of 300 channels arrive %s notifications (%.1f s)", $how, time() - $since);
    is(join(' ', sort map { $_->data } @many), join(' ', sort map { "to $_" } 0 .. 299), 'each event arrives once');
    my @said = $nginx->cluster->wait_lines(qr/notify-keyspace-events/, $how eq 'with' ? 0 : 1);
    is(scalar @said, $how eq 'with' ? 0 : 1, "missing notifications are logged $how them " . ($how eq 'with' ? 'never' : 'once')) or diag(@said);
    $server->must('XADD', "channel-$_", '*', 'data', "again to $_") for 0 .. 299;
    ok(wait_for(sub { !grep { $_->data < 120 } @many }, 20), 'later events arrive too');
}
is(scalar(grep { /notify-keyspace-events/ } split /\n/, $without->cluster->error_log), 1, 'the missing setting is logged once');

# A lost connection.
$redis->must('CLIENT', 'KILL', 'TYPE', 'pubsub');
$redis->must('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
add('messages', 'data', 'meanwhile');
ok($_->wait_data('meanwhile'), 'entries that are added during a lost connection arrive') for @clients;
is(scalar(grep { my $client = $_; 1 < grep { $_ eq 'meanwhile' } $client->data } @clients), 0, 'it arrives once');

$_->ends_cleanly for @nginx;
done_testing();

sub add ($channel, @fields) { return $redis->must('XADD', $channel, '*', @fields) }
