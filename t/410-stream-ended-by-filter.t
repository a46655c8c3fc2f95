# A filter that ends the response of a stream (`ngx.arg[2]` of Lua): the stream ends, and the connection
# serves the next request. A filter that fails ends the stream as well.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::HTTP2;
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(dynamic_modules has_module);
use SSE::Stage;

my ($modules, $reason) = dynamic_modules(qw(ndk_http_module ngx_http_lua_module));
plan skip_all => "no Lua module (libnginx-mod-http-lua): $reason" if !$modules;

my $http2     = has_module('http_v2');
my $locations = <<'EOF_LOCATIONS';
    location = /ends  { sse_stream news; body_filter_by_lua_block {
        if string.find(ngx.arg[1], "the end") then ngx.arg[2] = true end } }
    location = /fails { sse_stream news; body_filter_by_lua_block {
        if string.find(ngx.arg[1], "the end") then error("wanted") end } }
    location = /first { sse_stream news; body_filter_by_lua_block { ngx.arg[2] = true } }
EOF_LOCATIONS
my $stage = SSE::Stage->new(
    workers => 1,
    listen  => ' sndbuf=16k',
    main    => join(' ', map { "load_module $_;" } @$modules),
    http    => 'sse_heartbeat off; send_timeout 60s; sse_hub default { max_event_size 1m; } log_format ends $uri:$sse_end;'
        . ($http2 ? "server { listen 127.0.0.1:%%PORT_h2c%% http2; $locations }" : ''),
    server => "$locations location = /status { sse_status; access_log off; }",
);
my $nginx = $stage->cluster;

for my $path ('/ends', '/first') {
    my $request = "GET $path HTTP/1.1\r\nHost: localhost\r\n\r\n";
    my $client  = SSE::Client->new(port => $stage->port, raw_request => $request, keep_wire => 1);
    ok(wait_for(sub { $client->{wire} =~ /retry/ }), "$path: the stream begins");
    $stage->publish('news', 'before', 'the end', 'behind') if $path eq '/ends';
    ok(wait_for(sub { $client->{wire} =~ /\r\n0\r\n\r\n\z/ }), "$path: the filter ends the response");
    unlike($client->{wire}, qr/behind/, "$path: nothing follows the end");
    ok(wait_for(sub { $stage->subscribers('news') == 0 }), "$path: the stream is no longer counted");
    ok(!$client->{ends}[0] || $client->{ends}[0]{how} eq 'clean', "$path: the client receives a complete response");
    $client->drop;

    # The next request on the same connection.
    my @answers;
    my $kept = SSE::HTTP->new($stage->port, sub ($answer) { push @answers, $answer; return });
    $kept->send(path => $path);
    $stage->publish('news', 'the end') if $path eq '/ends' && wait_for(sub { $stage->subscribers('news') == 1 });
    ok(wait_for(sub { @answers == 1 }), "$path: the response is complete");
    $kept->send(path => '/status');
    ok(wait_for(sub { @answers == 2 }), "$path: its connection serves another request");
    is($answers[1] && $answers[1]{status}, 200, "$path: with a normal response");
    $kept->drop;
}

# A client that reads the end late.
my $slow = SSE::Client->new(port => $stage->port, path => '/ends', receive_buffer => 4096);
$slow->wait_open;
$slow->pause;
my $before = closed();
$stage->publish('news', 'x' x 900_000 . 'the end');
ok(wait_for(sub { closed() > $before }), 'a filter ends a response that its client reads slowly');
$slow->resume;
ok(wait_for(sub { $slow->{state} eq 'ended' }), 'the end is sent');
is($slow->{ends}[0]{how}, 'clean', 'the response is complete');
is(length(($slow->data)[-1]), 900_007, 'with everything before it');

my $failing = $stage->stream('/fails');
$stage->publish('news', 'the end');
ok(wait_for(sub { $failing->{state} eq 'ended' }), 'a filter that fails ends the stream');
is($failing->{ends}[0]{how}, 'abrupt', 'the response is incomplete');
is_deeply({ map { $_ => ended()->{$_} } qw(client error) }, { client => 0, error => 6 }, 'no stream is counted as ended by its client');
like($nginx->error_log, qr/stream of "news" is closed: a filter ended the response/, 'the error log has the reason');

if ($http2) {
    my $connection = SSE::HTTP2->new(port => $nginx->port('h2c'));
    my ($one, $other) = map { $connection->request($_) } '/ends', '/fails';
    ok(wait_for(sub { $stage->subscribers('news') == 2 }), 'HTTP/2: streams open');
    $stage->publish('news', 'the end');
    ok($connection->wait_ended($one), 'HTTP/2: a filter ends the response');
    ok(wait_for(sub { $stage->subscribers('news') == 0 }), 'HTTP/2: both streams have ended');
    ok($connection->is_open, 'HTTP/2: the connection stays open');
    $connection->drop;
}

$stage->ends_cleanly;
done_testing();

# The number of streams that a filter has ended, from the error log.
sub closed { return scalar(() = $nginx->error_log =~ /is closed: a filter ended the response/g) }

sub ended { return $stage->status->{streams_ended} }
