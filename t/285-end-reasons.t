# The reason for the end of a stream whose client disconnects or reads nothing, or whose permission ends: over
# HTTP/1.0, HTTP/1.1, and HTTP/2, with and without TLS, lean or not, idle or in the middle of an event.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Curl;
use SSE::FakeClock;
use SSE::HTTP qw(request);
use SSE::HTTP2;
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);
use SSE::Relay;
use SSE::Stage;
use SSE::TLS qw(certificate);

plan skip_all => 'nginx is built without TLS or HTTP/2' if !has_module('http_ssl') || !has_module('http_v2');
plan skip_all => 'curl or openssl is missing' if !`curl --version` || !`openssl version`;

my @listen = (
    'listen 127.0.0.1:%%PORT_h2%% http2 sndbuf=16k;',
    'listen 127.0.0.1:%%PORT_h2tls%% http2 ssl sndbuf=16k;',
    'listen 127.0.0.1:%%PORT_tls%% ssl sndbuf=16k;',
);
my $locations = <<'EOF_LOCATIONS';
    location = /s      { sse_stream news; }
    location = /lean   { sse_stream news; sse_lean on; }
    location = /gzip   { sse_stream news; gzip on; gzip_types *; gzip_min_length 0; }
EOF_LOCATIONS
my $server = "ssl_certificate %%DIR%%/cert.pem; ssl_certificate_key %%DIR%%/key.pem;";
my $clock  = SSE::FakeClock->new;
my $stage  = $clock->in(sub { SSE::Stage->new(
    workers => 1,
    listen  => ' sndbuf=16k',
    http    => <<"EOF_HTTP",
        sse_heartbeat off;
        sse_expires \$arg_until;
        send_timeout 60s;
        sse_hub default { zone 64m; history 100; max_event_size 1m; }
        server { @listen $server $locations }
        server { listen 127.0.0.1:%%PORT_hasty%% sndbuf=16k; send_timeout 300ms; $locations }
        server { listen 127.0.0.1:%%PORT_hastytls%% sndbuf=16k ssl; $server send_timeout 300ms; $locations }
        server { listen 127.0.0.1:%%PORT_hastyh2%% http2 sndbuf=16k; send_timeout 300ms; $locations }
EOF_HTTP
    server => "$locations location = /status { sse_status; }",
    files  => certificate(),
) });
my $nginx = $stage->cluster;

# name => a function that opens streams, with that query, and returns the relay, the number of streams, and their clients.
my %ways = (
    'HTTP/1.0'      => sub ($port, $query = '') { plain($port || 'main', "/s$query", http => '1.0') },
    'HTTP/1.1'      => sub ($port, $query = '') { plain($port || 'main', "/s$query") },
    'compressed'    => sub ($port, $query = '') { plain($port || 'main', "/gzip$query", headers => ['Accept-Encoding' => 'gzip']) },
    'lean'          => sub ($port, $query = '') { plain($port || 'main', "/lean$query") },
    'TLS'           => sub ($port, $query = '') { tls($port ? "${port}tls" : 'tls', "/s$query") },
    'lean over TLS' => sub ($port, $query = '') { tls($port ? "${port}tls" : 'tls', "/lean$query") },
    'HTTP/2'        => sub ($port, $query = '') { http2($port ? "${port}h2" : 'h2', 0, $query) },
);
$ways{'HTTP/2 over TLS'} = sub ($port, $query = '') { http2('h2tls', 1, $query) };

for my $way (sort keys %ways) {
    for my $leaving (qw(drop reset)) {
        for my $state ('idle', 'in the middle of an event') {
            my ($relay, $count, @clients) = $ways{$way}->('');
            flood($relay) if $state ne 'idle';
            my $before = ended();
            $relay->$leaving;
            is_deeply(ended_since($before, $count), { client => $count }, "$way: a client that disconnects ($leaving, $state) ends with 'client'");
            $_->drop for @clients;
        }
    }
    next if $way eq 'HTTP/2 over TLS';
    my ($relay, $count, @clients) = $ways{$way}->('hasty');
    my $before = ended();
    flood($relay);
    is_deeply(ended_since($before, $count), { timeout => $count }, "$way: a client that reads nothing ends with 'timeout'");
    $_->drop for $relay, @clients;
}

# One of several streams on an HTTP/2 connection.
for my $state ('idle', 'in the middle of an event') {
    my ($relay, $count, $client) = http2('h2');
    flood($relay) if $state ne 'idle';
    my $before = ended();
    $client->cancel($client->{responses}{3});
    is_deeply(ended_since($before, 1), { client => 1 }, "HTTP/2: a stream that is cancelled ($state) ends with 'client'");
    $relay->drop;
    is_deeply(ended_since($before, $count), { client => $count }, 'HTTP/2: the other streams of a connection end as well when it is closed');
    $client->drop;
}

# The client's permission ends.
for my $way (sort keys %ways) {
    my ($idle, $count, @idle) = $ways{$way}->('', '?until=' . (time + 3600));
    my $before = ended();
    $clock->set(3601);
    is_deeply(ended_since($before, $count), { expired => $count }, "$way: a permission that ends (idle) ends with 'expired'");
    my ($busy, undef, @busy) = $ways{$way}->('', '?until=' . (time + 7200));
    flood($busy);
    $before = ended();
    $clock->set(7201);
    $busy->resume;
    is_deeply(ended_since($before, $count), { expired => $count },
        "$way: a permission that ends (in the middle of an event) ends with 'expired'");
    $clock->set(0);
    $_->drop for $idle, $busy, @idle, @busy;
}

$stage->ends_cleanly;
done_testing();

# Each client is connected through a relay of its own.
sub relay ($port) {
    return SSE::Relay->new(port => $port eq 'main' ? $nginx->port : $nginx->port($port), receive_buffer => 4096);
}

sub plain ($port, $path, %options) {
    $port = 'main' if $port eq '';
    my $relay  = relay($port);
    my $client = SSE::Client->new(port => $relay->port, path => $path, %options);
    opened(1);
    return ($relay, 1, $client);
}

sub tls ($port, $path) {
    my $relay  = relay($port);
    my $client = SSE::Curl->new('--http1.1', 'https://127.0.0.1:' . $relay->port . $path);
    opened(1);
    return ($relay, 1, $client);
}

sub http2 ($port, $tls = 0, $query = '') {
    my $relay  = relay($port);
    my $client = SSE::HTTP2->new(port => $relay->port, tls => $tls);
    $client->request("/s$query") for 1 .. 3;
    opened(3);
    return ($relay, 3, $client);
}

sub opened ($count) {
    return wait_for(sub { $stage->subscribers('news') == $count }) || diag("$count streams did not open");
}

# Publishes more than all buffers hold, even compressed, to a client that stops reading.
sub flood ($relay) {
    $relay->pause;
    state @large = map { join '', map { chr 97 + rand 26 } 1 .. 300_000 } 1 .. 3;
    $stage->publish('news', @large);
    return;
}

sub ended {
    return $stage->status->{streams_ended} // {};
}

# The number of ended streams by reason, once there are `count`.
sub ended_since ($before, $count) {
    my %since;
    wait_for(sub {
        my $now = ended();
        %since = map { $_ => $now->{$_} - $before->{$_} } grep { $now->{$_} > $before->{$_} } keys %$now;
        my $all = 0;
        $all += $_ for values %since;
        return $all >= $count;
    });
    return \%since;
}
