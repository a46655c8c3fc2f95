# Durable events: an event from sse_publish or the publish script has the same id on every nginx, is kept in
# Redis, and can be resumed on another nginx and after a restart.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Cluster;
use SSE::EventIds qw(by_id);
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start;
my @nginx = map { SSE::RedisStage->new(redis => $redis->url, hub => 'history 100;') } 1, 2;
my ($one, $two) = @nginx;
my $durable = qr/\A\d+-\d+\z/;

# Over HTTP.
my @clients = map { $_->stream('/on/news') } $one, $one, $two, $two;
my $first   = $one->post('news', 'from one');
is($first->{status}, 201, 'an event is published on one nginx');
is($first->{json}{channel}, 'news', 'on its channel');
like($first->{json}{id}, $durable, 'with an id of two numbers');
my $second = $two->post('news', 'from two');
my $typed  = $two->post('news?event=trade', 'typed');
is($typed->{status}, 201, 'an event with a type is published on the other nginx');
ok(wait_for(sub { !grep { @{ $_->{events} } < 4 } @clients }), 'every stream receives both');
my @want = (
    { type => 'message', data => 'from one', id => $first->{json}{id} },
    { type => 'message', data => 'from two', id => $second->{json}{id} },
    { type => 'trade',   data => 'typed',    id => $typed->{json}{id} },
);
is(scalar(grep { !is_same([@{ $_->{events} }[1 .. 3]], \@want) } @clients), 0, 'with the same ids and types on both nginx instances');
cmp_ok(by_id($want[$_ - 1]{id}, $want[$_]{id}), '<', 0, 'ids increase') for 1, 2;

# The keys in Redis.
my $stream = 'sse:{sse}:s:news';
my ($entry) = @{ $redis->must('XRANGE', $stream, $typed->{json}{id}, $typed->{json}{id}) };
is_deeply({ @{ $entry->[1] } }, { data => 'typed', event => 'trade', prev => $second->{json}{id} }, 'the event is in the Redis stream of its channel');
my ($clock) = @{ $redis->must('XREVRANGE', 'sse:{sse}:clock', '+', '-', 'COUNT', 1) };
is($clock->[0], $typed->{json}{id}, 'the clock has its id');
is($redis->must('XLEN', 'sse:{sse}:clock'), 1, 'the clock has one entry');
my %bounds = @{ $redis->must('HGETALL', 'sse:{sse}:history') };
like(delete $bounds{token}, qr/\A[0-9a-f]{32}\z/, 'a token is stored that identifies messages of the script');
is_deeply(\%bounds, { count => 100, age => 600_000, runs => 0, runs_age => 0 }, 'the configured history is stored');
cmp_ok($redis->must('PTTL', $stream), '>', 600_000, 'the stream has an expiry time');

# The script and the function, from any client.
my $writer = $redis->connect;
my $sha    = $writer->call('SCRIPT', 'LOAD', source('publish.lua'));
my $id     = script('news', 'by script', 'note');
like($id, $durable, 'the script returns the id');
my $bare = script('news', 'no type');
SKIP: {
    skip 'Redis before 7.0 has no functions', 1 if SSE::Redis::version() < 7000;
    is($writer->call('FUNCTION', 'LOAD', source('sse.lua')), 'sse', 'the function is loaded');
    like($writer->call('FCALL', 'sse_publish', 1, $stream, 'by function', 'note'), $durable, 'the function returns the id');
}
$one->publish('news', 'after');
my @got = map { [$one->got($_, 'after')] } @clients;
is(scalar(grep { !is_same($got[0], $_) } @got), 0, 'all streams receive the same events');
is_deeply([@{ $got[0] }[3 .. 4]], ['note by script', 'no type'], 'events of the script arrive') or diag explain $got[0];
is((grep { $_->{data} eq 'by script' } @{ $clients[3]{events} })[0]{id}, $id, 'with the returned id');
for my $case (['news', 'x', 'error'], ['news', 'x', 'open'], ['news', 'x', 'sse.mine'], ['news', 'x', "a\nb"], ['news', 'x', "a\rb"],
    ['news', 'x', "a\0b"], ['news', 'x', 't' x 129], ['sse.mine', 'x'], ['', 'x'], ['c' x 256, 'x'], ["a\nb", 'x']) {
    my $answer = script(@$case);
    my $shown  = join ', ', map { length > 20 ? length . ' bytes' : s/[\r\n\0]/?/gr } @$case;
    is(ref $answer, 'SSE::RESP::Error', "the script rejects invalid arguments ($shown)");
}

