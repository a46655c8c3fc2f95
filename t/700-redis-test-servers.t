# The servers and fault injectors of the Redis tests, tested without nginx.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Time::HiRes qw(time);
use SSE::FakeRedis;
use SSE::FaultProxy;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisCluster;
use SSE::Sentinels;

# The RESP parser, with replies cut at any byte.
my $reply = "+OK\r\n:12\r\n\$5\r\na\r\nbc\r\n\$-1\r\n*3\r\n:1\r\n*0\r\n\$0\r\n\r\n-ERR no\r\n";
for my $cut (0 .. length($reply) - 1) {
    my ($text, @got) = (substr $reply, 0, $cut);
    push @got, SSE::RESP::decode(\$text);
    my $at = pos($text) // 0;
    fail("cut at $cut") if @got && substr($reply, 0, $at) ne "+OK\r\n" || !@got && $cut >= 5;
}
my @values;
pos($reply) = 0;
while (my ($value) = SSE::RESP::decode(\$reply)) { push @values, $value }
is("$values[-1]", 'ERR no', 'an error reply is recognized');
is_deeply([@values[0 .. 4]], ['OK', 12, "a\r\nbc", undef, [1, [], '']], 'replies of all types are parsed');

# One server.
my $redis = SSE::Redis->start(appendonly => 1, unix => 1, tls => 1, notify => 'Kt', config => "hz 50\n",
    users => ['reader on >secret ~* &news +@all -flushall']);
is($redis->command('PING'), 'PONG', 'a server replies');
is($redis->must('CONFIG', 'GET', 'hz')->[1], 50, 'additional configuration is used');
like($redis->command('NO-SUCH'), qr/\AERR unknown command/, 'an error is returned as a reply');
is($redis->connect(unix => $redis->socket_path)->call('PING'), 'PONG', 'it replies on its Unix socket');
my $tls = sprintf "redis-cli --no-auth-warning --tls --cacert '%s' -h 127.0.0.1 -p %d ping", $redis->ca, $redis->tls_port;
is(`$tls`, "PONG\n", 'it replies on its TLS port with a certificate of its CA');
my $reader = $redis->connect(user => 'reader', password => 'secret');
is($reader->call('ACL', 'WHOAMI'), 'reader', 'a user authenticates with a password');
like($reader->call('FLUSHALL'), qr/\ANOPERM/, 'the permissions of the user apply');
is($redis->connect(user => 'reader', password => 'wrong')->call('ACL', 'WHOAMI'), 'default', 'a wrong password is rejected');

