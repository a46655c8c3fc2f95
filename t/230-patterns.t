# sse_stream with pattern: streams of all channels whose names match.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use List::Util qw(uniq);
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Stage;

my $stage = SSE::Stage->new(
    workers => 3,
    http    => <<'EOF_HTTP',
        sse_hub default { zone 8m; history 2000; presence on; }
        sse_hub small { zone 1m; max_event_size 8k; history 5; }
        sse_retry 100ms jitter=100ms;
        sse_drain 500ms;
        log_format streams "$uri $sse_channel $sse_subscribers $sse_end $sse_events_sent";
        access_log %%DIR%%/streams.log streams;
EOF_HTTP
    server => <<'EOF_SERVER',
        location = /rooms  { sse_stream room:* pattern; }
        location = /all    { sse_stream * pattern; }
        location = /many   { sse_stream room:* *:1 "user:[12]" split=, pattern; }
        location = /named  { sse_stream room:* *:1 pattern; sse_name_events by_channel; }
        location = /replay { sse_stream $arg_p pattern split=,; sse_replay 2; }
        location = /mine   { sse_stream "user:$arg_u:*" pattern; }
        location = /one    { sse_stream room:1; }
        location = /word   { set $word pattern; sse_stream $word; }
        location = /max    { sse_stream max:* pattern; sse_max_subscribers 2; }
        location = /lean   { sse_stream room:* pattern; sse_lean on; }
        location = /small  { sse_stream a* pattern hub=small; }
        location ~ ^/small/(.+)$ { sse_publish $1 hub=small; }
        location = /presence { sse_stream sse.presence; }
        location = /admin  { sse_admin; }
        location = /status { sse_status; }
EOF_SERVER
);
my $nginx = $stage->cluster;

# Matching events arrive once and in order, whichever worker has the stream and whichever accepted the
# event.
my @rooms = $stage->streams_on_workers(2, ('/rooms') x 6);
my $all   = $stage->stream('/all');
my $many  = $stage->stream('/many');
my $named = $stage->stream('/named');
my $one   = $stage->stream('/one');
cmp_ok(scalar(uniq(map { $_->worker } @rooms)), '>', 1, 'the streams are on several workers');
my $first = $stage->stream('/rooms');
wait_for(sub { $first->{last_event_id} ne '' });
my $began = $first->{last_event_id};
$first->close;
my @published = map { [$_ % 5 ? 'room:' . $_ % 5 : $_ % 10 ? 'user:1' : 'user:3', "e$_"] } 1 .. 60;
$stage->publish(@$_) for @published;
$stage->publish('room:9', 'last');
ok(wait_for(sub { !grep { !grep { $_ eq 'last' } $_->data } @rooms, $all, $many }), 'all receive the last event');
my @of_rooms = ((map { $_->[1] } grep { $_->[0] =~ /^room/ } @published), 'last');
is(scalar(grep { join(',', $_->data) ne join ',', @of_rooms } @rooms), 0, 'room:* receives the events of all rooms, once and in order');
is_deeply([$all->data], [(map { $_->[1] } @published), 'last'], '* receives everything');
is_deeply([$many->data], [(map { $_->[1] } grep { $_->[0] ne 'user:3' } @published), 'last'], 'an event that several patterns match arrives once');
is_deeply([$one->data], [map { $_->[1] } grep { $_->[0] eq 'room:1' } @published], 'a stream without patterns receives the events of its channel');
is_deeply([$named->types], ['sse.open', map { $_->[0] } (grep { $_->[0] =~ /^room|:1/ } @published), ['room:9']],
    'with by_channel an event is named after its own channel');

# Resuming from the id of any event and of the open event.
is_deeply([$stage->replayed('/rooms', 'room:9', last_event_id => $began)], \@of_rooms, 'a client that returns with the first id receives all events');
my ($middle) = map { $_->{id} } grep { $_->{data} eq 'e31' } $all->events('message');
is_deeply([$stage->replayed('/rooms', 'room:9', last_event_id => $middle)],
    [grep { $_ eq 'last' || substr($_, 1) > 31 } @of_rooms], 'with any other id it receives the later events of all matching channels');
is_deeply([$stage->replayed('/many', 'room:9', last_event_id => $all->{last_event_id})], [], 'with the last id it receives nothing');
my ($gap) = $stage->replayed('/rooms', 'room:9', last_event_id => '7-7-7');
like($gap, qr/\Asse\.gap \{"after":"7-7-7"\}/, 'an unknown id receives a gap event');
is_deeply([$stage->replayed('/replay?p=room:[12]', 'room:1')], [replayed_pairs()],
    'sse_replay replays the newest event of each channel');
is_deeply([$stage->replayed('/replay?p=nothing:*', 'nothing:1')], ['sse.open {}'], 'with gap events off the stream begins with the open event');

# Variables in patterns, and subscriber counts.
$stage->publish('user:17:mail', 'yours');
my $mine = $stage->stream('/mine?u=17');
$stage->publish('user:18:mail', 'not yours');
$stage->publish('user:17:chat', 'hello');
ok($mine->wait_data('hello'), 'a pattern may hold variables');
is_deeply([$mine->data], ['hello'], 'the value of the variable is matched');
is($stage->subscribers('user:17:chat'), 2, 'the response to a publisher counts streams of patterns');
is($stage->subscribers('room:1'), 12, 'a stream with several matching patterns is counted once for each');
is($stage->subscribers('elsewhere'), 1, 'other streams are not counted');
my $word = $stage->stream('/word');
$stage->publish('pattern', 'a word');
ok($word->wait_data('a word'), 'a channel can be called pattern');
for my $bad ('/replay?p=', '/replay?p=sse.*', '/replay?p=a,sse.status', '/replay?p=' . 'x' x 256, "/replay?p=\xff") {
    is(request(port => $stage->port, path => $bad)->{status}, 400, 'refused: ' . substr $bad =~ s/[^ -~]/./gr, 0, 40);
}
my $long = $stage->stream('/replay?p=' . '*' x 255);
$stage->publish('anything', 'long');
ok($long->wait_data('long'), 'a pattern of 255 bytes is accepted');
$long->close;
my @two = map { $stage->stream('/max') } 1, 2;
my $third = request(port => $stage->port, path => '/max', timeout => 5);
like($third->{body}, qr/\Aretry: \d{5}\n:\n\z/, 'sse_max_subscribers counts the streams of a pattern');
$_->close for @two;

