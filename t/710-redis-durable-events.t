# Durable events: what comes through sse_publish or the publish script has one id on every nginx, is kept
# in Redis, and can be resumed on another nginx and after a restart.

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
is($typed->{status}, 201, 'an event with a type on the other');
ok(wait_for(sub { !grep { @{ $_->{events} } < 4 } @clients }), 'every stream has them');
my @want = (
    { type => 'message', data => 'from one', id => $first->{json}{id} },
    { type => 'message', data => 'from two', id => $second->{json}{id} },
    { type => 'trade',   data => 'typed',    id => $typed->{json}{id} },
);
is(scalar(grep { !is_same([@{ $_->{events} }[1 .. 3]], \@want) } @clients), 0, 'on both with the same ids and types');
cmp_ok(by_id($want[$_ - 1]{id}, $want[$_]{id}), '<', 0, 'ids rise') for 1, 2;

# Their names in Redis.
my $stream = 'sse:{sse}:s:news';
my ($entry) = @{ $redis->must('XRANGE', $stream, $typed->{json}{id}, $typed->{json}{id}) };
is_deeply({ @{ $entry->[1] } }, { data => 'typed', event => 'trade', prev => $second->{json}{id} }, 'the event is in the stream of its channel');
my ($clock) = @{ $redis->must('XREVRANGE', 'sse:{sse}:clock', '+', '-', 'COUNT', 1) };
is($clock->[0], $typed->{json}{id}, 'the clock shows its id');
is($redis->must('XLEN', 'sse:{sse}:clock'), 1, 'and holds no other');
my %bounds = @{ $redis->must('HGETALL', 'sse:{sse}:history') };
like(delete $bounds{token}, qr/\A[0-9a-f]{32}\z/, 'a token is there by which messages of the script are known');
is_deeply(\%bounds, { count => 100, age => 600_000 }, 'what history owes is written down');
cmp_ok($redis->must('PTTL', $stream), '>', 600_000, 'the stream does not last for ever');

# By the script and the function, from any client.
my $writer = $redis->connect;
my $sha    = $writer->call('SCRIPT', 'LOAD', source('publish.lua'));
my $id     = script('news', 'by script', 'note');
like($id, $durable, 'the script answers the id');
my $bare = script('news', 'no type');
SKIP: {
    skip 'Redis before 7.0 has no functions', 1 if SSE::Redis::version() < 7000;
    is($writer->call('FUNCTION', 'LOAD', source('sse.lua')), 'sse', 'the function is loaded');
    like($writer->call('FCALL', 'sse_publish', 1, $stream, 'by function', 'note'), $durable, 'and answers the id');
}
$one->publish('news', 'after');
my @got = map { [$one->got($_, 'after')] } @clients;
is(scalar(grep { !is_same($got[0], $_) } @got), 0, 'all streams have the same');
is_deeply([@{ $got[0] }[3 .. 4]], ['note by script', 'no type'], 'what the script published') or diag explain $got[0];
is((grep { $_->{data} eq 'by script' } @{ $clients[3]{events} })[0]{id}, $id, 'with the id that it answered');
for my $case (['news', 'x', 'error'], ['news', 'x', 'open'], ['news', 'x', 'sse.mine'], ['news', 'x', "a\nb"], ['news', 'x', "a\rb"],
    ['news', 'x', "a\0b"], ['news', 'x', 't' x 129], ['sse.mine', 'x'], ['', 'x'], ['c' x 256, 'x'], ["a\nb", 'x']) {
    my $answer = script(@$case);
    my $shown  = join ', ', map { length > 20 ? length . ' bytes' : s/[\r\n\0]/?/gr } @$case;
    is(ref $answer, 'SSE::RESP::Error', "the script refuses ($shown)");
}

