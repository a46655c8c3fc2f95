# Events that are larger than Redis accepts, and events that are older than the uptime of the machine.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Time::HiRes qw(time);
use SSE::Client;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

# This Redis accepts strings of up to a megabyte.
my $redis = SSE::Redis->start(config => "proto-max-bulk-len 1mb\n");
my $stage = SSE::RedisStage->new(redis => $redis->url, hub => 'zone 64m; max_event_size 4m;', http => 'client_max_body_size 8m;', workers => 1);
my $client = $stage->stream('/on/news');
for my $try (1 .. 3) {
    my $answer = $stage->post('news', 'x' x 2_000_000);
    is($answer->{status}, 413, 'an event larger than Redis accepts is rejected');
    like($answer->{json}{error}, qr/larger than Redis accepts/, 'the response has the reason');
}
my $batch = join '', map { 'data: ' . 'x' x 300_000 . "\n\n" } 1 .. 2;
is($stage->post('news', $batch, headers => ['Content-Type' => 'text/event-stream'])->{status}, 201, 'a smaller event is published');
is($stage->post('news', 'small')->{status}, 201, 'a small event is published');
ok($client->wait_data('small'), 'it arrives');
is(scalar $client->data, 3, 'no part of the rejected event arrives');
is($stage->reconnects, 0, 'the connection is not lost');

# The limit is lowered on a live connection.
$redis->must('CONFIG', 'SET', 'client-query-buffer-limit', 1024 * 1024);
$redis->must('CONFIG', 'SET', 'proto-max-bulk-len', 1024 * 1024);
my $late = $stage->post('news', 'y' x 1_040_000);
like($late->{status}, qr/\A(?:201|413|504)\z/, "an event above the lowered limit receives $late->{status}");
is($stage->post('news', 'goes on')->{status}, 201, 'publishing continues');
ok($client->wait_data('goes on'), 'small events arrive as before');
$stage->ends_cleanly;

# An event just within the age of history, and one older than the uptime of the machine.
my ($uptime) = SSE::Cluster::slurp('/proc/uptime') =~ /\A(\d+)/;
my $age   = $uptime + 3600;
my $plain = SSE::Redis->start(config => "notify-keyspace-events Kt\n");
my $aging = SSE::RedisStage->new(redis => $plain->url, hub => "redis_source stream; history 100 ${age}s;", workers => 1);
my $born  = int((time() - $age + 4) * 1000);
$plain->must('XADD', 'old', "$born-0", 'data', 'very old');
my $now = $aging->stream('/all/old');
ok($now->wait_data('very old'), 'an event that is younger than the age of history is replayed');
my $sees_it = sub {
    my $next = SSE::Client->new(port => $aging->port, path => '/all/old');
    $next->wait_open;
    serve_for(0.3);
    my @data = $next->data;
    $next->close;
    return scalar @data;
};
ok(wait_for(sub { !$sees_it->() }, 10), 'an older event is not replayed');
$aging->ends_cleanly;
done_testing();
