# Responses are complete however long nginx delays their header or body: on an HTTP/2 connection that
# another response fills, and over HTTP/1.1 and TLS with a header that is sent in pieces.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Socket qw(SOL_SOCKET SO_RCVBUF);
use Test::More;
use SSE::Curl;
use SSE::HTTP qw(request);
use SSE::HTTP2;
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);
use SSE::Redis;
use SSE::RedisStage;
use SSE::Relay;
use SSE::TLS qw(certificate);

plan skip_all => 'nginx is built without TLS or HTTP/2' if !has_module('http_ssl') || !has_module('http_v2');
plan skip_all => 'curl or openssl is missing' if !`curl --version` || !`openssl version`;

# A header of 180 KB: larger than all buffers on the way.
my $long      = 'set $part ' . 'h' x 3000 . '; ' . join ' ', map { "add_header X-Long-$_ \"" . '$part' x 20 . '" always;' } 1 .. 3;
my $locations = <<'EOF_LOCATIONS';
    location = /s       { sse_stream news; }
    location = /lean    { sse_stream news; sse_lean on; }
    location = /wrong   { sse_stream $arg_none; }
    location = /full    { sse_stream full; sse_max_subscribers 1; }
    location = /open    { sse_stream news; sse_cors *; }
    location = /publish { sse_publish news; }
    location = /durable { sse_publish news hub=durable; }
    location = /durable/s { sse_stream news hub=durable; }
    location = /status  { sse_status; }
    location = /admin   { sse_admin; }
