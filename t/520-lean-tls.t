# Lean streams over TLS 1.2 and 1.3: unchanged bytes in large events and batches, slow readers, streams that
# end in the middle of a frame, and no memory left behind.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Curl;
use SSE::Loop qw(serve_for wait_for);
use SSE::Nginx qw(has_module);
use SSE::Relay;
use SSE::Stage;
use SSE::TLS qw(certificate);

plan skip_all => 'nginx is built without TLS' if !has_module('http_ssl');
plan skip_all => 'curl or openssl is missing' if !`curl --version` || !`openssl version`;

my $stage = SSE::Stage->new(
    workers => 1,
    http    => <<'EOF_HTTP',
        sse_lean on;
        sse_drain 1s;
        sse_heartbeat off;
        sse_reconnect clean;
        sse_hub default { zone 64m; history 200; }
        server {
            listen 127.0.0.1:%%PORT_tls%% ssl sndbuf=32k;
            ssl_certificate %%DIR%%/cert.pem;
            ssl_certificate_key %%DIR%%/key.pem;
            ssl_protocols TLSv1.2 TLSv1.3;
            location = /s       { sse_stream news; }
            location = /old     { sse_stream news; chunked_transfer_encoding off; }
            location = /age     { sse_stream news; sse_max_age 1500ms; }
            location = /timeout { sse_stream news; send_timeout 1s; }
        }
EOF_HTTP
    server => 'location = /status { sse_status; }',
    files  => certificate(),
);
my $nginx = $stage->cluster;
my $base  = $nginx->port('tls');

my @versions = ('1.2', '1.3');
my @data = ('one', "two\nlines", 'x' x 200_000, (map { "quick $_" } 1 .. 300), map { "wide $_ " . 'w' x 3_000 } 1 .. 60);
for my $version (@versions) {
    given_back();
    my %streams = map { $_ => tls($version, "/$_") } qw(s old);
    my $relay   = SSE::Relay->new(port => $base, receive_buffer => 8192);
    $streams{slow} = tls($version, '/s', $relay->port);
    ok(wait_for(sub { !grep { !@{ $_->{events} } } values %streams }), "TLS $version: streams open");
    is_deeply(given_back(), [3, 0], "TLS $version: all of them are lean");
    $relay->pause;
    $stage->publish('news', @data[0 .. 2]);
    $stage->batch('news', @data[3 .. $#data]);
    ok($streams{$_}->wait_data($data[-1]), "TLS $version: $_: events arrive") for qw(s old);
    serve_for(0.3);
    $relay->resume;
    ok($streams{slow}->wait_data($data[-1]), "TLS $version: they also arrive at a client that paused");
    ok(join('|', $streams{$_}->data) eq join('|', @data), "TLS $version: $_: the bytes are unchanged") for sort keys %streams;

    my $id   = $streams{s}{events}[-3]{id};
    my $back = tls($version, '/s', $base, '-H', "Last-Event-ID: $id");
    ok($back->wait_data($data[-1]), "TLS $version: Last-Event-ID resumes the stream");
    is_deeply([$back->data], [@data[-2, -1]], "TLS $version: it continues right after that id");
    $_->drop for values %streams, $back, $relay;
    ok(wait_for(sub { $stage->subscribers('news') == 0 }), "TLS $version: clients that disconnect are not counted");

    my $aged = tls($version, '/age');
    is($aged->wait_end(5), 0, "TLS $version: a response at the maximum age is complete");
    cmp_ok($aged->{parser}{retry}, '<=', 1000, "TLS $version: a short retry is sent first");
}

# A client that reads nothing is disconnected in the middle of a record.
my $writer = SSE::Publisher->new(port => $stage->port, path => '/to/news');
my $relay  = SSE::Relay->new(port => $base, receive_buffer => 4096);
my $stuck  = tls('1.3', '/timeout', $relay->port);
wait_for(sub { @{ $stuck->{events} } });
$relay->pause;
$writer->publish(map { "$_ " . 'x' x 150_000 } 1 .. 40);
ok(wait_for(sub { $nginx->error_log =~ /lean stream of "news" ended: timeout/ }, 8), 'send_timeout disconnects a client that reads nothing');
$relay->resume;
ok(($stuck->wait_end(5) // 0) != 0, 'its response is incomplete');

# Connections that break at any moment, or are half closed while the client reads nothing.
my $steady = tls('1.3', '/s');
wait_for(sub { @{ $steady->{events} } });
$writer->stream(60, sub ($number) { "live $number " . 'y' x 40_000 });
broken($_) for 1 .. 10;
my $before = $nginx->private_memory;
broken($_) for 11 .. 40;
$writer->stop;
ok($writer->wait_idle, 'all publishes succeed');
my @live = grep { /^live/ } map { $_->{data} } $writer->accepted;
ok($steady->wait_data($live[-1]), 'a lasting stream receives everything meanwhile');
ok(join('|', grep { /^live/ } $steady->data) eq join('|', @live), 'each event arrives once and in order');
ok(wait_for(sub { $stage->subscribers('news') == 1 }), 'no broken stream is left');
my $grown = $nginx->private_memory - $before;
cmp_ok($grown, '<', 300_000, sprintf 'broken streams leave no memory behind (%d KiB more)', $grown / 1024);
$steady->drop;

# Reload.
my @streams = map { tls($versions[$_ % 2], '/s') } 1 .. 8;
wait_for(sub { !grep { !@{ $_->{events} } } @streams });
ok($nginx->reload, 'nginx reloads');
is_deeply([map { $_->wait_end(5) } @streams], [(0) x 8], 'every response is complete');
is(scalar(grep { $_->{parser}{retry} > 1000 } @streams), 0, 'a short retry is sent first');
ok($nginx->wait_old_workers_gone(3), 'the old workers exit');

is_deeply([grep { /\[(?:crit|error)\]/ } split /\n/, $nginx->error_log], [], 'no error is logged');
$stage->ends_cleanly;
done_testing();

sub tls ($version, $path, $port = $base, @more) {
    return SSE::Curl->new('--http1.1', '--tlsv1.2', '--tls-max', $version, @more, "https://127.0.0.1:$port$path");
}

# Six clients whose connections end in different ways.
sub broken ($round) {
    my @relays = map { SSE::Relay->new(port => $base, receive_buffer => 4096, break_after => $_) }
        3_000 + 97 * $round, 20_000 + 1_009 * $round, 90_000 + 3_001 * $round, 0, 0, 0;
    my @curls = map { tls($versions[$round % 2], '/s', $_->port) } @relays;
    wait_for(sub { !grep { !@{ $_->{events} } } @curls[3 .. 5] }, 3);
    $_->pause for @relays[3 .. 5];
    serve_for(0.25);
    $_->half_close for @relays[3 .. 5];
    serve_for(0.05);
    $_->reset for @relays;
    $_->drop for @curls;
    return;
}

# The numbers of lean streams and of kept requests since the last call.
sub given_back {
    state $seen = [0, 0];
    my $lean = $stage->status->{lean};
    my $now  = [@$lean{qw(lean ordinary)}];
    my @since = map { $now->[$_] - $seen->[$_] } 0, 1;
    $seen = $now;
    return \@since;
}
