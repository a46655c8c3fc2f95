# What history guarantees beyond its limits: bursts, expired events, restarts, and changed configurations.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(wait_for);
use SSE::Stage;

my %config = (
    http   => 'sse_hub default { zone 4m; history 10; } sse_hub brief { history 10 1s; }',
    server => <<'EOF_CONFIG',
        location /to-brief/         { sse_publish brief hub=brief; }
        location = /s               { sse_stream news; }
        location = /brief           { sse_stream brief hub=brief; }
        location = /brief-all       { sse_stream brief hub=brief; sse_replay all; }
        location = /brief-beginning { sse_stream brief hub=brief; }
EOF_CONFIG
);
my $stage = SSE::Stage->new(%config);
my $nginx = $stage->cluster;

# A burst is not trimmed to the history while a client is reading it.
my $client = $stage->stream('/s');
$stage->batch('news', 1 .. 1000);
ok(wait_for(sub { $client->data >= 1000 }), 'a burst of 1,000 reaches a client of a channel with history 10');
is_deeply([$client->data], [1 .. 1000], 'all of the batch, in order');
$stage->publish('news', 1001 .. 2000);
ok(wait_for(sub { $client->data >= 2000 }), '1,000 single events arrive too');
is_deeply([$client->data], [1 .. 2000], 'all of the single events, in order');
is(scalar(() = $client->events('sse.gap')), 0, 'without a gap');
my $last = $client->{last_event_id};
$client->close;

# An expired event is not lost for a client that has seen it.
my $brief = $stage->stream('/brief');
wait_for(sub { $brief->{last_event_id} ne '' });
my $beginning = $brief->{last_event_id};
my $writer    = SSE::Publisher->new(port => $stage->port, path => '/to-brief/');
ok($writer->publish('soon forgotten'), 'an event is published on a quiet channel whose history has an age of 1 s');
ok($brief->wait_data('soon forgotten'), 'the event reaches its client');
$brief->close;
ok(wait_for(\&forgotten, 10), 'the event expires');
my $back = $stage->stream('/brief', last_event_id => $brief->{last_event_id});
ok($writer->publish('news at last'), 'a new event is published');
ok($back->wait_data('news at last'), 'the returning client receives the new event');
is_deeply([$back->types], ['message'], 'and nothing else: no replay and no gap event');
$back->close;
my $missed = $stage->stream('/brief', last_event_id => $beginning);
wait_for(sub { @{ $missed->{events} } });
is(($missed->types)[0], 'sse.gap', 'a client that had not seen the expired event receives a gap event');
$missed->close;

# Reloads: history can be changed, but a changed zone size creates a new hub.
$nginx->configure(http => 'sse_hub default { zone 4m; history 5; } sse_hub brief { history 10 1s; }');
ok($nginx->reload, 'nginx reloads with another history');
is_deeply([$stage->replayed('/s', 'news', last_event_id => $last)], [], 'the hub keeps its events');
my $before = () = $nginx->error_log =~ /$SSE::Stage::NEW_HUB/g;
$nginx->configure(http => 'sse_hub default { zone 8m; history 5; } sse_hub brief { history 10 1s; }');
ok($nginx->reload, 'nginx reloads with another zone size');
my ($gap) = $stage->replayed('/s', 'news', last_event_id => $last);
is($gap, qq(sse.gap {"after":"$last"}), 'a new hub is created, and returning clients receive a gap event');
my @lines = $nginx->error_log =~ /$SSE::Stage::NEW_HUB/g;
is(@lines - $before, 1, 'the error log has one line about it') or diag(@lines);

# A restart.
my ($id) = $stage->publish('news', 'of the first run');
SSE::Loop::drop_all();
ok($nginx->quit, 'nginx stops');
$nginx->start;
my ($first) = $stage->replayed('/s', 'news', last_event_id => $id);
is($first, qq(sse.gap {"after":"$id"}), 'a client with an id from before a restart receives a gap event');

$stage->ends_cleanly;
done_testing();

sub forgotten {
    my $stream = $stage->stream('/brief-all');
    wait_for(sub { @{ $stream->{events} } });
    my ($type) = $stream->types;
    $stream->close;
    return $type eq 'sse.open';
}
