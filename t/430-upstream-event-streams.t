# Event streams of an application behind nginx arrive piece by piece, whatever protocol nginx speaks with it, and
# survive silence. Other responses are left as nginx and its configuration have them.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Backend;
use SSE::Client;
use SSE::Curl;
use SSE::HTTP2;
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);
use SSE::Stage;
use SSE::TLS qw(certificate tls_and_http2_servers);

plan skip_all => 'nginx is built without TLS or HTTP/2' if !has_module('http_ssl') || !has_module('http_v2');
plan skip_all => 'curl or openssl is missing' if !`curl --version` || !`openssl version`;

my %backend = map { $_ => SSE::Backend->new($_) } qw(http10 http11 fastcgi uwsgi scgi);
my %port    = map { $_ => $backend{$_}->port } keys %backend;
my %pass    = (
    http10  => "proxy_pass http://127.0.0.1:$port{http10};",
    http11  => "proxy_pass http://127.0.0.1:$port{http11}; proxy_http_version 1.1;",
    fastcgi => "fastcgi_pass 127.0.0.1:$port{fastcgi}; fastcgi_param REQUEST_METHOD \$request_method;",
    uwsgi   => "uwsgi_pass 127.0.0.1:$port{uwsgi}; uwsgi_param REQUEST_METHOD \$request_method;",
    scgi    => "scgi_pass 127.0.0.1:$port{scgi}; scgi_param REQUEST_METHOD \$request_method;",
);
my $pass      = $pass{http10};
my $locations = join "\n", map { "location = /$_ { $pass{$_} }" } sort keys %pass;
my $stage     = SSE::Stage->new(
    workers => 1,
    http    => "proxy_cache_path %%DIR%%/cache keys_zone=cache:1m; sse_hub default { history 100; }"
        . ' server { listen 127.0.0.1:%%PORT_grpc%% http2; location = /grpc { sse_stream news; sse_heartbeat off; } }'
        . tls_and_http2_servers($locations),
    server => <<"EOF_CONFIG",
        $locations
        location = /off      { $pass sse_proxy_unbuffered off; }
        location = /gzip     { $pass gzip on; gzip_types *; gzip_min_length 0; }
        location = /granted  { proxy_pass http://127.0.0.1:$port{http11}; proxy_http_version 1.1; }
        location = /internal { internal; $pass }
        location = /module   { internal; sse_stream news; }
        location = /failing  { $pass proxy_intercept_errors on; error_page 503 = /internal; }
        location = /cached   { $pass proxy_cache cache; proxy_cache_valid any 1h; proxy_cache_key \$uri; }
        location = /fresh    { $pass proxy_cache cache; proxy_cache_key \$uri; }
        location = /bypassed { $pass proxy_cache cache; proxy_cache_valid any 1h; proxy_no_cache 1; }
        location = /stored   { $pass proxy_store %%DIR%%/stored; }
        location = /ignoring { $pass proxy_ignore_headers X-Accel-Buffering; }
        location = /page     { ssi on; ssi_types *; root %%DIR%%; }
        location = /grpc         { grpc_pass grpc://127.0.0.1:%%PORT_grpc%%; grpc_read_timeout 1s; }
        location = /silent       { $pass proxy_read_timeout 1s; }
        location = /short        { $pass sse_proxy_read_timeout 1s; }
        location = /untouched    { $pass proxy_read_timeout 1s; sse_proxy_read_timeout off; }
        location = /on_purpose   { $pass proxy_read_timeout 61s; sse_proxy_read_timeout 1s; }
        location = /buffered     { $pass proxy_read_timeout 1s; sse_proxy_unbuffered off; }
EOF_CONFIG
    files => { %{ certificate() }, page => 'before <!--# include virtual="/internal" --> after' },
);
my $nginx = $stage->cluster;
my $port  = $stage->port;
my @type  = ('Content-Type' => 'text/event-stream');

# The same stream from an application of each kind.
for my $protocol (sort keys %pass) {
    my %clients = (
        'HTTP/1.0' => sub { SSE::Client->new(port => $port, path => "/$protocol", http => '1.0') },
        'HTTP/1.1' => sub { SSE::Client->new(port => $port, path => "/$protocol") },
        'HTTP/2'   => sub { http2("/$protocol") },
        'TLS'      => sub { SSE::Curl->new('--http1.1', 'https://127.0.0.1:' . $nginx->port('tls') . "/$protocol") },
        'HTTP/2 over TLS' => sub { SSE::Curl->new('--http2', 'https://127.0.0.1:' . $nginx->port('tls') . "/$protocol") },
    );
    for my $way (sort keys %clients) {
        my $client = $clients{$way}->();
        arrives_in_pieces("$protocol, $way", $client, $backend{$protocol});
    }
}

# Other ways to a response of an upstream.
arrives_in_pieces('gzip', curl('/gzip', '--compressed'), $backend{http10});
arrives_in_pieces('an error response', curl('/http10'), $backend{http10}, Status => '500 Internal Server Error');
arrives_in_pieces('a type with parameters', curl('/http10'), $backend{http10}, 'Content-Type' => 'Text/Event-Stream; charset=UTF-8');
arrives_in_pieces('a cache that will not keep it', client('/fresh'), $backend{http10});
arrives_in_pieces('a cache that must not keep it', client('/cached'), $backend{http10}, 'Cache-Control' => 'no-store');
arrives_in_pieces('proxy_no_cache', client('/bypassed'), $backend{http10});
arrives_in_pieces('X-Accel-Buffering, ignored', client('/ignoring'), $backend{http10}, 'X-Accel-Buffering' => 'yes');

my $granted = client('/granted');
answer($backend{http11}, 'X-Accel-Redirect' => '/internal')->finish;
arrives_in_pieces('X-Accel-Redirect', $granted, $backend{http10});

my $failing = client('/failing');
answer($backend{http10}, Status => '503 Service Unavailable')->finish;
arrives_in_pieces('error_page', $failing, $backend{http10});

my $own = client('/granted');
answer($backend{http11}, 'X-Accel-Redirect' => '/module')->finish;
ok($own->wait_open, 'X-Accel-Redirect to a stream of the module');
$stage->publish('news', 'an event of the module');
ok($own->wait_data('an event of the module'), '... which works as before');
$own->close;

# Responses that stay buffered: nothing of them has arrived when a stream that began later has its first piece.
for my $left (
    ['sse_proxy_unbuffered off', '/off'],
    ['another type', '/http10', 'Content-Type' => 'text/plain'],
    ['X-Accel-Buffering: yes', '/http10', 'X-Accel-Buffering' => 'Yes'],
    ['a response to be cached', '/cached'],
    ['a response to be cached by its own header', '/fresh', 'Cache-Control' => 'max-age=60'],
    ['a response to be stored', '/stored'],
) {
    my ($name, $path, %headers) = @$left;
    my $client  = curl($path, '--http1.0');
    my $request = answer($backend{http10}, %headers);
    $request->piece("data: held back\n\n");
    my $other = client('/http10');
    my $later = answer($backend{http10});
    $later->piece("data: now\n\n");
    ok($other->wait_data('now'), "$name: a later stream has its first piece");
    unlike($client->{body}, qr/held back/, '... and this response is still buffered');
    $request->finish;
    ok(wait_for(sub { $client->{body} =~ /held back/ }), '... until its end');
    $later->finish;
    $_->drop for $client, $other;
}
my $hit = client('/cached');
ok($hit->wait_data('held back'), 'a response from the cache is sent as before');

my $page = curl('/page');
my $part = answer($backend{http10});
$part->piece("data: a part\n\n");
$part->finish;
ok(wait_for(sub { $page->{body} =~ /before data: a part\n\n after/ }), 'a subrequest is left alone');

# Silence. Each stream has one event; two are given up by nginx, and the others are still open then.
my %silent;
for my $path (qw(silent short untouched on_purpose buffered)) {
    my $client  = client("/$path");
    my $request = answer($backend{http10});
    $request->piece("data: one\n\n");
    $client->wait_data('one') if $path ne 'buffered';
    $silent{$path} = { client => $client, request => $request };
}
my $grpc = client('/grpc');
ok($grpc->wait_open, 'a stream of an upstream with grpc_pass');
ok(wait_for(sub { $silent{$_}{request}{is_closed} }), "$_: nginx gives up the silent upstream") for qw(short untouched);
for my $path (qw(silent on_purpose buffered)) {
    my ($client, $request) = @{ $silent{$path} }{qw(client request)};
    ok(!$request->{is_closed}, "$path: nginx waits longer");
    $request->piece("data: two\n\n");
    $request->finish if $path eq 'buffered';
    ok($client->wait_data('two'), '... and passes the next event on');
    $request->finish;
}
$stage->publish('news', 'after silence');
ok($grpc->wait_data('after silence'), 'grpc_read_timeout is replaced, too');
$grpc->close;
my @silent = $nginx->wait_lines(qr/upstream timed out/, 2);
is(scalar @silent, 2, 'nginx reports two silent upstreams');

# Many requests of one location, each with its own copy of the configuration.
my @many = map { my $client = client('/silent'); [$client, answer($backend{http10})] } 1 .. 20;
$_->[1]->piece("data: many\n\n") for @many;
is(scalar(grep { $_->[0]->wait_data('many') } @many), 20, 'twenty streams of one location');
$_->[1]->finish for @many;
$nginx->reload;
arrives_in_pieces('after a reload', client('/silent'), $backend{http10});

$stage->ends_cleanly;
done_testing();

sub client ($path, %options) { return SSE::Client->new(port => $port, path => $path, %options) }
sub curl ($path, @options)   { return SSE::Curl->new(@options, "http://127.0.0.1:$port$path") }

# Accepts the next request, and sends the header of an event stream.
sub answer ($backend, %headers) {
    my $request = $backend->request or die 'no request arrived';
    $request->head(@type, %headers);
    return $request;
}

# A response over HTTP/2 without TLS, with the interface of a client.
sub http2 ($path) {
    my $connection = SSE::HTTP2->new(port => $nginx->port('h2c'));
    return { connection => $connection, response => $connection->request($path) };
}

sub has_data ($client, $data) {
    my $events = ref $client eq 'HASH' ? $client->{response}{events} : $client->{events};
    return wait_for(sub { grep { $_->{data} eq $data } @$events });
}

sub has_ended ($client) {
    return wait_for(sub { $client->{response}{ended} }) if ref $client eq 'HASH';
    return wait_for(sub { !$client->is_open });
}

sub arrives_in_pieces ($name, $client, $backend, %headers) {
    my $request = $backend->request or return fail("$name: no request arrived");
    $request->head(@type, %headers);
    for my $data ('first', 'x' x 20_000, 'last') {
        $request->piece("data: $data\n\n");
        last if !has_data($client, $data) && !fail("$name: a piece of " . length($data) . ' bytes does not arrive');
    }
    $request->finish;
    ok(has_ended($client), "$name: each piece arrives at once, and the stream ends");
    ref $client eq 'HASH' ? $client->{connection}->drop : $client->drop;
    return;
}
