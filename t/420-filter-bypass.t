# Frames are sent past nginx's filters if these would not change them, and through the filters otherwise. In
# both cases every byte is right: single events, large events, batches, and clients that read slowly. The
# debug log shows which path was used.

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

# Each location has its own debug log. Expected is Filters, or without them Chunks or Bodies, depending on
# the framing.
my %locations = (
    plain    => ['Chunks',  ''],
    whole    => ['Bodies',  'chunked_transfer_encoding off;'],
    gzip     => ['Filters', 'gzip on; gzip_types *; gzip_min_length 0;'],
    ungzip   => ['Chunks',  'gzip on; gzip_types *; gzip_min_length 0;'],
    ssi      => ['Filters', 'ssi on; ssi_types *;'],
    charset  => ['Chunks',  'charset utf-8; charset_types *;'],
    recode   => ['Chunks',  'charset koi8-r; source_charset utf-8; charset_types *;'],
    override => ['Filters', 'charset koi8-r; source_charset utf-8; charset_types *; override_charset on;'],
    rate     => ['Filters', 'limit_rate 4m;'],
    named    => ['Filters', 'limit_rate $rate;'],
    post     => ['Filters', 'post_action /words;'],
    buffers  => ['Chunks',  'output_buffers 1 1k; postpone_output 64k; tcp_nopush on; sendfile on;'],
);
if (has_module('http_sub')) {
    $locations{sub}    = ['Filters', 'sub_filter_types *; sub_filter_once off; sub_filter colour color;'];
    $locations{unsub}  = ['Filters', 'sub_filter_types *; sub_filter_once off; sub_filter nowhere color;'];
}
if (has_module('http_addition')) {
    $locations{before} = ['Filters', 'addition_types *; add_before_body /words; add_after_body /words;'];
    $locations{after}  = ['Chunks',  'addition_types *; add_after_body /words;'];
}
$locations{gunzip} = ['Chunks', 'gunzip on;'] if has_module('http_gunzip');

my $locations = join "\n", 'location = /words { default_type text/plain; return 200 ":words\n"; }',
    map { "location = /$_ { sse_stream news; error_log %%DIR%%/$_.log debug; $locations{$_}[1] }" } sort keys %locations;
my $tls = has_module('http_ssl') ? <<'EOF_TLS' : '';
    server {
        listen 127.0.0.1:%%PORT_tls%% ssl sndbuf=32k;
        ssl_certificate %%DIR%%/cert.pem;
        ssl_certificate_key %%DIR%%/key.pem;
        location = /held { sse_stream held; }
        location = /tls { sse_stream news; error_log %%DIR%%/tls.log debug; }
        location = /tls-gzip { sse_stream news; gzip on; gzip_types *; gzip_min_length 0; error_log %%DIR%%/tls-gzip.log debug; }
    }
EOF_TLS
my $http2 = has_module('http_v2') ? <<'EOF_V2' : '';
    server {
        listen 127.0.0.1:%%PORT_h2c%% http2 sndbuf=32k;
        location = /http2 { sse_stream news; error_log %%DIR%%/http2.log debug; }
    }
EOF_V2

my $stage = SSE::Stage->new(
    workers => 1,
    listen  => ' sndbuf=32k',
    http    => <<"EOF_HTTP",
        sse_reconnect clean;
        sse_hub default { zone 64m; history 1000; }
        sse_heartbeat off;
        sse_drain 500ms;
        # Evaluated when the first bytes of a stream are sent.
        map \$sse_channel \$rate { default 0; news 4m; }
        charset_map koi8-r utf-8 { C1 D0B0; }
        $tls
        $http2
EOF_HTTP
    server  => "$locations location = /old { sse_stream news; error_log %%DIR%%/old.log debug; }",
    files   => $tls ? certificate() : {},
);
my $nginx = $stage->cluster;
my $wide  = "colour \xd0\xb0 <b>";
my @data  = ("first $wide", "two\nlines", 'x' x 200_000, (map { "quick $_ $wide" } 1 .. 400),
    (map { "wide $_ " . 'w' x 4_000 } 1 .. 40), 'y' x 200_000, 'the end');

