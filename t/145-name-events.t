# sse_name_events: an event without a type is named after its channel.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Stage;

my $stage = SSE::Stage->new(
    http   => 'sse_name_events by_channel;',
    server => <<'EOF_CONFIG',
        location = /channel { sse_stream gold silver; sse_replay all; }
        location = /type    { sse_stream gold silver; sse_name_events by_type; }
        location = /typed   { sse_publish gold event=alarm; }
EOF_CONFIG
);

my @before = ($stage->publish('gold', 'g0'), $stage->publish('silver', 's0'));
my $channel = $stage->stream('/channel');
my $type    = $stage->stream('/type');
$stage->publish('gold',   'g1');
$stage->publish('silver', 's1');
request(port => $stage->port, path => '/typed', body => 'fire');
$stage->batch('gold', 'g2', 'g3');
$stage->publish('silver', 'the end');

for my $client ($channel, $type) {
    ok(wait_for(sub { grep { $_->{data} eq 'the end' } @{ $client->{events} } }), 'all events arrive');
}
is(events_of($channel), 'gold g0, silver s0, gold g1, silver s1, alarm fire, gold g2, gold g3, silver the end',
    'by_channel: an event without a type is named after its channel, both replayed and live');
is(events_of($type), 'message g1, message s1, alarm fire, message g2, message g3, message the end',
    'by_type: an event without a type has no name');

my $back = $stage->stream('/channel', last_event_id => $before[1]);
ok(wait_for(sub { grep { $_->{data} eq 'the end' } @{ $back->{events} } }), 'a returning client receives the remaining events');
is(events_of($back), 'gold g1, silver s1, alarm fire, gold g2, gold g3, silver the end', 'with the same names');

$stage->ends_cleanly;
done_testing();

sub events_of ($client) {
    return join ', ', map { "$_->{type} $_->{data}" } grep { $_->{type} ne 'sse.open' } @{ $client->{events} };
}
