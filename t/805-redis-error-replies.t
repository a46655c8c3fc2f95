# A Redis that is there and refuses: too slow a reader, no memory, everything flushed, empty after a restart,
# channels forbidden, still loading, a replica, busy. What it cannot do is refused in time, what it can do
# goes on, and all is well once it is.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::EventIds qw(by_id);
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

# R5: nginx does not read for a while, and Redis drops it.
my $strict  = SSE::Redis->start;
my @readers = map { SSE::RedisStage->new(redis => $strict->url, workers => 1, hub => 'zone 64m; history 2000;') } 1, 2;
my $reader  = $readers[0]->stream('/on/news');
my ($worker) = $readers[0]->cluster->workers;
my $before   = subscription($worker);
$strict->must('CONFIG', 'SET', 'client-output-buffer-limit', 'pubsub 1mb 1mb 1');
$readers[0]->cluster->pause($worker);
$readers[1]->publish('news', map { "$_ " . 'x' x 60_000 } 1 .. 400);
ok(wait_for(sub { !$strict->subscribers($worker) }), 'Redis drops a subscriber that does not read');
$readers[0]->cluster->resume($worker);
ok(wait_for(sub { $reader->data >= 400 }, 20), 'when it reads again');
ok(join(' ', map { (split)[0] } $reader->data) eq join(' ', 1 .. 400), 'its clients get all durable events, once and in order')
    or diag(scalar $reader->data, ' events');
isnt(subscription($worker), $before, 'over another connection');
is(scalar $reader->events('sse.gap'), 0, 'without a gap');
$_->ends_cleanly for @readers;

my $redis = SSE::Redis->start(config => "lua-time-limit 200\n");
my ($stage, $other) = map { SSE::RedisStage->new(redis => $redis->url, workers => 1) } 1, 2;
my $client = $stage->stream('/on/news');

# R6: no memory.
$redis->must('CONFIG', 'SET', 'maxmemory', 1);
my $full = $stage->post('news', 'too much');
like($full->{status}, qr/\A50[37]\z/, "a Redis without memory: who publishes is answered $full->{status}");
$redis->publish('news', 'plain goes on');
ok($client->wait_data('plain goes on'), 'plain messages go on');
my $late = $stage->stream('/on/late');
$redis->publish('late', 'here too');
ok($late->wait_data('here too'), 'for new channels as well');
$redis->must('CONFIG', 'SET', 'maxmemory', 0);
is($stage->post('news', 'fits again')->{status}, 201, 'with memory all is well');
ok($client->wait_data('fits again'), 'and comes');
is(scalar(grep { $_ eq 'too much' } $client->data), 0, 'what was refused does not');

# R7: everything is flushed.
my ($kept) = grep { $_->{data} eq 'fits again' } $client->events('message');
$redis->must('FLUSHALL');
$redis->must('SCRIPT', 'FLUSH');
my ($next) = $stage->publish('news', 'after the flood');
ok($client->wait_data('after the flood'), 'after FLUSHALL the next event comes');
cmp_ok(by_id($kept->{id}, $next), '<', 0, 'with a higher id');
$redis->publish('news', 'plain after the flood');
ok($client->wait_data('plain after the flood'), 'and the next message');
my $back = $stage->stream('/on/news', last_event_id => $kept->{id});
my ($gap, @rest) = $stage->got($back, 'plain after the flood');
like($gap, qr/\Asse\.gap /, 'who returns is told that Redis may have lost something');
is_deeply(\@rest, ['after the flood', 'plain after the flood'], 'and has the rest');

# A key of another kind stands where a channel's events should be: that channel has none, the others do.
$redis->must('SET', 'sse:{sse}:s:odd', 'x');
my $odd = SSE::Client->new(port => $stage->port, path => '/on/odd,news');
ok(wait_for(sub { $odd->{last_event_id} ne '' }), 'a stream of a channel whose key is no stream opens');
my $refused = $stage->post('odd', 'x');
like($refused->{status}, qr/\A50\d\z/, "who publishes there is answered $refused->{status}");
is($stage->post('news', 'beside it')->{status}, 201, 'on others one can');
ok($_->wait_data('beside it'), 'and hear') for $client, $odd;
is($stage->state, 'up', 'the hub is joined all the time');
$redis->must('DEL', 'sse:{sse}:s:odd');

# R2: it comes back with nothing.
$redis->kill;
$redis->start;
ok($_->wait_up, 'nginx is joined to a Redis that has forgotten all') for $stage, $other;
my ($again) = $other->publish('news', 'after the restart');
ok($client->wait_data('after the restart'), 'and the next event comes');
cmp_ok(by_id($next, $again), '<', 0, 'with a higher id');