# For each location a stream that reads steadily and one that pauses and then reads slowly.
my %ways = map { $_ => $locations{$_}[0] } keys %locations;
$ways{old} = 'Bodies';
@ways{qw(tls tls-gzip)} = qw(Chunks Filters) if $tls;
$ways{http2} = 'Filters' if $http2;
my (%fast, %slow, %relays);
for my $name (sort keys %ways) {
    $fast{$name} = reader($name);
    my $relay = $relays{$name} = SSE::Relay->new(port => $nginx->port(listener($name)), receive_buffer => 8192);
    $slow{$name} = reader($name, $relay->port);
}
my %all = (%fast, map { ("$_, slow" => $slow{$_}) } keys %slow);
ok(wait_for(sub { !grep { !@{ $_->{events} } } grep { defined } values %fast }), 'all streams open')
    or diag(join ' ', grep { !@{ $fast{$_}{events} } } sort keys %fast);
wait_for(sub { $stage->subscribers('news') == 2 * keys %ways });
$_->pause for values %relays;
$stage->publish('news', @data[0 .. 2]);
$stage->batch('news', @data[3 .. 402]);
$stage->batch('news', @data[403 .. 442]);
$stage->publish('news', @data[443, 444]);
ok($_->wait_data($data[-1]), 'a steady reader receives everything') for $fast{plain};
serve_for(0.3);
$_->resume for values %relays;
for my $name (sort keys %all) {
    $all{$name}->wait_data($data[-1], 20);
    my @wanted = @data;
    s/colour/color/g for $name =~ /\Asub/ ? @wanted : ();
    # override_charset is meant to convert streams too.
    s/\xd0\xb0/\xc1/g for $name =~ /\Aoverride/ ? @wanted : ();
    my @got = grep { $_ ne '' } $all{$name}->data;
    ok(join('|', @got) eq join('|', @wanted), "$name: the bytes are unchanged") or diag(first_difference(\@got, \@wanted));
}
like($fast{gzip}{raw_head} // $fast{gzip}->header('content-encoding'), qr/gzip/, 'gzip: the stream is compressed');
is($fast{ungzip}->header('content-encoding'), undef, 'ungzip: the stream is not compressed for a client that does not accept it');

SKIP: {
    skip 'nginx is built without debug log', scalar keys %ways if SSE::Nginx::built_with() !~ /--with-debug/;
    for my $name (sort keys %ways) {
        my %seen = map { $_ => 1 } SSE::Cluster::slurp($nginx->dir . "/$name.log") =~ /http sse send: \d+ frames, (\w+):/g;
        is(join(' ', sort keys %seen), $ways{$name}, "$name is sent as $ways{$name}");
    }
}

# Batches larger than a TLS record do not increase memory.
if ($tls) {
    my @held = map { reader('held', $nginx->port('tls')) } 1 .. 8;
    ok(wait_for(sub { !grep { !@{ $_->{events} } } @held }), 'TLS: streams open');
    my $round   = 0;
    my $batches = sub ($count) {
        $stage->batch('held', map { "$round $_ " . 'x' x 300 } 1 .. 60) for 1 .. $count;
        $stage->publish('held', 'round ' . ++$round);
        return ok(wait_for(sub { !grep { !$_->wait_data("round $round") } @held }), "TLS: $count batches arrive");
    };
    $batches->(20);
    my $before = $nginx->private_memory;
    $batches->(120);
    my $grown = $nginx->private_memory - $before;
    cmp_ok($grown, '<', 1_500_000, sprintf 'TLS: memory does not grow (%d KiB)', $grown / 1024);
    $_->drop for @held;
}

# What a filter adds at the end of a response is sent when nginx ends the stream.
if ($ways{after}) {
    $nginx->reload;
    is($fast{after}->wait_end(5), 0, 'addition: the stream ends');
    like($fast{after}{body}, qr/\nretry: \d+\n:\n:words\n\z/, 'addition: the added text is sent');
}

$stage->ends_cleanly;
done_testing();

sub listener ($name) { return $name =~ /\Atls/ ? 'tls' : $name eq 'http2' ? 'h2c' : '' }

sub reader ($name, $port = $nginx->port(listener($name))) {
    my @options = $name eq 'http2' ? '--http2-prior-knowledge' : $name eq 'old' ? '--http1.0' : '--http1.1';
    push @options, '--compressed' if $name =~ /gzip\z/ && $name ne 'ungzip';
    my $scheme = $name =~ /\A(?:tls|held)/ ? 'https' : 'http';
    return SSE::Curl->new(@options, "$scheme://127.0.0.1:$port/$name");
}

sub first_difference ($got, $wanted) {
    my $at = 0;
    $at++ while $at < @$got && $at < @$wanted && $got->[$at] eq $wanted->[$at];
    return sprintf '%d of %d; at %d: %s', scalar @$got, scalar @$wanted, $at,
        substr(($got->[$at] // 'nothing') . ' instead of ' . ($wanted->[$at] // 'nothing'), 0, 200);
}
