# Faults between nginx and Redis: a name that cannot be resolved, a connection that forwards nothing,
# delays, resets, single bytes, and servers that are not Redis.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Cluster;
use Time::HiRes qw(time);
use SSE::FakeRedis;
use SSE::FaultProxy;
use SSE::HTTP qw(request);
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;
use SSE::TimerLatency;

my $lateness = SSE::TimerLatency->measure;

my $redis  = SSE::Redis->start;
my $proxy  = SSE::FaultProxy->start(to => $redis->port);
my $far    = SSE::RedisStage->new(redis => $proxy->url);
my $near   = SSE::RedisStage->new(redis => $redis->url);
my $client = $far->stream('/on/news');

# Servers that are not Redis, each with its own hub in one nginx.
my %nonsense = (
    noise   => [answer => join('', map { chr 128 + $_ * 7 % 128 } 1 .. 4096) . "\r\n"],
    endless => [answer => 'x' x 65_536, again => 1],
    huge    => [answer => "\$2000000000\r\n" . 'x' x 60_000],
    long    => [answer => "*2000000000\r\n" . "+OK\r\n" x 1000],
    nested  => [answer => "*1\r\n" x 200_000],
    web     => [answer => "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", close => 1],
    errors  => [answer => "-ERR no\r\n" x 50],
    short   => [answer => '', close => 1],
);
my %fake  = map { $_ => SSE::FakeRedis->start(@{ $nonsense{$_} }) } sort keys %nonsense;
my $among = SSE::RedisStage->new(redis => $redis->url, workers => 1,
    http => join "\n", map { "sse_hub $_ { zone 2m; max_event_size 64k; redis " . $fake{$_}->url . "; }" } sort keys %fake);
my @workers = $among->cluster->workers;
my $memory  = $among->cluster->private_memory;
my $began   = time();
ok(wait_for(sub { !grep { $fake{$_}->accepted < 2 } keys %fake }, 25), 'connections to servers that are not Redis are retried');
serve_for(8 - (time() - $began));
my $rate = 2 + (time() - $began) * 5;
for my $name (sort keys %fake) {
    my $accepted = $fake{$name}->accepted;
    cmp_ok($accepted, '<=', $rate, "$name: retries are limited ($accepted times)");
    my @lines = $among->cluster->wait_lines(qr/\[(?:warn|error|crit)\](?=.*hub "$name")(?=.*redis)/i);
    is(scalar @lines, 1, "$name: the log has one line") or diag(join "\n", @lines);
    isnt(request(port => $among->port, path => '/status')->{json}{hubs}{$name}{redis}, 'up', "$name: the status does not report Redis as up");
}
is_deeply([$among->cluster->workers], \@workers, 'no worker has exited');
cmp_ok($among->cluster->private_memory - $memory, '<', 64 << 20, 'memory has not grown');
my $heard = $among->stream('/on/news');
is(request(port => $among->port, path => '/to/news', body => 'beside them')->{status}, 201, 'another hub accepts publishes');
ok($heard->wait_data('beside them'), 'the streams of the other hub work');
$among->ends_cleanly;
$client = $far->stream('/on/news');
$near->publish('news', 'at first');
ok($client->wait_data('at first'), 'an event arrives through the proxy');

# A name that cannot be resolved.
my $nameless = SSE::RedisStage->new(redis => 'redis://no-such.invalid:6379', workers => 1, away => 1,
    server => 'location = /file { return 200 "here"; }');
my $without = SSE::Cluster->start(workers => 1, server => 'location = /file { return 200 "here"; }');
my ($with_name, $probe) = (0, 0);
my $end = time() + 3;
while (time() < $end) {
    $with_name += seconds_of($nameless->port);
    $probe     += seconds_of($without->port);
}
cmp_ok($with_name, '<', 4 * $probe,
    sprintf 'a name that cannot be resolved does not block the event loop (%.3f s instead of %.3f s)', $with_name, $probe);
