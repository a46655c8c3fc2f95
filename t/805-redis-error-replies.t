# A Redis that replies with errors: a subscriber that reads too slowly, out of memory, flushed, empty after
# a restart, forbidden channels, loading, a replica, busy. What Redis rejects is rejected in time,
# everything else works, and all works again when the cause is gone.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::EventIds qw(by_id);
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;
use SSE::TimerLatency;

my $lateness = SSE::TimerLatency->measure;

# nginx does not read for a while, and Redis disconnects it.
my $strict  = SSE::Redis->start;
my @readers = map { SSE::RedisStage->new(redis => $strict->url, workers => 1, hub => 'zone 64m; history 2000;') } 1, 2;
my $reader  = $readers[0]->stream('/on/news');
my ($worker) = $readers[0]->cluster->workers;
my $before   = subscription($worker);
$strict->must('CONFIG', 'SET', 'client-output-buffer-limit', 'pubsub 1mb 1mb 1');
$readers[0]->cluster->pause($worker);
$readers[1]->publish('news', map { "$_ " . 'x' x 60_000 } 1 .. 400);
ok(wait_for(sub { !$strict->subscribers($worker) }), 'Redis disconnects a subscriber that does not read');
$readers[0]->cluster->resume($worker);
ok(wait_for(sub { $reader->data >= 400 }, 20), 'when it reads again');
ok(join(' ', map { (split)[0] } $reader->data) eq join(' ', 1 .. 400), 'its clients receive all durable events once and in order')
    or diag(scalar $reader->data, ' events');
isnt(subscription($worker), $before, 'through a new connection');
is(scalar $reader->events('sse.gap'), 0, 'without a gap event');
$_->ends_cleanly for @readers;

my $redis = SSE::Redis->start(config => "lua-time-limit 200\n");
my ($stage, $other) = map { SSE::RedisStage->new(redis => $redis->url, workers => 1) } 1, 2;
my $client = $stage->stream('/on/news');

# Redis is out of memory.
$redis->must('CONFIG', 'SET', 'maxmemory', 1);
my $full = $stage->post('news', 'too much');
like($full->{status}, qr/\A50[37]\z/, "Redis is out of memory: a publish receives $full->{status}");
$redis->publish('news', 'plain goes on');
ok($client->wait_data('plain goes on'), 'plain messages still arrive');
my $late = $stage->stream('/on/late');
$redis->publish('late', 'here too');
ok($late->wait_data('here too'), 'also on new channels');
$redis->must('CONFIG', 'SET', 'maxmemory', 0);
is($stage->post('news', 'fits again')->{status}, 201, 'with free memory publishing works again');
ok($client->wait_data('fits again'), 'the event arrives');
is(scalar(grep { $_ eq 'too much' } $client->data), 0, 'the rejected event does not arrive');

# FLUSHALL.
my ($kept) = grep { $_->{data} eq 'fits again' } $client->events('message');
$redis->must('FLUSHALL');
$redis->must('SCRIPT', 'FLUSH');
my ($next) = $stage->publish('news', 'after the flood');
ok($client->wait_data('after the flood'), 'after FLUSHALL the next event arrives');
cmp_ok(by_id($kept->{id}, $next), '<', 0, 'it has a higher id');
$redis->publish('news', 'plain after the flood');
ok($client->wait_data('plain after the flood'), 'the next plain message arrives');
my $back = $stage->stream('/on/news', last_event_id => $kept->{id});
my ($gap, @rest) = $stage->got($back, 'plain after the flood');
like($gap, qr/\Asse\.gap /, 'a returning client receives a gap event');
is_deeply(\@rest, ['after the flood', 'plain after the flood'], 'then it receives the remaining events');

# The key of a channel has another type: that channel has no events, others are not affected.
$redis->must('SET', 'sse:{sse}:s:odd', 'x');
my $odd = SSE::Client->new(port => $stage->port, path => '/on/odd,news');
ok(wait_for(sub { $odd->{last_event_id} ne '' }), 'a channel whose key is not a Redis stream can be opened');
my $refused = $stage->post('odd', 'x');
like($refused->{status}, qr/\A50\d\z/, "a publish to that channel receives $refused->{status}");
is($stage->post('news', 'beside it')->{status}, 201, 'other channels can be published to');
ok($_->wait_data('beside it'), 'their events arrive') for $client, $odd;
is($stage->state, 'up', 'the hub stays connected');
$redis->must('DEL', 'sse:{sse}:s:odd');

# Redis restarts without data.
$redis->kill;
$redis->start;
ok($_->wait_up, 'nginx connects to a Redis that has lost its data') for $stage, $other;
my ($again) = $other->publish('news', 'after the restart');
ok($client->wait_data('after the restart'), 'the next event arrives');
cmp_ok(by_id($next, $again), '<', 0, 'it has a higher id');

