# The address of Redis changes, packets between nginx and Redis are lost, and Redis has lost its master. Streams stay
# open, and each event arrives once and in order.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::FakeNames;
use SSE::FaultProxy;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start;

# The host name leads to another address of the same Redis, and the former one is gone.
my $names  = SSE::FakeNames->new('redis.test');
my $before = SSE::FaultProxy->start(to => $redis->port, at => '127.0.0.2');
my $after  = SSE::FaultProxy->start(to => $redis->port, at => '127.0.0.3', port => $before->port);
$names->set('127.0.0.2');
my $near   = SSE::RedisStage->new(redis => $redis->url);
my $moving = $names->in(sub { SSE::RedisStage->new(redis => 'redis://redis.test:' . $before->port) });
my $client = $moving->stream('/on/news');
$moving->publish('news', 'at the first address');
ok($client->wait_data('at the first address'), 'an event arrives from the first address');
cmp_ok($before->count, '>', 0, 'through the first address');
is($after->count, 0, 'and not through the second');
$names->set('127.0.0.3');
$near->publish('news', 'before the move');
$before->refuse;
$before->cut;
$near->publish('news', 'during the move');
ok(wait_for(sub { $after->count > 0 }), 'nginx connects to the second address');
ok($moving->wait_up, 'the hub is connected again');
ok(wait_for(sub { $moving->post('news', 'published there')->{status} == 201 }), 'publishing works at the second address');
$near->publish('news', 'after the move');
my @texts = grep { $_ ne 'published there' } $moving->got($client, 'after the move');
is_deeply(\@texts, ['at the first address', 'before the move', 'during the move', 'after the move'],
    'nothing is lost or repeated when the address changes');
is($before->count, 0, 'the first address is not used any more');
$moving->ends_cleanly;
$_->stop for $before, $after;

# One packet in ten is lost, and has to be sent again.
my $proxy = SSE::FaultProxy->start(to => $redis->port);
my $far   = SSE::RedisStage->new(redis => $proxy->url);
my @clients = map { $far->stream("/on/$_") } 'news', 'news,others';
my $sent_again = sent_again();
$proxy->lose(0.1);
my $publisher = SSE::Publisher->new(port => $near->port, path => '/to/news');
$publisher->stream(100, sub ($number) { "numbered $number" });
my %answers;
for my $number (1 .. 10) {
    $answers{ $far->post('others', "through it $number", headers => ['Idempotency-Key' => $number])->{status} }++;
    serve_for(0.1);
}
$publisher->stop;
ok($publisher->wait_idle, 'another nginx publishes without loss');
is(scalar(grep { !/\A(?:201|503|504)\z/ } keys %answers), 0, 'publishes over the bad connection are accepted or rejected')
    or diag(join ' ', %answers);
cmp_ok(sent_again(), '>', $sent_again, 'packets were lost');
$proxy->pass;
ok($far->wait_up, 'the hub is connected');
for my $number (1 .. 10) {
    ok(wait_for(sub { $far->post('others', "through it $number", headers => ['Idempotency-Key' => $number])->{status} == 201 }),
        "publish $number is accepted in the end");
}
my @numbered = map { "numbered $_" } 1 .. $publisher->{sent};
for my $one (@clients) {
    ok($one->wait_data($numbered[-1], 30), 'all events arrive, although packets were lost');
    is_deeply([grep { /numbered/ } $one->data], \@numbered, 'each event arrives once and in order');
    is(scalar $one->events('sse.gap'), 0, 'without a gap event');
}
ok($clients[1]->wait_data('through it 10'), 'so do those that were published over the bad connection');
my %times;
$times{$_}++ for grep { /through/ } $clients[1]->data;
is_deeply([sort values %times], [(1) x 10], 'each of them once');
$far->ends_cleanly;
$proxy->stop;

# Redis becomes a replica whose master is gone, and does not serve.
my $stage = SSE::RedisStage->new(redis => $redis->url);
$client = $stage->stream('/on/news');
$stage->publish('news', 'before it');
ok($client->wait_data('before it'), 'an event arrives while Redis is a master');
my $known = $stage->lines;
$redis->must('CONFIG', 'SET', 'replica-serve-stale-data', 'no');
$redis->must('REPLICAOF', '127.0.0.1', SSE::Redis::free_port());
$redis->must('CLIENT', 'KILL', 'TYPE', 'pubsub');
like($redis->command('GET', 'x') // '', qr/MASTERDOWN/, 'Redis replies MASTERDOWN') or diag($redis->command('GET', 'x'));
ok(wait_for(sub { $stage->state ne 'up' }, 15), 'a Redis that has lost its master is noticed');
like($stage->post('news', 'refused')->{status}, qr/\A50[34]\z/, 'a publish is rejected meanwhile');
is($client->{openings}, 1, 'the stream stays open');
wait_for(sub { $stage->lines > $known });
my @lines = $stage->lines;
like($lines[-1], qr/has lost its master|is a replica/, 'the log says why');
is(@lines - $known, 1, 'in one line') or diag(join "\n", @lines);
$redis->must('REPLICAOF', 'NO', 'ONE');
ok($_->wait_up, 'the hub is connected again when Redis is a master') for $stage, $near;
$near->publish('news', 'after it');
ok($client->wait_data('after it'), 'events arrive again');
is_deeply([$client->data], ['before it', 'after it'], 'nothing is lost or repeated while the master is gone');
$_->ends_cleanly for $stage, $near;
done_testing();

# The number of TCP segments that this machine has sent again.
sub sent_again {
    my ($names, $values) = map { [split] } SSE::Cluster::slurp('/proc/net/snmp') =~ /^Tcp: (.*)$/mg;
    my %tcp;
    @tcp{@$names} = @$values;
    return $tcp{RetransSegs};
}
