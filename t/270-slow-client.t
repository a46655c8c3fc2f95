# A client that stops reading while 50 MB are published: the worker stores nothing for it, other clients are
# not delayed, and when it reads again it receives the retained events, after a gap event if some were
# evicted.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(wait_for);
use SSE::Publisher;
use SSE::Stage;

my $stage = SSE::Stage->new(
    http   => 'sse_hub default { zone 16m; history 100; } send_timeout 60s; sse_retry 100ms;',
    server => <<'EOF_CONFIG',
        location = /s     { sse_stream news; }
        location = /close { sse_stream news; sse_slow_client close; }
EOF_CONFIG
);
my $nginx = $stage->cluster;

my @fast  = map { follower('/s') } 1 .. 5;
my $slow  = follower('/s');
my $given = follower('/close', reconnect => 1);
my $writer = SSE::Publisher->new(port => $stage->port, path => '/to/news');
my $sent   = 0;
write_events(300);
ok(wait_for(sub { !grep { $_->{last} < $sent } @fast, $slow, $given }), 'all clients receive the first events');
my $before = $nginx->private_memory;

$_->{client}->pause for $slow, $given;
my ($most, $follow) = (0, 0);
for (1 .. 20) {
    write_events(260);
    my $memory = $nginx->private_memory;
    $most = $memory if $memory > $most;
    $follow++ if wait_for(sub { !grep { $_->{last} < $sent } @fast }, 5);
}
cmp_ok($sent * 10_000, '>=', 50_000_000, sprintf 'MB that passed: %.1f', $sent / 100);
cmp_ok($most - $before, '<', 2 * 1024 * 1024,
    sprintf 'private memory grows by less than 2 MB (from %d to %d KiB)', $before / 1024, $most / 1024);
is($follow, 20, 'other clients receive events all the time');
is(scalar(grep { $_->{last} != $sent || $_->{holes} || $_->{gaps} } @fast), 0, 'other clients have received everything');

$_->{client}->resume for $slow, $given;
write_events(20);
ok(wait_for(sub { $slow->{last} == $sent }, 20), 'the slow client continues up to the newest event');
is($slow->{gaps}, 1, 'it receives one gap event because its next events were evicted');
is($slow->{wrong_gaps}, 0, 'the gap event has the last id that it received');
is($slow->{holes}, 0, 'nothing else is missing');
is($slow->{client}{openings}, 1, 'on the same connection');
cmp_ok($slow->{behind_gap}, '>=', 100, "after the gap event it receives at least the guaranteed history ($slow->{behind_gap} events)");

ok(wait_for(sub { $given->{last} == $sent }, 20), 'with sse_slow_client close it reconnects');
is($given->{client}{openings}, 2, 'on a new connection');
is("$given->{gaps} $given->{wrong_gaps} $given->{holes}", '1 0 0', 'it receives the gap event there');
$_->{client}->close for @fast, $slow, $given;
ok(wait_for(sub { abs($nginx->private_memory - $before) < 2 * 1024 * 1024 }), 'memory is at its initial level at the end');

$stage->ends_cleanly;
done_testing();

# A client that checks the sequence of its events without storing them.
sub follower ($path, %options) {
    my %state = (last => 0, holes => 0, gaps => 0, wrong_gaps => 0, behind_gap => 0);
    my ($last_id, $gap) = ('', 0);
    $state{client} = $stage->stream($path, %options, on_event => sub ($event) {
        if ($event->{type} eq 'sse.gap') {
            $state{gaps}++;
            $state{wrong_gaps}++ if $event->{data} ne qq({"after":"$last_id"});
            $gap = 1;
        } elsif ($event->{type} eq 'message') {
            my $number = 0 + substr $event->{data}, 0, 8;
            $state{holes}++ if $number != $state{last} + 1 && !$gap;
            $state{holes}++ if $number <= $state{last};
            $state{behind_gap}++ if $state{gaps};
            ($state{last}, $gap) = ($number, 0);
        }
        $last_id = $event->{id};
        return;
    });
    return \%state;
}

# Publishes that many events of 10 kB, one after the other.
sub write_events ($count) {
    for (1 .. $count) {
        $writer->put(sprintf('%08d', ++$sent) . 'x' x 9_992);
    }
    return $writer->wait_idle(30);
}
