# Log lines about a stream: one line in the access log when it ends, with the reason; lines in the error log
# with channel and hub, which a client cannot forge; debug lines if nginx is built with them.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(serve_for wait_for);
use SSE::Nginx;
use SSE::Stage;

my $stage = SSE::Stage->new(
    main    => 'error_log %%DIR%%/debug.log debug; error_log %%DIR%%/error.log info; worker_shutdown_timeout 10s;',
    workers => 1,
    http    => <<'EOF_HTTP',
        sse_hub wire { zone 4m; max_event_size 256k; history 5; }
        log_format streams '$request_method $uri $status end=$sse_end sent=$sse_events_sent last=$sse_last_event_id channel=$sse_channel subscribers=$sse_subscribers';
        access_log %%DIR%%/streams.log streams;
        sse_drain 500ms;
EOF_HTTP
    server => <<'EOF_CONFIG',
        location = /s       { sse_stream news $arg_more; }
        location = /channel { sse_stream $arg_c; }
        location = /age     { sse_stream news; sse_max_age 300ms; }
        location = /stuck   { sse_stream stuck; send_timeout 1s; }
        location = /slow    { sse_stream slow; sse_slow_client close; sse_open_event off; }
        location = /other   { return 204; }
        location = /put     { sse_publish $arg_c; }
        add_header X-Channel $sse_channel;
EOF_CONFIG
);
my $nginx = $stage->cluster;

# The client disconnects.
my $client = $stage->stream('/s?more=sport');
my $other  = $stage->stream('/s');
my ($first, $last) = $stage->publish('news', 'one', 'two');
ok($client->wait_data('two'), 'events arrive');
is($client->header('x-channel'), undef, 'variables have no value before the stream is open');
is(lines('/s'), 0, 'an open stream has no line in the access log');
$client->close;
is(line('/s'), "GET /s 200 end=client sent=2 last=$last channel=news,sport subscribers=1",
    'the line of a client that disconnects has what was sent and the remaining streams of its channels');
$other->close;

# nginx ends the stream.
my $aged = $stage->stream('/age');
like(line('/age'), qr/\AGET \/age 200 end=age sent=0 last=\d\S+ channel=news subscribers=0\z/, 'a stream at its maximum age is logged with end=age');

my $stuck = $stage->stream('/stuck', receive_buffer => 4096);
$stuck->pause;
$stage->publish('stuck', map { "$_ " . 'x' x 200_000 } 1 .. 60);
like(line('/stuck', 15), qr/\AGET \/stuck 200 end=timeout sent=\d+ last=\d\S+ channel=stuck /, 'a client that reads nothing is logged with end=timeout');
ok(scalar $nginx->wait_lines(qr/\[info\] .*stream of "stuck" is closed: client accepts no data, client: 127/), 'the error log has a line about it');
$stuck->close;

my $slow = $stage->stream('/slow', receive_buffer => 4096);
$slow->pause;
$stage->publish('slow', map { "$_ " . 'x' x 200_000 } 1 .. 80);
$slow->resume;
like(line('/slow', 15), qr/\AGET \/slow 200 end=slow sent=\d+ last=\d\S+ channel=slow /, 'a client that falls behind the history is logged with end=slow');
ok(scalar $nginx->wait_lines(qr/\[info\] .*stream of "slow" is closed: client fell behind the retained history, client: 127/), 'the error log has a line about it');

# Requests that are not streams.
is(request(port => $stage->port, path => '/s', method => 'HEAD')->{status}, 200, 'HEAD is answered');
is(line('/s', 5, 2), 'HEAD /s 200 end=- sent=- last=- channel=- subscribers=-', 'HEAD is logged without stream variables');
request(port => $stage->port, path => '/other');
is(line('/other'), 'GET /other 204 end=- sent=- last=- channel=- subscribers=-', 'so are requests to other locations');
my $listener = $stage->stream('/channel?c=sport');
request(port => $stage->port, path => '/put?c=sport', body => 'x');
is(line('/put'), 'POST /put 201 end=- sent=- last=- channel=sport subscribers=1', 'a publish is logged with its channel and the number of subscribers');

# A client cannot forge lines. nginx appends its own description of the request.
my $raw = SSE::Client->new(port => $stage->port, path => '/channel?c=sport', headers => ['Last-Event-ID' => "1\x1b\x80\"x"]);
serve_for(0.1);
request(port => $stage->port, path => '/put?c=' . "\xc3\xa9\x85\x9b", body => 'x');
my @said = grep { /sse: / } split /\n/, $nginx->error_log;
like(join("\n", @said), qr/\[info\] .*sse: not published to "\\xc3\\xa9\\x85\\x9b" in hub "wire": /, 'bytes from a client are escaped');
is(scalar(grep { (split /, client: /)[0] =~ /[^\x20-\x7e]/ } @said), 0, 'all lines of the module are printable ASCII');
$raw->close;

# A reload.
my @left = map { $stage->stream('/channel?c=left') } 1 .. 3;
$nginx->reload;
my @ends;
ok(wait_for(sub { 3 <= (@ends = grep { /channel=left/ } all_lines()) }, 10), 'a reload ends streams');
is(scalar(grep { /\AGET \/channel 200 end=drain sent=0 / } @ends), 3, 'each has a line in the access log');
ok(scalar $nginx->wait_lines(qr/\[notice\] .*sse: hub "wire": ending \d+ streams? over 500 ms/), 'the error log has one line for all');

SKIP: {
    skip 'nginx is built without debug log', 8 if SSE::Nginx::built_with() !~ /--with-debug/;
    my $debug = SSE::Cluster::slurp($nginx->dir . '/debug.log');
    like($debug, qr/\[debug\] .*http sse stream of "news,sport", hub "wire", after ""/, 'debug log: a stream is opened');
    like($debug, qr/\[debug\] .*http sse stream of "sport", hub "wire", after "1\\x1b\\x80\\"x"/, 'bytes from a client are escaped');
    is(scalar(grep { /http sse / && /[^\x20-\x7e]/ } split /\n/, $debug), 0, 'lines of all levels escape bytes from a client');
    like($debug, qr/\[debug\] .*http sse published to "news", hub "wire": 1 event, 2 subscribers/, 'debug log: an event is published');
    like($debug, qr/\[debug\] .*http sse send: \d+ frames?,/, 'debug log: frames are sent');
    like($debug, qr/\[debug\] .*http sse stream writable: /, 'debug log: a client reads more');
    like($debug, qr/\[debug\] .*http sse stream ended by the module: age/, 'debug log: the worker ends a stream');
    like($debug, qr/\[debug\] .*http sse stream ends: client, 2 events, last id "\Q$last\E"/, 'debug log: a stream ends');
}

$stage->ends_cleanly;
done_testing();

sub all_lines { return split /\n/, SSE::Cluster::slurp($nginx->dir . '/streams.log') }

sub lines ($uri) { return scalar grep { (split)[1] eq $uri } all_lines() }

# The last line of a location, once there are that many.
sub line ($uri, $timeout = 5, $count = 1) {
    wait_for(sub { lines($uri) >= $count }, $timeout);
    return (grep { (split)[1] eq $uri } all_lines())[-1] // 'none';
}
