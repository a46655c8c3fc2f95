# Between nginx and Redis: a name that is none, a line that carries nothing, delays, cuts, and bytes one by
# one; and servers that are no Redis.

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

my $redis  = SSE::Redis->start;
my $proxy  = SSE::FaultProxy->start(to => $redis->port);
my $far    = SSE::RedisStage->new(redis => $proxy->url);
my $near   = SSE::RedisStage->new(redis => $redis->url);
my $client = $far->stream('/on/news');

# What is no Redis: each has a hub of its own in one nginx.
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
ok(wait_for(sub { !grep { $fake{$_}->accepted < 2 } keys %fake }, 25), 'what is no Redis is tried again');
serve_for(8 - (time() - $began));
my $rate = 2 + (time() - $began) * 5;
for my $name (sort keys %fake) {
    my $accepted = $fake{$name}->accepted;
    cmp_ok($accepted, '<=', $rate, "$name: at leisure ($accepted times)");
    my @lines = $among->cluster->wait_lines(qr/\[(?:warn|error|crit)\](?=.*hub "$name")(?=.*redis)/i);
    is(scalar @lines, 1, "$name: the log has one line") or diag(join "\n", @lines);
    isnt(request(port => $among->port, path => '/status')->{json}{hubs}{$name}{redis}, 'up', "$name: the status says that it is not there");
}
is_deeply([$among->cluster->workers], \@workers, 'no worker has ended');
cmp_ok($among->cluster->private_memory - $memory, '<', 64 << 20, 'nor has any grown');
my $heard = $among->stream('/on/news');
is(request(port => $among->port, path => '/to/news', body => 'beside them')->{status}, 201, 'a hub beside them is well');
ok($heard->wait_data('beside them'), 'and its streams');
$among->ends_cleanly;
$client = $far->stream('/on/news');
$near->publish('news', 'at first');
ok($client->wait_data('at first'), 'an event comes over the proxy');

# R14: a name that cannot be resolved.
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
    sprintf 'a name that is none does not hold up the event loop (%.3f s for what takes %.3f s without)', $with_name, $probe);
$without->ends_cleanly;
my $there = SSE::Client->new(port => $nameless->port, path => '/on/news');
ok(wait_for(sub { $there->{last_event_id} ne '' }, 3), 'streams open');
is($nameless->post('news', 'x')->{status}, 503, 'who publishes is told to come back');
wait_for(sub { $nameless->lines });
my @lines = $nameless->lines;
is(scalar @lines, 1, 'the log has one line') or diag(join "\n", @lines);
$nameless->ends_cleanly;
$client = $far->stream('/on/news');

# R15: a slow line, one byte at a time, and cuts.
$proxy->delay(0.1);
my ($slow) = $far->publish('news', 'slowly');
ok($client->wait_data('slowly'), 'over a slow line an event comes');
$redis->publish('news', 'slowly, plain');
ok($client->wait_data('slowly, plain'), 'and a message');
my @fresh;
for my $number (1 .. 10) {
    push @fresh, SSE::Client->new(port => $far->port, path => "/on/news,new-$number");
    $fresh[-1]->wait_open;
    $near->publish("new-$number", "to $number");
}
$near->publish('news', 'to all of them');
sub without ($text) { return grep { my $all = $text =~ s/N/$_/r; !grep { $_ eq $all } $fresh[$_ - 1]->data } 1 .. 10 }
ok(wait_for(sub { !without('to all of them') }), 'new streams get what is published');
ok(wait_for(sub { !without('to N') }), 'from the moment when they have been answered') or diag(join ' ', without('to N'));
$_->close for @fresh;
$proxy->split;
$near->publish('news', 'x' x 3000);
ok($client->wait_data('x' x 3000), 'byte by byte too');
$proxy->pass;
my $publisher = SSE::Publisher->new(port => $near->port, path => '/to/news');
$publisher->stream(100, sub ($number) { "numbered $number" });
for (1 .. 10) {
    serve_for(0.2);
    $proxy->cut;
}
$publisher->stop;
ok($publisher->wait_idle, 'nginx took all');
ok($client->wait_data("numbered $publisher->{sent}"), 'over ten cuts all events come');
is_deeply([grep { /numbered/ } $client->data], [map { "numbered $_" } 1 .. $publisher->{sent}], 'once and in order');
ok($far->wait_up, 'the hub is joined');

# R16: a line that carries nothing and does not say so.
my $known = $far->lines;
$proxy->hole;
my $since  = time();
my $answer = $far->post('news', 'into the void', headers => ['Idempotency-Key' => 'void']);
like($answer->{status}, qr/\A50[34]\z/, "who publishes into a dead line is answered $answer->{status}");
cmp_ok($answer->{took}, '<', 2.6, sprintf 'in time (%.3f s)', $answer->{took});
ok(wait_for(sub { $far->state ne 'up' }, 10), 'that it is dead is noticed');
cmp_ok(time() - $since, '<', 9, 'soon');
$near->publish('news', 'while it was dead');
$proxy->pass;
$proxy->cut;
ok($far->wait_up, 'when it carries again the hub is joined');
ok($client->wait_data('while it was dead'), 'and what came meanwhile is there');
is($far->post('news', 'into the void', headers => ['Idempotency-Key' => 'void'])->{status}, 201, 'who repeats is taken');
$near->publish('news', 'the end');
is(scalar(grep { $_ eq 'into the void' } $far->got($client, 'the end')), 1, 'and has published once');
wait_for(sub { $far->lines >= $known + 2 });
is($far->lines - $known, 2, 'the log says that it went and that it is back') or diag(join "\n", $far->lines);
is(scalar $client->events('sse.gap'), 0, 'nobody was told a gap');

$proxy->stop;
$_->ends_cleanly for $far, $near;
done_testing();

# How long one request takes.
sub seconds_of ($port) {
    my $since = time();
    request(port => $port, path => '/file');
    return time() - $since;
}
