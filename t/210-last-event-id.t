# Resuming: where Last-Event-ID is taken from, and that a stream continues exactly after it.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::EventIds qw(is_id by_id);
use SSE::Loop qw(wait_for);
use SSE::Stage;

my $stage = SSE::Stage->new(
    http   => 'sse_hub default { history 5; }',
    server => <<'EOF_CONFIG',
        location = /s     { sse_stream news; }
        location = /both  { sse_stream news sport; }
        location = /custom {
            sse_stream news;
            sse_last_event_id $arg_cursor $http_x_cursor;
        }
EOF_CONFIG
);

my $first = $stage->stream('/s');
wait_for(sub { $first->events('sse.open') });
my $beginning = $first->{last_event_id};
$first->close;
ok(is_id($beginning), 'the event that opens a stream has an id');

my @ids = $stage->publish('news', 1 .. 5);
ok(!(grep { !is_id($_) } @ids), 'ids are decimal numbers joined by "-", at most 73 bytes');
ok(!(grep { by_id($ids[$_], $ids[$_ + 1]) >= 0 } 0 .. 3), 'ids increase');
ok(by_id($beginning, $ids[0]) < 0, 'the id of the open event precedes that of the first event');

is_deeply([resumed($beginning)], [1 .. 5], 'the id of the open event resumes before the first event');
for my $had (1 .. 5) {
    is_deeply([resumed($ids[$had - 1])], [$had + 1 .. 5], "the id of event $had resumes after it");
}

is_deeply([live_after($ids[4])], ['live'], 'a client that has seen all events receives only new ones, without an open or gap event');

my @more = $stage->publish('news', 11 .. 30);
is_deeply([numbers($stage->replayed('/s', 'news', last_event_id => $more[4]))], [16 .. 30],
    'a returning client receives events that are still stored beyond the count of history');

# Where the id is taken from.
my $query = "/s?last_event_id=$more[17]";
is_deeply([numbers($stage->replayed($query, 'news'))], [29, 30], 'the argument last_event_id is used');
is_deeply([numbers($stage->replayed($query, 'news', last_event_id => $more[18]))], [30],
    'the header takes precedence over the argument');
is_deeply([numbers($stage->replayed($query, 'news', headers => ['Last-Event-ID' => '']))], [29, 30],
    'with an empty header the argument is used');
for my $name (qw(lastEventId lasteventid LASTEVENTID)) {
    is_deeply([numbers($stage->replayed("/s?$name=$more[17]", 'news'))], [29, 30], "the argument $name is used as well");
}
is_deeply([numbers($stage->replayed("/s?last_event_id=&lastEventId=$more[17]", 'news', headers => ['Last-Event-ID' => '']))],
    [29, 30], 'empty arguments are skipped');
is_deeply([numbers($stage->replayed("/s?lastEventId=$more[17]&last_event_id=$more[18]", 'news'))], [30],
    'last_event_id takes precedence over lastEventId');
is_deeply([numbers($stage->replayed("/custom?cursor=$more[17]", 'news'))], [29, 30], 'sse_last_event_id names another argument');
is_deeply([numbers($stage->replayed('/custom', 'news', headers => ['X-Cursor' => $more[16]]))], [28 .. 30],
    'sse_last_event_id names another header');
is_deeply([numbers($stage->replayed("/custom?cursor=$more[17]", 'news', headers => ['X-Cursor' => $more[16]]))],
    [29, 30], 'with sse_last_event_id the first non-empty value is used');
is_deeply([$stage->replayed('/custom', 'news', last_event_id => $more[16])], ['sse.open {}'],
    'sources that sse_last_event_id does not name are ignored');

# Several channels.
my ($n1) = $stage->publish('news', 'n1');
my ($s1) = $stage->publish('sport', 's1');
$stage->publish('news',  'n2');
$stage->publish('sport', 's2');
is_deeply([words($stage->replayed('/both', 'news', last_event_id => $n1))], [qw(s1 n2 s2)],
    'an id of one channel resumes all channels of the stream');
is_deeply([words($stage->replayed('/both', 'sport', last_event_id => $s1))], [qw(n2 s2)],
    'an id of the other channel does too');

$stage->ends_cleanly;
done_testing();

# The first numbers that a stream with this id receives.
sub resumed ($id) {
    my $client = $stage->stream('/s', last_event_id => $id);
    $client->wait_data(5, 2) if $id ne $ids[4];
    my @data = $client->data;
    $client->close;
    return @data;
}

sub live_after ($id) {
    my $client = $stage->stream('/s', last_event_id => $id);
    $stage->publish('news', 'live');
    $client->wait_data('live');
    $client->close;
    return map { $_->{data} } @{ $client->{events} };
}

sub numbers (@seen) { return grep { /\A\d+\z|sse/ } @seen }
sub words   (@seen) { return grep { /\A[a-z]\d\z|sse/ } @seen }
