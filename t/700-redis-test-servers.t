# The servers and faults that the tests with Redis are made of, by themselves, without nginx.

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

# The parser, cut anywhere.
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
is("$values[-1]", 'ERR no', 'an error is read as one');
is_deeply([@values[0 .. 4]], ['OK', 12, "a\r\nbc", undef, [1, [], '']], 'answers of all kinds are read');

# One server.
my $redis = SSE::Redis->start(appendonly => 1, unix => 1, tls => 1, notify => 'Kt', config => "hz 50\n",
    users => ['reader on >secret ~* &news +@all -flushall']);
is($redis->command('PING'), 'PONG', 'a server answers');
is($redis->must('CONFIG', 'GET', 'hz')->[1], 50, 'further lines of its configuration count');
like($redis->command('NO-SUCH'), qr/\AERR unknown command/, 'an error is an answer');
is($redis->connect(unix => $redis->socket_path)->call('PING'), 'PONG', 'it answers on its socket');
my $tls = sprintf "redis-cli --no-auth-warning --tls --cacert '%s' -h 127.0.0.1 -p %d ping", $redis->ca, $redis->tls_port;
is(`$tls`, "PONG\n", 'and on its TLS port, with a certificate that its CA vouches for');
my $reader = $redis->connect(user => 'reader', password => 'secret');
is($reader->call('ACL', 'WHOAMI'), 'reader', 'users come in by their password');
like($reader->call('FLUSHALL'), qr/\ANOPERM/, 'and may do what they may');
is($redis->connect(user => 'reader', password => 'wrong')->call('ACL', 'WHOAMI'), 'default', 'another password is refused');