# Reserved channels, administration, and the status.
my $presence = $stage->stream('/presence');
$stage->stream('/one')->close;
ok(wait_for(sub { grep { /"room:1"/ } $presence->data }, 5), 'presence events are published');
# The stream of the channel "pattern" was opened just before, and its presence event may arrive late.
is_deeply([grep { $_ ne 'pattern' } uniq(map { /"channel":"([^"]*)"/ } $presence->data)], ['room:1'], 'for channels, not for patterns');
ok(!(grep { /came/ } $all->data), 'patterns do not match the presence channel');
my @listed = map { $_->{channel} } @{ request(port => $stage->port, path => '/admin?limit=1000')->{json}{channels} };
is(scalar(grep { /\*|\0/ } @listed), 0, 'the channel list contains no patterns');
my $ended = request(port => $stage->port, path => '/admin?channel=room:1&only=streams', method => 'DELETE')->{json};
is($ended->{streams}, 1, 'DELETE of a channel counts only streams that name it');
ok(wait_for(sub { !$one->is_open }), 'those streams end');
is(scalar(grep { !$_->is_open } @rooms, $all, $many, $named), 0, 'streams of patterns stay open');

# A lean stream, and log lines.
my $lean = $stage->stream('/lean');
$stage->publish('room:7', 'lean');
ok($lean->wait_data('lean'), 'a lean stream may have patterns');
$_->close for $lean, $many, $mine;
ok(wait_for(sub { $nginx->error_log =~ /lean stream of "room:\*" ended/ }, 5), 'the error log names the patterns');
my $log = sub { SSE::Cluster::slurp($nginx->dir . '/streams.log') };
ok(wait_for(sub { $log->() =~ m{^/many room:\*,\*:1,user:\[12\] \d+ client \d+$}m }, 5), '$sse_channel names the patterns') or diag($log->());
ok(wait_for(sub { $log->() =~ m{^/mine user:17:\* 0 client 2$}m }, 5), '$sse_subscribers counts the streams of the pattern') or diag($log->());

# No event is lost through reloads and a killed worker.
$_->close for @rooms, $all, $named, $presence, $word;
my @clients = map { $stage->stream($_ % 2 ? '/rooms' : '/all', reconnect => 1) } 1 .. 30;
my $publisher = SSE::Publisher->new(port => $stage->port);
my $number = 0;
my $publish = sub { $publisher->put(++$number, path => '/to/room:' . $number % 50) for 1 .. 20; $publisher->wait_idle };
$publish->();
for (1 .. 3) {
    $nginx->reload;
    $publish->();
}
$nginx->kill_worker($clients[0]->worker);
$publish->();
$publish->() if wait_for(sub { !grep { !$_->is_open } @clients }, 15);
my $expected = join ',', 1 .. $number;
ok(wait_for(sub { !grep { join(',', $_->data) ne $expected } @clients }, 20), "all receive all $number events once and in order")
    or diag(map { join(',', $_->data) . "\n" } grep { join(',', $_->data) ne $expected } @clients[0 .. 5]);
is(scalar(grep { $_->events('sse.gap') } @clients), 0, 'no gap event is sent');
cmp_ok(scalar(grep { $_->{openings} > 1 } @clients), '==', 30, 'each client reconnected');
$_->close for @clients;

# A flood that replaces the history.
my $small = SSE::Publisher->new(port => $stage->port);
$small->put('before', path => '/small/ab');
$small->wait_idle;
my $away = $small->last->{id};
$small->put(sprintf('%04d', $_) . 'x' x 2000, path => '/small/' . ($_ % 3 ? "a$_" : 'b')) for 1 .. 900;
ok($small->wait_idle(60), 'a flood larger than the zone is accepted');
my $late = $stage->stream('/small', last_event_id => $away);
$small->put('end', path => '/small/aa');
ok($late->wait_data('end'), 'a client returns');
my ($first_event, @rest) = @{ $late->{events} };
is($first_event->{type}, 'sse.gap', 'it receives a gap event first');
is(scalar(grep { $_->{type} eq 'sse.gap' } @rest), 0, 'exactly one gap event is sent');
my @numbers = map { $_->{data} =~ /\A(\d+)/ } @rest;
is_deeply(\@numbers, [sort { $a <=> $b } @numbers], 'then the retained events in order');
cmp_ok(scalar(grep { $_ % 3 } @numbers), '==', scalar @numbers, 'of matching channels only: ' . @numbers);
cmp_ok($numbers[-1], '==', 899, 'including the newest');
$late->close;

ok(wait_for(sub { $stage->status->{subscribers} == 0 }, 5), 'no stream is counted at the end');
is($stage->subscribers('room:1'), 0, 'publish responses have no subscribers');

$stage->ends_cleanly;
done_testing();

# The two newest of room:1 and room:2, in order.
sub replayed_pairs {
    my @of = map { my $n = $_; (grep { $_->[0] eq "room:$n" } @published)[-2, -1] } 1, 2;
    return sort { substr($a, 1) <=> substr($b, 1) } map { $_->[1] } @of;
}
