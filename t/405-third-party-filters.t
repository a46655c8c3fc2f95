# Third-party filters that are hard to support: one that does not report that it has passed everything on,
# and those that make subrequests from events. A stream behind such a filter must have the same bytes as if
# a proxy with that filter received it.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Curl;
use SSE::Loop qw(serve_for wait_for);
use SSE::Nginx qw(dynamic_modules has_module);
use SSE::Relay;
use SSE::Stage;
use SSE::TLS qw(certificate);

my ($subs, $no_subs) = dynamic_modules('ngx_http_subs_filter_module');
my %filters = (
    ssi => 'ssi on; ssi_types *;',
    !$subs ? () : (
        subs       => 'subs_filter_types *; subs_filter colour color g;',
        'subs-ssi' => 'subs_filter_types *; subs_filter colour color g; ssi on; ssi_types *;',
    ),
    !has_module('http_addition') ? () : (
        before => 'addition_types *; add_before_body /inc; add_after_body /inc; ssi on; ssi_types *;',
    ),
);
my $tls   = has_module('http_ssl') && `openssl version`;
my $http2 = has_module('http_v2');

my $included = 'location = /inc { default_type text/plain; return 200 ":words of colour\n"; }'
    . ' location = /slow-inc { proxy_pass http://127.0.0.1:%%PORT%%/limited; proxy_buffering off; }'
    . ' location = /limited { default_type text/plain; limit_rate 24; alias %%DIR%%/slow.txt; }';
# Its client would accept nothing for an hour if nginx waited for what a filter keeps.
my $cut = 'sse_reconnect cut; sse_max_age 300ms; send_timeout 1h;';
my $streams = join "\n", $included, map { "location = /cut/$_ { sse_stream news; $cut $filters{$_} }" } sort keys %filters;
$streams .= join "\n", map { "location = /$_ { sse_stream news; $filters{$_} }" } sort keys %filters;
my $proxied = join "\n",
    map { "location = /proxied/$_ { proxy_pass http://127.0.0.1:%%PORT%%/plain; proxy_buffering off; $filters{$_} }" }
    sort keys %filters;
my $secure = !$tls ? '' : <<"EOF_TLS";
    server {
        listen 127.0.0.1:%%PORT_tls%% ssl sndbuf=16k;
        ssl_certificate %%DIR%%/cert.pem;
        ssl_certificate_key %%DIR%%/key.pem;
        $streams
    }
EOF_TLS
my $second = $http2 ? "server { listen 127.0.0.1:%%PORT_h2c%% http2 sndbuf=16k; $streams }" : '';

my $stage = SSE::Stage->new(
    workers => 1,
    main    => $subs ? "load_module @$subs;" : '',
    http    => "sse_reconnect clean; sse_heartbeat off; sse_open_event off; sse_drain 500ms; send_timeout 2s;"
        . " sse_hub default { zone 64m; history 1000; } $secure $second",
    listen => ' sndbuf=16k',
    server => "location = /plain { sse_stream news; } $streams $proxied",
    files  => { 'slow.txt' => ":slow words\n" x 8, $tls ? %{ certificate() } : () },
);
my $cluster = $stage->cluster;

my %streams;
for my $name (sort keys %filters) {
    my %urls    = (
        proxied    => ['', "proxied/$name", '--http1.1'],
        direct     => ['', $name, '--http1.1'],
        'HTTP/1.0' => ['', $name, '--http1.0'],
        $tls   ? (TLS      => ['tls', $name, '--http1.1']) : (),
        $http2 ? ('HTTP/2' => ['h2c', $name, '--http2-prior-knowledge']) : (),
    );
    for my $kind (keys %urls) {
        my ($listener, $path, @how) = @{ $urls{$kind} };
        my $scheme = $listener eq 'tls' ? 'https' : 'http';
        $streams{$name}{$kind} = SSE::Curl->new(@how, "$scheme://127.0.0.1:" . $cluster->port($listener) . "/$path");
    }
    # A client that pauses while events are published.
    my $relay = $streams{relays}{$name} = SSE::Relay->new(port => $cluster->port, receive_buffer => 4096);
    $streams{$name}{paused} = SSE::Curl->new('--http1.1', 'http://127.0.0.1:' . $relay->port . "/$name");
}
my $relays = delete $streams{relays};
my @all    = map { values %$_ } values %streams;
ok(wait_for(sub { !grep { !defined $_->{parser}{retry} } @all }), 'streams open');

