# Gap events: sent once, before any other event, exactly when events were lost.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::EventIds qw(is_id);
use SSE::Loop qw(wait_for);
use SSE::Stage;

my $stage = SSE::Stage->new(
    http   => 'sse_hub default { zone 2m; max_event_size 64k; history 5; }',
    server => <<'EOF_CONFIG',
        location = /s       { sse_stream news; }
        location = /both    { sse_stream news quiet; }
        location = /quiet   { sse_stream quiet; }
        location = /renamed { sse_stream news; sse_gap_event lost; sse_open_event hello; }
        location = /silent  { sse_stream news; sse_gap_event off; }
        location = /mute    { sse_stream untouched; sse_gap_event off; }
        location = /mute-empty { sse_stream unheard; sse_gap_event off; }
        location = /empty   { sse_stream untouched; }
EOF_CONFIG
);
my ($quiet) = $stage->publish('quiet', 'q');
my @ids = $stage->publish('news', 1 .. 8);

# Ids of another hub.
my $client = $stage->stream('/s', last_event_id => '7-7-7');
$client->wait_data(8);
is_deeply([seen($client)], ['sse.gap {"after":"7-7-7"}', 4 .. 8], 'an unknown id receives a gap event and the whole history');
my ($gap_event) = $client->events('sse.gap');
ok(is_id($gap_event->{id}), 'the gap event has an id of its own');
$client->close;
is_deeply([at_once('/s', $gap_event->{id}, 8)], [4 .. 8], 'a client that returns with the id of the gap event receives no second one');

my $nothing = $stage->stream('/empty', last_event_id => 'elsewhere');
wait_for(sub { @{ $nothing->{events} } });
my ($first_event) = @{ $nothing->{events} };
is_deeply([$first_event->{type}, $first_event->{data}], ['sse.gap', '{"after":"elsewhere"}'], 'an empty channel sends a gap event too');
$nothing->close;
is_deeply([$stage->replayed('/empty', 'untouched', last_event_id => $first_event->{id})], [],
    'its id resumes the stream');

for my $foreign ('0-0-0', '0', '-', '1-2', '1-2-3-4-5', '99999999999999999999-1-1', 'abc', '01-1-1', ' 1-1-1 x') {
    my ($first) = at_once('/s', $foreign, 8);
    like($first, qr/\Asse\.gap \{"after":"/, "the id '$foreign' receives a gap event");
}

# Other names of the gap event, or none.
my $renamed = $stage->stream('/renamed', last_event_id => '7-7-7');
$renamed->wait_data(8);
is_deeply([seen($renamed)], ['lost {"after":"7-7-7"}', 4 .. 8], 'sse_gap_event renames the gap event');
$renamed->close;
my $opened = $stage->stream('/renamed');
ok(wait_for(sub { $opened->events('hello') }), 'sse_open_event renames the open event');
$opened->close;
is_deeply([at_once('/silent', '7-7-7', 8)], [4 .. 8], 'sse_gap_event off sends the history without a gap event');
my $mute = $stage->stream('/mute', last_event_id => '7-7-7');
$stage->publish('untouched', 'later');
$mute->wait_data('later');
is_deeply([seen($mute)], ['fence 1', 'later'], 'and nothing else');
$mute->close;
my $unplaced = $stage->stream('/mute-empty', last_event_id => '7-7-7');
ok(wait_for(sub { $unplaced->events('sse.open') }), 'with gap events off and no history the stream begins with the open event');
$unplaced->close;
is_deeply([$stage->replayed('/s', 'news', last_event_id => $ids[7])], [], 'the id of the last event causes no gap event');

# A flood that replaces the history.
my ($before) = $stage->publish('news', 'before');
my $flood    = SSE::Publisher->new(port => $stage->port, path => '/to/news');
ok($flood->publish(map { sprintf '%05d %s', $_, 'x' x 4000 } 1 .. 900), 'a flood larger than the zone is accepted');
my $overtaken = $stage->stream('/s', last_event_id => $before);
$overtaken->wait_data(sprintf '%05d %s', 900, 'x' x 4000);
my ($first, @rest) = @{ $overtaken->{events} };
is_deeply([$first->{type}, $first->{data}], ['sse.gap', qq({"after":"$before"})], 'a client whose next events were evicted receives a gap event');
my @numbers = map { 0 + substr $_->{data}, 0, 5 } @rest;
is_deeply(\@numbers, [$numbers[0] .. 900], 'then it receives all retained events without a hole');
cmp_ok(scalar @numbers, '>=', 5, 'at least as many as history guarantees');
$overtaken->close;
my $after_gap = $stage->stream('/s', last_event_id => $first->{id});
$after_gap->wait_data($rest[-1]{data});
is_deeply([map { $_->{id} } @{ $after_gap->{events} }], [map { $_->{id} } @rest], 'the id of that gap event resumes exactly there');
$after_gap->close;

is_deeply([$stage->replayed('/quiet', 'quiet', last_event_id => $quiet)], [], 'a channel that lost nothing sends no gap event after the flood');
my ($one) = at_once('/both', $quiet, $rest[-1]{data});
is($one, qq(sse.gap {"after":"$quiet"}), 'a loss on one of several channels causes a gap event');

$stage->ends_cleanly;
done_testing();

sub seen ($client) {
    return map { $_->{type} eq 'message' ? $_->{data} : "$_->{type} $_->{data}" } @{ $client->{events} };
}

# The events of a stream with this id, up to the one with this data.
sub at_once ($path, $id, $data) {
    my $stream = $stage->stream($path, last_event_id => $id);
    $stream->wait_data($data);
    $stream->close;
    return seen($stream);
}
