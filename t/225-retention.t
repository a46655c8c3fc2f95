# A flood on one channel does not evict what history guarantees to other channels, and no publish is
# rejected.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(wait_for);
use SSE::Stage;

my $stage = SSE::Stage->new(
    http   => 'sse_hub default { zone 1200k; max_event_size 4k; history 10; }',
    server => <<'EOF_CONFIG',
        location = /quiet { sse_stream quiet; sse_replay all; }
        location = /place { sse_stream quiet; }
        location = /flood { sse_stream flood; sse_replay all; }
EOF_CONFIG
);

my $client = $stage->stream('/place');
wait_for(sub { $client->{last_event_id} ne '' });
my $beginning = $client->{last_event_id};
$client->close;
my @kept = map { "kept $_ " . 'k' x 1000 } 1 .. 10;
$stage->publish('quiet', @kept);

# Ten times the zone by two publishers, partly in batches.
my @writers = map { SSE::Publisher->new(port => $stage->port, path => '/to/flood') } 1 .. 2;
for my $number (1 .. 1800) {
    $_->put("$number " . 'f' x 3500) for @writers;
}
ok(wait_for(sub { !grep { !$_->is_idle } @writers }, 60), 'all publishes of a flood of ten times the zone are answered');
is(scalar(map { $_->accepted } @writers), 3600, 'every event of it is accepted');
is(scalar(map { @{ $_->{refused} } } @writers), 0, 'none is rejected');
$stage->batch('flood', map { 'b' x 300 } 1 .. 1000) for 1 .. 10;
pass('batches of a third of the zone are accepted');

my $replay = $stage->stream('/quiet');
$replay->wait_data($kept[9]);
is_deeply([$replay->data], \@kept, 'the quiet channel keeps its ten events');
my $back = $stage->stream('/place', last_event_id => $beginning);
$back->wait_data($kept[9]);
is_deeply([map { $_->{data} } @{ $back->{events} }], \@kept, 'a returning client receives all ten without a gap event');
my $flooded = $stage->stream('/flood');
wait_for(sub { $flooded->data >= 10 });
is_deeply([$flooded->data], [('b' x 300) x 10], 'the flooding channel keeps its guaranteed history too');

# Many small channels besides the flood.
$stage->publish("small$_", "s$_") for 1 .. 300;
$stage->publish('quiet', 'still here');
ok($replay->wait_data('still here'), 'publishing continues with many channels in a full zone');

$stage->ends_cleanly;
done_testing();
