# Blank lines occur only after data, both at the beginning and at any end of a stream, for clients that take
# every blank line for the end of a message.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Curl;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);
use SSE::Stage;
use SSE::TLS qw(certificate tls_and_http2_servers);

plan skip_all => 'nginx is built without TLS or HTTP/2' if !has_module('http_ssl') || !has_module('http_v2');
plan skip_all => 'curl or openssl is missing' if !`curl --version` || !`openssl version`;

my $locations = join "\n", map {
    my ($name, $lean) = @$_;
    <<"EOF_LOCATIONS"
    location = /$name/s      { $lean sse_stream news; }
    location = /$name/mute   { $lean sse_stream news; sse_open_event off; sse_heartbeat 20ms; }
    location = /$name/closed { $lean sse_stream closed; }
    location = /$name/aged   { $lean sse_stream news; sse_max_age 100ms; }
    location = /$name/full   { $lean sse_stream full; sse_max_subscribers 1; }
EOF_LOCATIONS
} ['ordinary', ''], ['lean', 'sse_lean on;'];
my $stage = SSE::Stage->new(
    http => <<"EOF_HTTP",
        sse_reconnect clean;
        sse_drain 100ms;
        @{[ tls_and_http2_servers($locations) ]}
EOF_HTTP
    server => "location = /admin { sse_admin; } $locations",
    files  => certificate(),
);
my $nginx = $stage->cluster;
my %ways  = (
    'HTTP/1.0'          => ['--http1.0', 'http', ''],
    'HTTP/1.1'          => ['--http1.1', 'http', ''],
    'HTTP/1.1 over TLS' => ['--http1.1', 'https', 'tls'],
    'HTTP/2 over TLS'   => ['--http2', 'https', 'tls'],
    'HTTP/2 in clear'   => ['--http2-prior-knowledge', 'http', 'h2c'],
);
my $holder = $stage->stream('/ordinary/full');
my %drained;
for my $way (sort keys %ways) {
    for my $kind ('ordinary', 'lean') {
        ends("$way, $kind: at the maximum age", opened($way, "/$kind/aged"));
        ends("$way, $kind: above the subscriber limit", opened($way, "/$kind/full"));

        my $closed = opened($way, "/$kind/closed");
        $stage->publish('closed', 'last');
        $closed->wait_data('last');
        request(port => $stage->port, method => 'DELETE', path => '/admin?channel=closed');
        ends("$way, $kind: ended by an administrator", $closed);

        $drained{"$way, $kind: ended by a drain"}          = opened($way, "/$kind/s");
        $drained{"$way, $kind: silent and ended by a drain"} = opened($way, "/$kind/mute");
        wait_for(sub { $drained{"$way, $kind: silent and ended by a drain"}{body} =~ /\n:\n:\n/ });
    }
}
$nginx->reload;
ends($_, $drained{$_}) for sort keys %drained;
$holder->close;

$stage->ends_cleanly;
done_testing();

sub opened ($way, $path) {
    my ($option, $scheme, $port) = @{ $ways{$way} };
    my $curl = SSE::Curl->new($option, "$scheme://localhost:" . $nginx->port($port) . $path);
    ok(wait_for(sub { $curl->{body} =~ /\Aretry: \d+\n:\n/ }), "$way: $path begins with retry and a comment");
    return $curl;
}

# Checks that the stream ends with retry, and that every blank line follows data.
sub ends ($how, $curl) {
    is($curl->wait_end, 0, "$how: the response is complete");
    my $body = $curl->{body};
    like($body, qr/^retry: \d+\n:\n\z/m, "$how: the stream ends with retry and a comment");
    my @blocks = split /\n\n/, $body, -1;
    pop @blocks;
    is(scalar(grep { !/^data:/m } @blocks), 0, "$how: every blank line ends an event that has data");
    return;
}
