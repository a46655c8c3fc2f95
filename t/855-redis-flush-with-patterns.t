# Redis loses the keys of the hub while only streams with patterns exist: no acknowledged event is lost for
# them.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start;
my @nginx = map {
    SSE::RedisStage->new(redis => $redis->url, workers => 2, http => 'sse_drain 100ms;',
        server => 'location ~ ^/like/(.+)$ { sse_stream $1 split=, pattern; }')
} 1, 2;
my ($one, $two) = @nginx;
my @client = map { my $nginx = $_; map { $nginx->stream("/like/$_", reconnect => 1) } 'room:%2A', 'room:%2A,%2A:2,r%2A' } @nginx;
my $number = 0;

for my $loss (['FLUSHALL'], ['DEL', 'sse:{sse}:history'], ['HDEL', 'sse:{sse}:history', 'token'], ['HSET', 'sse:{sse}:history', 'token', '0' x 32]) {
    say_some(5);
    $redis->must(@$loss);
    say_some(40);
    all_came("@$loss");
}

# During a handover of the subscription, and when its holder is killed.
for my $round (1 .. 3) {
    $redis->must('DEL', 'sse:{sse}:history');
    say_some(10);
    kill 'HUP', $one->cluster->pid;
    for (1 .. 10) { $redis->must('HDEL', 'sse:{sse}:history', 'token'); say_some(4); serve_for(0.03) }
    ok($one->cluster->wait_old_workers_gone(8), 'nginx has reloaded');
    say_some(5);
}
all_came('while nginx reloads');

# A forged message of a channel that no stream names is looked up in Redis and not found.
$redis->publish('room:7', "\x01sse - $_-0 0-0 0\nforged") for 1, 99999999999999;
$redis->publish('room:9', "\x01sse 11111111111111111111111111111111 2-0 1-0 0\nforged") for 1 .. 3;
say_some(5);
all_came('beside forged messages');
is(scalar(grep { grep { $_ eq 'forged' } $_->data } @client), 0, 'no forged message arrives');
is(scalar(grep { $_->events('sse.gap') } @client), 0, 'no gap event is sent');

$_->ends_cleanly for @nginx;
done_testing();

sub say_some ($count) {
    for (1 .. $count) {
        $number++;
        my $answer = ($number % 2 ? $one : $two)->post('room:' . $number % 4, "e$number");
        is($answer->{status}, 201, "event $number is acknowledged") if $answer->{status} ne '201';
    }
    return;
}

sub all_came ($what) {
    my $all = join ' ', map { "e$_" } 1 .. $number;
    for my $client (@client) {
        wait_for(sub { scalar(grep { /\Ae\d/ } $client->data) >= $number }, 10);
        is(join(' ', sort { substr($a, 1) <=> substr($b, 1) } grep { /\Ae\d/ } $client->data), $all, "$what: all $number events arrive once");
    }
    return;
}
