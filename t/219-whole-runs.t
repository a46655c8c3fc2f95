# sse_replay run: a client without an id receives the newest run of the channel from its first event, and never a
# part of it. If the first event has left, the request is answered with 410.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Client;
use SSE::Cluster;
use SSE::Curl;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::RunStage;

my $locations = <<'EOF_LOCATIONS';
        sse_replay run;
        location ~ ^/s/(.+)$       { sse_stream $1 split=,; }
        location ~ ^/kept/(.+)$    { sse_stream $1 split=,; sse_finished replay; }
        location ~ ^/off/(.+)$     { sse_stream $1; sse_finished off; }
        location ~ ^/lean/(.+)$    { sse_stream $1; sse_lean on; }
        location ~ ^/gzip/(.+)$    { sse_stream $1; gzip on; gzip_types *; gzip_min_length 0; }
        location ~ ^/chat/(.+)$    { sse_stream $1; sse_open_event off; sse_gap_event off; sse_unknown_channel 204; }
        location ~ ^/cors/(.+)$    { sse_stream $1; sse_cors https://app.example; }
        location ~ ^/all/(.+)$     { sse_stream $1; sse_replay all; }
        location ~ ^/inner/(.+)$   { internal; sse_stream $1; }
        location ~ ^/slow/(.+)$    { access_log %%DIR%%/end.log end; sse_stream $1; }
        location = /admin          { sse_admin; }
EOF_LOCATIONS
my $stage = SSE::RunStage->new(hub => 'zone 3m; history 2; runs 5000;', locations => $locations);
my $nginx = $stage->cluster;

# A run is owed as long as it is not finished, however short the history is.
my @run = map { "word $_" } 1 .. 500;
for my $way (['HTTP/1.0', '/s/', '1.0'], ['HTTP/1.1', '/s/', '1.1'], ['lean', '/lean/', '1.1'], ['compressed', '/gzip/', '1.1']) {
    my ($name, $path, $http) = @$way;
    my $channel = $name =~ s/\W//gr;
    $stage->batch($channel, @run);
    flood();
    my $client = $stage->stream("$path$channel", http => $http);
    ok($client->wait_data('word 500'), "$name: a new client receives the run");
    $stage->publish($channel, 'more');
    ok($client->wait_data('more'), "$name: and what follows");
    $stage->finish($channel, 'last');
    ok(wait_for(sub { @{ $client->{ends} } }, 10), "$name: and its end");
    is_deeply([$client->data], [@run, 'more', 'last'], "$name: all of it once, in order");
    $stage->publish($channel, 'next');
    is_deeply([$stage->replayed("$path$channel", $channel)], ['next'], "$name: the next client receives the next run")
        if $name ne 'compressed';
}
SKIP: {
    skip 'nginx without TLS or HTTP/2, or no curl or openssl', 1 if !$stage->has_tls;
    for my $way (['HTTP/2', '--http2-prior-knowledge', 'h2', 'http'], ['HTTP/2 over TLS', '--http2', 'tls', 'https'],
        ['lean over TLS', '--http1.1', 'tls', 'https', 'lean']) {
        my ($name, $option, $port, $scheme, $path) = @$way;
        my $channel = $name =~ s/\W//gr;
        $stage->batch($channel, @run);
        my $url = "$scheme://127.0.0.1:" . $nginx->port($port) . '/' . ($path // 's') . "/$channel";
        my $curl = SSE::Curl->new($option, $url);
        ok(wait_for(sub { $curl->is_open && @{ $curl->{events} } >= 500 }, 10), "$name: a stream begins with the run");
        $stage->finish($channel, 'last');
        is($curl->wait_end, 0, "$name: and is complete");
        is_deeply([$curl->data], [@run, 'last'], "$name: with everything");
        $stage->publish($channel, 'first');
        forget($channel);
        $stage->publish($channel, 'second');
        my $gone = SSE::Curl->new($option, $url);
        wait_for(sub { defined $gone->{status} }, 10);
        is_deeply([$gone->{status}, $gone->wait_end], [410, 0], "$name: a run without its beginning is answered with 410");
    }
}

# Without its beginning, it is not sent.
my $before = $stage->status->{incomplete_runs};
my ($first) = $stage->publish('cut', 'one');
forget('cut');
my ($second) = $stage->publish('cut', 'two');
my $gone = $stage->get('/s/cut');
is($gone->{status}, 410, 'a run whose first event was deleted is answered with 410');
is_deeply($gone->{json}, { error => 'a part of this run is no longer available' }, 'with one sentence, as JSON');
is($gone->{header}{'cache-control'}[0], 'no-store', 'which is not stored');
is($stage->get('/s/cut', 'Last-Event-ID' => $first)->{status}, 410, 'so is a client that lacks what was deleted');
is($stage->get('/s/cut', 'Last-Event-ID' => 'foreign')->{status}, 410, 'and one with an id that means nothing');
is($stage->status->{incomplete_runs}, $before + 3, 'the status counts them');
is($stage->get('/cors/cut', Origin => 'https://app.example')->{header}{'access-control-allow-origin'}[0],
    'https://app.example', 'the CORS headers are there');
is(request(port => $stage->port, path => '/s/cut', method => 'HEAD')->{status}, 200, 'HEAD is answered with 200');
is_deeply([$stage->replayed('/s/cut', 'cut', last_event_id => $second)], [], 'a client that lacks nothing receives a stream');
is_deeply([$stage->replayed('/all/cut', 'cut')], ['two'], 'sse_replay all sends what there is');
is($stage->get('/s/whole,cut')->{status}, 410, 'a stream of two channels is refused if one of them has lost its beginning');
my $metrics = request(port => $stage->port, path => '/status', headers => [Accept => 'text/plain'])->{body};
like($metrics, qr/^nginx_sse_incomplete_runs_total\{hub="default"\} \d+$/m, 'it is a metric, too');
$stage->finish('cut');
$stage->publish('cut', 'three');
is_deeply([$stage->replayed('/s/cut', 'cut')], ['three'], 'the next run is sent');
is_deeply([$stage->replayed('/s/cut', 'cut', last_event_id => 'foreign')], ['sse.gap {"after":"foreign"}', 'three'],
    'to a client with a foreign id, too, after a gap event');

# Nothing yet.
is($stage->get('/chat/new')->{status}, 204, 'sse_unknown_channel 204: a channel of which nothing is known');
my $waiting = $stage->stream('/s/new');
$stage->publish('new', 'hello');
ok($waiting->wait_data('hello'), 'a client that waits receives the first event');
my $bare = SSE::Client->new(port => $stage->port, path => '/chat/new');
ok($bare->wait_data('hello'), 'where opening and gap events are off, the run alone is sent');
is_deeply([map { $_->{type} } @{ $bare->{events} }], ['message'], 'and nothing else');
$_->close for $waiting, $bare;

# A finished run.
$stage->publish('done', 1 .. 4);
$stage->finish('done', 5);
is($stage->get('/s/done')->{status}, 204, 'sse_finished 204: a finished run is answered with 204');
is_deeply([$stage->ended('/kept/done')], ['1 2 3 4 5', 'clean'], 'sse_finished replay: it is sent while all of it is there');
flood();
is($stage->get('/kept/done')->{status}, 410, 'and answered with 410 when a part has left, which history does not owe');
my $off = $stage->stream('/off/done');
is_deeply([$stage->seen($off, 'done')], ['sse.open {}'], 'sse_finished off: the stream waits for the next run');
$off->close;
$stage->publish('old', 1 .. 4);
$stage->finish('old', 5);
flood();
$stage->publish('going', 'g');
is_deeply([$stage->replayed('/kept/old,going', 'going')], ['g'], 'of several channels, it is left out');

# A client that reads too slowly for the zone.
my $slow = $stage->stream('/slow/fast');
$slow->pause;
$stage->batch('fast', map { 'x' x 3000 } 1 .. 300) for 1 .. 20;
$slow->resume;
ok(wait_for(sub { @{ $slow->{ends} } }, 20), 'a client that was overtaken is cut');
isnt($slow->{ends}[0]{how}, 'clean', 'and not as if it had everything');
ok(wait_for(sub { SSE::Cluster::slurp($nginx->dir . '/end.log') =~ /^slow$/m }, 10), '$sse_end is slow');
is((grep { $_->{type} ne 'message' && $_->{type} ne 'sse.open' } @{ $slow->{events} }), 0, 'without a gap event');
is($stage->get('/slow/fast', 'Last-Event-ID' => $slow->{last_event_id})->{status}, 410, 'and answered with 410 when it returns');

# A reload and a killed worker change nothing.
$stage->batch('lives', @run);
$nginx->reload;
is_deeply([$stage->replayed('/s/lives', 'lives')], \@run, 'a run survives a reload');
$nginx->kill_worker(($nginx->workers)[0]);
is_deeply([$stage->replayed('/s/lives', 'lives')], \@run, 'and the death of a worker');
$stage->ends_cleanly;
done_testing();

# Publishes so much that everything leaves that is not owed.
sub flood {
    $stage->batch('flood', map { 'f' x 200 } 1 .. 400) for 1 .. 20;
    $stage->finish('flood');
    return;
}

sub forget ($channel) {
    my $answer = request(port => $stage->port, path => "/admin?channel=$channel&only=history", method => 'DELETE');
    like($answer->{status}, qr/\A20/, "the events of $channel are deleted") if $answer->{status} !~ /\A20/;
    return;
}