$without->ends_cleanly;
my $there = SSE::Client->new(port => $nameless->port, path => '/on/news');
ok(wait_for(sub { $there->{last_event_id} ne '' }, 3), 'streams open');
is($nameless->post('news', 'x')->{status}, 503, 'a publish receives 503');
wait_for(sub { $nameless->lines });
my @lines = $nameless->lines;
is(scalar @lines, 1, 'the log has one line') or diag(join "\n", @lines);
$nameless->ends_cleanly;
$client = $far->stream('/on/news');

# A slow connection, one byte at a time, and resets.
$proxy->delay(0.1);
my ($slow) = $far->publish('news', 'slowly');
ok($client->wait_data('slowly'), 'an event arrives over a slow connection');
$redis->publish('news', 'slowly, plain');
ok($client->wait_data('slowly, plain'), 'a plain message arrives over a slow connection');
my @fresh;
for my $number (1 .. 10) {
    push @fresh, SSE::Client->new(port => $far->port, path => "/on/news,new-$number");
    $fresh[-1]->wait_open;
    $near->publish("new-$number", "to $number");
}
$near->publish('news', 'to all of them');
sub without ($text) { return grep { my $all = $text =~ s/N/$_/r; !grep { $_ eq $all } $fresh[$_ - 1]->data } 1 .. 10 }
ok(wait_for(sub { !without('to all of them') }), 'new streams receive what is published');
ok(wait_for(sub { !without('to N') }), 'from the time of their response on') or diag(join ' ', without('to N'));
$_->close for @fresh;
$proxy->split;
$near->publish('news', 'x' x 3000);
ok($client->wait_data('x' x 3000), 'an event arrives byte by byte');
$proxy->pass;
my $publisher = SSE::Publisher->new(port => $near->port, path => '/to/news');
$publisher->stream(100, sub ($number) { "numbered $number" });
for (1 .. 10) {
    serve_for(0.2);
    $proxy->cut;
}
$publisher->stop;
ok($publisher->wait_idle, 'nginx accepted all events');
ok($client->wait_data("numbered $publisher->{sent}"), 'all events arrive despite ten resets');
is_deeply([grep { /numbered/ } $client->data], [map { "numbered $_" } 1 .. $publisher->{sent}], 'each event arrives once and in order');
ok($far->wait_up, 'the hub is connected');

# A connection that silently forwards nothing.
my $known = $far->lines;
$proxy->black_hole;
my $answer = $far->post('news', 'into the void', headers => ['Idempotency-Key' => 'void']);
like($answer->{status}, qr/\A50[34]\z/, "a publish over a dead connection receives $answer->{status}");
cmp_ok($answer->{took}, '<', 2.5 + 3 * $lateness->worst, sprintf 'the response arrives after two seconds at the latest (%.3f s)', $answer->{took});
ok(wait_for(sub { $far->state ne 'up' }, 10), 'the dead connection is noticed');
ok(wait_for(sub { $far->state eq 'down' }, 10), 'another one cannot be made');
$near->publish('news', 'while it was dead');
$proxy->pass;
$proxy->cut;
ok($far->wait_up, 'the hub reconnects when the network works again');
ok($client->wait_data('while it was dead'), 'events that were published meanwhile arrive');
is($far->post('news', 'into the void', headers => ['Idempotency-Key' => 'void'])->{status}, 201, 'the repeated publish is accepted');
$near->publish('news', 'the end');
is(scalar(grep { $_ eq 'into the void' } $far->got($client, 'the end')), 1, 'the event is published once');
wait_for(sub { $far->lines >= $known + 2 });
is($far->lines - $known, 2, 'the log has one line about the loss and one about the new connection') or diag(join "\n", $far->lines);
is(scalar $client->events('sse.gap'), 0, 'no gap event is sent');

$proxy->stop;
$_->ends_cleanly for $far, $near;
done_testing();

# The duration of one request, in seconds.
sub seconds_of ($port) {
    my $since = time();
    request(port => $port, path => '/file');
    return time() - $since;
}
