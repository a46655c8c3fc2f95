# redis_source stream: notify-keyspace-events or the permissions of nginx change on a live connection. The
# streams are then read by the other method, the change is logged once, and nothing is lost.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start(notify => 'Kt', users => ['app on >secret ~* &* +@all']);
my @nginx = map { SSE::RedisStage->new(redis => $_, hub => 'redis_source stream;', http => 'sse_drain 100ms;') }
    $redis->url, $redis->url =~ s{//}{//app:secret\@}r;
my ($one, $two) = @nginx;
my $many    = join ',', map { "quiet:$_" } 1 .. 60;
my @client  = map { my $nginx = $_; map { $nginx->stream("/on/$_", reconnect => 1) } 'news', "news,$many" } @nginx;
my @others  = map { my $n = $_; $one->stream('/on/' . join ',', map { "other:$n:$_" } 1 .. 64) } 1 .. 4;
my $number  = 0;
add(3);
all_came('Redis reports');

my $changes = 0;
for my $flags ('', 'KEA', 'Es', 'Kt') {
    add(2);
    $redis->must('CONFIG', 'SET', 'notify-keyspace-events', $flags);
    add(5);
    all_came("notify-keyspace-events is '$flags'");
    $changes++;
    ok(wait_for(sub { !grep { lines_of($_) != $changes } @nginx }, 10), 'the change is logged once')
        or diag(join "\n", map { $_->lines } @nginx);
}
add(2);
all_came('the setting is restored');

# Changed and changed back before nginx checks.
for (1 .. 3) {
    $redis->must('CONFIG', 'SET', 'notify-keyspace-events', '');
    add(2);
    $redis->must('CONFIG', 'SET', 'notify-keyspace-events', 'Kt');
    all_came('changed for a moment');
}

# The setting can no longer be read. A heartbeat may have met it while it was changed: the next one then
# reports that it is back.
ok(wait_for(sub { lines_of($two, qr/no longer reports/) == lines_of($two, qr/Redis reports/) }, 10), 'what was changed for a moment is noticed as restored');
my $before = lines_of($two);
$redis->must('ACL', 'SETUSER', 'app', '-config');
ok(wait_for(sub { lines_of($two) > $before }, 10), 'a setting that can no longer be read is logged');
$redis->must('CONFIG', 'SET', 'notify-keyspace-events', '');
add(3);
all_came('the setting cannot be read');

# New connections and new workers.
$redis->must('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
$redis->must('CLIENT', 'KILL', 'TYPE', 'pubsub');
add(3);
ok($_->cluster->reload, 'nginx reloads') for @nginx;
add(3);
$redis->must('CONFIG', 'SET', 'notify-keyspace-events', 'Kt');
add(3);
ok($_->cluster->wait_old_workers_gone(8), 'the old workers exit') for @nginx;
add(3);
all_came('after reloads');
is(scalar(grep { $_->events('sse.gap') } @client), 0, 'no gap event is sent');
ok($_->wait_up, 'the hub is connected') for @nginx;

$_->ends_cleanly for @nginx;
done_testing();

sub add ($count) {
    $redis->must('XADD', 'news', '*', data => 'e' . ++$number) for 1 .. $count;
    return;
}

sub lines_of ($nginx, $pattern = qr/./) { return scalar(grep { /new stream entries/ && $_ =~ $pattern } $nginx->lines) }

sub all_came ($what) {
    my $all = join ' ', map { "e$_" } 1 .. $number;
    for my $client (@client) {
        wait_for(sub { scalar(grep { /\Ae\d/ } $client->data) >= $number }, 15);
        is(join(' ', grep { /\Ae\d/ } $client->data), $all, "$what: all $number events arrive once and in order");
    }
    return;
}