# Idempotency-Key.
my $keyed = $one->post('news', 'keyed', headers => ['Idempotency-Key' => 'k1']);
my $again = $two->post('news', 'keyed', headers => ['Idempotency-Key' => 'k1']);
is($again->{json}{id}, $keyed->{json}{id}, 'a key that the other nginx had gets the first id');
my ($kept) = @{ $redis->must('KEYS', 'sse:{sse}:k:*news:k1') };
my $ttl = $redis->must('PTTL', $kept // '');
ok($ttl > 0 && $ttl <= 120_000, 'the key lasts two minutes') or diag($ttl);
my $scripted = script('news', 'scripted', '', 'k2');
is(script('news', 'scripted', '', 'k2'), $scripted, 'the script knows keys too');
is($one->post('news', 'scripted', headers => ['Idempotency-Key' => 'k2'])->{json}{id}, $scripted, 'the same ones');
isnt($one->post('other', 'scripted', headers => ['Idempotency-Key' => 'k2'])->{json}{id}, $scripted, 'for each channel');
my @batches = map { batch($_, 'k3', map { "batch $_" } 1 .. 50) } $one, $two;
is($batches[0]{status}, 201, 'a batch is published');
is(scalar @{ $batches[0]{json}{ids} }, 50, 'and has its ids');
is_deeply($batches[1]{json}{ids}, $batches[0]{json}{ids}, 'which it gets again on the other nginx');
$one->publish('news', 'end of keys');
my @since = after('after', $one->got($clients[2], 'end of keys'));
is_deeply(\@since, ['keyed', 'scripted', map({ "batch $_" } 1 .. 50), 'end of keys'], 'each was published once');
is_deeply([after('after', $one->got($clients[0], 'end of keys'))], \@since, 'on both');

# Resume, of several channels, on the other nginx and after a restart.
my $many = $one->stream('/on/a,b,c');
my @ids;
for my $number (1 .. 60) {
    push @ids, ($number % 2 ? $one : $two)->publish(('a' .. 'c')[$number % 3], $number);
}
is_deeply([$one->got($many, 60)], [1 .. 60], 'events of three channels from two nginxes are in one order');
is_deeply([map { $_->{id} } $many->events('message')], \@ids, 'that of their ids');
for my $last (1, 20, 58) {
    my $client = $two->stream('/on/a,b,c', last_event_id => $ids[$last - 1]);
    is_deeply([$two->got($client, 60)], [$last + 1 .. 60], "who comes to the other nginx after number $last has the rest");
    my $alone = $two->stream('/on/b', last_event_id => $ids[$last - 1]);
    is_deeply([$two->got($alone, 58)], [grep { $_ % 3 == 1 && $_ > $last } 1 .. 60], 'on one channel too') if $last < 58;
}
SSE::Loop::drop_all();
ok($one->cluster->quit, 'one nginx ends');
$two->publish('a', 'meanwhile');
$one->cluster->start;
my $back = $one->stream('/on/a,b,c', last_event_id => $ids[29]);
is_deeply([$one->got($back, 'meanwhile')], [31 .. 60, 'meanwhile'], 'who comes after its restart has missed nothing');
my $fresh = $one->stream('/all/a');
is_deeply([$one->got($fresh, 'meanwhile')], [grep({ $_ % 3 == 0 } 1 .. 60), 'meanwhile'], 'who is new gets what history owes');

# What Redis keeps is bounded, and who comes too late is told so.
my ($oldest) = batch($two, 'k4', map { "flood $_" } 1 .. 500)->{json}{ids}[0];
my $length = $redis->must('XLEN', $stream);
ok($length >= 100 && $length <= 200, "the stream keeps what history owes and not much more ($length)");
$one->publish('news', 'newest');
my $late = $one->stream('/on/news', last_event_id => $first->{json}{id});
my @late = $one->got($late, 'newest');
like($late[0], qr/\Asse\.gap /, 'who comes too late for what is kept is told a gap');
cmp_ok(scalar @late, '>=', 101, 'and gets what is owed');
is($late[-2], 'flood 500', 'up to the newest');

# Plain messages between them.
my @both  = map { $_->stream('/on/mixed') } $one, $two;
my @mixed = map { /d/ ? $one->publish('mixed', $_) : $redis->publish('mixed', $_) } qw(d1 p1 p2 d2 p3 d3 p4);
is_deeply([$one->got($both[0], 'p4')], [qw(d1 p1 p2 d2 p3 d3 p4)], 'plain and durable events come in the order of Redis');
is_deeply([$two->got($both[1], 'p4')], [qw(d1 p1 p2 d2 p3 d3 p4)], 'on both');
my @place = $both[0]->events('message');
for my $last (0 .. 5) {
    my $client = $one->stream('/on/mixed', last_event_id => $place[$last]{id});
    is_deeply([$one->got($client, 'p4')], [(qw(d1 p1 p2 d2 p3 d3 p4))[$last + 1 .. 6]], "who comes back after $place[$last]{data} has the rest");
}
my $from_durable = $two->stream('/on/mixed', last_event_id => $place[0]{id});
is_deeply([$two->got($from_durable, 'p4')], [qw(p1 p2 d2 p3 d3 p4)], 'a durable event is a place on the other nginx too');
my $from_plain = $two->stream('/on/mixed', last_event_id => $place[1]{id});
is_deeply([map { s/ .*//r } $two->got($from_plain, 'p4')], [qw(sse.gap d2 p3 d3 p4)], 'a plain one is one up to the next durable event');

$_->ends_cleanly for @nginx;
done_testing();

sub is_same ($left, $right) { return explain($left) eq explain($right) }

sub source ($name) {
    my $text = SSE::Cluster::slurp("$FindBin::Bin/../lua/$name");
    ok($text ne '', "lua/$name is there");
    return $text;
}

sub script ($channel, @words) { return $writer->call('EVALSHA', $sha, 1, "sse:{sse}:s:$channel", @words) }

sub batch ($nginx, $key, @data) {
    return $nginx->post('news', join('', map { "data: $_\n\n" } @data),
        headers => ['Content-Type' => 'text/event-stream', 'Idempotency-Key' => $key]);
}

# What is behind that event in the list.
sub after ($event, @list) {
    while (@list) { last if shift(@list) eq $event }
    return @list;
}