EOF_LOCATIONS
my $slow  = join ' ', map { "listen 127.0.0.1:%%PORT_$_%%" . ($_ eq 'tls' ? ' ssl' : '') . ' sndbuf=4k;' } qw(pieces tls);
my $redis = SSE::Redis->start;
my $stage = SSE::Stage->new(
    workers => 1,
    listen  => ' sndbuf=64k',
    http    => <<"EOF_HTTP",
        sse_heartbeat off;
        sse_reconnect clean;
        sse_hub default { history 100; max_event_size 8k; }
        sse_hub durable { redis @{[ $redis->url ]}; }
        ssl_certificate %%DIR%%/cert.pem;
        ssl_certificate_key %%DIR%%/key.pem;
        server { listen 127.0.0.1:%%PORT_h2%% http2 sndbuf=16k; listen 127.0.0.1:%%PORT_h2tls%% http2 ssl sndbuf=16k;
            root %%DIR%%; $locations }
        server { $slow $long $locations }
        server { listen 127.0.0.1:%%PORT_rate%%; limit_rate 150k; $long $locations }
        server { listen 127.0.0.1:%%PORT_chunk%%; sendfile_max_chunk 8k; postpone_output 0; $long $locations }
EOF_HTTP
    server => $locations,
    files  => { %{ certificate() }, big => 'b' x 4_000_000, small => "a small file\n" },
);
my $nginx = $stage->cluster;
ok(wait_for(sub { ($stage->status('durable')->{redis} // '') eq 'up' }), 'the hub with Redis is connected');
my $first   = $stage->stream('/full');
my $durable = $stage->stream('/durable/s');

# name => [path, status, pattern of the body, options]
my @accept = (headers => [accept => 'text/event-stream']);
my %asked  = (
    'a static file'          => ['/small', 200, qr/\Aa small file\n\z/],
    'the status'               => ['/status', 200, qr/\A\{.*\}\n?\z/s],
    'the status page'                 => ['/status?format=html', 200, qr{</html>\s*\z}],
    'a list of channels'       => ['/admin', 200, qr/\A\{"channels".*\}\z/s],
    'HEAD'                     => ['/s', 200, qr/\A\z/, method => 'HEAD'],
    'a stream that is rejected' => ['/wrong', 400, qr/\S/],
    'a method that is not allowed'     => ['/s', 405, qr/\S/, method => 'DELETE'],
    'a publish by GET'         => ['/publish', 405, qr/\A\{"error":.*\}\z/],
    'a method that sse_admin does not have'   => ['/admin', 405, qr/\A\{"error":.*\}\z/, method => 'PUT'],
    'a preflight'              => ['/open', 204, qr/\A\z/, method => 'OPTIONS'],
    'a stream above the limit'     => ['/full', 200, qr/\Aretry: \d{5}\n:\n\z/],
    'too large an event'       => ['/publish', 413, qr/\A\{"error":.*\}\z/, body => 'x' x 9000],
    'a publish'                => ['/publish', 201, qr/\A\{"channel":"news".*\}\z/, body => 'over a busy connection'],
    'a publish through Redis'  => ['/durable', 201, qr/\A\{"channel":"news".*\}\z/, body => 'durable'],
);

for my $how (['HTTP/2'], ['HTTP/2 over TLS', tls => 1]) {
    my ($way, %tls) = @$how;
    my $busy = SSE::HTTP2->new(port => $nginx->port($tls{tls} ? 'h2tls' : 'h2'), receive_buffer => 4096, %tls);
    my $before = $stage->status('default');
    my $big    = $busy->request('/big');
    ok(wait_for(sub { $big->{body} ne '' }), "$way: a large file is being sent");
    $busy->pause;
    my $stream = $busy->request('/s');
    my $feed   = $busy->request('/status', headers => [accept => 'text/event-stream']);
    my %got;
    for my $name (sort keys %asked) {
        my ($path, undef, undef, %options) = @{ $asked{$name} };
        $got{$name} = $busy->request($path, %options);
    }
    ok(wait_for(sub { $stage->status('default')->{events_in} > $before->{events_in} && $durable->data }),
        "$way: requests after it are handled meanwhile");
    is($stage->status('default')->{streams_opened} - $before->{streams_opened}, 1, "$way: the stream is counted");
    is($got{'a publish'}{status}, undef, "$way: no response has arrived");
    $busy->resume;
    $busy->wait_ended($big, values %got);
    is(length $big->{body}, 4_000_000, "$way: the file is complete");
    for my $name (sort keys %asked) {
        my ($path, $status, $body) = @{ $asked{$name} };
        ok($got{$name}{ended}, "$way: $name is completed");
        is($got{$name}{status}, $status, "$way: $name has its status");
        like($got{$name}{body}, $body, "$way: $name has its body");
    }
    $stage->publish('news', "afterwards $way");
    ok(wait_for(sub { grep { $_->{data} eq "afterwards $way" } @{ $stream->{events} } }), "$way: the stream receives its events");
    is_deeply([map { $_->{data} } grep { $_->{type} eq 'message' } @{ $stream->{events} }],
        ['over a busy connection', "afterwards $way"], "$way: all events arrive once");
    ok(wait_for(sub { grep { $_->{data} =~ /"events_in"/ } @{ $feed->{events} } }), "$way: the status stream receives figures");
    $busy->drop;
    $durable->{events} = [];
    ok(wait_for(sub { $stage->subscribers('news') == 0 }), "$way: no stream is left");
}

# HTTP/1.1 with a header that is sent in pieces.
delete $asked{'a static file'};
for my $how (qw(pieces rate chunk)) {
    my $port    = $nginx->port($how);
    my %streams = map { $_ => SSE::Client->new(port => $port, path => $_, receive_buffer => 4096) } '/s', '/lean';
    my %got;
    my @kept;
    for my $name (sort keys %asked) {
        my ($path, undef, undef, %options) = @{ $asked{$name} };
        my $connection = SSE::HTTP->new($port, sub ($answer) { $got{$name} = $answer; return });
        setsockopt $connection->{socket}, SOL_SOCKET, SO_RCVBUF, 4096;
        $connection->send(path => $path, %options);
        push @kept, $connection;
    }
    ok(wait_for(sub { !grep { !exists $got{$_} } keys %asked }, 20), "$how: every response is complete");
    for my $name (sort keys %asked) {
        my ($path, $status, $body) = @{ $asked{$name} };
        is($got{$name} && $got{$name}{status}, $status, "$how: $name has its status");
        like($got{$name} && $got{$name}{body}, $body, "$how: $name has its body");
    }
    $_->wait_open for values %streams;
    is($stage->subscribers('news'), 2, "$how: streams are counted");
    $stage->publish('news', "after a long header: $how");
    ok($streams{$_}->wait_data("after a long header: $how"), "$how: $_ receives its events") for sort keys %streams;
    $_->drop for @kept, values %streams;
    ok(wait_for(sub { $stage->subscribers('news') == 0 }), "$how: no stream is left");
}

for my $path ('/s', '/lean') {
    my $relay  = SSE::Relay->new(port => $nginx->port('tls'), receive_buffer => 4096);
    my $stream = SSE::Curl->new('--http1.1', 'https://127.0.0.1:' . $relay->port . $path);
    ok(wait_for(sub { @{ $stream->{events} } }), "TLS: $path opens after a header in pieces");
    $stage->publish('news', 'over TLS');
    ok($stream->wait_data('over TLS'), "TLS: $path receives its events");
    $_->drop for $stream, $relay;
    ok(wait_for(sub { $stage->subscribers('news') == 0 }), 'TLS: no stream is left');
}
my $relay  = SSE::Relay->new(port => $nginx->port('tls'), receive_buffer => 4096);
my $answer = SSE::Curl->new('--http1.1', '-d', 'x', 'https://127.0.0.1:' . $relay->port . '/publish');
is($answer->wait_end, 0, 'TLS: a publish is answered after a header in pieces');
like($answer->{body}, qr/\A\{"channel":"news".*\}\z/, 'TLS: with its body');
$relay->drop;

$stage->ends_cleanly;
done_testing();
