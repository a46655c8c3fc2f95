# The status as JSON: counters that stay correct over reloads and killed workers, and no private data.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Stage;

my $stage = SSE::Stage->new(
    http => 'sse_hub default { zone 4m; history 10; } sse_hub other { zone 8m; } sse_retry 100ms jitter=100ms; sse_drain 1s;',
    server => <<'EOF_CONFIG',
        location = /s       { sse_stream secret-channel; }
        location = /p       { sse_publish secret-channel; }
        location = /elsewhere { sse_stream messages hub=other; }
        location = /status  { sse_status; }
        location = /other   { sse_status hub=other; }
EOF_CONFIG
);
my $nginx = $stage->cluster;

my $answer = request(port => $stage->port, path => '/status');
is($answer->{status}, 200, 'the status is served');
like($answer->{header}{'content-type'}[0], qr{\Aapplication/json}, 'its type is JSON');
ok(ref $answer->{json}, 'it is valid JSON');
like($answer->{header}{'cache-control'}[0] // '', qr/no-(?:store|cache)/, 'it must not be cached');
my $head = request(port => $stage->port, path => '/status', method => 'HEAD');
is("$head->{status} $head->{body}", '200 ', 'HEAD returns no body');
my $post = request(port => $stage->port, path => '/status', body => 'x');
is($post->{status}, 405, 'POST is not allowed');
is_deeply([sort keys %{ figures('/other', undef) }], ['other'], 'with hub= a location shows only that hub');

# Streams and events.
my $fresh = figures();
is($fresh->{subscribers}, 0, 'there are no subscribers at first');
my @clients = map { $stage->stream('/s', reconnect => 1) } 1 .. 12;
ok(wait_for(sub { figures()->{subscribers} == 12 }, 5), 'streams of all workers are counted');
my $elsewhere = $stage->stream('/elsewhere');
is(figures()->{subscribers}, 12, 'streams of another hub are not counted');
is(figures('/other', 'other')->{subscribers}, 1, 'they are counted in their hub');
$elsewhere->close;

$stage->publish('secret-channel', map { "secret data $_" } 1 .. 5);
ok(wait_for(sub { !grep { $_->data < 5 } @clients }), 'every stream receives five events');
ok(wait_for(sub { (figures()->{events_out} // 0) - ($fresh->{events_out} // 0) == 60 }, 3), 'deliveries are counted')
    or diag explain figures();
my $now = figures();
is($now->{events_in} - $fresh->{events_in}, 5, 'events are counted');
cmp_ok($now->{bytes_in}, '>', $fresh->{bytes_in}, 'bytes in are counted');
cmp_ok($now->{bytes_out} - $fresh->{bytes_out}, '>=', 60 * length "data: secret data 1\nid: \n\n", 'delivered bytes are counted');
is($now->{channels}, 1, 'one channel is counted');
cmp_ok($now->{zone_bytes}, '<=', 4 * 1024 * 1024, 'the capacity of the zone is at most its size');
cmp_ok($now->{zone_bytes}, '>', 2 * 1024 * 1024, 'the capacity is most of its size');
cmp_ok($now->{zone_used_bytes}, '>', 0, 'the used part of the zone is not zero');
cmp_ok($now->{zone_used_bytes}, '<=', $now->{zone_bytes}, 'it is less than the capacity');
request(port => $stage->port, path => '/p?event=error', body => 'x');
request(port => $stage->port, path => '/p', body => 'x', headers => ['Sec-Fetch-Site' => 'cross-site']);
request(port => $stage->port, path => '/p', body => 'x' x 300_000);
my $refused = figures()->{refused};
is_deeply([@$refused{qw(bad forbidden too_large)}], [1, 1, 1], 'rejected publishes are counted by reason');
my $gapped = $stage->stream('/s', last_event_id => '1-1-1');
ok(wait_for(sub { figures()->{gaps} == 1 }, 3), 'gaps are counted');
$gapped->close;
unlike(request(port => $stage->port, path => '/status')->{body}, qr/secret/, 'neither channels nor data are shown');

# A killed worker and a reload: only open streams are counted.
my ($victim) = map { $_->worker } @clients;
ok($nginx->kill_worker($victim), 'a worker is killed');
ok(wait_for(sub { !grep { !$_->is_open } @clients }, 10), 'its clients reconnect');
ok(wait_for(sub { figures()->{subscribers} == 12 }, 5), 'no stream is counted twice') or diag(figures()->{subscribers});
my $drained = figures()->{drained};
ok($nginx->reload, 'nginx reloads');
ok($nginx->wait_old_workers_gone(5), 'the old workers drain');
ok(wait_for(sub { !grep { !$_->is_open } @clients }, 10), 'all clients reconnect');
ok(wait_for(sub { figures()->{subscribers} == 12 }, 5), 'the count is still right') or diag(figures()->{subscribers});
is(figures()->{drained} - $drained, 12, 'twelve streams were ended by the drain');
cmp_ok(figures()->{events_in}, '>=', $now->{events_in}, 'counters keep their values');
$_->close for @clients;
ok(wait_for(sub { figures()->{subscribers} == 0 }, 5), 'there are no subscribers at the end');

$stage->ends_cleanly;
done_testing();

# The figures of one hub.
sub figures ($path = '/status', $hub = 'default') {
    my $got  = request(port => $stage->port, path => $path);
    my $hubs = $got->{json}{hubs};
    return defined $hub ? $hubs->{$hub} : $hubs;
}
