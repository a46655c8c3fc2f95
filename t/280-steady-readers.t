# send_timeout: a client that reads steadily is never disconnected, however long an event takes, whether or
# not the stream uses nginx's filters or is lean, over TLS, HTTP/1.0, and HTTP/2.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Curl;
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);
use SSE::Relay;
use SSE::Stage;
use SSE::TLS qw(certificate);

plan skip_all => 'curl is missing' if !`curl --version`;

my $tls       = has_module('http_ssl') && `openssl version`;
my $locations = <<'EOF_LOCATIONS';
    location = /s      { sse_stream news; }
    location = /lean   { sse_stream news; sse_lean on; }
    location = /filter { sse_stream news; gzip on; gzip_types *; gzip_min_length 0; gzip_comp_level 1; }
EOF_LOCATIONS
my $secure = !$tls ? '' : <<"EOF_TLS";
    server {
        listen 127.0.0.1:%%PORT_tls%% ssl @{[ has_module('http_v2') ? 'http2' : '' ]} sndbuf=16k;
        ssl_certificate %%DIR%%/cert.pem;
        ssl_certificate_key %%DIR%%/key.pem;
        $locations
    }
EOF_TLS
my $http2 = !has_module('http_v2') ? '' : "server { listen 127.0.0.1:%%PORT_h2c%% http2 sndbuf=16k; $locations }";
my $stage = SSE::Stage->new(
    workers => 1,
    listen  => ' sndbuf=16k',
    http    => "send_timeout 2s; sse_heartbeat off; sse_drain 500ms; sse_hub default { zone 64m; max_event_size 1m; } $secure $http2",
    server  => $locations,
    files   => $tls ? certificate() : {},
);

# name => [listener, location, options of curl]
my %kinds = (
    'plain'    => ['', 's'],
    'lean'     => ['', 'lean'],
    'HTTP/1.0' => ['', 's', '--http1.0'],
    'filters'  => ['', 'filter', '--compressed'],
    !$tls ? () : (
        'TLS'           => ['tls', 's'],
        'TLS, lean'     => ['tls', 'lean'],
        'TLS, HTTP/1.0' => ['tls', 's', '--http1.0'],
        'TLS, filters'  => ['tls', 'filter', '--compressed'],
    ),
    !$http2 ? () : ('HTTP/2' => ['h2c', 's', '--http2-prior-knowledge']),
    !$http2 || !$tls ? () : ('HTTP/2, TLS' => ['tls', 's', '--http2']),
);

# Two speeds: at the higher one an event takes several times send_timeout, at the lower one a single TLS
# record does.
my %speeds = ('steady' => [12_000, 0.12], 'slow' => [500, 0.1]);
my (%streams, %relays);
for my $name (sort keys %kinds) {
    my ($listener, $location, @options) = @{ $kinds{$name} };
    @options = ('--http1.1') if !@options;
    push @options, '--http1.1' if "@options" eq '--compressed';
    my $scheme = $listener eq 'tls' ? 'https' : 'http';
    for my $speed (keys %speeds) {
        # At this speed nginx itself closes HTTP/2 connections.
        next if $speed eq 'slow' && $name =~ m{HTTP/2};
        my $relay = $relays{"$name, $speed"}
            = SSE::Relay->new(port => $stage->cluster->port($listener), receive_buffer => 4096);
        my $port = $relay->port;
        $streams{"$name, $speed"} = SSE::Curl->new(@options, "$scheme://127.0.0.1:$port/$location");
    }
}
ok(wait_for(sub { !grep { !@{ $_->{events} } } values %streams }), 'streams open');
$relays{$_}->trickle(@{ $speeds{ /(\w+)\z/ ? $1 : '' } }) for keys %relays;

# Data that cannot be compressed.
my $random = 1;
my $event  = join '', map { $random = ($random * 1_103_515_245 + 12_345) % 2**31; sprintf '%07x', $random >> 3 } 1 .. 80_000;
$stage->publish('news', substr($event, 0, 45_000));
$stage->publish('news', $event);

for my $name (sort grep { /slow/ } keys %streams) {
    ok($streams{$name}->wait_data(substr($event, 0, 45_000), 50), "$name: receives an event");
    $streams{$name}->drop;
    $relays{$name}->drop;
}
for my $name (sort grep { /steady/ } keys %streams) {
    ok($streams{$name}->wait_data($event, 50), "$name: receives an event")
        or diag sprintf '%d bytes, curl %s', length $streams{$name}{body}, $streams{$name}{exit} // 'runs';
}
unlike($stage->cluster->error_log, qr/takes nothing|ended: timeout|timed out/, 'no client is disconnected for not reading');
$_->drop for values %streams, values %relays;

$stage->ends_cleanly;
done_testing();