# Idempotency-Key.
my $keyed = $one->post('news', 'keyed', headers => ['Idempotency-Key' => 'k1']);
my $again = $two->post('news', 'keyed', headers => ['Idempotency-Key' => 'k1']);
is($again->{json}{id}, $keyed->{json}{id}, 'an idempotency key used on the other nginx returns the first id');
my ($kept) = @{ $redis->must('KEYS', 'sse:{sse}:k:*news:k1') };
my $ttl = $redis->must('PTTL', $kept // '');
ok($ttl > 0 && $ttl <= 120_000, 'the key is kept for two minutes') or diag($ttl);
my $scripted = script('news', 'scripted', '', 'k2');
is(script('news', 'scripted', '', 'k2'), $scripted, 'the script supports idempotency keys');
is($one->post('news', 'scripted', headers => ['Idempotency-Key' => 'k2'])->{json}{id}, $scripted, 'it shares them with nginx');
isnt($one->post('other', 'scripted', headers => ['Idempotency-Key' => 'k2'])->{json}{id}, $scripted, 'keys are separate for each channel');
my @batches = map { batch($_, 'k3', map { "batch $_" } 1 .. 50) } $one, $two;
is($batches[0]{status}, 201, 'a batch is published');
is(scalar @{ $batches[0]{json}{ids} }, 50, 'it returns its ids');
is_deeply($batches[1]{json}{ids}, $batches[0]{json}{ids}, 'a repetition on the other nginx returns the same ids');
$one->publish('news', 'end of keys');
my @since = after('after', $one->got($clients[2], 'end of keys'));
is_deeply(\@since, ['keyed', 'scripted', map({ "batch $_" } 1 .. 50), 'end of keys'], 'each event is published once');
is_deeply([after('after', $one->got($clients[0], 'end of keys'))], \@since, 'also on the other nginx');

# Resuming several channels on the other nginx and after a restart.
my $many = $one->stream('/on/a,b,c');
my @ids;
for my $number (1 .. 60) {
    push @ids, ($number % 2 ? $one : $two)->publish(('a' .. 'c')[$number % 3], $number);
}
is_deeply([$one->got($many, 60)], [1 .. 60], 'events of three channels from two nginx instances have one order');
is_deeply([map { $_->{id} } $many->events('message')], \@ids, 'the order of their ids');
for my $last (1, 20, 58) {
    my $client = $two->stream('/on/a,b,c', last_event_id => $ids[$last - 1]);
    is_deeply([$two->got($client, 60)], [$last + 1 .. 60], "a client that moves to the other nginx after number $last receives the rest");
    my $alone = $two->stream('/on/b', last_event_id => $ids[$last - 1]);
    is_deeply([$two->got($alone, 58)], [grep { $_ % 3 == 1 && $_ > $last } 1 .. 60], 'also on a single channel') if $last < 58;
}
SSE::Loop::drop_all();
ok($one->cluster->quit, 'one nginx exits');
$two->publish('a', 'meanwhile');
$one->cluster->start;
my $back = $one->stream('/on/a,b,c', last_event_id => $ids[29]);
is_deeply([$one->got($back, 'meanwhile')], [31 .. 60, 'meanwhile'], 'a client that returns after the restart has missed nothing');
my $fresh = $one->stream('/all/a');
is_deeply([$one->got($fresh, 'meanwhile')], [grep({ $_ % 3 == 0 } 1 .. 60), 'meanwhile'], 'a new client receives the guaranteed history');

# The data in Redis is bounded, and a client that returns too late receives a gap event.
my ($oldest) = batch($two, 'k4', map { "flood $_" } 1 .. 500)->{json}{ids}[0];
my $length = $redis->must('XLEN', $stream);
ok($length >= 100 && $length <= 200, "the Redis stream has the guaranteed history and little more ($length entries)");
$one->publish('news', 'newest');
my $late = $one->stream('/on/news', last_event_id => $first->{json}{id});
my @late = $one->got($late, 'newest');
like($late[0], qr/\Asse\.gap /, 'a client that returns too late receives a gap event');
cmp_ok(scalar @late, '>=', 101, 'then it receives the guaranteed history');
is($late[-2], 'flood 500', 'including the newest event');

# Plain messages between durable events.
my @both  = map { $_->stream('/on/mixed') } $one, $two;
my @mixed = map { /d/ ? $one->publish('mixed', $_) : $redis->publish('mixed', $_) } qw(d1 p1 p2 d2 p3 d3 p4);
is_deeply([$one->got($both[0], 'p4')], [qw(d1 p1 p2 d2 p3 d3 p4)], 'plain and durable events arrive in the order of Redis');
is_deeply([$two->got($both[1], 'p4')], [qw(d1 p1 p2 d2 p3 d3 p4)], 'also on the other nginx');
my @place = $both[0]->events('message');
for my $last (0 .. 5) {
    my $client = $one->stream('/on/mixed', last_event_id => $place[$last]{id});
    is_deeply([$one->got($client, 'p4')], [(qw(d1 p1 p2 d2 p3 d3 p4))[$last + 1 .. 6]], "a client that returns after $place[$last]{data} receives the rest");
}
my $from_durable = $two->stream('/on/mixed', last_event_id => $place[0]{id});
is_deeply([$two->got($from_durable, 'p4')], [qw(p1 p2 d2 p3 d3 p4)], 'the id of a durable event resumes on the other nginx');
my $from_plain = $two->stream('/on/mixed', last_event_id => $place[1]{id});
is_deeply([map { s/ .*//r } $two->got($from_plain, 'p4')], [qw(sse.gap d2 p3 d3 p4)], 'the id of a plain message resumes at the previous durable event');

$_->ends_cleanly for @nginx;
done_testing();

sub is_same ($left, $right) { return explain($left) eq explain($right) }

sub source ($name) {
    my $text = SSE::Cluster::slurp("$FindBin::Bin/../lua/$name");
    ok($text ne '', "lua/$name exists");
    return $text;
}

sub script ($channel, @words) { return $writer->call('EVALSHA', $sha, 1, "sse:{sse}:s:$channel", @words) }

sub batch ($nginx, $key, @data) {
    return $nginx->post('news', join('', map { "data: $_\n\n" } @data),
        headers => ['Content-Type' => 'text/event-stream', 'Idempotency-Key' => $key]);
}

# The elements after that event.
sub after ($event, @list) {
    while (@list) { last if shift(@list) eq $event }
    return @list;
}