# Pub/sub, a flood, and a steady stream.
my @heard;
my $ear = $redis->connect(on_message => sub ($channel, $data) { push @heard, "$channel $data"; return });
ok($ear->subscribe('news', 'sport'), 'channels are subscribed');
is(scalar @{ $redis->client_list('pubsub') }, 1, 'the subscribing connection is in CLIENT LIST');
is(($redis->subscribers($$))[0]{pid}, $$, 'the process of a subscribing connection is known');
is_deeply([$redis->publish('news', 'one', "t\r\no")], [1, 1], 'PUBLISH returns the number of receivers');
ok(wait_for(sub { @heard == 2 }), 'the message arrives');
is_deeply(\@heard, ['news one', "news t\r\no"], 'the message is unchanged');
my $writer = $redis->connect;
ok($writer->flood(map { ['PUBLISH', 'sport', $_] } 1 .. 20_000), '20,000 messages are accepted at once');
ok(wait_for(sub { @heard == 20_002 }, 20), 'they arrive');
is(join(',', @heard[2 .. $#heard]), join(',', map { "sport $_" } 1 .. 20_000), 'in order');
$writer->stream(500, sub ($number) { ['PUBLISH', 'news', "steady $number"] });
serve_for(0.5);
ok($writer->stop, 'a steady stream is stopped when all replies have arrived');
cmp_ok($writer->{answered}, '>', 200, 'with the requested rate');
is($redis->must('CLIENT', 'KILL', 'TYPE', 'pubsub'), 1, 'a connection is killed');
ok(wait_for(sub { !$ear->is_open }), 'its owner notices');

# A server that is killed and restarted, and one that is stopped and continued.
$redis->must('XADD', 'kept', '*', 'a', 'b');
my ($port, $pid) = ($redis->port, $redis->pid);
ok($redis->kill, 'a server is killed');
ok(wait_for(sub { !$writer->is_open }), 'its connections break');
is(eval { $redis->command('PING') } // $@, "Redis does not answer PING\n", 'it does not reply');
ok($redis->start, 'it restarts');
is($redis->port, $port, 'on the same port');
isnt($redis->pid, $pid, 'as a new process');
is($redis->command('XLEN', 'kept'), 1, 'with its data');
$redis->pause;
my $stopped = $redis->connect(timeout => 0.3);
is(eval { $stopped->call('PING') } // $@, "Redis does not answer PING\n", 'a stopped server does not reply');
$redis->resume;
is($redis->command('PING'), 'PONG', 'it replies when it continues');
my $locked = SSE::Redis->start(password => 'sesame');
is($locked->command('PING'), 'PONG', 'a server with a password accepts the right one');
like(SSE::RESP->new(port => $locked->port)->call('PING'), qr/\ANOAUTH/, 'it rejects clients without one');
ok($locked->shutdown, 'a server exits on request');

# The fault proxy.
my $proxy = SSE::FaultProxy->start(to => $redis->port);
my $far   = through();
is($far->call('ECHO', 'x' x 300_000), 'x' x 300_000, 'the proxy forwards');
is($proxy->count, 1, 'it counts connections');
$proxy->delay(0.2);
my $sent = time();
is($far->call('PING'), 'PONG', 'it delays');
cmp_ok(time() - $sent, '>=', 0.4, 'in both directions');
$proxy->split;
is($far->call('ECHO', 'x' x 3000), 'x' x 3000, 'it forwards byte by byte');
$proxy->black_hole;
$far->{timeout} = 0.3;
is(eval { $far->call('PING') } // $@, "Redis does not answer PING\n", 'it forwards nothing');
my $new = through(timeout => 0.3);
is(eval { $new->call('PING') } // $@, "Redis does not answer PING\n", 'it forwards nothing on new connections');
ok($new->is_open, 'connections stay open');
$proxy->pass;
is(through()->call('PING'), 'PONG', 'it forwards again');
is($proxy->cut, 3, 'it resets all connections');
ok(wait_for(sub { !$far->is_open && !$new->is_open }), 'the client notices');
my $kept = through();
$kept->call('PING');
$proxy->refuse;
my $refused = through();
ok(wait_for(sub { !$refused->is_open }), 'it rejects new connections');
is($kept->call('PING'), 'PONG', 'existing connections continue');
$proxy->pass;
is(through()->call('PING'), 'PONG', 'it accepts connections again');
$proxy->stop;
ok(!kill(0, $proxy->pid), 'the proxy process exits');

# The fake Redis.
my $fake = SSE::FakeRedis->start(answer => "+OK\r\n");
is(SSE::RESP->new(port => $fake->port)->call('PING'), 'OK', 'a fake sends the configured reply');
$fake->answer(answer => "\0", close => 1);
is(eval { SSE::RESP->new(port => $fake->port)->call('PING') } // $@, "Redis does not answer PING\n", 'it can send garbage');
is($fake->accepted, 2, 'it counts connections');

# Sentinels.
my $sentinels = SSE::Sentinels->start;
my ($first, $second) = ($sentinels->master, $sentinels->replica);
$first->must('SET', 'a', 'b');
$first->must('WAIT', 1, 1000);
$first->kill;
ok($sentinels->wait_switched, 'the Sentinels fail over when the master is killed');
is($sentinels->master, $second, 'to the other server');
is($second->command('GET', 'a'), 'b', 'with the data of the first');
like($sentinels->url, qr{\Aredis\+sentinel://127\.0\.0\.1:\d+,127\.0\.0\.1:\d+,127\.0\.0\.1:\d+/events\z}, 'the URL has all Sentinels');

# A cluster.
my $cluster = SSE::RedisCluster->start;
my $key     = 'sse:{sse}:clock';
my $owner   = $cluster->owner($key);
is($owner->command('SET', $key, 'x'), 'OK', 'a key is served by the node that the cluster names');
my $other = $cluster->other_master($owner);
like($other->command('GET', $key), qr/\AMOVED/, 'other nodes redirect');
ok($cluster->migrate($key, $other), 'a slot moves');
is($other->command('GET', $key), 'x', 'with its keys');
ok($cluster->kill_owner($key), 'another node takes over from a killed one');
isnt($cluster->owner($key), $other, 'the cluster names the new owner');
is($cluster->owner($key)->command('GET', $key), 'x', 'with its data');
is($cluster->living, 5, 'five nodes are left');

done_testing();

sub through (%options) { return SSE::RESP->new(port => $proxy->port, %options) }
