# What history owes and what it does not forget: bursts, aged events, other runs, other configurations.

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

# A burst is not cut to what history owes while a client is at it.
my $client = $stage->stream('/s');
$stage->batch('news', 1 .. 1000);
ok(wait_for(sub { $client->data >= 1000 }), 'a burst of 1,000 reaches a client of a channel with history 10');
is_deeply([$client->data], [1 .. 1000], 'all of it, in order');
$stage->publish('news', 1001 .. 2000);
ok(wait_for(sub { $client->data >= 2000 }), 'so do 1,000 single events');
is_deeply([$client->data], [1 .. 2000], 'all of them, in order');
is(scalar(() = $client->events('sse.gap')), 0, 'without a gap');
my $last = $client->{last_event_id};
$client->close;

# An event that has aged out was not lost for the client that saw it.
my $brief = $stage->stream('/brief');
wait_for(sub { $brief->{last_event_id} ne '' });
my $beginning = $brief->{last_event_id};
my $writer    = SSE::Publisher->new(port => $stage->port, path => '/to-brief/');
ok($writer->publish('soon forgotten'), 'an event on a quiet channel with an age of 1 s');
ok($brief->wait_data('soon forgotten'), 'reaches its client');
$brief->close;
ok(wait_for(\&forgotten, 10), 'and ages out');
my $back = $stage->stream('/brief', last_event_id => $brief->{last_event_id});
ok($writer->publish('news at last'), 'when something happens again');
ok($back->wait_data('news at last'), 'the client that came back with its id is told');
is_deeply([$back->types], ['message'], 'that one event, without replay and without a gap');
$back->close;
my $missed = $stage->stream('/brief', last_event_id => $beginning);
wait_for(sub { @{ $missed->{events} } });
is(($missed->types)[0], 'sse.gap', 'a client that had not seen the aged event is told a gap');
$missed->close;

# Reloads: history may change freely, a changed size is a new hub.
$nginx->configure(http => 'sse_hub default { zone 4m; history 5; } sse_hub brief { history 10 1s; }');
ok($nginx->reload, 'a reload with another history');
is_deeply([$stage->replayed('/s', 'news', last_event_id => $last)], [], 'keeps the hub and what is in it');
my $before = () = $nginx->error_log =~ /$SSE::Stage::NEW_HUB/g;
$nginx->configure(http => 'sse_hub default { zone 8m; history 5; } sse_hub brief { history 10 1s; }');
ok($nginx->reload, 'a reload with another size');
my ($gap) = $stage->replayed('/s', 'news', last_event_id => $last);
is($gap, qq(sse.gap {"after":"$last"}), 'starts a new hub, and those who return are told a gap');
my @lines = $nginx->error_log =~ /$SSE::Stage::NEW_HUB/g;
is(@lines - $before, 1, 'with one line in the error log') or diag(@lines);

# Another run.
my ($id) = $stage->publish('news', 'of the first run');
SSE::Loop::drop_all();
ok($nginx->quit, 'nginx stops');
$nginx->start;
my ($first) = $stage->replayed('/s', 'news', last_event_id => $id);
is($first, qq(sse.gap {"after":"$id"}), 'an id of an earlier run of nginx is told a gap');

$stage->ends_cleanly;
done_testing();

sub forgotten {
    my $stream = $stage->stream('/brief-all');
    wait_for(sub { @{ $stream->{events} } });
    my ($type) = $stream->types;
    $stream->close;
    return $type eq 'sse.open';
}
