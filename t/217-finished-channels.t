# Streams of channels whose run is finished: they end cleanly after the client has received everything, and a
# client that has nothing to receive is answered with 204.

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
        location ~ ^/s/(.+)$       { sse_stream $1 split=,; }
        location ~ ^/all/(.+)$     { sse_stream $1 split=,; sse_replay all; sse_finished replay; }
        location ~ ^/lean/(.+)$    { sse_stream $1; sse_lean on; }
        location ~ ^/gzip/(.+)$    { sse_stream $1; gzip on; gzip_types *; gzip_min_length 0; }
        location ~ ^/off/(.+)$     { sse_stream $1; sse_finished off; sse_replay all; }
        location ~ ^/known/(.+)$   { sse_stream $1; sse_unknown_channel 204; }
        location ~ ^/pattern/(.+)$ { sse_stream $1* pattern; }
        location ~ ^/cors/(.+)$    { sse_stream $1; sse_cors https://app.example; }
        location ~ ^/full/(.+)$    { sse_stream $1; sse_max_subscribers 1; }
        location ~ ^/inner/(.+)$   { internal; sse_stream $1; }
        location = /logged         { access_log %%DIR%%/end.log end; sse_stream logged; }
EOF_LOCATIONS
my $stage = SSE::RunStage->new(hub => 'zone 8m;', locations => $locations);
my $nginx = $stage->cluster;

# The end, over each protocol.
my $number = 0;
for my $way (['HTTP/1.0', '/s/', '1.0', 'closed'], ['HTTP/1.1', '/s/', '1.1', 'clean'], ['lean', '/lean/', '1.1', 'clean'],
    ['compressed', '/gzip/', '1.1', 'clean']) {
    my ($name, $path, $http, $end) = @$way;
    my $channel = 'way' . ++$number;
    my $client  = $stage->stream("$path$channel", http => $http, keep_wire => 1);
    $stage->publish($channel, 'one');
    $stage->finish($channel, 'two');
    $stage->publish($channel, 'of the next run');
    ok(wait_for(sub { @{ $client->{ends} } }, 10), "$name: the stream ends");
    is_deeply([$client->data], ['one', 'two'], "$name: after everything before the finish, and nothing after it");
    is($client->{ends}[0]{how}, $end, "$name: cleanly");
    my $retry = $client->{ends}[0]{retry};
    ok($retry >= 1000 && $retry <= 2000, "$name: the client is asked to return in $retry ms");
    like($client->{wire}, qr/retry: $retry\n:\n(?:\r\n0\r\n\r\n)?\z/, "$name: in the last bytes") if $name ne 'compressed';
}
SKIP: {
    skip 'nginx without TLS or HTTP/2, or no curl or openssl', 1 if !$stage->has_tls;
    for my $way (['HTTP/2', '--http2-prior-knowledge', 'h2', 'http'], ['HTTP/2 over TLS', '--http2', 'tls', 'https'],
        ['HTTP/1.1 over TLS', '--http1.1', 'tls', 'https'], ['lean over TLS', '--http1.1', 'tls', 'https', 'lean']) {
        my ($name, $option, $port, $scheme, $path) = @$way;
        my $channel = 'way' . ++$number;
        my $url     = "$scheme://127.0.0.1:" . $nginx->port($port) . '/' . ($path // 's') . "/$channel";
        my $curl    = SSE::Curl->new($option, $url);
        ok(wait_for(sub { $curl->is_open && @{ $curl->{events} } }, 10), "$name: a stream opens");
        $stage->finish($channel, 'last');
        is($curl->wait_end, 0, "$name: the response is complete");
        is_deeply([$curl->data], ['last'], "$name: after the last event");
        my $none = SSE::Curl->new($option, $url);
        wait_for(sub { defined $none->{status} }, 10);
        is_deeply([$none->{status}, $none->wait_end, $none->{body}], [204, 0, ''], "$name: a new client is answered with 204");
    }
}

# The reason.
my $logged = $stage->stream('/logged');
$stage->finish('logged');
wait_for(sub { @{ $logged->{ends} } }, 10);
ok(wait_for(sub { SSE::Cluster::slurp($nginx->dir . '/end.log') =~ /^finished$/m }, 10), '$sse_end is finished');
ok(wait_for(sub { ($stage->status->{streams_ended}{finished} // 0) >= 5 }, 10), 'and the status counts it');

# Nothing is to come.
my ($first, $middle) = $stage->publish('done', 1, 2);
my $last = $stage->finish('done', 3)->{json}{ids}[0];
my $nothing = $stage->get('/s/done');
is($nothing->{status}, 204, 'a new client of a finished channel is answered with 204');
my $before = $stage->status->{nothing_to_come};
$stage->get('/s/done') for 1 .. 3;
is($stage->status->{nothing_to_come}, $before + 3, 'and the status counts it');
is($nothing->{header}{'cache-control'}[0], 'no-store', 'which is not stored');
unlike($nothing->{head}, qr/^Content-/mi, 'and has no content');
is($stage->get('/s/done', 'Last-Event-ID' => $last)->{status}, 204, 'so is a client that has everything');
is($stage->get('/all/done', 'Last-Event-ID' => $last)->{status}, 204, 'also where finished runs are replayed');
is(request(port => $stage->port, path => '/s/done', method => 'HEAD')->{status}, 200, 'HEAD is answered with 200');
is($stage->get('/cors/done', Origin => 'https://app.example')->{header}{'access-control-allow-origin'}[0],
    'https://app.example', 'the CORS headers are there');
is_deeply([$stage->ended('/s/done', $middle)], ['3', 'clean'], 'a client that lacks something receives it, and the end');
is_deeply([$stage->ended('/all/done')], ['1 2 3', 'clean'], 'sse_finished replay: a new client receives the run, and the end');
is($stage->get('/known/none')->{status}, 204, 'sse_unknown_channel 204: it is not');
my $unknown = $stage->stream('/s/none');
is($stage->get('/known/none')->{status}, 204, 'not even if a stream waits for it');
$stage->publish('none', 'now');
ok($unknown->wait_data('now'), 'the stream that waits receives its first event');
my $known = $stage->stream('/known/none');
ok($known->is_open, 'and the channel is known');
my $off = $stage->stream('/off/done');
is_deeply([$stage->seen($off, 'done')], [1, 2, 3], 'sse_finished off: streams pass over finishes');
ok($off->is_open, 'and stay open');
$off->close;
$stage->finish('done');
my $pattern = $stage->stream('/pattern/done');
$stage->finish('done', 'x');
ok($pattern->wait_data('x') && $pattern->is_open, 'so do streams of patterns');

# Being turned away comes first.
my $only = $stage->stream('/full/crowd');
my $away = SSE::Client->new(port => $stage->port, path => '/full/crowd');
wait_for(sub { @{ $away->{ends} } }, 10);
ok($away->{ends}[0]{retry} >= 10_000, 'a client is turned away');
$stage->finish('crowd');
wait_for(sub { @{ $only->{ends} } }, 10);
is($stage->get('/full/crowd')->{status}, 204, 'when there is room, it is answered with 204');

# The connection is kept.
my @got;
my $connection = SSE::HTTP->new($stage->port, sub ($answer) { push @got, $answer; return });
for my $path ('/lean/done', '/s/done') {
    my $count = @got;
    $connection->send(path => $path);
    wait_for(sub { @got > $count }, 10);
}
is_deeply([map { $_->{status} } @got], [204, 204], 'a connection serves several requests, also where sse_lean is on');
ok($connection->is_open, 'and stays open');
$connection->drop;

# Several channels.
my $both = $stage->stream('/s/one,two');
$stage->finish('one', 'a');
$stage->publish('two', 'b');
ok($both->wait_data('b') && $both->is_open, 'a stream of two channels goes on while one is not finished');
$stage->finish('two');
ok(wait_for(sub { @{ $both->{ends} } }, 10), 'it ends when both are');
is_deeply([$both->data], ['a', 'b'], 'with everything');
is($stage->get('/s/one,two', 'Last-Event-ID' => $both->{last_event_id})->{status}, 204, 'and the next request is answered with 204');

# A client that returns when the next run has begun receives each run on a stream of its own.
my ($returning, $turn) = ($stage->stream('/s/chat'), 0);
for my $event ('nothing', 'nothing', 'a reload', 'the death of a worker') {
    $turn++;
    my @before = $nginx->workers;
    $nginx->reload                  if $event eq 'a reload';
    $nginx->kill_worker($before[0]) if $event eq 'the death of a worker';
    $nginx->wait_old_workers_gone(20);
    wait_for(sub { !$returning->{socket} || grep { $_ == $returning->worker } $nginx->workers });
    $returning->reopen if !$returning->{socket};
    $returning->wait_open;
    my $ends = @{ $returning->{ends} };
    $stage->publish('chat', "question $turn");
    $stage->finish('chat', "answer $turn");
    ok(wait_for(sub { @{ $returning->{ends} } > $ends }, 10), "turn $turn, after $event: the stream ends");
    $stage->publish('chat', "prompt $turn");
    $returning->reopen;
    ok($returning->wait_data("prompt $turn"), "turn $turn: the client continues with the next run");
    is($stage->get('/s/logged')->{status}, 204, "turn $turn: another channel is still finished");
}
is_deeply([$returning->data], [map { ("question $_", "answer $_", "prompt $_") } 1 .. $turn], 'all of them once, in order');
$stage->ends_cleanly;
done_testing();