# Pub/sub, a flood, and a steady stream.
my @heard;
my $ear = $redis->connect(on_message => sub ($channel, $data) { push @heard, "$channel $data"; return });
ok($ear->subscribe('news', 'sport'), 'channels are subscribed');
is(scalar @{ $redis->client_list('pubsub') }, 1, 'which CLIENT LIST shows');
is(($redis->subscribers($$))[0]{pid}, $$, 'with the process that it comes from');
is_deeply([$redis->publish('news', 'one', "t\r\no")], [1, 1], 'a message has its receivers counted');
ok(wait_for(sub { @heard == 2 }), 'and comes');
is_deeply(\@heard, ['news one', "news t\r\no"], 'as it was');
my $writer = $redis->connect;
ok($writer->flood(map { ['PUBLISH', 'sport', $_] } 1 .. 20_000), '20,000 at once are taken');
ok(wait_for(sub { @heard == 20_002 }, 20), 'and come');
is(join(',', @heard[2 .. $#heard]), join(',', map { "sport $_" } 1 .. 20_000), 'in order');
$writer->stream(500, sub ($number) { ['PUBLISH', 'news', "steady $number"] });
serve_for(0.5);
ok($writer->stop, 'a steady stream ends with its answers');
cmp_ok($writer->{answered}, '>', 200, 'and has its rate');
is($redis->must('CLIENT', 'KILL', 'TYPE', 'pubsub'), 1, 'a connection is killed');
ok(wait_for(sub { !$ear->is_open }), 'which its owner sees');

# It dies and comes back; it is stopped and goes on.
$redis->must('XADD', 'kept', '*', 'a', 'b');
my ($port, $pid) = ($redis->port, $redis->pid);
ok($redis->kill, 'a server is killed');
ok(wait_for(sub { !$writer->is_open }), 'its connections break');
is(eval { $redis->command('PING') } // $@, "Redis does not answer PING\n", 'it does not answer');
ok($redis->start, 'it comes back');
is($redis->port, $port, 'on its port');
isnt($redis->pid, $pid, 'as another process');
is($redis->command('XLEN', 'kept'), 1, 'and has what it had');
$redis->pause;
my $stopped = $redis->connect(timeout => 0.3);
is(eval { $stopped->call('PING') } // $@, "Redis does not answer PING\n", 'a stopped server does not answer');
$redis->resume;
is($redis->command('PING'), 'PONG', 'and answers when it goes on');
my $locked = SSE::Redis->start(password => 'sesame');
is($locked->command('PING'), 'PONG', 'a server with a password lets its own in');
like(SSE::RESP->new(port => $locked->port)->call('PING'), qr/\ANOAUTH/, 'and nobody else');
ok($locked->shutdown, 'a server ends when it is asked to');

# The bad network.
my $proxy = SSE::FaultProxy->start(to => $redis->port);
my $far   = through();
is($far->call('ECHO', 'x' x 300_000), 'x' x 300_000, 'the proxy carries');
is($proxy->count, 1, 'and counts');
$proxy->delay(0.2);
my $sent = time();
is($far->call('PING'), 'PONG', 'it delays');
cmp_ok(time() - $sent, '>=', 0.4, 'both ways');
$proxy->split;
is($far->call('ECHO', 'x' x 3000), 'x' x 3000, 'it carries byte by byte');
$proxy->hole;
$far->{timeout} = 0.3;
is(eval { $far->call('PING') } // $@, "Redis does not answer PING\n", 'it carries nothing');
my $new = through(timeout => 0.3);
is(eval { $new->call('PING') } // $@, "Redis does not answer PING\n", 'also for those who come');
ok($new->is_open, 'and stays open');
$proxy->pass;
is(through()->call('PING'), 'PONG', 'it carries again');
is($proxy->cut, 3, 'it cuts all connections');
ok(wait_for(sub { !$far->is_open && !$new->is_open }), 'which is seen');
my $kept = through();
$kept->call('PING');
$proxy->refuse;
my $refused = through();
ok(wait_for(sub { !$refused->is_open }), 'it refuses');
is($kept->call('PING'), 'PONG', 'but for those who are there');
$proxy->pass;
is(through()->call('PING'), 'PONG', 'and accepts again');
$proxy->stop;
ok(!kill(0, $proxy->pid), 'it ends');

# What is no Redis.
my $fake = SSE::FakeRedis->start(answer => "+OK\r\n");
is(SSE::RESP->new(port => $fake->port)->call('PING'), 'OK', 'a fake answers what it is told');
$fake->answer(answer => "\0", close => 1);
is(eval { SSE::RESP->new(port => $fake->port)->call('PING') } // $@, "Redis does not answer PING\n", 'be it nonsense');
is($fake->accepted, 2, 'and counts who comes');

# Sentinels.
my $sentinels = SSE::Sentinels->start;
my ($first, $second) = ($sentinels->master, $sentinels->replica);
$first->must('SET', 'a', 'b');
$first->must('WAIT', 1, 1000);
$first->kill;
ok($sentinels->wait_switched, 'Sentinels switch when the master is killed');
is($sentinels->master, $second, 'to the other server');
is($second->command('GET', 'a'), 'b', 'which has what the first had');
like($sentinels->url, qr{\Aredis\+sentinel://127\.0\.0\.1:\d+,127\.0\.0\.1:\d+,127\.0\.0\.1:\d+/events\z}, 'and have an address');

# A cluster.
my $cluster = SSE::RedisCluster->start;
my $key     = 'sse:{sse}:clock';
my $owner   = $cluster->owner($key);
is($owner->command('SET', $key, 'x'), 'OK', 'a cluster serves a key where it says');
my $other = $cluster->other_master($owner);
like($other->command('GET', $key), qr/\AMOVED/, 'and nowhere else');
ok($cluster->migrate($key, $other), 'a slot moves');
is($other->command('GET', $key), 'x', 'with what is in it');
ok($cluster->kill_owner($key), 'a node is killed and another takes its part');
isnt($cluster->owner($key), $other, 'as the cluster says');
is($cluster->owner($key)->command('GET', $key), 'x', 'which has what it had');
is($cluster->living, 5, 'five nodes are left');

done_testing();

sub through (%options) { return SSE::RESP->new(port => $proxy->port, %options) }
