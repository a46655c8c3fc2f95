# Streams over TLS and over HTTP/2, with and without TLS.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Curl;
use SSE::Loop qw(serve_for wait_for);
use SSE::Nginx qw(has_module);
use SSE::Stage;
use SSE::TLS qw(certificate tls_and_http2_servers);

plan skip_all => 'nginx is built without TLS or HTTP/2' if !has_module('http_ssl') || !has_module('http_v2');
plan skip_all => 'curl or openssl is missing' if !`curl --version` || !`openssl version`;

my $locations = 'location = /s { sse_stream news; } location = /all { sse_stream news; sse_replay all; }';
my $stage = SSE::Stage->new(
    http => <<"EOF_HTTP",
        sse_drain 1s;
        sse_reconnect clean;
        sse_hub default { history 100; }
        @{[ tls_and_http2_servers($locations) ]}
EOF_HTTP
    files => certificate(),
);
my $nginx = $stage->cluster;

my %ways = (
    'HTTP/1.1 over TLS' => ['1.1', '--http1.1', 'https', 'tls'],
    'HTTP/2 over TLS'   => ['2', '--http2', 'https', 'tls'],
    'HTTP/2 in clear'   => ['2', '--http2-prior-knowledge', 'http', 'h2c'],
);
for my $way (sort keys %ways) {
    my ($version, $option, $scheme, $port) = @{ $ways{$way} };
    my $address = "$scheme://127.0.0.1:" . $nginx->port($port);

    my $stream = SSE::Curl->new($option, "$address/s");
    ok(wait_for(sub { @{ $stream->{events} } }), "$way: a stream opens");
    is($stream->{version}, $version, "$way: the response has that version");
    is($stream->header('content-type'), 'text/event-stream', "$way: Content-Type is text/event-stream");
    is($stream->header('cache-control'), 'no-cache, no-transform', "$way: the response must not be cached");
    like($stream->{body}, qr/\Aretry: 3000\n:\nevent: sse\.open\ndata: \{\}\nid: \S+\n\n\z/, "$way: the body begins with retry and the open event");

    my @data = ('one', "two\nlines", 'x' x 200_000, map { "quick $_" } 1 .. 500);
    $stage->publish('news', @data[0 .. 2]);
    $stage->batch('news', @data[3 .. $#data]);
    ok($stream->wait_data($data[-1]), "$way: events arrive");
    is(join('|', $stream->data), join('|', @data), "$way: they arrive once, in order, and unchanged");

    my $back = SSE::Curl->new($option, '-H', "Last-Event-ID: $stream->{events}[-3]{id}", "$address/s");
    ok($back->wait_data($data[-1]), "$way: Last-Event-ID resumes the stream");
    is_deeply([$back->data], [@data[-2, -1]], "$way: it continues right after that id");

    my $head = SSE::Curl->new($option, '--head', "$address/s");
    is($head->wait_end, 0, "$way: the response to HEAD is complete");
    is($head->{status}, 200, "$way: HEAD returns 200");
    my $wrong = SSE::Curl->new($option, '-X', 'DELETE', "$address/s");
    $wrong->wait_end;
    is($wrong->{status}, 405, "$way: other methods are rejected");

    $_->drop for $stream, $back;
    ok(wait_for(sub { $stage->subscribers('news') == 0 }, 5), "$way: a client that disconnects is not counted");
}

# A drain: the response is completed, which the exit status of curl shows.
my @streams = map { my ($version, $option, $scheme, $port) = @$_;
    SSE::Curl->new($option, "$scheme://127.0.0.1:" . $nginx->port($port) . '/s') } values %ways;
wait_for(sub { !grep { !@{ $_->{events} } } @streams });
$nginx->reload;
is_deeply([map { $_->wait_end(5) } @streams], [0, 0, 0], 'on a reload every response is completed');
is(scalar(grep { $_->{parser}{retry} > 1000 } @streams), 0, 'a short retry is sent first');
ok($nginx->wait_old_workers_gone(3), 'the old workers exit');

# Many streams on one connection.
my $dir  = $nginx->dir;
my $many = 20;
my @files = map { ('-o', "$dir/out$_", "https://127.0.0.1:" . $nginx->port('tls') . '/s') } 1 .. $many;
my $curl = SSE::Curl->new('--http2', '-Z', @files);
ok(wait_for(sub { $stage->subscribers('news') == $many }, 10), "$many streams share one connection");
$stage->publish('news', map { "shared $_ " . 'y' x 3000 } 1 .. 100);
ok(wait_for(sub { !grep { content("$dir/out$_") !~ /data: shared 100 / } 1 .. $many }, 15), 'all receive the last event');
my $wrong = grep { (join ' ', content("$dir/out$_") =~ /^data: shared (\d+) y{3000}$/mg) ne "@{[1 .. 100]}" } 1 .. $many;
is($wrong, 0, 'each receives all events in order');
$curl->drop;
ok(wait_for(sub { $stage->subscribers('news') == 0 }, 5), 'when the connection is closed, all its streams end');

$stage->ends_cleanly;
done_testing();

sub content ($path) {
    open my $in, '<:raw', $path or return '';
    local $/ = undef;
    return <$in> // '';
}
