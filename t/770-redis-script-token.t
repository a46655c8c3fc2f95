# The token that identifies messages of the publish script is never predictable. If Redis and nginx cannot
# agree on one, messages are trusted only if the Redis stream of the channel confirms them, and nothing is
# lost.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $history = 'sse:{sse}:history';
my $script  = SSE::Cluster::slurp("$FindBin::Bin/../lua/publish.lua");
my @users   = ('reader on >secret ~* &* +@all -hset -hsetnx');
my $redis   = SSE::Redis->start(users => \@users);

# At the first connection Redis is out of memory, or the key has another type or a known token.
my %unwilling = (
    'is full'                => [sub { $redis->must('CONFIG', 'SET', 'maxmemory', 1) }, sub { $redis->must('CONFIG', 'SET', 'maxmemory', 0) }],
    'has a key of its kind'  => [sub { $redis->must('SET', $history, 'x') }, sub { $redis->must('DEL', $history) }],
    'has a known value'      => [sub { $redis->must('HSET', $history, 'token', '-') }, sub { }],
);
for my $case (sort keys %unwilling) {
    my ($begin, $end) = @{ $unwilling{$case} };
    $redis->must('FLUSHALL');
    $redis->must('EVAL', $script, 1, 'sse:{sse}:s:news', 'earlier');
    $begin->();
    my @nginx  = map { SSE::RedisStage->new(redis => $redis->url) } 1, 2;
    my @client = map { $_->stream('/on/news') } @nginx;
    forge('-') if $case ne 'has a known value';
    $redis->publish('news', 'plain');
    ok($_->wait_data('plain'), "Redis $case: plain messages arrive") for @client;
    is(scalar(grep { $_->data ne 1 || ($_->data)[0] ne 'plain' } @client), 0, 'forged ones do not arrive');
    $end->();
    my ($id) = $nginx[0]->publish('news', 'durable');
    ok($_->wait_data('durable'), 'durable events arrive') for @client;
    ok(wait_for(sub { token() =~ /\A[0-9a-f]{32}\z/ }, 10), 'then a token is stored');
    forge('-');
    forge('');
    $nginx[1]->publish('news', 'last');
    is_deeply([$nginx[0]->got($_, 'last')], ['plain', 'durable', 'last'], 'messages without it are not trusted') for @client;
    my @lines = map { $_->cluster->wait_lines(qr{\[(?:notice|warn|error)\].*secret}, $case eq 'has a known value' ? 0 : 1) } @nginx;
    is(scalar @lines, $case eq 'has a known value' ? 0 : 2, 'each nginx logs it once') or diag(join "\n", @lines);
    unlike(join('', map { $_->cluster->error_log } @nginx), qr/[0-9a-f]{32}/, 'the log does not contain the token');
    $_->ends_cleanly for @nginx;
}

# The token changes on a live connection.
$redis->must('FLUSHALL');
my @nginx  = map { SSE::RedisStage->new(redis => $redis->url, workers => 2, http => 'sse_drain 100ms;') } 1, 2;
my @client = map { $_->stream('/on/news', reconnect => 1) } @nginx;
for my $other ('0' x 32, '-', 'f' x 32) {
    $redis->must('HSET', $history, 'token', $other);
    $nginx[0]->publish('news', "with $other $_") for 1 .. 5;
    for my $client (@client) {
        ok($client->wait_data("with $other 5"), 'events with another token arrive');
        is(join(' ', grep { /with \Q$other/ } $client->data), join(' ', map { "with $other $_" } 1 .. 5), 'all of them arrive');
    }
}

# nginx may not write the token: every event is looked up, through new connections, reloads, and a killed
# worker.
$redis->must('FLUSHALL');
my $reading = SSE::RedisStage->new(redis => $redis->url =~ s{//}{//reader:secret\@}r, workers => 2, http => 'sse_drain 100ms;');
my $number = 0;
durable();
$redis->must('HDEL', $history, 'token');
$_->ends_cleanly for @nginx;
my $client = $reading->stream('/on/news', reconnect => 1);
$redis->must('HDEL', $history, 'token');
durable() for 1 .. 5;
$redis->must('CLIENT', 'KILL', 'TYPE', 'pubsub');
durable() for 1 .. 20;
ok($reading->wait_up, 'the hub reconnects');
durable() for 1 .. 5;
ok($reading->cluster->reload, 'a reload');
for (1 .. 60) { durable(); serve_for(0.02) }
my $holder = $reading->holder($redis);
ok($reading->cluster->kill_worker($holder), 'a kill');
for (1 .. 60) { durable(); serve_for(0.02) }
ok($client->wait_data($number, 15), 'the last event arrives');
is(join(' ', sort { $a <=> $b } grep { /\A\d+\z/ } $client->data), join(' ', 2 .. $number), 'all events arrive, each once');
is(scalar $client->events('sse.gap'), 0, 'without a gap event');
forge('-');
durable();
ok($client->wait_data($number), 'the next event arrives');
is(scalar(grep { /forged/ } $client->data), 0, 'nothing forged arrives');
ok(scalar $reading->cluster->wait_lines(qr/secret.*NOPERM|NOPERM.*secret/), 'the log has the reason for the lookups');

$reading->ends_cleanly;
done_testing();

sub durable { return $redis->must('EVAL', $script, 1, 'sse:{sse}:s:news', ++$number) }

sub token { return ($redis->ask('HGET', $history, 'token')) }

# Publishes a message in the form of the script with an id in the far future, which would stop all
# publishing if it was trusted.
sub forge ($token) { return $redis->publish('news', "\x01sse $token 99999999999999-0 0-0 0\nforged") }
