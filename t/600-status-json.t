# The status as JSON: true counters, over reloads and deaths too, and nothing that a stranger should not
# see.

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
is($answer->{status}, 200, 'the status is there');
like($answer->{header}{'content-type'}[0], qr{\Aapplication/json}, 'as JSON');
ok(ref $answer->{json}, 'that is valid');
like($answer->{header}{'cache-control'}[0] // '', qr/no-(?:store|cache)/, 'and is not cached');
my $head = request(port => $stage->port, path => '/status', method => 'HEAD');
is("$head->{status} $head->{body}", '200 ', 'HEAD gets no body');
my $post = request(port => $stage->port, path => '/status', body => 'x');
is($post->{status}, 405, 'POST is not allowed');
is_deeply([sort keys %{ figures('/other', undef) }], ['other'], 'a location shows the hub that it names');

# Streams and events.
my $fresh = figures();
is($fresh->{subscribers}, 0, 'at first nobody is there');
my @clients = map { $stage->stream('/s', reconnect => 1) } 1 .. 12;
ok(wait_for(sub { figures()->{subscribers} == 12 }, 5), 'streams of all workers are counted');
my $elsewhere = $stage->stream('/elsewhere');
is(figures()->{subscribers}, 12, 'those of another hub are not');
is(figures('/other', 'other')->{subscribers}, 1, 'but there');
$elsewhere->close;

$stage->publish('secret-channel', map { "secret data $_" } 1 .. 5);
ok(wait_for(sub { !grep { $_->data < 5 } @clients }), 'everyone gets five events');
ok(wait_for(sub { (figures()->{events_out} // 0) - ($fresh->{events_out} // 0) == 60 }, 3), 'which are counted out')
    or diag explain figures();
my $now = figures();
is($now->{events_in} - $fresh->{events_in}, 5, 'and in');
cmp_ok($now->{bytes_in}, '>', $fresh->{bytes_in}, 'bytes in are counted');
cmp_ok($now->{bytes_out} - $fresh->{bytes_out}, '>=', 60 * length "data: secret data 1\nid: \n\n", 'bytes out too');
is($now->{channels}, 1, 'one channel');
cmp_ok($now->{zone_bytes}, '<=', 4 * 1024 * 1024, 'what the zone holds is no more than its size');
cmp_ok($now->{zone_bytes}, '>', 2 * 1024 * 1024, 'and not much less');
cmp_ok($now->{zone_used_bytes}, '>', 0, 'what of it is used');
cmp_ok($now->{zone_used_bytes}, '<=', $now->{zone_bytes}, 'which is less');
request(port => $stage->port, path => '/p?event=error', body => 'x');
request(port => $stage->port, path => '/p', body => 'x', headers => ['Sec-Fetch-Site' => 'cross-site']);
request(port => $stage->port, path => '/p', body => 'x' x 300_000);
my $refused = figures()->{refused};
is_deeply([@$refused{qw(bad forbidden too_large)}], [1, 1, 1], 'refusals are counted by reason');
my $gapped = $stage->stream('/s', last_event_id => '1-1-1');
ok(wait_for(sub { figures()->{gaps} == 1 }, 3), 'gaps are counted');
$gapped->close;
unlike(request(port => $stage->port, path => '/status')->{body}, qr/secret/, 'neither channels nor data are shown');

# A worker dies, a reload comes: the count is that of the living.
my ($victim) = map { $_->worker } @clients;
ok($nginx->kill_worker($victim), 'a worker is killed');
ok(wait_for(sub { !grep { !$_->is_open } @clients }, 10), 'its clients come back');
ok(wait_for(sub { figures()->{subscribers} == 12 }, 5), 'and nobody is counted twice') or diag(figures()->{subscribers});
my $drained = figures()->{drained};
ok($nginx->reload, 'nginx reloads');
ok($nginx->wait_old_workers_gone(5), 'and drains');
ok(wait_for(sub { !grep { !$_->is_open } @clients }, 10), 'all clients come back');
ok(wait_for(sub { figures()->{subscribers} == 12 }, 5), 'the count is still right') or diag(figures()->{subscribers});
is(figures()->{drained} - $drained, 12, 'and twelve streams were drained');
cmp_ok(figures()->{events_in}, '>=', $now->{events_in}, 'what was counted stays counted');
$_->close for @clients;
ok(wait_for(sub { figures()->{subscribers} == 0 }, 5), 'in the end nobody is there');

$stage->ends_cleanly;
done_testing();

# The figures of one hub, or of all that the location shows.
sub figures ($path = '/status', $hub = 'default') {
    my $got  = request(port => $stage->port, path => $path);
    my $hubs = $got->{json}{hubs};
    return defined $hub ? $hubs->{$hub} : $hubs;
}