# R12: a channel is forbidden.
my $guarded = SSE::Redis->start(users => ['app on >pass ~* &* +@all']);
my $limited = SSE::RedisStage->new(redis => 'redis://app:pass@127.0.0.1:' . $guarded->port);
my @open    = map { $limited->stream("/on/open-$_") } 1 .. 3;
my $closed  = $limited->stream('/on/closed');
$guarded->must('ACL', 'SETUSER', 'app', 'resetchannels', '&open-*', '&sse:*');
ok(wait_for(sub { $limited->state ne 'up' || $limited->reconnects > 0 }, 5), 'rights are taken, and with them the connection');
ok($limited->wait_up, 'nginx comes back');
ok(wait_for(sub { join(' ', @{ $guarded->must('PUBSUB', 'NUMSUB', map { "open-$_" } 1 .. 3) }) eq 'open-1 1 open-2 1 open-3 1' }, 10),
    'and subscribes to what it may');
$guarded->publish("open-$_", 'still open') for 1 .. 3;
ok($_->wait_data('still open'), 'which is heard') for @open;
my $more = SSE::Client->new(port => $limited->port, path => '/on/open-4');
ok(wait_for(sub { $more->{last_event_id} ne '' }), 'a new channel that is allowed opens');
$guarded->publish('open-4', 'new');
ok($more->wait_data('new'), 'and is heard');
my @lines = $limited->cluster->wait_lines(qr{\[(?:notice|warn|error)\](?=.*redis).*(?:closed|NOPERM|ACL|permission)}i);
cmp_ok(scalar @lines, '>=', 1, 'the log says that one is forbidden');
cmp_ok(scalar @lines, '<=', 2, 'but not again and again') or diag(join "\n", @lines);
$guarded->must('ACL', 'SETUSER', 'app', 'allchannels');
ok(wait_for(sub { $guarded->must('PUBSUB', 'NUMSUB', 'closed')->[1] == 1 }, 60), 'once it is allowed it is subscribed');
$guarded->publish('closed', 'open again');
ok($closed->wait_data('open again'), 'and heard');

# R17: a replica, a script that does not end, a Redis that loads.
$redis->must('REPLICAOF', '127.0.0.1', $guarded->port);
ok(wait_for(sub { $stage->post('news', 'read only')->{status} == 503 }), 'a replica takes nothing: 503');
$redis->must('REPLICAOF', 'NO', 'ONE');
ok(wait_for(sub { $stage->post('news', 'master again')->{status} == 201 }), 'a master does');
ok($client->wait_data('master again'), 'and it comes');
my $endless = $redis->connect;
$endless->send(['EVAL', 'while true do end', 0]);
ok(wait_for(sub { ($redis->command('PING') // '') =~ /\ABUSY/ }), 'a script keeps Redis busy');
my $busy = $stage->post('news', 'busy', headers => ['Idempotency-Key' => 'busy']);
like($busy->{status}, qr/\A50[34]\z/, "who publishes is answered $busy->{status}");
$redis->must('SCRIPT', 'KILL');
ok(wait_for(sub { $stage->post('news', 'busy', headers => ['Idempotency-Key' => 'busy'])->{status} == 201 }), 'when it is over it is taken');
ok($client->wait_data('busy'), 'and comes');
my $slow = SSE::Redis->start(appendonly => 1, config => "key-load-delay 500\n");
my $wait = SSE::RedisStage->new(redis => $slow->url);
my $eager = $wait->stream('/on/news');
$wait->publish('news', 'before');
$slow->connect->flood(map { ['SET', "key $_", 'x' x 100] } 1 .. 8000);
$slow->kill;
$slow->launch;
ok(wait_for(sub { ($slow->ask('PING') || eval { $slow->command('PING') } || '') =~ /\ALOADING/ }), 'a Redis loads what it had');
my $loading = $wait->post('news', 'loading');
like($loading->{status}, qr/\A50[34]\z/, "who publishes is answered $loading->{status}");
cmp_ok($loading->{took}, '<', 2.5, 'in time');
ok(wait_for(sub { $wait->post('news', 'loaded')->{status} == 201 }, 20), 'when it has loaded it is taken');
is_deeply([grep { $_ ne 'loading' } $wait->got($eager, 'loaded')], ['before', 'loaded'], 'and comes');

$_->ends_cleanly for $stage, $other, $limited, $wait;
done_testing();

# The number that Redis gave the subscribing connection.
sub subscription ($pid) {
    my @held = $strict->subscribers($pid);
    return $held[0] ? $held[0]{id} : 0;
}
