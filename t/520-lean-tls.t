# Lean streams over TLS 1.2 and 1.3: byte for byte, in large events and in batches, with slow readers,
# ends in the middle of a frame, and nothing left of those who went.

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
    is_deeply(given_back(), [3, 0], "TLS $version: all of them lean");
    $relay->pause;
    $stage->publish('news', @data[0 .. 2]);
    $stage->batch('news', @data[3 .. $#data]);
    ok($streams{$_}->wait_data($data[-1]), "TLS $version: $_: events arrive") for qw(s old);
    serve_for(0.3);
    $relay->resume;
    ok($streams{slow}->wait_data($data[-1]), "TLS $version: also to one that paused");
    ok(join('|', $streams{$_}->data) eq join('|', @data), "TLS $version: $_: byte for byte") for sort keys %streams;

    my $id   = $streams{s}{events}[-3]{id};
    my $back = tls($version, '/s', $base, '-H', "Last-Event-ID: $id");
    ok($back->wait_data($data[-1]), "TLS $version: an id resumes");
    is_deeply([$back->data], [@data[-2, -1]], "TLS $version: exactly behind it");
    $_->drop for values %streams, $back, $relay;
    ok(wait_for(sub { $stage->subscribers('news') == 0 }), "TLS $version: who goes is not counted");

    my $aged = tls($version, '/age');
    is($aged->wait_end(5), 0, "TLS $version: a planned end is a proper one");
    cmp_ok($aged->{parser}{retry}, '<=', 1000, "TLS $version: with a short retry");
}

# A client that takes nothing: closed in the middle of a record.
my $writer = SSE::Publisher->new(port => $stage->port, path => '/to/news');
my $relay  = SSE::Relay->new(port => $base, receive_buffer => 4096);
my $stuck  = tls('1.3', '/timeout', $relay->port);
wait_for(sub { @{ $stuck->{events} } });
$relay->pause;
$writer->publish(map { "$_ " . 'x' x 150_000 } 1 .. 40);
ok(wait_for(sub { $nginx->error_log =~ /lean stream of "news" ended: timeout/ }, 8), 'send_timeout closes who takes nothing');
$relay->resume;
ok(($stuck->wait_end(5) // 0) != 0, 'and its answer is not whole');

# Ends at any moment: cables break, one half is closed while the other takes nothing.
my $steady = tls('1.3', '/s');
wait_for(sub { @{ $steady->{events} } });
$writer->stream(60, sub ($number) { "live $number " . 'y' x 40_000 });
broken($_) for 1 .. 10;
my $before = $nginx->private_memory;
broken($_) for 11 .. 40;
$writer->stop;
ok($writer->wait_idle, 'publishing was never disturbed');
my @live = grep { /^live/ } map { $_->{data} } $writer->accepted;
ok($steady->wait_data($live[-1]), 'a steady stream gets everything meanwhile');
ok(join('|', grep { /^live/ } $steady->data) eq join('|', @live), 'once and in order');
ok(wait_for(sub { $stage->subscribers('news') == 1 }), 'of those whose cable broke none is left');
my $grown = $nginx->private_memory - $before;
cmp_ok($grown, '<', 300_000, sprintf 'and nothing of them in memory (%d KiB more)', $grown / 1024);
$steady->drop;

# Reload.
my @streams = map { tls($versions[$_ % 2], '/s') } 1 .. 8;
wait_for(sub { !grep { !@{ $_->{events} } } @streams });
ok($nginx->reload, 'nginx reloads');
is_deeply([map { $_->wait_end(5) } @streams], [(0) x 8], 'every response is ended properly');
is(scalar(grep { $_->{parser}{retry} > 1000 } @streams), 0, 'with a short retry before');
ok($nginx->wait_old_workers_gone(3), 'and the old workers go');

is_deeply([grep { /\[(?:crit|error)\]/ } split /\n/, $nginx->error_log], [], 'no error is logged');
$stage->ends_cleanly;
done_testing();

sub tls ($version, $path, $port = $base, @more) {
    return SSE::Curl->new('--http1.1', '--tlsv1.2', '--tls-max', $version, @more, "https://127.0.0.1:$port$path");
}

# Six clients whose cable ends them, each in its own way.
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

# Requests given back and kept since the last look.
sub given_back {
    state $seen = [0, 0];
    my $lean = $stage->status->{lean};
    my $now  = [@$lean{qw(lean ordinary)}];
    my @since = map { $now->[$_] - $seen->[$_] } 0, 1;
    $seen = $now;
    return \@since;
}
