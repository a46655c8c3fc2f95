# sse_replay: which events a client without Last-Event-ID receives first.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(wait_for);
use SSE::Stage;

my $stage = SSE::Stage->new(
    http   => 'sse_hub default { history 5; } sse_hub brief { history 5 1s; } sse_hub none { history off; }',
    server => <<'EOF_CONFIG',
        location = /default { sse_stream news; }
        location = /off     { sse_stream news; sse_replay off; }
        location = /all     { sse_stream news; sse_replay all; }
        location = /three   { sse_stream news; sse_replay 3; }
        location = /many    { sse_stream news; sse_replay 1000; }
        location = /both    { sse_stream news sport; sse_replay 2; }
        location = /empty   { sse_stream nothing; sse_replay all; }
        location = /brief   { sse_stream news hub=brief; sse_replay all; }
        location = /to-brief { sse_publish news hub=brief; }
        location = /none    { sse_stream news hub=none; sse_replay all; }
        location = /to-none { sse_publish news hub=none; }
EOF_CONFIG
);
my @ids = $stage->publish('news', 1 .. 8);

is_deeply([$stage->replayed('/default', 'news')], ['sse.open {}'], 'by default nothing is replayed');
@ids = $stage->publish('news', 1 .. 8);
is_deeply([$stage->replayed('/off', 'news')], ['sse.open {}'], 'sse_replay off replays nothing');
@ids = $stage->publish('news', 1 .. 8);
is_deeply([$stage->replayed('/three', 'news')], [6 .. 8], 'sse_replay 3 replays the three newest');
@ids = $stage->publish('news', 1 .. 8);
is_deeply([$stage->replayed('/all', 'news')], [4 .. 8], 'sse_replay all replays exactly what history guarantees');
@ids = $stage->publish('news', 1 .. 8);
is_deeply([$stage->replayed('/many', 'news')], [4 .. 8], 'a larger count replays as much as history guarantees');

@ids = $stage->publish('news', 1 .. 5);
my $client = $stage->stream('/all');
$client->wait_data(5);
is_deeply([map { $_->{id} } $client->events('message')], \@ids, 'replayed events have the ids of the publish responses');
$stage->publish('news', 6);
ok($client->wait_data(6), 'live events follow the replayed ones');
$client->close;

is_deeply([$stage->replayed('/empty', 'nothing')], ['sse.open {}'], 'without anything to replay the stream begins with the open event');
is_deeply([$stage->replayed('/all', 'news', last_event_id => $ids[3])], [5, 6], 'Last-Event-ID takes precedence over sse_replay');

$stage->publish('news',  'n1', 'n2');
$stage->publish('sport', 's1');
$stage->publish('news',  'n3');
$stage->publish('sport', 's2', 's3');
is_deeply([$stage->replayed('/both', 'news')], [qw(n2 n3 s2 s3)], 'all channels are replayed in one order');

my $to_brief = SSE::Publisher->new(port => $stage->port, path => '/to-brief');
ok($to_brief->publish(1, 2), 'a hub whose history has an age accepts events');
my $young = $stage->stream('/brief');
is_deeply([$young->data], [1, 2], 'young events are replayed') if $young->wait_data(2, 1);
ok(wait_for(\&replays_nothing, 5), 'events older than the age are not replayed');

my $to_none = SSE::Publisher->new(port => $stage->port, path => '/to-none');
my $live    = $stage->stream('/none');
ok($to_none->publish('live'), 'a hub without history accepts events');
ok($live->wait_data('live'), 'an open stream receives them');
my $late = $stage->stream('/none');
wait_for(sub { @{ $late->{events} } });
is_deeply([$late->types], ['sse.open'], 'nothing is replayed to a later stream');

$stage->ends_cleanly;
done_testing();

# The first event of a new stream shows whether anything is replayed.
sub replays_nothing {
    my $stream = $stage->stream('/brief');
    wait_for(sub { @{ $stream->{events} } });
    my ($first) = $stream->types;
    $stream->close;
    return $first eq 'sse.open';
}