# A channel is forbidden.
my $guarded = SSE::Redis->start(users => ['app on >pass ~* &* +@all']);
my $limited = SSE::RedisStage->new(redis => 'redis://app:pass@127.0.0.1:' . $guarded->port);
my @open    = map { $limited->stream("/on/open-$_") } 1 .. 3;
my $closed  = $limited->stream('/on/closed');
$guarded->must('ACL', 'SETUSER', 'app', 'resetchannels', '&open-*', '&sse:*');
ok(wait_for(sub { $limited->state ne 'up' || $limited->reconnects > 0 }, 5), 'removing permissions closes the connection');
ok($limited->wait_up, 'nginx reconnects');
ok(wait_for(sub { join(' ', @{ $guarded->must('PUBSUB', 'NUMSUB', map { "open-$_" } 1 .. 3) }) eq 'open-1 1 open-2 1 open-3 1' }, 10),
    'it subscribes to the permitted channels');
$guarded->publish("open-$_", 'still open') for 1 .. 3;
ok($_->wait_data('still open'), 'their messages arrive') for @open;
my $more = SSE::Client->new(port => $limited->port, path => '/on/open-4');
ok(wait_for(sub { $more->{last_event_id} ne '' }), 'a new channel that is allowed opens');
$guarded->publish('open-4', 'new');
ok($more->wait_data('new'), 'its messages arrive');
my @lines = $limited->cluster->wait_lines(qr{\[(?:notice|warn|error)\](?=.*redis).*(?:closed|NOPERM|ACL|permission)}i);
cmp_ok(scalar @lines, '>=', 1, 'the log has a line about the forbidden channel');
cmp_ok(scalar @lines, '<=', 2, 'the line is not repeated') or diag(join "\n", @lines);
$guarded->must('ACL', 'SETUSER', 'app', 'allchannels');
ok(wait_for(sub { $guarded->must('PUBSUB', 'NUMSUB', 'closed')->[1] == 1 }, 60), 'once it is allowed it is subscribed');
$guarded->publish('closed', 'open again');
ok($closed->wait_data('open again'), 'its messages arrive');

# A replica, an endless script, and a loading Redis.
$redis->must('REPLICAOF', '127.0.0.1', $guarded->port);
ok(wait_for(sub { $stage->post('news', 'read only')->{status} == 503 }), 'a replica rejects publishes: 503');
$redis->must('REPLICAOF', 'NO', 'ONE');
ok(wait_for(sub { $stage->post('news', 'master again')->{status} == 201 }), 'a master accepts publishes');
ok($client->wait_data('master again'), 'the event arrives');
my $endless = $redis->connect;
$endless->send(['EVAL', 'while true do end', 0]);
ok(wait_for(sub { ($redis->command('PING') // '') =~ /\ABUSY/ }), 'a script keeps Redis busy');
my $busy = $stage->post('news', 'busy', headers => ['Idempotency-Key' => 'busy']);
like($busy->{status}, qr/\A50[34]\z/, "a publish to a busy Redis receives $busy->{status}");
$redis->must('SCRIPT', 'KILL');
ok(wait_for(sub { $stage->post('news', 'busy', headers => ['Idempotency-Key' => 'busy'])->{status} == 201 }), 'a publish is accepted when the script has ended');
ok($client->wait_data('busy'), 'the event arrives');
my $slow = SSE::Redis->start(appendonly => 1, config => "key-load-delay 500\n");
my $wait = SSE::RedisStage->new(redis => $slow->url);
my $eager = $wait->stream('/on/news');
$wait->publish('news', 'before');
$slow->connect->flood(map { ['SET', "key $_", 'x' x 100] } 1 .. 8000);
$slow->kill;
$slow->launch;
ok(wait_for(sub { ($slow->ask('PING') || eval { $slow->command('PING') } || '') =~ /\ALOADING/ }), 'Redis is loading its data');
my $loading = $wait->post('news', 'loading');
like($loading->{status}, qr/\A50[34]\z/, "a publish to a loading Redis receives $loading->{status}");
cmp_ok($loading->{took}, '<', 2.5 + 3 * $lateness->worst, 'a publish receives its response after two seconds at the latest');
ok(wait_for(sub { $wait->post('news', 'loaded')->{status} == 201 }, 20), 'a publish is accepted when the data is loaded');
is_deeply([grep { $_ ne 'loading' } $wait->got($eager, 'loaded')], ['before', 'loaded'], 'the event arrives');

# Each of them arrived once.
my %times;
$times{$_}++ for $client->data;
my @once = ('plain goes on', 'fits again', 'after the flood', 'plain after the flood', 'beside it', 'after the restart', 'master again', 'busy');
is_deeply([map { $times{$_} } @once], [(1) x @once], 'through all of this each event arrived once');
is_deeply([map { scalar $_->data } @open, $closed], [1, 1, 1, 1], 'and each message of the channels with permissions');

$_->ends_cleanly for $stage, $other, $limited, $wait;
done_testing();

# The id of the subscribing connection in Redis.
sub subscription ($pid) {
    my @held = $strict->subscribers($pid);
    return $held[0] ? $held[0]{id} : 0;
}
