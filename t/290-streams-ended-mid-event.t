# A stream that ends while its client is in the middle of an event: by a reload, its maximum age, an
# administrator, or its client. Over TLS nginx must not send a close_notify inside a record, which would log
# an error and keep an old worker alive.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Curl;
use SSE::HTTP qw(request);
use SSE::Loop qw(serve_for wait_for);
use SSE::Nginx qw(has_module);
use SSE::Relay;
use SSE::Stage;
use SSE::TLS qw(certificate);

plan skip_all => 'nginx is built without TLS' if !has_module('http_ssl');
plan skip_all => 'curl or openssl is missing' if !`curl --version` || !`openssl version`;

my $locations = join "\n", map {
    my $way = $_ eq 'lean' ? 'sse_lean on;' : $_ eq 'filters' ? 'gzip on; gzip_types *; gzip_min_length 0;' : '';
    "location = /$_ { sse_stream news; $way } location = /age/$_ { sse_stream news; sse_max_age 500ms; $way }"
} qw(request lean filters);
my $stage = SSE::Stage->new(
    workers => 1,
    listen  => ' sndbuf=16k',
    http    => <<"EOF_HTTP",
        sse_drain 300ms;
        sse_reconnect clean;
        sse_heartbeat off;
        sse_hub default { zone 64m; max_event_size 2m; }
        client_max_body_size 2m;
        server {
            listen 127.0.0.1:%%PORT_tls%% ssl sndbuf=16k;
            ssl_certificate %%DIR%%/cert.pem;
            ssl_certificate_key %%DIR%%/key.pem;
            ssl_protocols TLSv1.2 TLSv1.3;
            $locations
        }
EOF_HTTP
    server => "$locations location /streams { sse_admin; }",
    files  => certificate(),
);
my $nginx = $stage->cluster;

# name => [listener, location, options of curl]
my %kinds = map {
    my $way = $_;
    (
        "$way, plain"   => ['',    $way],
        "$way, TLS 1.2" => ['tls', $way, '--tls-max', '1.2'],
        "$way, TLS 1.3" => ['tls', $way],
    )
} qw(request lean filters);

my $event = join '', map { chr(97 + int rand 26) } 1 .. 500_000;

# Clients that read nothing are disconnected at the end of the drain. A worker that waited for them would
# continue in the middle of a record when they read again.
my %all = stuck('');
ok($nginx->reload, 'nginx reloads');
serve_for(1);
$_->[1]->resume for values %all;
ok($nginx->wait_old_workers_gone(20), 'the old worker exits');
ended(\%all, 'reload', 0);

# The maximum age and an administrator wait until the client has received the event.
%all = stuck('age/');
serve_for(0.7);
$_->[1]->resume for values %all;
ended(\%all, 'age', 1);

%all = stuck('');
my $answer = request(port => $stage->port, method => 'DELETE', path => '/streams?channel=news&only=streams');
is($answer->{status}, 200, 'DELETE ends the streams') or diag($answer->{body});
$_->[1]->resume for values %all;
ended(\%all, 'DELETE', 1);

# Clients that disconnect.
%all = stuck('');
$_->[1]->reset for values %all;
ok(wait_for(sub { $stage->subscribers('news') == 0 }), 'disconnected clients are not counted');
$_->[0]->drop for values %all;

is_deeply([grep { /\[(?:crit|error)\]/ } split /\n/, $nginx->error_log], [], 'no error is logged');
$stage->ends_cleanly;
done_testing();

# Opens one stream of each kind whose client reads the beginning of an event and then stops.
sub stuck ($prefix) {
    my %all;
    for my $name (sort keys %kinds) {
        my ($listener, $location, @options) = @{ $kinds{$name} };
        my $relay  = SSE::Relay->new(port => $nginx->port($listener), receive_buffer => 4096);
        my $scheme = $listener ? 'https' : 'http';
        $all{$name} = [SSE::Curl->new('--http1.1', '--compressed', @options,
            "$scheme://127.0.0.1:" . $relay->port . "/$prefix$location"), $relay];
    }
    ok(wait_for(sub { !grep { !@{ $_->[0]{events} } } values %all }), "$prefix: streams open");
    $_->[1]->pause for values %all;
    $stage->publish('news', $event);
    # Waits until the kernel's buffers are full.
    serve_for(0.1);
    return %all;
}

sub ended ($all, $how, $whole) {
    for my $name (sort keys %$all) {
        my ($curl, $relay) = @{ $all->{$name} };
        my $exit = $curl->wait_end(20);
        my $got  = grep { $_ eq $event } $curl->data;
        $whole
            ? is("$got, exit $exit", '1, exit 0', "$how: $name: receives the complete event and a complete response")
            : ok($exit, "$how: $name: is cut off");
        $relay->drop;
    }
    return;
}
