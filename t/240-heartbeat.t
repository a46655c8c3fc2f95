# Heartbeats: comment lines on silent streams, which clients do not take for events.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(wait_for);
use SSE::Stage;

my $stage = SSE::Stage->new(
    server => <<'EOF_CONFIG',
        sse_heartbeat 200ms;
        sse_open_event off;
        location = /s    { sse_stream news; }
        location = /slow { sse_stream news; sse_heartbeat 1s; }
        location = /off  { sse_stream news; sse_heartbeat off; }
EOF_CONFIG
);

my $fast = $stage->stream('/s',    keep_wire => 1);
my $slow = $stage->stream('/slow', keep_wire => 1);
my $none = $stage->stream('/off',  keep_wire => 1);

ok(wait_for(sub { $fast->{parser}{comments} >= 12 }, 10), 'a silent stream receives heartbeats');
my ($beats, $slow_beats) = ($fast->{parser}{comments} - 1, $slow->{parser}{comments} - 1);
cmp_ok($slow_beats, '<', $beats / 2, "the interval of a location applies ($beats and $slow_beats heartbeats)");
ok(wait_for(sub { $slow->{parser}{comments} >= 2 }, 5), 'the stream with the longer interval receives heartbeats too');
is($none->{parser}{comments}, 1, 'with sse_heartbeat off the only comment is the first one');
is_deeply($fast->{events}, [], 'a heartbeat is not an event');
is(body($fast->{wire}) =~ s/\Aretry: 3000\n:\n//r =~ tr/://c - ($fast->{parser}{comments} - 1), 0,
    'a heartbeat is a colon and a line feed');

$stage->publish('news', 1 .. 50);
ok(wait_for(sub { 50 == $fast->data && 50 == $none->data }), 'events and heartbeats share the stream');
is_deeply([$fast->data], [1 .. 50], 'no heartbeat is sent inside an event');

my @many = map { $stage->stream('/s') } 1 .. 40;
ok(wait_for(sub { !grep { $_->{parser}{comments} < 4 } @many }, 10), 'many silent streams all receive heartbeats');

$stage->ends_cleanly;
done_testing();

# The body of a chunked response.
sub body ($wire) {
    my (undef, $chunks) = split /\r\n\r\n/, $wire, 2;
    my $body = '';
    while ($chunks =~ /\G([0-9a-f]+)\r\n/gc) {
        my $size = hex $1;
        $body .= substr $chunks, pos($chunks), $size;
        pos($chunks) += $size + 2;
    }
    return $body;
}