# Each event arrives before the next is published.
my @events = (
    'one colour', '<!--#include virtual="/inc" -->', "two\nlines of colour", 'a <!--#include virtual="/inc" --> b',
    '<!--#include virtual="/slow-inc" -->', '<!--# include virtual="/inc" wait="yes" --> and <!--#include virtual="/inc" -->',
);
my $number = 0;
for my $event (@events) {
    $stage->publish('news', "event $number: $event.", 'end ' . $number);
    arrives("end $number");
    $number++;
}

# Many events at once, also while a client does not read.
$_->pause for values %$relays;
$stage->batch('news', map { "batch $_ <!--#include virtual=\"/inc\" --> colour" } 1 .. 100);
$stage->publish('news', map { 'x' x 150_000 . "colour $_" } 1 .. 3);
serve_for(0.3);
$_->resume for values %$relays;
$stage->publish('news', 'the end');
arrives('the end');

for my $name (sort keys %filters) {
    my $wanted = delete($streams{$name}{proxied})->{body};
    like($wanted, qr/words of/, "$name: the proxy's filter includes") if $name =~ /ssi|before/;
    like($wanted, qr/one color\./, "$name: the proxy's filter substitutes") if $name =~ /subs/;
    for my $kind (sort keys %{ $streams{$name} }) {
        ok(comparable($streams{$name}{$kind}{body}) eq comparable($wanted), "$name: $kind: the bytes are those of the proxy");
    }
}

# What a filter adds at the end of a response is sent when nginx ends the stream.
ok($cluster->reload, 'nginx reloads');
for my $name (sort keys %filters) {
    is($streams{$name}{$_}->wait_end(10), 0, "$name: $_: the response is complete") for sort keys %{ $streams{$name} };
}
like($streams{before}{direct}{body}, qr/\nretry: \d+\n:\n:words of colour\n\z/, 'addition: the added text is sent') if $filters{before};
unlike($cluster->error_log, qr/takes nothing/, 'no client is disconnected for not reading');

# An interrupted end does not wait for what a filter keeps until the end of the response.
for my $name (sort keys %filters) {
    my %urls = (direct => 'http://127.0.0.1:' . $stage->port, !$tls ? () : (tls => 'https://127.0.0.1:' . $cluster->port('tls')));
    for my $kind (sort keys %urls) {
        is(SSE::Curl->new('-k', "$urls{$kind}/cut/$name")->wait_end(10), 18, "$name: $kind: an interrupted response ends at once");
    }
    next if !$http2;
    my $client = SSE::Curl->new('--http2-prior-knowledge', 'http://127.0.0.1:' . $cluster->port('h2c') . "/cut/$name");
    is($client->wait_end(10), 92, "$name: HTTP/2: an interrupted response ends at once");
}

SKIP: {
    skip "no subs_filter (libnginx-mod-http-subs-filter): $no_subs", 1 if !$subs;
    pass('subs_filter is tested');
}
$stage->ends_cleanly;
done_testing();

# Waits until every stream has received the event.
sub arrives ($data) {
    my ($missing) = grep { !$_->[1]->wait_data($data, 20) } map {
        my $name = $_;
        map { ["$name, $_", $streams{$name}{$_}] } sort keys %{ $streams{$name} }
    } sort keys %streams;
    return is($missing && $missing->[0], undef, "'$data' arrives on every stream");
}

# The retry at the beginning differs between clients, but has a fixed width.
sub comparable ($body) { return $body =~ s/\A.*?\n\n//sr }
